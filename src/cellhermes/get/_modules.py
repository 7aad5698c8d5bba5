"""What :func:`cellhermes.tl.modules` stored: the table, the nulls, the genes, the scores and the Jaccard indices."""

from typing import TYPE_CHECKING

import pandas as pd

from .. import _adata
from .._keys import JACCARD, MODULES, NETWORK, NULLS, TABLE, read_params, uns_of
from .._networks import modules_of, network_of

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def modules(data: "AnnData | MuData", *, key: str = MODULES, mod: str | None = None) -> pd.DataFrame:
    """Return the table of a group's modules.

    Parameters
    ----------
    data
        Annotated data with modules (:func:`cellhermes.tl.modules`).
    key
        Entry of ``uns`` with the modules.
    mod
        Modality of a MuData.

    Returns
    -------
    A row for each module, the largest first:

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

    Raises
    ------
    KeyError
        If there are no modules.

    See Also
    --------
    cellhermes.get.module_nulls, cellhermes.get.jaccard, cellhermes.pl.modules

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, groupby="cell_type", groups=["B", "NK"], source="expression")
    >>> ch.tl.modules(adata, "B", "NK")
    >>> ch.get.modules(adata).loc[0, ["group", "reference"]].tolist()
    ['B', 'NK']
    """
    return _stored(_adata.resolve(data, mod), key, TABLE).copy()


def module_nulls(data: "AnnData | MuData", *, key: str = MODULES, mod: str | None = None) -> pd.DataFrame:
    """Return what was observed beside what chance gives.

    Parameters
    ----------
    data
        Annotated data with modules (:func:`cellhermes.tl.modules`).
    key
        Entry of ``uns`` with the modules.
    mod
        Modality of a MuData.

    Returns
    -------
    Three rows, by ``comparison``: ``observed`` (group against reference), ``reseed`` (the group's network against
    itself, clustered with other seeds) and ``halves`` (two halves of the group's cells against each other). NaN where
    it was not computed.

    ``n_modules``
        Modules that were compared (of ``min_genes`` genes or more); a mean over repetitions.
    ``share_specific``
        Share of them that is specific; a mean over repetitions.
    ``median_degree_change``, ``largest_degree_change``
        Of the genes' changes of degree between the two networks, without sign. 0 for ``reseed``: one network has one
        set of degrees.

    Raises
    ------
    KeyError
        If there are no modules.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, groupby="cell_type", groups=["B", "NK"], source="expression")
    >>> ch.tl.modules(adata, "B", "NK")
    >>> ch.get.module_nulls(adata).index.tolist()
    ['observed', 'reseed', 'halves']
    """
    return _stored(_adata.resolve(data, mod), key, NULLS).set_index("comparison")


def module_genes(
    data: "AnnData | MuData", group: str | None = None, *, key: str = MODULES, mod: str | None = None
) -> pd.DataFrame:
    """Return the genes of each module.

    Parameters
    ----------
    data
        Annotated data with modules (:func:`cellhermes.tl.modules`).
    group
        The group, or the reference, whose modules are wanted; None takes the group.
    key
        Entry of ``var`` and ``uns`` with the modules.
    mod
        Modality of a MuData.

    Returns
    -------
    A row for each gene that is in a module: ``gene`` (symbol) and ``module``, by module, then in the order of the data.

    Raises
    ------
    KeyError
        If there are no modules of this group.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, source="expression")
    >>> ch.tl.modules(adata)
    >>> genes = ch.get.module_genes(adata)
    >>> module = genes.set_index("gene")["module"]
    >>> bool(module["CD79A"] == module["CD79B"])
    True
    """
    adata = _adata.resolve(data, mod)
    params = _params(adata, key)
    group = group if group is not None else str(params["group"]) or None
    number = modules_of(adata, group, key)
    network_key = str(params["network_key"])
    symbols = network_of(adata, group, network_key)[1]
    frame = pd.DataFrame({"gene": symbols, "module": number.to_numpy()})
    return frame.dropna().astype({"module": int}).sort_values("module", kind="stable", ignore_index=True)


def module_scores(data: "AnnData | MuData", *, key: str = MODULES, mod: str | None = None) -> pd.DataFrame:
    """Return the scores of a group's modules in all cells.

    Parameters
    ----------
    data
        Annotated data with modules (:func:`cellhermes.tl.modules`).
    key
        Entry of ``obsm`` with the scores.
    mod
        Modality of a MuData.

    Returns
    -------
    A row for each cell and a column for each module, named by its number.

    Raises
    ------
    KeyError
        If there are no modules.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, source="expression")
    >>> ch.tl.modules(adata)
    >>> ch.get.module_scores(adata).shape[0] == adata.n_obs
    True
    """
    adata = _adata.resolve(data, mod)
    if key not in adata.obsm:
        msg = f"`adata.obsm[{key!r}]` not found. Run `ch.tl.modules(adata, group, reference)` first, or pass key=."
        raise KeyError(msg)
    return adata.obsm[key].copy()


def jaccard(data: "AnnData | MuData", *, key: str = MODULES, mod: str | None = None) -> pd.DataFrame:
    """Return the Jaccard index of each module of the group with each module of the reference (eq. 7 of the paper).

    Parameters
    ----------
    data
        Annotated data with modules (:func:`cellhermes.tl.modules`) of a group and a reference.
    key
        Entry of ``uns`` with the modules.
    mod
        Modality of a MuData.

    Returns
    -------
    A row for each module of the group and a column for each module of the reference, by their numbers; the axes are
    named after group and reference.

    Raises
    ------
    KeyError
        If there are no modules.
    ValueError
        If they were found without a reference.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, groupby="cell_type", groups=["B", "NK"], source="expression")
    >>> ch.tl.modules(adata, "B", "NK")
    >>> overlap = ch.get.jaccard(adata)
    >>> bool((overlap.max(axis=1).to_numpy() == ch.get.modules(adata)["max_jaccard"]).all())
    True
    """
    adata = _adata.resolve(data, mod)
    overlap, params = _stored(adata, key, JACCARD), _params(adata, key)
    if not params["reference"]:
        msg = f"The modules under {key!r} were found without a reference; run `ch.tl.modules(adata, group, reference)`."
        raise ValueError(msg)
    frame = pd.DataFrame(overlap)
    return frame.rename_axis(index=params["group"], columns=params["reference"])


def _stored(adata: "AnnData", key: str, name: str) -> "pd.DataFrame | np.ndarray":
    if name not in uns_of(adata, key):
        hint = "Run `ch.tl.modules(adata, group, reference)` first, or pass key=."
        msg = f"`adata.uns[{key!r}][{name!r}]` not found. {hint}"
        raise KeyError(msg)
    return adata.uns[key][name]


def _params(adata: "AnnData", key: str) -> dict:
    _stored(adata, key, TABLE)
    return {"group": "", "reference": "", "network_key": NETWORK, **read_params(adata, key)}
