"""Nearest-neighbour networks of genes: from the vectors of a model, or from co-expression as the control."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from .. import _adata
from .._entries import check_free, written
from .._groups import groups_of
from .._keys import (
    EMBEDDING,
    GROUPS,
    NETWORK,
    check_alike,
    group_keys,
    n_cells_key,
    uns_of,
    write_groups,
    write_params,
)
from .._vectors import asked_vectors, made_with, vector_groups, vectors_of
from ._expression import blocks, columns_in
from ._knn import connectivities

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger("cellhermes")

Source = Literal["embedding", "expression"]

EXPRESSION = "expression"  # in place of an entry with vectors: the control
MIN_CELLS = 3  # the correlation over two cells is always 1 or -1
SPARSE_BELOW = 0.25  # share of non-zeros under which products of sparse profiles are faster than of dense ones
CONSTANT = 1e-9  # a gene whose variance is this small beside its mean square is constant but for rounding
HARDLY = 0.01  # a gene that fewer of the group's cells express is hardly expressed,
MAX_HARDLY = 0.1  # and a warning counts those where they are more than this share of the genes


def gene_network(
    data: "AnnData | MuData",
    *,
    groupby: str | None = None,
    groups: Sequence[str] | None = None,
    use_rep: str = EMBEDDING,
    n_neighbors: int = 15,
    min_cells: int = 0,
    genes: Sequence[str] | None = None,
    gene_symbols: str | None = None,
    layer: str | None = None,
    use_raw: bool | None = None,
    key_added: str = NETWORK,
    mod: str | None = None,
) -> None:
    """Connect each gene to the genes that are most like it, in all cells or in the cells of a group.

    The paper's cell-specific gene networks (Methods, "Cell-specific gene network construction"): a k-nearest-neighbour
    graph of the genes' vectors by cosine, made by :func:`scanpy.pp.neighbors`. The search is exact at any size, where
    scanpy's own is approximate from 4,096 rows on. ``use_rep="expression"`` makes the paper's control by the same
    procedure: the Pearson correlation of two genes' expression over the cells takes the place of the cosine.

    The weight of an edge is scanpy's connectivity: 1 for a gene's nearest neighbour, falling with the distance, and for
    both directions together w_ij + w_ji - w_ij w_ji. A gene has at least ``n_neighbors - 1`` edges, and more when it is
    among the nearest of many others: its degree. Edges whose weight is too small for a number (beside genes with equal
    vectors) are kept, with the smallest one.

    A model has a vector for every gene, whether the group expresses it or not. How many cells of the group express each
    gene stands beside its network.

    Parameters
    ----------
    data
        Annotated data with vectors of genes (:func:`cellhermes.tl.embed_genes`), or with log-normalised expression.
    groupby
        Column of ``obs`` with the groups; None makes one network of vectors without context, or over all cells.
    groups
        Groups to make networks of; None takes all that have vectors, or cells.
    use_rep
        What genes are compared by: the entry of ``varm`` and ``uns`` with their vectors, or ``"expression"`` for the
        control.
    n_neighbors
        Size of a neighbourhood as scanpy counts it, the gene itself included; the paper's k.
    min_cells
        Leave out genes that fewer cells of the group express.
    genes
        Genes to connect, by symbol or ``var_names``; None takes every gene that has a vector, or whose expression
        varies. A control should be made of the same genes as the network that it is held against.
    gene_symbols
        Column of ``var`` with gene symbols; None takes what the vectors were made with, else ``var_names``.
    layer, use_raw
        Expression for ``use_rep="expression"``, log-normalised; ``use_raw=None`` takes ``raw`` if the sentences were
        made of it. Where ``raw`` has other genes than the object, it is
        read by symbol.
    key_added
        Entry of ``varp`` and ``uns`` that is written.
    mod
        Modality of a MuData.

    Returns
    -------
    Nothing; writes

    ``varp[key_added]`` or ``varp[f"{key_added}:{group}"]`` : (genes, genes) CSR float32
        Symmetric weights. Rows of genes without a vector, or with constant expression, are empty; ``/`` in a group's
        name becomes ``_``.
    ``var[f"{varp key}_n_cells"]`` : Int64
        How many cells of the group express each gene of the network; not for vectors without groups.
    ``uns[key_added]["groups"]`` : DataFrame
        A row for each network: true ``label`` (``""`` without groups), varp ``key``, ``groupby``, ``n_in_group`` cells,
        ``n_genes`` in the network and ``n_without`` (asked for, but left out); ``source``, ``n_neighbors``,
        ``min_cells``, expression, and how the vectors were made. Networks that differ in that are not compared.
    ``uns[key_added]["params"]`` : dict
        The arguments of the last call, and the version.

    Raises
    ------
    KeyError
        If vectors, a column, a group, a layer or genes are not there.
    ValueError
        If ``groups`` is empty, if the vectors of two groups were made in different ways, such as by two
        models, if there are not more genes than ``n_neighbors``, if all genes are alike, or if the expression holds raw
        counts, negative values, NaN or infinity.

    Warns
    -----
    UserWarning
        If genes are identical to so many others that their neighbours are any of those, or if more than 10% of the
        genes are expressed by fewer than 1% of the group's cells.

    See Also
    --------
    cellhermes.get.gene_network, cellhermes.get.degree_change, cellhermes.tl.modules, cellhermes.pl.gene_network

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, groupby="cell_type", groups=["B", "NK"], use_rep="expression")
    >>> network = ch.get.gene_network(adata, "B")
    >>> min(degree for _, degree in network.degree) >= 14
    True
    """
    adata = _adata.writable(data, mod)
    _adata.check_not_empty(adata)
    _check_n_neighbors(n_neighbors)
    source: Source = "expression" if use_rep == EXPRESSION else "embedding"
    use_raw = _adata.reads_raw(adata, layer, use_raw=use_raw)
    of_cell = np.full(adata.n_obs, "", object)
    if groupby is None:
        labels = [""]
    elif source == "embedding":
        labels = asked_vectors(adata, groups, use_rep, groupby)
    else:
        grouping = groups_of(data, groupby, groups, mod=mod)
        labels, of_cell = grouping.labels, grouping.of_cell
    origin = {"source": source, "n_neighbors": n_neighbors, "min_cells": min_cells}
    if source == "embedding":
        if groupby is not None:
            check_alike(vector_groups(adata, use_rep), labels, "embed_genes")
        origin |= made_with(adata, labels[0], use_rep)
    else:
        origin |= {"layer": layer or "", "use_raw": use_raw}
    origin["gene_symbols"] = gene_symbols = gene_symbols or origin.get("gene_symbols", "")
    symbols = _adata.symbols(adata, gene_symbols or None)
    of_symbol = _adata.columns_of_symbols(adata, gene_symbols or None)
    columns = of_symbol.to_numpy()
    if genes is not None:
        columns = _adata.columns_of_genes(of_symbol, _adata.symbols_of_genes(adata, genes, gene_symbols or None))
    keys = _network_keys(adata, key_added, labels)
    entries = [entry for key in keys.values() for entry in (f"varp/{key}", f"var/{n_cells_key(key)}")]
    check_free(adata, key_added, entries)
    if source == "embedding":
        profiles = _vectors(adata, labels, use_rep, symbols, columns)
    else:
        at = columns_in(adata, gene_symbols or None, use_raw=use_raw)
        profiles = _expression(adata, of_cell, labels, columns, at, layer, use_raw=use_raw)
    profiles = {label: _expressed(profile, label, min_cells) for label, profile in profiles.items()}
    networks = {
        label: _network(profile, adata.n_vars, label, n_neighbors, source) for label, profile in profiles.items()
    }

    n_genes = [len(profiles[label].columns) for label in labels]
    table = pd.DataFrame({"label": labels, "key": [keys[label] for label in labels], "groupby": groupby or ""})
    table = table.assign(n_in_group=[profiles[label].n_in_group for label in labels])
    table = table.assign(n_genes=n_genes, n_without=[len(columns) - n for n in n_genes], **origin)
    params = {"groupby": groupby, "use_rep": use_rep, "n_neighbors": n_neighbors, "metric": "cosine"}
    params |= {"gene_symbols": gene_symbols}
    with written(adata, key_added, entries):
        for label, weights in networks.items():
            adata.varp[keys[label]] = weights
            if profiles[label].n_cells is not None:
                adata.var[n_cells_key(keys[label])] = _along(profiles[label], adata.n_vars)
        write_params(adata, key_added, {**params, "min_cells": min_cells, "layer": layer, "use_raw": use_raw})
        write_groups(adata, key_added, table)
    _report(table, "without a vector" if source == "embedding" else "whose expression does not vary")


@dataclass(frozen=True)
class _Profiles:
    """What the genes of a group are compared by."""

    values: np.ndarray | sparse.csr_matrix
    """One row a gene."""
    columns: np.ndarray
    """Columns of the genes in the object."""
    n_cells: np.ndarray | None = None
    """How many cells of the group express each gene."""
    n_in_group: int = 0


def _check_n_neighbors(n_neighbors: int) -> None:
    if n_neighbors < 2:
        msg = f"n_neighbors={n_neighbors}; expected at least 2, since the gene itself is counted."
        raise ValueError(msg)


def _network_keys(adata: AnnData, key: str, labels: list[str]) -> dict[str, str]:
    """Entry of varp of each label; one that another label has already is an error."""
    if labels == [""]:
        return {"": key}
    table = uns_of(adata, key).get(GROUPS)
    there = [] if table is None else [label for label in table["label"] if label and label not in labels]
    keys = group_keys(key, [*there, *labels])
    return {label: keys[label] for label in labels}


def _vectors(
    adata: AnnData, labels: list[str], key: str, symbols: np.ndarray, columns: np.ndarray
) -> dict[str, _Profiles]:
    """Vectors of each group's genes, by symbol."""
    profiles, table = {}, vector_groups(adata, key)
    if labels == [""] and key in adata.varm:
        vectors = np.asarray(adata.varm[key])[columns]
        has = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)  # a vector of zeros has no direction
        return {"": _Profiles(vectors[has], columns[has])}
    for label in labels:
        stored = vectors_of(adata, label, key)
        at = pd.Index(stored.genes).get_indexer(symbols[columns])
        has = at >= 0
        has[has] = stored.values[at[has]].any(axis=1)
        n_cells = None if stored.n_expressing is None else stored.n_expressing[at[has]]
        n_in_group = 0 if n_cells is None else int(table.loc[label, "n_in_group"])
        profiles[label] = _Profiles(stored.values[at[has]], columns[has], n_cells, n_in_group)
        if outside := [gene for gene in stored.genes if gene not in set(symbols)]:
            logger.warning(
                "%s: %s genes with a vector are not in the object (%s), so that they have no place in its "
                "network. Make it in `adata.raw.to_adata()`, with the same uns, if you need them.",
                _named(label), f"{len(outside):,}", ", ".join(outside[:5]),
            )  # fmt: skip
    return profiles


