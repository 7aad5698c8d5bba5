"""Genes whose place in the network differs most between two groups."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import _adata
from .._keys import NETWORK
from .._networks import compared, degrees_of_both

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def degree_change(
    data: "AnnData | MuData",
    group: str,
    reference: str,
    *,
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
    (own, other), halves = compared(_adata.resolve(data, mod), group, reference, key)
    rows, degree, degree_reference = degrees_of_both(own.weights, other.weights)
    frame = pd.DataFrame({"degree": degree, "degree_reference": degree_reference, "change": degree - degree_reference})
    frame = frame.assign(n_cells=own.n_cells.array[rows], n_cells_reference=other.n_cells.array[rows])
    frame = frame.assign(null_change=np.nan, null_share=np.nan).set_index(pd.Index(own.symbols[rows], name="gene"))
    if halves:
        at, *degrees = degrees_of_both(*(half.weights for half in halves))
        null = pd.Series(degrees[0] - degrees[1], at)
        as_large = len(null) - np.searchsorted(np.sort(null.abs()), frame["change"].abs(), side="left")
        frame = frame.assign(null_change=null.reindex(rows).to_numpy(float), null_share=as_large / len(null))
    return frame.iloc[np.argsort(-frame["change"].abs(), kind="stable")]
