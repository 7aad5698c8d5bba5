"""What happens beside the steps of a training: a progress bar, and an orderly end at a signal."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger("cellhermes")


class Progress(TrainerCallback):
    """A bar with the loss, on the first process."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        quiet = {} if state.is_world_process_zero else {"disable": True}  # a given False would beat $TQDM_DISABLE
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="train", **quiet)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: object
    ) -> None:
        shown = {name: f"{logs[key]:.3f}" for name, key in (("loss", "loss"), ("held out", "eval_loss")) if key in logs}
        if shown and hasattr(self, "_bar"):
            self._bar.set_postfix(shown, refresh=False)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._bar.close()


class StopOnSignal(TrainerCallback):
    """SIGINT and SIGTERM end training behind the step that runs, with a checkpoint; a second one ends it at once."""

    def __init__(self) -> None:
        self.received = 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Catch the signals while a training runs in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._catch) for number in (signal.SIGINT, signal.SIGTERM)}
        self._before = before
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _catch(self, number: int, _: object) -> None:
        if self.received:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
            return
        self.received = number
        logger.warning("%s: training stops behind this step, with a checkpoint", signal.Signals(number).name)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        received = self.received
        if args.world_size > 1:  # all processes stop at the same step
            flag = torch.tensor(float(received), device=args.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            self.received = received = int(flag)
        if received:
            control.should_training_stop = control.should_save = True

    def reraise(self) -> None:
        """End the program as the signal would have."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received:
            raise SystemExit(128 + self.received)
