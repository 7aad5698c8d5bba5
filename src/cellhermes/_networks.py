"""Which stored network and which stored modules belong to a group: read by tools and readers alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _adata
from ._keys import GROUPS, MODULES, NETWORK, group_key, half_labels, label_of, read_params

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse


def network_groups(adata: AnnData, key: str = NETWORK) -> pd.DataFrame:
    """Return a row for each stored network, indexed by label (``""`` is the network without groups)."""
    table = adata.uns.get(key, {}).get(GROUPS)
    if table is None:
        msg = f"`adata.uns[{key!r}]['groups']` not found. Run `ch.tl.gene_network(adata)` first, or pass its key."
        raise KeyError(msg)
    return table.set_index("label")


def network_of(
    adata: AnnData, group: str | None = None, key: str = NETWORK
) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Return weights (genes x genes), symbols of all genes, and which genes are in the network of a group."""
    table = network_groups(adata, key)
    label = "" if group is None else label_of(group)
    if label not in table.index:
        known = [name for name in table.index if name]
        call = "adata" if group is None else f"adata, groupby=..., groups=[{label!r}]"
        asked = "the network without groups was not made" if group is None else f"group {label!r} has no network"
        advice = f"Pass group=, one of {known}, or run" if group is None else f"Known groups: {known}. Run"
        msg = f"Under {key!r} {asked}. {advice} `ch.tl.gene_network({call})` first."
        raise KeyError(msg)
    name = str(table.loc[label, "key"])
    if name not in adata.varp:
        msg = f"`adata.varp[{name!r}]` not found, though `adata.uns[{key!r}]` lists it; run `ch.tl.gene_network` again."
        raise KeyError(msg)
    weights = adata.varp[name].tocsr()
    symbols = _adata.symbols(adata, str(read_params(adata, key).get("gene_symbols", "")) or None)
    return weights, symbols, np.diff(weights.indptr) > 0


def modules_of(adata: AnnData, group: str | None = None, key: str = MODULES) -> pd.Series:
    """Return the module of each gene (nullable integers; NA outside), of a group."""
    name = key if group is None else group_key(key, group)
    hint = "Run `ch.tl.modules(adata, group, reference)` first."
    return _adata.require_var(adata, name, hint).astype("Int64")


def degrees_of_both(
    weights: sparse.csr_matrix, reference: sparse.csr_matrix
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows of the genes that are in both networks, and their numbers of neighbours in the one and the other."""
    degree, degree_reference = np.diff(weights.indptr), np.diff(reference.indptr)
    rows = np.flatnonzero((degree > 0) & (degree_reference > 0))
    return rows, degree[rows], degree_reference[rows]


def half_networks(
    adata: AnnData, group: str | None, null_groups: tuple[str, str] | None = None, key: str = NETWORK
) -> tuple[str, ...]:
    """Return labels of the networks of two halves of a group's cells; none where they were not made or asked for."""
    if null_groups is None:
        there = network_groups(adata, key).index
        return tuple(label for label in half_labels(group) if set(half_labels(group)) <= set(there))
    if isinstance(null_groups, str) or len(null_groups) != 2:
        msg = f"null_groups={null_groups!r}; expected the labels of two networks, of two halves of the group's cells."
        raise ValueError(msg)
    return str(null_groups[0]), str(null_groups[1])