def _expression(
    adata: AnnData,
    of_cell: np.ndarray,
    labels: list[str],
    columns: np.ndarray,
    at: np.ndarray,
    layer: str | None,
    *,
    use_raw: bool,
) -> dict[str, _Profiles]:
    """Expression of each group's genes over its cells; ``at`` has the column of each gene of the object."""
    columns = columns[at[columns] >= 0]
    n_cells = {label: int((of_cell == label).sum()) for label in labels}
    if few := {label: n for label, n in n_cells.items() if n < MIN_CELLS}:
        label, n = next(iter(few.items()))
        msg = f"{_named(label)} has {n} cell{'s' * (n != 1)}; a correlation between genes needs {MIN_CELLS} or more."
        raise ValueError(msg)
    parts: dict[str, list] = {label: [] for label in labels}
    for start, block in blocks(adata, layer, use_raw=use_raw):
        inside = slice(start, start + block.shape[0])
        for label in labels:
            rows = np.flatnonzero(of_cell[inside] == label)
            parts[label].append(block[rows][:, at[columns]])
    return {label: _varying(sparse.vstack(parts.pop(label)).T.tocsr(), columns) for label in labels}


def _varying(values: sparse.csr_matrix, columns: np.ndarray) -> _Profiles:
    """Profiles of the genes that are not constant."""
    values = values.astype(np.float64)
    n_cells = np.asarray((values > 0).sum(axis=1)).ravel()
    square = np.asarray(values.multiply(values).mean(axis=1)).ravel()
    mean = np.asarray(values.mean(axis=1)).ravel()
    varies = square - mean**2 > CONSTANT * square
    values = values[np.flatnonzero(varies)]
    share = values.nnz / max(1, np.prod(values.shape))
    dense = values if share < SPARSE_BELOW else values.toarray()
    return _Profiles(dense, columns[varies], n_cells[varies], values.shape[1])


