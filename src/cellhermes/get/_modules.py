"""What :func:`cellhermes.tl.modules` stored: the table, the nulls, the genes, the scores and the Jaccard indices."""

from typing import TYPE_CHECKING, Literal

import pandas as pd

from .. import _adata
from .._groups import groups_of
from .._keys import JACCARD, MODULES, NETWORK, NULLS, TABLE, read_params, uns_of
from .._networks import modules_of, network_of
from ._donors import donor_test

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

ADVICE = "Run `ch.tl.modules(adata, group, reference)` first, or pass key=."


def modules(
    data: "AnnData | MuData",
    table: Literal["modules", "genes", "nulls", "scores", "jaccard", "donors"] = "modules",
    *,
    group: str | None = None,
    donor_key: str | None = None,
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
        paper). ``"donors"``: a test of each module over donors, since cells are no replicates.
    group
        Of ``"genes"``: the group, or the reference, whose modules are wanted; None takes the group.
    donor_key
        Of ``"donors"``: column of ``obs`` with the donors.
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

    ``"donors"``: ``module``; ``donor_difference`` between the means over donors of their cells' scores, in the group
    and in the reference (or all other groups); ``donor_pval`` of a t-test of them, paired where two donors or more have
    cells on both sides, else Welch's; ``donor_pval_adj``, by Benjamini and Hochberg over the modules; ``n_donors``.

    Raises
    ------
    KeyError
        If there are no modules, none of this group, or no such column of donors.
    ValueError
        If there is no such table, no Jaccard index as there was no reference, no group whose donors could be compared,
        or fewer than two donors of it or of the reference.

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
    readers = {"modules": _table, "nulls": _nulls, "scores": _scores, "jaccard": _jaccard}
    if table not in {*readers, "genes", "donors"}:
        msg = f"table={table!r} is not known; expected one of {[*readers, 'genes', 'donors']}."
        raise ValueError(msg)
    if group is not None and table != "genes":
        msg = f"group={group!r} chooses among genes; table={table!r} is of all that is stored under key=."
        raise ValueError(msg)
    if (donor_key is None) == (table == "donors"):
        msg = f"table={table!r} and donor_key={donor_key!r}; expected a column of obs for 'donors', and for no other."
        raise ValueError(msg)
    adata = _adata.resolve(data, mod)
    if table == "donors":
        return _donors(data, adata, key, donor_key, mod)
    return _genes(adata, key, group) if table == "genes" else readers[table](adata, key)


def _table(adata: "AnnData", key: str) -> pd.DataFrame:
    return _stored(adata, key, TABLE).copy()


def _genes(adata: "AnnData", key: str, group: str | None = None) -> pd.DataFrame:
    _stored(adata, key, TABLE)
    params = {"group": "", "network_key": NETWORK, **read_params(adata, key)}
    group = (str(params["group"]) or None) if group is None else group
    network = network_of(adata, group, str(params["network_key"]))
    frame = pd.DataFrame({"gene": network.symbols, "module": modules_of(adata, network, key).to_numpy()})
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


def _donors(data: "AnnData | MuData", adata: "AnnData", key: str, donor_key: str, mod: str | None) -> pd.DataFrame:
    scores, params = _scores(adata, key), read_params(adata, key)
    if not params["group"]:
        msg = f"The modules under {key!r} are of no group; run `ch.tl.modules(adata, group, reference)`."
        raise ValueError(msg)
    labels = [params[name] for name in ("group", "reference") if params[name]]
    sides = groups_of(data, str(params["groupby"]), labels, mod=mod).sides
    donors = groups_of(data, donor_key, mod=mod).of_cell
    tested = donor_test(*(scores.to_numpy()[cells] for cells in sides), *(donors[cells] for cells in sides))
    tested.insert(0, "module", scores.columns.astype(int))
    return tested


def _stored(adata: "AnnData", key: str, name: str) -> pd.DataFrame:
    if name not in uns_of(adata, key):
        msg = f"`adata.uns[{key!r}][{name!r}]` not found. {ADVICE}"
        raise KeyError(msg)
    return adata.uns[key][name]
