"""A training from its last checkpoint to the end, and what it leaves in its folder, whichever trainer has the loop."""

from __future__ import annotations

import logging
import random
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from .._disk import check_space, write_json
from .._keys import version as own_version
from . import _checkpoints, _folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase, Trainer

    from ..model import ModelCard
    from ..model._tokens import Encoder
    from ..text import Wrap
    from ._recorded import Recorded

logger = logging.getLogger("cellhermes")


def opened(base: str | Path, wrap: str | Wrap | None) -> tuple[ModelCard, PreTrainedTokenizerBase, Encoder]:
    """Open a base: its card with the wrap that is read, its tokenizer and encoder; no weights yet."""
    from ..model import _card
    from ..model._load import load_tokenizer
    from ..model._store import located
    from ..model._tokens import Encoder, warn_of_plain
    from ._bases import check_bases

    card = _card.with_wrap(_card.resolve(base), wrap, None)
    check_bases(located(card))
    tokenizer = load_tokenizer(card)
    warn_of_plain(tokenizer, wrap)
    encoder = Encoder(tokenizer, card.wrap, system=card.system)
    return replace(card, wrap=encoder.wrap, system=None), tokenizer, encoder


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Put the caller's global generators back, from which libraries below draw."""
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def train(trainer: Recorded, out: Path) -> None:
    """Train to the end, or to a signal; goes on from the last whole checkpoint in ``out``."""
    folder = out / _folder.CHECKPOINTS
    last = _checkpoints.latest(folder)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        _checkpoints.remove_half_written(folder)
        tuned = sum(one.numel() * one.element_size() for one in trainer.model.parameters() if one.requires_grad)
        check_space(out, 4 * tuned)  # a checkpoint, which has two moments of each weight, and the result
    trainer.resume_log(last)
    trainer.accelerator.wait_for_everyone()
    if last:
        logger.info("training goes on from %s", last)
    with trainer.stop.watch():
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.stop.reraise()


def leave(
    trainer: Trainer,
    out: Path,
    *,
    card: ModelCard,
    facts: Mapping[str, object],
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write weights, card and record, each under its name only when it is whole.

    Parameters
    ----------
    trainer
        After training.
    out
        Folder of the run.
    card
        Of the base.
    facts
        What the card tells; ``facts["run"]`` is the record of the run.
    tokenizer
        Of a model that stands alone; None for an adapter.
    """
    from ..model._card import trained_tasks
    from ._export import write_card

    card = replace(card, tasks=tuple(dict.fromkeys([*card.tasks, *trained_tasks(facts)])))
    unfinished = _folder.unfinished(out, facts["run"])
    trainer.model.config.use_cache = True  # for generation; the trainer switches it off
    trainer.save_model(str(unfinished))  # collective where weights are sharded
    if trainer.is_world_process_zero():
        if tokenizer is not None:
            tokenizer.save_pretrained(unfinished)
        kind = "adapter" if tokenizer is None else "model"
        write_card(unfinished, card=card, base=facts["run"]["base"], kind=kind, facts=facts)
        files = _folder.settle(unfinished, out)
        write_json(out / _folder.RECORD, {**facts, "files": files})
    trainer.accelerator.wait_for_everyone()
    logger.info("trained: %s", out)


def versions(*libraries: str) -> dict[str, str]:
    """List the versions of this package and others."""
    return {"cellhermes": own_version()} | {name: version(name) for name in libraries}