def _expressed(profiles: _Profiles, label: str, min_cells: int) -> _Profiles:
    """Profiles of the genes that enough cells of the group express; a warning counts those that hardly any does."""
    if profiles.n_cells is None:
        if min_cells > 0:
            msg = f"min_cells={min_cells}, but vectors without groups belong to no cells; pass groupby=, or genes=."
            raise ValueError(msg)
        return profiles
    keep = profiles.n_cells >= min_cells
    kept = replace(
        profiles, values=profiles.values[keep], columns=profiles.columns[keep], n_cells=profiles.n_cells[keep]
    )
    hardly = int((kept.n_cells < HARDLY * kept.n_in_group).sum())
    if hardly > MAX_HARDLY * len(kept.columns):
        warnings.warn(
            f"{_named(label)}: {hardly:,} of {len(kept.columns):,} genes are expressed by none of its "
            f"{kept.n_in_group:,} cells or by fewer than {HARDLY:.0%}, so that their neighbours say little about it. "
            "Pass min_cells= to leave them out.",
            stacklevel=4,
        )
    return kept


def _along(profiles: _Profiles, n_vars: int) -> pd.arrays.IntegerArray:
    """Numbers of cells along the genes of the object; missing outside the network."""
    numbers, outside = np.zeros(n_vars, np.int64), np.ones(n_vars, bool)
    numbers[profiles.columns], outside[profiles.columns] = profiles.n_cells, False
    return pd.arrays.IntegerArray(numbers, outside)


