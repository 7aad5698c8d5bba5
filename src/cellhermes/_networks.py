"""Which stored network and which stored modules belong to a group: read by tools and readers alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import _adata
from ._keys import GROUPS, MODULES, NETWORK, check_alike, group_key, half_labels, label_of, uns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from scipy import sparse


def network_groups(adata: AnnData, key: str = NETWORK) -> pd.DataFrame:
    """Return a row for each stored network, indexed by label (``""`` is the network without groups)."""
    table = uns_of(adata, key).get(GROUPS)
    if table is None:
        msg = f"`adata.uns[{key!r}]['groups']` not found. Run `ch.tl.gene_network(adata)` first, or pass its key."
        raise KeyError(msg)
    return table.set_index("label")


def weights_of(adata: AnnData, group: str | None = None, key: str = NETWORK) -> sparse.csr_matrix:
    """Return weights (genes x genes) of the network of a group."""
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
    return adata.varp[name].tocsr()


def network_of(
    adata: AnnData, group: str | None = None, key: str = NETWORK
) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Return weights (genes x genes), symbols of all genes, and which genes are in the network of a group."""
    weights = weights_of(adata, group, key)
    return weights, _adata.symbols(adata, gene_symbols_of(adata, group, key)), np.diff(weights.indptr) > 0


def gene_symbols_of(adata: AnnData, group: str | None = None, key: str = NETWORK) -> str | None:
    """Return the column of ``var`` with the symbols of a group's network; None are the names of the genes."""
    row = network_groups(adata, key).loc["" if group is None else label_of(group)]
    return str(row.get("gene_symbols", "")) or None


def networks_of(adata: AnnData, labels: Sequence[str | None], key: str = NETWORK) -> list[sparse.csr_matrix]:
    """Return the weights of the networks of several groups, which are to be compared.

    Raises
    ------
    KeyError
        If there is no network of a group.
    ValueError
        If they were made in different ways.
    """
    networks = [weights_of(adata, label, key) for label in labels]
    check_alike(
        network_groups(adata, key), ["" if label is None else label_of(label) for label in labels], "gene_network"
    )
    return networks


def n_cells_key(network: str) -> str:
    """Column of ``var`` with the numbers of cells of a group that express each gene of its network."""
    return f"{network}_n_cells"


def n_cells_of(adata: AnnData, group: str | None, key: str = NETWORK) -> pd.Series:
    """Return how many cells of a group express each gene of its network; missing outside, and where it is not known."""
    name = n_cells_key(str(network_groups(adata, key).loc["" if group is None else label_of(group), "key"]))
    if name in adata.var:
        return adata.var[name].astype("Int64")
    return pd.Series(pd.NA, adata.var_names, dtype="Int64")


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
