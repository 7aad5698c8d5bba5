"""Which stored network and which stored modules belong to a group: read by tools and readers alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import _adata
from ._groups import asked_one
from ._keys import GROUPS, MODULES, NETWORK, check_alike, group_key, half_labels, n_cells_key, uns_of

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse


@dataclass(frozen=True)
class Network:
    """A stored network, along the genes of the object."""

    label: str
    """Of its group; ``""`` without groups."""
    groupby: str
    weights: sparse.csr_matrix
    """(genes, genes); rows of genes outside the network are empty."""
    gene_symbols: str | None
    """Column of ``var`` with the symbols; None are the names of the genes."""
    symbols: np.ndarray
    n_cells: pd.Series
    """How many cells of the group express each gene; missing outside, and where it is not known."""

    @property
    def present(self) -> np.ndarray:
        """(genes,) whether each is in the network."""
        return np.diff(self.weights.indptr) > 0


def network_of(adata: AnnData, group: str | None = None, key: str = NETWORK) -> Network:
    """Return the network of a group, or with None the one without groups.

    Raises
    ------
    KeyError
        If it is not there.
    """
    table = _table(adata, key)
    label = _label(table.index, group, key)
    row = table.loc[label]
    name, gene_symbols = str(row["key"]), str(row.get("gene_symbols", "")) or None
    if name not in adata.varp:
        msg = f"`adata.varp[{name!r}]` not found, though `adata.uns[{key!r}]` lists it; run `ch.tl.gene_network` again."
        raise KeyError(msg)
    n_cells = adata.var.get(n_cells_key(name), pd.Series(pd.NA, adata.var_names)).astype("Int64")
    symbols = _adata.symbols(adata, gene_symbols)
    return Network(label, str(row.get("groupby", "")), adata.varp[name].tocsr(), gene_symbols, symbols, n_cells)


def compared(
    adata: AnnData, group: str | None, reference: str | None, key: str = NETWORK
) -> tuple[list[Network], list[Network]]:
    """Return the networks of a group and, if there is one, of its reference; and those of two halves of its cells.

    The halves are found by the labels that ``tl.split_groups`` gives; there are none where they were not made.

    Raises
    ------
    KeyError
        If there is no network of a group.
    ValueError
        If the groups are one, or their networks were made in different ways.
    """
    if group is None and reference is not None:
        msg = f"reference={reference!r} was passed without a group; pass group= as well."
        raise ValueError(msg)
    networks = [network_of(adata, group, key)] + ([] if reference is None else [network_of(adata, reference, key)])
    labels, table = [network.label for network in networks], _table(adata, key)
    if labels[0] == labels[-1] and len(labels) > 1:
        msg = f"group and reference are both {labels[0]!r}; expected two. For what chance gives, see tl.split_groups."
        raise ValueError(msg)
    halves = [half for half in half_labels(labels[0]) if {*half_labels(labels[0])} <= {*table.index}]
    check_alike(table, [*labels, *halves], "gene_network")
    return networks, [network_of(adata, half, key) for half in halves]


def modules_of(adata: AnnData, network: Network, key: str = MODULES) -> pd.Series:
    """Return the module of each gene of a network (nullable integers; NA outside)."""
    name = group_key(key, network.label) if network.label else key
    hint = "Run `ch.tl.modules(adata, group, reference)` first."
    return _adata.require_var(adata, name, hint).astype("Int64")


def degrees_of_both(
    weights: sparse.csr_matrix, reference: sparse.csr_matrix
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows of the genes that are in both networks, and their numbers of neighbours in the one and the other."""
    degree, degree_reference = np.diff(weights.indptr), np.diff(reference.indptr)
    rows = np.flatnonzero((degree > 0) & (degree_reference > 0))
    return rows, degree[rows], degree_reference[rows]


def _table(adata: AnnData, key: str) -> pd.DataFrame:
    """Return a row for each stored network, indexed by label."""
    table = uns_of(adata, key).get(GROUPS)
    if table is None:
        msg = f"`adata.uns[{key!r}]['groups']` not found. Run `ch.tl.gene_network(adata)` first, or pass its key."
        raise KeyError(msg)
    return table.set_index("label")


def _label(labels: pd.Index, group: str | None, key: str) -> str:
    known = [label for label in labels if label]
    if group is None and "" not in labels:
        msg = f"Under {key!r} the network without groups was not made. "
        msg += f"Pass group=, one of {known}, or run `ch.tl.gene_network(adata)` first."
        raise KeyError(msg)
    if group is None:
        return ""
    advice = " Run `ch.tl.gene_network(adata, groupby=..., groups=...)` first."
    return asked_one(group, known, f"under {key!r}", what="networks", advice=advice)
