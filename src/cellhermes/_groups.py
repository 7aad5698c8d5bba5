"""Groups of cells: which there are, what they are called, and which cell belongs to which."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import _adata
from ._keys import label_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData
    from mudata import MuData


@dataclass(frozen=True)
class Grouping:
    """Cells by group."""

    labels: list[str]
    """What the groups are called: texts, as a user reads their values (see ``label_of``)."""
    codes: np.ndarray
    """(cells,) place of each cell's group in ``labels``; -1 for a cell of no group, or of one not asked for."""
    has_group: np.ndarray
    """(cells,) whether the cell has a group, asked for or not."""

    @property
    def of_cell(self) -> np.ndarray:
        """(cells,) label of each cell's group, or None."""
        return np.array([*self.labels, None], dtype=object)[self.codes]

    @property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the cells of the first group, and of the second; of all other groups where there is no second."""
        others = self.codes == 1 if len(self.labels) > 1 else self.has_group & (self.codes != 0)
        return np.flatnonzero(self.codes == 0), np.flatnonzero(others)


def groups_of(
    data: AnnData | MuData, groupby: str, groups: Iterable[object] | None = None, *, mod: str | None = None
) -> Grouping:
    """Return the groups of ``obs[groupby]`` that have cells: all, in the order of their labels, or those asked for.

    A group is asked for by its value or by its text. Cells whose value is missing or an empty text are in no group. Of
    a MuData, ``groupby`` may be a joint column, or one of another modality (``"rna:cell_type"``).

    Raises
    ------
    KeyError
        If the column is not there, or ``groups`` names a group without cells.
    TypeError
        If ``groups`` is a single text or no list.
    ValueError
        If ``groups`` is empty, or no cell has a group.
    """
    column = _adata.require_obs(data, groupby, mod=mod)
    codes, values = pd.factorize(column)
    names = [label_of(value) for value in values]
    there = sorted({*names} - {""})
    if not there:
        msg = f"`adata.obs[{groupby!r}]` has no value for any of {len(column):,} cells, so that there is no group."
        raise ValueError(msg)
    labels = there if groups is None else asked(groups, there, f"of obs[{groupby!r}]")
    place = {label: i for i, label in enumerate(labels)}
    has_group = np.array([*(name != "" for name in names), False])[codes]
    return Grouping(labels, np.array([*(place.get(name, -1) for name in names), -1])[codes], has_group)


def asked(
    groups: Iterable[object], known: Iterable[str], where: str, *, what: str = "cells", advice: str = ""
) -> list[str]:
    """Return the labels of the groups that are asked for, each once, in their order.

    ``known`` are the labels of the groups that have ``what`` is needed.

    Raises
    ------
    KeyError
        If a group is not known.
    TypeError, ValueError
        If ``groups`` is a single text or no list, or empty.
    """
    if isinstance(groups, str) or not hasattr(groups, "__iter__"):
        msg = f"groups is the single value {groups!r}; expected a list of groups."
        raise TypeError(msg)
    known = {*known}
    labels = {label_of(group): _known(group, known) for group in groups}
    there = sorted(known - {""})
    if not labels:
        msg = f"groups is empty; pass None for all groups {where}, or some of {there}."
        raise ValueError(msg)
    if unknown := [text for text, label in labels.items() if label is None]:
        msg = f"No {what} in groups {unknown} {where}; the groups with {what} are {there}.{advice}"
        raise KeyError(msg)
    return list(dict.fromkeys(labels.values()))


def asked_one(group: object, known: Iterable[str], where: str, *, what: str = "cells", advice: str = "") -> str:
    """Return the label of the one group that is asked for; raises as :func:`asked`."""
    if hasattr(group, "__iter__") and not isinstance(group, str):
        msg = f"group is {group!r}; expected a single group."
        raise TypeError(msg)
    return asked([group], known, where, what=what, advice=advice)[0]


def _known(group: object, known: set[str]) -> str | None:
    """Return the label of a group by its value, its label, or the text of its value: 1.0, "1" and "1.0" are one."""
    short = re.sub(r"^(-?\d+)\.0$|^(\d{4}-\d\d-\d\d) 00:00:00$", r"\1\2", str(group))
    return next((label for label in (label_of(group), str(group), short) if label in known), None)
