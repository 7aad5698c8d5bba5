"""A table of questions and a task become question-answer pairs to train on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..._disk import json_hash
from ..._streams import Use, below, hashed
from ...text import QAPair, Question
from ...text._columns import SENTENCE
from ..corpus._pairs import Pairs
from ._reason_pairs import with_reasons
from ._splits import SPLIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from ...text import Task


MOST_COMMON = 20  # answers whose numbers are told


def task_pairs(
    frame: pd.DataFrame | Mapping[str, Sequence[object]],
    task: str | Path | Task | Question,
    *,
    reasons: str | None = None,
    part: str = "train",
    n_wordings: int = 1,
    seed: int = 0,
) -> Pairs:
    """Ask the questions of a task, with their true answers, to train on.

    A row gives one pair in each of ``n_wordings`` wordings, drawn by its number. Several tasks are trained together as
    sources of :func:`~cellhermes.train.fit`: ``fit({"fitness": a, "disease": b}, weights=..., out=...)``.

    With ``reasons``, the question asks for a reason first, and the answer is
    ``<reason>rationale</reason><output>answer</output>``, which :func:`~cellhermes.train.reason_reward` rewards and
    :func:`cellhermes.tl.reasons` reads (``reason_first=True``). :func:`~cellhermes.train.fit` on these pairs comes
    before :func:`~cellhermes.train.reinforce`: reinforcement can only strengthen what a model already writes at times.

    Parameters
    ----------
    frame
        Questions: the columns of the task and its answers. ``adata.obs`` for a task of cells.
    task
        Name of a task, path of a TOML file, a :class:`~cellhermes.text.Task`, or a :class:`~cellhermes.text.Question`,
        which may name answers, columns and whether the cell's genes are shown.
    reasons
        Column with rationales; None asks for the bare answer.
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
        If the part is empty, a value is missing, a label is none of the answers, there are fewer wordings, or
        a rationale holds one of the tags.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame({"gene_a": ["BRCA1"], "gene_b": ["PARP1"], "answer": ["Yes"]})
    >>> pairs = ch.train.questions.task_pairs(frame, "genetic_interaction_synthetic")
    >>> pairs[0].answer, pairs[0].prompt.text.splitlines()[1]
    ('Yes', 'Gene BRCA1 and Gene PARP1')
    >>> frame["reason"] = "Both repair DNA."
    >>> ch.train.questions.task_pairs(frame, "genetic_interaction_synthetic", reasons="reason")[0].answer
    '<reason>Both repair DNA.</reason><output>Yes</output>'
    """
    question = Question.of(task)
    asked = question.task
    n_variants = len(asked.template.variants)
    if not 1 <= n_wordings <= n_variants:
        msg = f"n_wordings={n_wordings}; task {asked.name!r} has {n_variants}."
        raise ValueError(msg)
    rows = rows_of(frame, part)
    columns, true = question.columns(rows), question.answers_of(rows)
    if not true:
        msg = "the frame has no row; expected at least one question with its answer."
        raise ValueError(msg)
    first = {name: values[:1] for name, values in columns.items()}
    asked.prompts(first, expression=question.expression)  # fails now or never
    about = {
        "task": asked.name,
        "version": asked.version,
        "task_sha256": asked.fingerprint(),
        "rows_sha256": json_hash([columns, true]),
        "answers": dict(Counter(true).most_common(MOST_COMMON)),
        "part": part if SPLIT in frame else "all",
        "expression": bool(question.expression),
        "n_wordings": n_wordings,
        "seed": seed,
    }
    make = _TaskPairs(question, columns, true, n_wordings, seed)
    pairs = Pairs(make, len(true) * n_wordings, task=asked.name, about=about)
    return pairs if reasons is None else with_reasons(pairs, rows, reasons, n_wordings)


@dataclass(frozen=True)
class _TaskPairs:
    """Makes the pairs of a task; number = row x number of wordings + place among the wordings of the row."""

    question: Question
    columns: Mapping[str, list[str | list[str]]]
    answers: list[str]
    n_wordings: int
    seed: int

    def __call__(self, numbers: np.ndarray) -> list[QAPair]:
        rows, place = np.divmod(numbers, self.n_wordings)
        task = self.question.task
        n_variants = len(task.template.variants)
        first = below(hashed(self.seed, Use.TASK_WORDING, rows), n_variants)
        chosen = {name: [values[row] for row in rows.tolist()] for name, values in self.columns.items()}
        variants = ((first + place) % n_variants).tolist()
        prompts = task.prompts(chosen, expression=self.question.expression, variant=variants)
        named = [values for name, values in chosen.items() if name != SENTENCE]
        sources = [" ".join(map(_joined, values)) for values in zip(*named, strict=True)] or [""] * len(prompts)
        rows_of_prompts = zip(prompts, rows.tolist(), sources, strict=True)
        return [QAPair(prompt, self.answers[row], task.name, source) for prompt, row, source in rows_of_prompts]


def _joined(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def rows_of(
    frame: pd.DataFrame | Mapping[str, Sequence[object]], part: str
) -> pd.DataFrame | Mapping[str, Sequence[object]]:
    """Take the rows of one part, where the frame is split; else all."""
    if SPLIT not in frame:
        return frame
    parts = [str(one) for one in frame[SPLIT]]
    places = [i for i, one in enumerate(parts) if one == part]
    if not places:
        msg = f"no row has split={part!r}; the frame has {dict(Counter(parts))}."
        raise ValueError(msg)
    columns = {str(name): list(frame[name]) for name in frame}
    return {name: [values[i] for i in places] for name, values in columns.items()}
