"""Questions that ask for a reason and an answer: with rationales to learn from, or without, to be rewarded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..._disk import json_hash
from ...text import Template
from ...text._columns import column
from ...text._reason import read_reasoned, reason_prompt, write_reasoned
from ..corpus._pairs import Pairs
from ._task_pairs import rows_of, task_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import pandas as pd

    from ...text import QAPair, Question, Task


def reason_pairs(
    frame: pd.DataFrame | Mapping[str, Sequence[object]],
    task: str | Path | Task | Question,
    *,
    reasons: str = "reason",
    part: str = "train",
    n_wordings: int = 1,
    seed: int = 0,
) -> Pairs:
    """Ask the questions of a task, answered with a rationale and the true answer, to learn to reason from.

    The question is that of :func:`task_pairs` and asks for a reason first; the answer is
    ``<reason>rationale</reason><output>answer</output>``, which :func:`~cellhermes.train.reason_reward` rewards and
    :func:`cellhermes.tl.reasons` reads (``reason_first=True``). :func:`~cellhermes.train.fit` on these pairs comes
    before :func:`~cellhermes.train.reinforce`: reinforcement can only strengthen what a model already writes at times.

    Parameters
    ----------
    frame
        Questions: the columns of the task, its answers, and rationales. ``adata.obs`` for a task of cells.
    task
        Name of a task, path of a TOML file, a :class:`~cellhermes.text.Task`, or a :class:`~cellhermes.text.Question`,
        which may name answers, columns and whether the cell's genes are shown.
    reasons
        Column with the rationales.
    part
        Which rows, where the frame has a column ``split``: ``"train"``, ``"valid"`` or ``"test"``.
    n_wordings
        Pairs of a row, each with another wording.
    seed
        Pair ``i`` is a function of the frame, the task, the seed and ``i``.

    Returns
    -------
    :class:`~cellhermes.train.corpus.Pairs` of the task.

    Raises
    ------
    KeyError
        If the task or a column is not there.
    ValueError
        If a rationale is missing or holds one of the tags, or as for :func:`task_pairs`.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame(
    ...     {"gene_a": ["BRCA1"], "gene_b": ["PARP1"], "answer": ["Yes"], "reason": ["Both repair DNA."]}
    ... )
    >>> ch.train.questions.reason_pairs(frame, "genetic_interaction_synthetic")[0].answer
    '<reason>Both repair DNA.</reason><output>Yes</output>'
    """
    pairs = reason_questions(frame, task, part=part, n_wordings=n_wordings, seed=seed)
    texts = column(rows_of(frame, part), reasons, pairs.task, lists=False)
    wrong = [row for row, text in enumerate(texts) if not read_reasoned(write_reasoned(text, "x")).is_formatted]
    if wrong:
        msg = (
            f"Column {reasons!r} has rationales with a tag of their own in {len(wrong):,} rows, the first is row "
            f"{wrong[0]} (counted from 0): {texts[wrong[0]][:60]!r}. Leave out <reason> and <output>."
        )
        raise ValueError(msg)
    about = {**pairs.about, "reasons": reasons, "reasons_sha256": json_hash(texts)}
    return Pairs(_Told(pairs, texts, n_wordings), len(pairs), task=pairs.task, about=about)


def reason_questions(
    frame: pd.DataFrame | Mapping[str, Sequence[object]], task: str | Path | Task | Question, **options: object
) -> Pairs:
    """Make :func:`task_pairs` whose questions ask for a reason first; the answers are the bare ones."""
    pairs = task_pairs(frame, task, **options)
    about = {**pairs.about, "reason_version": Template.load("reason_then_answer").version}
    return Pairs(_Asked(pairs), len(pairs), task=pairs.task, about=about)


@dataclass(frozen=True)
class _Asked:
    """Makes questions that ask for a reason."""

    pairs: Pairs

    def __call__(self, numbers: np.ndarray) -> list[QAPair]:
        return [replace(pair, prompt=reason_prompt(pair.prompt)) for pair in self.pairs.take(numbers)]


@dataclass(frozen=True)
class _Told:
    """Makes answers of a rationale and the true answer; number = row x number of wordings + place."""

    pairs: Pairs
    reasons: list[str]
    n_wordings: int

    def __call__(self, numbers: np.ndarray) -> list[QAPair]:
        rows = (numbers // self.n_wordings).tolist()
        pairs = zip(self.pairs.take(numbers), rows, strict=True)
        return [replace(pair, answer=write_reasoned(self.reasons[row], pair.answer)) for pair, row in pairs]
