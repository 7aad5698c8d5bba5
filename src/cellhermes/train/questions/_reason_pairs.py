"""Questions that ask for a reason and an answer: with rationales to learn from, or without, to be rewarded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..._disk import json_hash
from ...text import Template
from ...text._columns import column
from ...text._reason import read_reasoned, reason_prompt, write_reasoned
from ..corpus._pairs import Pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pandas as pd

    from ...text import QAPair


def with_reasons(
    pairs: Pairs, rows: pd.DataFrame | Mapping[str, Sequence[object]], reasons: str, n_wordings: int
) -> Pairs:
    """Ask for a reason first, and answer with the rationale in a column of the rows and the true answer."""
    texts = column(rows, reasons, pairs.task, lists=False)
    wrong = [row for row, text in enumerate(texts) if not read_reasoned(write_reasoned(text, "x")).is_formatted]
    if wrong:
        msg = (
            f"Column {reasons!r} has rationales with a tag of their own in {len(wrong):,} rows, the first is row "
            f"{wrong[0]} (counted from 0): {texts[wrong[0]][:60]!r}. Leave out <reason> and <output>."
        )
        raise ValueError(msg)
    pairs = asking_for_reasons(pairs)
    about = {**pairs.about, "reasons": reasons, "reasons_sha256": json_hash(texts)}
    return Pairs(_Told(pairs, texts, n_wordings), len(pairs), task=pairs.task, about=about)


def asking_for_reasons(pairs: Pairs) -> Pairs:
    """Ask for a reason first; the answers are the bare ones."""
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
