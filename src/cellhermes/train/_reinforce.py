"""One call from questions with true answers to an adapter that reasons: check, load, reinforce, write."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..model._card import reference
from . import _folder, _loop
from ._bases import folders_of
from ._reinforce_config import ReinforceConfig
from ._reward import check_classes, closed
from .corpus._pairs import pairs_sha256
from .questions._reason_pairs import asking_for_reasons
from .questions._task_pairs import task_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from ..model._tokens import Encoder
    from ..text import Question, Task
    from .corpus._pairs import Pairs

logger = logging.getLogger("cellhermes")

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "trl", "tokenizers")
PLUMBING = (
    "The base is mini, which is too small to reason: what its adapter writes shows that the steps work, and says "
    "nothing about cells or genes."
)


def reinforce(
    frame: pd.DataFrame | Mapping[str, Sequence[object]],
    task: str | Path | Task | Question,
    config: ReinforceConfig | None = None,
    *,
    out: str | Path,
    base: str | Path = "mini",
    part: str = "train",
    n_wordings: int = 1,
    wrap: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Reinforce a model for reasons that lead to right answers.

    The model writes several texts to a question that asks for a reason, then for the answer. Each is rewarded for its
    format and for being right (:func:`reason_reward`), and what earned more than the mean of its group becomes likelier
    (GRPO; Shao et al. 2024, in the implementation of TRL). No rationale is needed here, only true answers, and none is
    checked: the reward sees the answer, not whether the reason is true.

    Reinforcement strengthens what a model writes at times. One that never writes the tags learns nothing; train it
    first, with :func:`fit` on :func:`~cellhermes.train.questions.task_pairs` with ``reasons``, and pass that adapter as
    ``base``. Folders, interruptions, several processes and their errors are as for :func:`fit`.

    Parameters
    ----------
    frame
        Questions: the columns of the task and its answers. ``adata.obs`` for a task of cells.
    task
        Name of a task, path of a TOML file, a :class:`~cellhermes.text.Task`, or a :class:`~cellhermes.text.Question`,
        which may name answers, columns and whether the cell's genes are shown. Its answers must be known.
    config
        How to learn; None takes :class:`~cellhermes.train.ReinforceConfig` with its defaults.
    out
        Folder of the result.
    base
        Name, folder or hub id of the model to start from. Adapters of its card are merged first.
    part
        Which rows, where the frame has a column ``split``: ``"train"``, ``"valid"`` or ``"test"``.
    n_wordings
        Questions of a row, each with another wording.
    wrap, device, overwrite
        As for :func:`fit`.

    Returns
    -------
    ``out``, with ``adapter_model.safetensors`` and ``adapter_config.json``, a model card, ``cellhermes.json``,
    ``training.json``, ``checkpoints``, and ``log.jsonl`` (for :func:`cellhermes.get.training_log`): ``reward``, its
    parts ``reward/format`` and ``reward/correctness``, ``reward_std`` within groups, ``equal_groups`` (share of groups
    that teach nothing, as all their texts earned the same), ``length`` of the texts in tokens, the share that was
    ``cut``, ``entropy`` and ``kl``.

    Raises
    ------
    ~builtins.ImportError
        If TRL is not installed.
    KeyError
        If the task or a column is not there.
    ValueError
        If a value is missing, a label or a class is none of the answers, there are too few questions for a step, or a
        question and ``max_new_tokens`` exceed the model's context.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> adata.obs["answer"] = ["Reactive", "Non-Reactive"] * 10
    >>> config = ch.train.ReinforceConfig(class_weights={"Reactive": 2.0})
    >>> ch.train.reinforce(adata.obs, "t_cell_reactivity", config, out="reasons")  # doctest: +SKIP
    PosixPath('reasons')
    """
    from ..model import _identity
    from ..model._load import context_of
    from ..model._store import located

    config, out = config or ReinforceConfig(), Path(out)
    _folder.check(out)
    question = closed(task)
    check_classes(question, config.class_weights)
    pairs = task_pairs(frame, question, part=part, n_wordings=n_wordings, seed=config.train.seed)
    questions = asking_for_reasons(pairs)
    _check_installed()
    from ._recorded import read_log
    from ._reinforce_trainer import ReasonTrainer, arguments, results
    from ._tunable import base_of

    card, tokenizer, encoder = _loop.opened(base, wrap)
    _folder.check(out, folders_of(located(card)))
    _folder.check_writable(out)
    _check_lengths(questions, encoder, context_of(card), config.max_new_tokens)
    args = arguments(config, out, device)
    _check_number(len(questions), config, args.world_size)
    record = {
        "method": "reinforce",
        "config": config.to_dict(),
        "base": reference(card),
        "base_sha256": _identity.sha256(card),
        "wrap": encoder.wrap.note(),
        "vocabulary": encoder.fingerprint(),
        "pairs": {"sha256": pairs_sha256(questions), "about": dict(questions.about)},
    }
    record = json.loads(json.dumps(record))  # as it will be read again: lists for tuples
    with _folder.held(out, is_first=args.process_index == 0):
        if _folder.is_finished(out, record, overwrite=overwrite):
            return out
        limits = {"limits": PLUMBING} if card.base.startswith("bundled:") else {}
        if limits:
            warnings.warn(PLUMBING, UserWarning, stacklevel=2)
        args.distributed_state.wait_for_everyone()  # all have looked before one writes
        if args.process_index == 0:
            _folder.begin(out, record, overwrite=overwrite)
        with _loop.random_state_kept():
            lm = base_of(config.train, card, tokenizer, half=args.bf16 or args.fp16)
            trainer = ReasonTrainer(
                lm, args, config, questions, question,
                encoder=encoder, tokenizer=tokenizer, card=card, log_file=out / _folder.LOG,
            )  # fmt: skip
            _loop.train(trainer, out)
            facts = {
                **limits,
                "run": record,
                "data": {"questions": len(questions), **questions.about["answers"]},
                "results": results(trainer, read_log(out / _folder.LOG)),
                "versions": _loop.versions(*LIBRARIES),
            }
            _loop.leave(trainer, out, card=card, facts=facts)
    return out


def _check_installed() -> None:
    missing = [name for name in ("trl", "datasets", "peft", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        msg = f"Reinforcement needs {' and '.join(missing)}: pip install 'cellhermes[rl]'."
        raise ImportError(msg)


def _check_number(n: int, config: ReinforceConfig, n_processes: int) -> None:
    """Raise at too few questions for one step: TRL leaves out those that fill none, and the model stays as it is."""
    needed = config.train.batch_size * config.train.accumulation * n_processes // config.group_size
    if n < needed:
        msg = (
            f"A step asks {needed:,} questions (batch_size * accumulation * processes / group_size), and there are "
            f"{n:,}. Pass more, or lower batch_size or accumulation."
        )
        raise ValueError(msg)


def _check_lengths(questions: Pairs, encoder: Encoder, context: int, max_new_tokens: int) -> None:
    """Raise where questions would be cut, and so ask for something else."""
    lengths = np.array([len(one.ids) for one in encoder.prompts([pair.prompt for pair in questions])])
    n_long = int((lengths + max_new_tokens > context).sum())
    if n_long:
        msg = (
            f"{n_long:,} of {len(lengths):,} questions are too long: the longest has {lengths.max():,} tokens; with "
            f"max_new_tokens={max_new_tokens} the model's context of {context:,} leaves {context - max_new_tokens:,}. "
            "Lower max_new_tokens, or show fewer genes (n_genes= of ch.pp.cell_sentences)."
        )
        raise ValueError(msg)
