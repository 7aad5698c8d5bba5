"""Groups of cells: which there are, what they are called, and which cell belongs to which."""

from __future__ import annotations

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
        If the column is not there.
    TypeError
        If ``groups`` is a single text or no list.
    ValueError
        If ``groups`` is empty or names a group without cells, or no cell has a group.
    """
    adata = _adata.resolve(data, mod)
    column = _adata.require_obs(data, groupby, f"Its columns are {list(adata.obs.columns)}.", mod=mod)
    codes, values = pd.factorize(column)
    names = [label_of(value) for value in values]
    there = sorted({*names} - {""})
    if not there:
        msg = f"`adata.obs[{groupby!r}]` has no value for any of {adata.n_obs:,} cells, so that there is no group."
        raise ValueError(msg)
    written = {str(value): name for value, name in zip(values, names, strict=True)} | {name: name for name in there}
    labels = there if groups is None else _asked(groups, written, there, groupby)
    place = {label: i for i, label in enumerate(labels)}
    return Grouping(labels, np.array([*(place.get(name, -1) for name in names), -1])[codes])


def _asked(groups: Iterable[object], written: dict[str, str], there: list[str], groupby: str) -> list[str]:
    """Labels of the groups that are asked for, each once, in their order."""
    if isinstance(groups, str) or not hasattr(groups, "__iter__"):
        msg = f"groups is the single value {groups!r}; expected a list of groups."
        raise TypeError(msg)
    found = {group: written.get(label_of(group)) or written.get(str(group)) for group in groups}
    if not found:
        msg = f"groups is empty; pass None for all groups of obs[{groupby!r}], or some of {there}."
        raise ValueError(msg)
    if unknown := [label_of(group) for group, label in found.items() if not label]:
        msg = f"No cells in groups {unknown} of obs[{groupby!r}]; the groups with cells are {there}."
        raise ValueError(msg)
    return list(dict.fromkeys(found.values()))
