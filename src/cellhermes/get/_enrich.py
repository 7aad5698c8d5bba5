"""Over-represented gene sets."""

from typing import TYPE_CHECKING

import pandas as pd

from .. import _adata
from .._keys import ENRICH, LISTS, TABLE, uns_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def enrich(
    data: "AnnData | MuData", of: str | int | None = None, *, key: str = ENRICH, mod: str | None = None
) -> pd.DataFrame:
    """Read what :func:`cellhermes.tl.enrich` found.

    Parameters
    ----------
    data
        Annotated data.
    of
        A module, a gene or the name of a list; None takes all.
    key
        Entry of ``uns`` with the result.
    mod
        Modality of a MuData.

    Returns
    -------
    A row for each list and gene set that share a gene, best first within each list: ``group``, ``of``, ``term``,
    ``overlap``, ``n_genes``, ``set_size``, ``odds_ratio``, ``pval``, ``pval_adj``, ``genes``. Empty for a list that
    was tested and shares no gene with any set.

    Raises
    ------
    KeyError
        If nothing is stored, or ``of`` was not tested.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, use_rep="expression")
    >>> ch.tl.enrich(adata, {"T cell receptor": ["CD3D", "CD3E", "CD3G", "CD247"]}, of="CD3E")
    >>> ch.get.enrich(adata, of="CD3E")[["term", "set_size"]]
                  term  set_size
    0  T cell receptor         4
    """
    adata = _adata.resolve(data, mod)
    if TABLE not in uns_of(adata, key):
        msg = f"`adata.uns[{key!r}]['table']` not found. Run `ch.tl.enrich(adata, gene_sets)` first, or pass key=."
        raise KeyError(msg)
    table = adata.uns[key][TABLE].copy()
    if of is None:
        return table.reset_index(drop=True)
    known = list(adata.uns[key][LISTS]["of"])
    if str(of) not in known:
        msg = f"{str(of)!r} was not tested; known: {known[:20]}{' ...' if len(known) > 20 else ''}."
        raise KeyError(msg)
    return table[table["of"] == str(of)].reset_index(drop=True)
