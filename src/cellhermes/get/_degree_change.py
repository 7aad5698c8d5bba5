"""Genes whose place in the network differs most between two groups."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import _adata
from .._keys import NETWORK
from .._networks import degrees_of_both, half_networks, n_cells_of, network_of, networks_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from scipy import sparse


def degree_change(
    data: "AnnData | MuData",
    group: str,
    reference: str,
    *,
    null_groups: tuple[str, str] | None = None,
    key: str = NETWORK,
    mod: str | None = None,
) -> pd.DataFrame:
    """Return the genes by how much their number of neighbours differs between two groups' networks.

    A gene's degree is the number of genes it is connected to, whatever the weights; the paper shows the ten genes with
    the largest changes (its Fig. 2g). Degrees also differ between two halves of the cells of *one* group. Networks of
    those (see :func:`cellhermes.tl.split_groups`) are used where they are there: ``null_share`` then says how common a
    change of this size is by chance.

    Parameters
    ----------
    data
        Annotated data with both networks (:func:`cellhermes.tl.gene_network`).
    group, reference
        Labels of the groups.
    null_groups
        Labels of the networks of two halves of the group's cells; None looks for those of
        :func:`cellhermes.tl.split_groups`.
    key
        Entry of ``varp`` and ``uns`` with the networks.
    mod
        Modality of a MuData.

    Returns
    -------
    A row for each gene that is in both networks, indexed by symbol, the largest change first:

    ``degree``, ``degree_reference``, ``change``
        Degrees in both networks, and ``degree - degree_reference``.
    ``n_cells``, ``n_cells_reference``
        How many cells of the group, and of the reference, express the gene; missing where it is not known. The model
        has a vector of every gene: a change of a gene that neither expresses says nothing of the cells.
    ``null_change``
        Change of the same gene between the two halves; NaN without their networks.
    ``null_share``
        Share of all genes that change at least as much between the two halves, either way; NaN without their networks.

    Raises
    ------
    KeyError
        If a network is not there.
    ValueError
        If the networks were made in different ways, such as from vectors of two models.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, groupby="cell_type", groups=["B", "NK"], use_rep="expression")
    >>> change = ch.get.degree_change(adata, "B", "NK")
    >>> bool((change["change"] == change["degree"] - change["degree_reference"]).all())
    True
    """
    adata = _adata.resolve(data, mod)
    if str(group) == str(reference):
        msg = f"group and reference are both {group!r}; expected two groups."
        raise ValueError(msg)
    symbols, labels = network_of(adata, group, key)[1], [group, reference]
    weights, other, *halves = networks_of(adata, [*labels, *half_networks(adata, group, null_groups, key)], key)
    rows, degree, degree_reference = degrees_of_both(weights, other)
    order = np.argsort(-np.abs(degree - degree_reference), kind="stable")
    rows, degree, degree_reference = rows[order], degree[order], degree_reference[order]
    change = degree - degree_reference
    null, share = _null(halves, rows, change, adata.n_vars)
    columns = {"degree": degree, "degree_reference": degree_reference, "change": change}
    n_cells, n_cells_reference = (n_cells_of(adata, label, key).array[rows] for label in labels)
    columns |= {"n_cells": n_cells, "n_cells_reference": n_cells_reference}
    columns |= {"null_change": null, "null_share": share}
    return pd.DataFrame(columns, index=pd.Index(symbols[rows], name="gene"))


def _null(
    halves: "list[sparse.csr_matrix]", rows: np.ndarray, change: np.ndarray, n_vars: int
) -> tuple[np.ndarray, np.ndarray]:
    """Change of each gene between two halves, and the share of genes that change as much as it does."""
    null = np.full(n_vars, np.nan)
    if not halves:
        return null[rows], null[rows]
    at, degrees, others = degrees_of_both(*halves)
    null[at] = degrees - others
    sizes = np.sort(np.abs(degrees - others))
    as_large = len(sizes) - np.searchsorted(sizes, np.abs(change), side="left")
    return null[rows], as_large / len(sizes)
