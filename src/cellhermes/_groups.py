"""Groups of cells: which there are, what they are called, and which cell belongs to which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import _adata
from ._keys import label_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    written = {str(value): name for value, name in zip(values, names, strict=True) if name}
    known = written | {name: name for name in there}
    labels = there if groups is None else asked(groups, known, f"of obs[{groupby!r}]")
    place = {label: i for i, label in enumerate(labels)}
    has_group = np.array([*(name != "" for name in names), False])[codes]
    return Grouping(labels, np.array([*(place.get(name, -1) for name in names), -1])[codes], has_group)


def asked(
    groups: Iterable[object], known: Mapping[str, str], where: str, *, what: str = "cells", advice: str = ""
) -> list[str]:
    """Return the labels of the groups that are asked for, each once, in their order.

    ``known`` leads from values and labels, as texts, to the labels of the groups that have ``what`` is needed.

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
    names = {label_of(group): known.get(label_of(group), known.get(str(group))) for group in groups}
    there = sorted({*known.values()} - {""})
    if not names:
        msg = f"groups is empty; pass None for all groups {where}, or some of {there}."
        raise ValueError(msg)
    if unknown := [label for label, name in names.items() if name is None]:
        msg = f"No {what} in groups {unknown} {where}; the groups with {what} are {there}.{advice}"
        raise KeyError(msg)
    return list(dict.fromkeys(names.values()))
