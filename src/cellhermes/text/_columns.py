"""What a question shows of a frame: its columns as texts or lists of genes, every row with a value."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .._symbols import joined_genes

if TYPE_CHECKING:
    import pandas as pd

    Frame = pd.DataFrame | Mapping[str, Sequence[object]]

SENTENCE = "cell_sentence"  # the column with a cell's ranked genes
LISTS = {SENTENCE: str.split, "genes": str.split, "perturbation": joined_genes}  # columns with several genes
SHOWN = 5  # examples in a message


def column(frame: "Frame", name: str, task: str, *, lists: bool = True) -> list[str | list[str]]:
    """Return a column as strings or, where ``lists``, as lists of genes; every row must have a value."""
    check_column(frame, name, task)
    values = [_value(value, name if lists else "") for value in frame[name]]
    if empty := [row for row, value in enumerate(values) if not value]:
        rows = ", ".join(map(str, empty[:SHOWN]))
        msg = (
            f"Task {task!r}: column {name!r} has no value in {len(empty):,} of {len(values):,} rows (counted from 0: "
            f"{rows}). Fill or leave out these rows."
        )
        raise ValueError(msg)
    return values


def check_column(frame: "Frame", name: str, task: str) -> None:
    """Refuse a frame without a column that a task needs."""
    if name not in frame:
        hint = "Run `ch.pp.cell_sentences(adata)` for it" if name == SENTENCE else "Name yours by `Question(fields=)`"
        msg = f"Task {task!r} needs the column {name!r}; there are {[str(key) for key in frame][:30]}. {hint}."
        raise KeyError(msg)


def _value(value: object, name: str) -> str | list[str]:
    """Return what is written for a value, ``""`` for a missing one; whole numbers without a point."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return ""
        value = int(value) if float(value).is_integer() else value
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return [word for word in (str(one).strip() for one in value) if word]
    text = str(value).strip()
    return LISTS[name](text) if name in LISTS else text


def listed(words: Iterable[str]) -> str:
    words = list(words)
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return f"{words[:SHOWN]}{more}"