def _network(profiles: _Profiles, n_vars: int, label: str, n_neighbors: int, source: Source) -> sparse.csr_matrix:
    """Weights between all genes of the object; rows of genes without profile are empty."""
    where, n = _named(label), len(profiles.columns)
    if n <= n_neighbors:
        what = "a vector" if source == "embedding" else "expression that varies"
        msg = (
            f"{where}: {n} genes have {what}; expected more than n_neighbors={n_neighbors}. "
            "Pass more genes or a smaller n_neighbors=."
        )
        raise ValueError(msg)
    weights, crowded = connectivities(profiles.values, n_neighbors, centre=source == "expression")
    if crowded == n:
        msg = (
            f"{where}: each of {n:,} genes is identical to {n_neighbors - 1} or more others, so that no neighbour is "
            "nearer than another. Expected vectors that differ."
        )
        raise ValueError(msg)
    if crowded:
        warnings.warn(
            f"{where}: {crowded:,} of {n:,} genes are identical to {n_neighbors - 1} or more others; which of those "
            "become neighbours is decided by the order of the genes.",
            stacklevel=4,
        )
    place = sparse.csr_matrix((np.ones(n, np.float32), (profiles.columns, np.arange(n))), shape=(n_vars, n))
    placed = (place @ weights @ place.T).tocsr()
    placed.sort_indices()
    return placed


def _named(label: str) -> str:
    return f"Group {label!r}" if label else "The network without groups"


def _report(table: pd.DataFrame, lacking: str) -> None:
    for row in table.itertuples():
        counts = f"{row.n_genes:,}", f"{row.n_without:,}"
        logger.info("varp[%r]: network of %s genes; %s %s are left out.", row.key, *counts, lacking)
