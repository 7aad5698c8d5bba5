"""The trainer of transformers with our loss and order; the loop itself is theirs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Trainer

from ._epochs import collate, group_tensors
from ._recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.utils.data import Dataset
    from transformers import PreTrainedModel, TrainingArguments

    from ..model._tokens import Encoder
    from ._config import TrainConfig
    from ._encoded import Examples
    from ._epochs import Epochs
    from .corpus._groups import Groups


class HermesTrainer(Recorded, Trainer):
    """Runs one training.

    Parameters
    ----------
    model
        With the loss of :func:`~cellhermes.train._loss.attach`.
    args
        Of transformers.
    config
        Ours.
    rows
        To train on.
    held_out
        To evaluate on, and its examples.
    log_file
        JSON lines are added to it.
    groups
        Of each, one is read with every forward pass.
    encoder
        Of the model, for the groups.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        config: TrainConfig,
        rows: Dataset,
        held_out: tuple[Epochs, Examples] | None,
        log_file: Path,
        *,
        groups: Mapping[str, Groups] | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            data_collator=partial(collate, loss_on=config.loss_on, packed=config.packing),
            train_dataset=rows,
            eval_dataset=held_out[0] if held_out else None,
        )
        self.config = config
        self._tasks = held_out[1].tasks if held_out else []
        self._groups, self._encoder = dict(groups or {}), encoder
        self._token_of = {
            name: np.array([encoder.answer(word)[0] for word in part.words], np.int64)
            for name, part in self._groups.items()
        }
        self._pass = 0, 0  # step, forward passes of it so far
        self._parts: dict[str, list[torch.Tensor]] = {}
        self._seen = torch.zeros((), dtype=torch.int64)
        self.record(log_file)

    # The loss ------------------------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 (signature of transformers)
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, dict]:
        """Count the tokens, and leave what the model does not take."""
        self._seen += inputs["n_tokens"].sum().cpu()
        inputs = {name: value for name, value in inputs.items() if name not in ("task", "n_tokens")}
        if not self._groups:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, outputs = super().compute_loss(
            model, inputs | {"groups": self._next_groups()}, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        for name, parts in outputs.pop("groups").items():
            for kind, part in parts.items():
                self._parts.setdefault(f"loss/{name}/{kind}", []).append(part.detach())
        return (loss, outputs) if return_outputs else loss

    def _next_groups(self) -> dict[str, dict[str, torch.Tensor]]:
        """Take a group of each source; which one is a function of the step, so a resumed run goes on with the next."""
        step = self.state.global_step
        at = self._pass[1] if self._pass[0] == step else 0
        self._pass = step, at + 1
        processes = self.accelerator.num_processes
        number = (step * self.config.accumulation + at) * processes + self.accelerator.process_index
        passed = {}
        for name, groups in self._groups.items():
            tensors = group_tensors(groups[number], groups, self._encoder, self._token_of[name])
            self._seen += tensors["end"].sum() + len(tensors["end"])
            # the pairs' loss is a sum over the whole step, divided by its tokens: passes and processes add up
            for weight in ("near_weight", "first_weight"):
                if weight in tensors:
                    tensors[weight] = tensors[weight] / (self.config.accumulation * processes)
            passed[name] = {key: value.to(self.args.device) for key, value in tensors.items()}
        return passed

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Make AdamW, in which the token table may learn at a rate of its own."""
        if self.optimizer is None and self.config.embedding_lr_factor != 1:
            super().create_optimizer(model)
            table = self.accelerator.unwrap_model(self.model).get_input_embeddings().weight
            for group in list(self.optimizer.param_groups):
                if any(weight is table for weight in group["params"]):
                    group["params"] = [weight for weight in group["params"] if weight is not table]
                    rate = group["lr"] * self.config.embedding_lr_factor
                    self.optimizer.add_param_group({**group, "params": [table], "lr": rate})
        return super().create_optimizer(model)

    def get_eval_dataloader(self, eval_dataset: Dataset | None = None) -> DataLoader:
        """Give rows in their order, never packed."""
        loader = DataLoader(
            self.eval_dataset if eval_dataset is None else eval_dataset,
            batch_size=self.args.per_device_eval_batch_size,
            collate_fn=partial(collate, loss_on=self.config.loss_on, packed=False),
        )
        return self.accelerator.prepare(loader)

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        """Compute loss per token and share of exact answers, over all held-out pairs and for each task.

        An answer is exact if each of its tokens is the likeliest one behind those before it: greedy decoding would
        write it.
        """
        self.model.eval()
        parts = []
        for batch in self.get_eval_dataloader():
            task = batch.pop("task")
            batch.pop("n_tokens")
            with torch.no_grad(), self.compute_loss_context_manager():
                outputs = self.model_wrapped(**batch)
            rows = torch.stack([task.float(), outputs["nll"], outputs["n"], outputs["n_right"]], 1)
            parts.append(self.accelerator.gather(rows).double().cpu())
        metrics = {f"eval_{name}": value for name, value in _summary(torch.cat(parts), self._tasks).items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def tokens_seen(self) -> int:
        """Count the tokens of pairs and groups, of all processes."""
        return self._before["tokens"] + int(self.accelerator.reduce(self._seen.to(self.args.device), reduction="sum"))

    def numbers(self, logs: dict[str, float]) -> dict[str, float]:
        """Give all, and in training the mean losses of the groups since the last line, of this process."""
        if "loss" not in logs:
            return logs
        scale = self.config.accumulation * self.accelerator.num_processes
        means = {name: round(scale * float(torch.stack(part).mean()), 6) for name, part in self._parts.items()}
        self._parts = {}
        return logs | means


def _summary(rows: torch.Tensor, tasks: list[str]) -> dict[str, float]:
    """Compute loss per token and share of exact rows, from (rows, 4) task, summed loss, tokens, right tokens."""
    rows = rows[rows[:, 2] > 0]
    metrics = {}
    parts = {"": rows} | {f"/{task}": rows[rows[:, 0] == i] for i, task in enumerate(tasks)}
    for name, part in parts.items():
        if len(part):
            metrics[f"loss{name}"] = float(part[:, 1].sum() / part[:, 2].sum())
            metrics[f"accuracy{name}"] = float((part[:, 3] == part[:, 2]).double().mean())
    return metrics
