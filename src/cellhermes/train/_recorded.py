"""What a run leaves, whichever trainer has the loop: a log that can be resumed, whole checkpoints, no pickle."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from .._disk import noted, write_json
from ..io._files import records
from . import _checkpoints
from ._callbacks import Progress, StopOnSignal

if TYPE_CHECKING:
    import torch

COUNTS = "counts.json"  # of a checkpoint: tokens and seconds up to it


class Recorded:
    """Stands before a trainer of transformers among the bases of a class, which calls :meth:`record`."""

    def record(self, log_file: Path) -> None:
        """Add lines to a file from now on, show progress, and end in order at a signal."""
        self._log_file = log_file
        self._before = {"tokens": 0, "seconds": 0.0}
        self._start = monotonic()
        self.stop = StopOnSignal()
        for callback in list(self.callback_handler.callbacks):
            if type(callback).__name__ in ("PrinterCallback", "ProgressCallback"):
                self.remove_callback(callback)
        self.add_callback(Progress())
        self.add_callback(self.stop)

    def tokens_seen(self) -> int:
        """Count the tokens of all processes, also those before an interruption."""
        raise NotImplementedError

    def numbers(self, logs: dict[str, float]) -> dict[str, float]:
        """Say what a line holds beside step, epoch, tokens and seconds."""
        raise NotImplementedError

    # The log -------------------------------------------------------------------------------------------------

    def resume_log(self, last: Path | None) -> None:
        """Keep the lines up to a checkpoint, and count tokens and seconds on from there."""
        step = _checkpoints.step_of(last) if last else 0
        kept = [line for line in read_log(self._log_file) if line["step"] <= step]
        if self.is_world_process_zero():
            self._log_file.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8", newline="\n")
        if last:
            self._before |= noted(last / COUNTS)

    def _counts(self) -> dict[str, float]:
        """Give the tokens of all processes and the seconds, also those before an interruption."""
        return {
            "tokens": self.tokens_seen(),
            "seconds": round(self._before["seconds"] + monotonic() - self._start, 3),
        }

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a line of numbers, and hand it to the other loggers."""
        if "loss" in logs and not math.isfinite(logs["loss"]):
            msg = (
                f"The loss is {logs['loss']} at step {self.state.global_step}. Lower learning_rate, or use "
                f"dtype='float32'. The last checkpoint is {_checkpoints.latest(Path(self.args.output_dir))}."
            )
            raise FloatingPointError(msg)
        super().log(logs, start_time)
        if not any(name in logs for name in ("loss", "eval_loss")):
            return  # the trainer's own summary at the end
        line = {
            "step": self.state.global_step,
            "epoch": logs.get("epoch", 0.0),
            **self._counts(),
            **self.numbers({name: value for name, value in logs.items() if name != "epoch"}),
        }
        if self.is_world_process_zero():
            with self._log_file.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(line) + "\n")

    # The checkpoints -----------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Save weights and their config as safetensors, without the pickled arguments that transformers adds."""
        if not self.args.should_save:
            return
        model = self.accelerator.unwrap_model(self.model)
        # Else peft looks on the network for the base's config, to see whether its vocabulary has grown.
        extra = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
        model.save_pretrained(output_dir, state_dict=state_dict, **extra)

    def _save_checkpoint(self, model: torch.nn.Module, trial: object) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            if self.args.should_save:
                _checkpoints.begin(folder)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            counts = self._counts()
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                write_json(folder / COUNTS, counts)
                _checkpoints.seal(folder)
                _checkpoints.rotate(folder.parent, keep=self.config.keep, best=self.state.best_model_checkpoint)
        except Exception as error:
            if not _checkpoints.is_full_disk(error):
                raise
            _checkpoints.remove_half_written(folder.parent)
            msg = (
                f"The disk of {folder.parent} is full: checkpoint {self.state.global_step} was not written. Make room "
                f"and run again; training goes on from {_checkpoints.latest(folder.parent) or 'the start'}."
            )
            raise OSError(msg) from error


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the lines of a log; one that an interruption cut short is left out."""
    lines: list[dict[str, float]] = []
    with suppress(FileNotFoundError, ValueError):
        for _, line in records(path, is_list=False):
            lines.append(line)
    return lines
