"""What :func:`cellhermes.tl.modules` stored: the table, the nulls, the genes, the scores and the Jaccard indices."""

from typing import TYPE_CHECKING, Literal

import pandas as pd

from .. import _adata
from .._keys import JACCARD, MODULES, NETWORK, NULLS, TABLE, read_params, uns_of
from .._networks import modules_of, network_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

ADVICE = "Run `ch.tl.modules(adata, group, reference)` first, or pass key=."


def modules(
    data: "AnnData | MuData",
    table: Literal["modules", "genes", "nulls", "scores", "jaccard"] = "modules",
    *,
    group: str | None = None,
    key: str = MODULES,
    mod: str | None = None,
) -> pd.DataFrame:
    """Return a table of a group's modules.

    Parameters
    ----------
    data
        Annotated data with modules (:func:`cellhermes.tl.modules`).
    table
        ``"modules"``: a row for each module, the largest first. ``"genes"``: a row for each gene in a module.
        ``"nulls"``: what was observed beside what chance gives. ``"scores"``: the scores of the modules in all cells.
        ``"jaccard"``: the Jaccard index of each module of the group with each module of the reference (eq. 7 of the
        paper).
    group
        Of ``"genes"``: the group, or the reference, whose modules are wanted; None takes the group.
    key
        Entry of ``uns`` with the modules.
    mod
        Modality of a MuData.

    Returns
    -------
    ``"modules"``, with the columns

    ``module``, ``group``, ``reference``
        Number of the module, and the labels that were compared (``""`` where there is none).
    ``n_genes``, ``n_in_reference``, ``n_expressed``
        Genes of the module; those that are in the reference's network; those with expression in any cell.
    ``max_jaccard``, ``nearest``, ``specific``
        Largest Jaccard index with a module of the reference, that module (missing where none shares a gene), and
        whether the index is below the limit (and the module large enough). Missing without a reference.
    ``reseed_specific``, ``halves_specific``
        How often (0 to 1) the module would be called specific against the same network clustered with another seed, and
        against the networks of two halves of the group's cells. NaN where the null was not computed.
    ``mean_score``, ``mean_score_reference``, ``score_difference``
        Mean score in the cells of the group, of the reference, and their difference: the effect.
    ``pval``, ``pval_adj``
        Wilcoxon rank-sum test over cells; adjusted by Benjamini and Hochberg over the modules.
    ``donor_difference``, ``donor_pval``, ``donor_pval_adj``, ``n_donors``
        t-test over donors, paired where donors have cells on both sides. NaN and 0 without ``donor_key``.

    ``"genes"``: ``gene`` (symbol) and ``module``, by module, then in the order of the data.

    ``"nulls"``: three rows, by ``comparison``: ``observed`` (group against reference), ``reseed`` (the group's network
    against itself, clustered with other seeds) and ``halves`` (two halves of the group's cells against each other). NaN
    where it was not computed.

    ``n_modules``
        Modules that were compared (of ``min_genes`` genes or more); a mean over repetitions.
    ``share_specific``
        Share of them that is specific; a mean over repetitions.
    ``median_degree_change``, ``largest_degree_change``
        Of the genes' changes of degree between the two networks, without sign. 0 for ``reseed``: one network has one
        set of degrees.

    ``"scores"``: a row for each cell and a column for each module, named by its number.

    ``"jaccard"``: a row for each module of the group and a column for each module of the reference, by their numbers;
    the axes are named after group and reference.

    Raises
    ------
    KeyError
        If there are no modules, or none of this group.
    ValueError
        If there is no such table, or no Jaccard index as there was no reference.

    See Also
    --------
    cellhermes.pl.modules, cellhermes.pl.jaccard, cellhermes.pl.module_scores

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, groupby="cell_type", groups=["B", "NK"], use_rep="expression")
    >>> ch.tl.modules(adata, "B", "NK")
    >>> ch.get.modules(adata).loc[0, ["group", "reference"]].tolist()
    ['B', 'NK']
    >>> ch.get.modules(adata, "nulls").index.tolist()
    ['observed', 'reseed', 'halves']
    >>> list(ch.get.modules(adata, "genes"))
    ['gene', 'module']
    """
    readers = {"modules": _table, "genes": _genes, "nulls": _nulls, "scores": _scores, "jaccard": _jaccard}
    if table not in readers:
        msg = f"table={table!r} is not known; expected one of {[*readers]}."
        raise ValueError(msg)
    if group is not None and table != "genes":
        msg = f"group={group!r} chooses among genes; table={table!r} is of all that is stored under key=."
        raise ValueError(msg)
    adata = _adata.resolve(data, mod)
    return _genes(adata, key, group) if table == "genes" else readers[table](adata, key)


def _table(adata: "AnnData", key: str) -> pd.DataFrame:
    return _stored(adata, key, TABLE).copy()


def _genes(adata: "AnnData", key: str, group: str | None = None) -> pd.DataFrame:
    _stored(adata, key, TABLE)
    params = {"group": "", "network_key": NETWORK, **read_params(adata, key)}
    group = group if group is not None else str(params["group"]) or None
    number = modules_of(adata, group, key)
    _, symbols, _ = network_of(adata, group, str(params["network_key"]))
    frame = pd.DataFrame({"gene": symbols, "module": number.to_numpy()})
    return frame.dropna().astype({"module": int}).sort_values("module", kind="stable", ignore_index=True)


def _nulls(adata: "AnnData", key: str) -> pd.DataFrame:
    return _stored(adata, key, NULLS).set_index("comparison")


def _scores(adata: "AnnData", key: str) -> pd.DataFrame:
    if key not in adata.obsm:
        msg = f"`adata.obsm[{key!r}]` not found. {ADVICE}"
        raise KeyError(msg)
    return adata.obsm[key].copy()


def _jaccard(adata: "AnnData", key: str) -> pd.DataFrame:
    overlap, params = _stored(adata, key, JACCARD), read_params(adata, key)
    if not params["reference"]:
        msg = f"The modules under {key!r} were found without a reference; run `ch.tl.modules(adata, group, reference)`."
        raise ValueError(msg)
    return pd.DataFrame(overlap).rename_axis(index=params["group"], columns=params["reference"])


def _stored(adata: "AnnData", key: str, name: str) -> pd.DataFrame:
    if name not in uns_of(adata, key):
        msg = f"`adata.uns[{key!r}][{name!r}]` not found. {ADVICE}"
        raise KeyError(msg)
    return adata.uns[key][name]
