"""Modules of gene networks: which are specific of a group, how they are expressed, and what chance gives."""

import logging
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from .. import _adata
from .._entries import check_free, written
from .._groups import groups_of
from .._keys import JACCARD, MODULES, NETWORK, NULLS, TABLE, group_keys, write_params
from .._networks import Network, compared
from .._streams import seed_of
from ._expression import blocks, columns_in
from ._louvain import OUTSIDE, check_resolution, partition
from ._module_nulls import N_RESEEDED, halved, reseeded, summary
from ._module_scores import SCORE, compare, module_scores
from ._specific import Rule, jaccard, specific

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger("cellhermes")


def modules(
    data: "AnnData | MuData",
    group: str | None = None,
    reference: str | None = None,
    *,
    max_jaccard: float = 0.4,
    min_genes: int = 10,
    resolution: float = 1.0,
    layer: str | None = None,
    use_raw: bool | None = None,
    rng: int | np.random.Generator | None = 0,
    network_key: str = NETWORK,
    key_added: str = MODULES,
    mod: str | None = None,
) -> None:
    r"""Find the gene modules of a group, those that a reference group does not have, and how they are expressed.

    The paper's analysis (Methods, "Cell-specific gene network construction"): Louvain clustering of both networks
    (python-louvain, with weights), the Jaccard index between every module :math:`A` of the group and :math:`B` of the
    reference (eq. 7),

    .. math:: J(A, B) = |A \cap B| \,/\, |A \cup B|,

    and a module is *specific* if it is below ``max_jaccard`` for all modules of the reference. Its expression in a cell
    is :func:`scanpy.tl.score_genes`; group and reference are compared by the Wilcoxon test of
    :func:`scanpy.tl.rank_genes_groups` on the scores. The effect is the difference of mean scores, since a log fold
    change of scores has no meaning.

    **What chance gives** stands beside it. Louvain clustering is random: the group's own network, clustered again with
    ten other seeds, has modules that the first clustering did not have. And two halves of the group's own cells give
    two networks. ``reseed_specific`` and ``halves_specific`` say of each module how often it would be called specific
    of those. Believe a specific module where both are near 0, and a share of specific modules where the nulls are
    lower. Halves have fewer cells and so noisier networks than the groups have: that null errs on the careful side.

    The halves are networks as any other: split the cells (:func:`cellhermes.tl.split_groups`), embed the genes in the
    contexts of both halves if the network is one of vectors, and make their networks, under the labels that they have.
    Without them the column is NaN.

    Cells are no replicates: p-values over cells become small with many cells. ``ch.get.modules(adata, "donors",
    donor_key="donor")`` tests over donors.

    Parameters
    ----------
    data
        Annotated data with networks (:func:`cellhermes.tl.gene_network`) and log-normalised expression.
    group
        Group whose modules are wanted; None takes the network without groups, whose modules are scored but not tested.
    reference
        Group that they are held against; None tests the group's cells against all others, and no module is called
        specific.
    max_jaccard
        Modules below it with all modules of the reference are specific; 0.4 in the paper.
    min_genes
        Modules of fewer genes are never called specific; the paper names no limit.
    resolution
        Of the clustering; the paper names none. Values at which python-louvain falls apart (often those under 0.7) are
        refused.
    layer, use_raw
        Log-normalised expression for the scores; ``use_raw=None`` takes ``raw`` if the sentences were made of it. Where
        ``raw`` has other genes than the object, it is read by symbol.
    rng
        Seed or generator: of the clustering, and of the control genes of the scores.
    network_key
        Entry of ``varp`` and ``uns`` with the networks, which know the column of ``obs`` with their groups.
    key_added
        Entry of ``var``, ``obsm`` and ``uns`` that is written.
    mod
        Modality of a MuData.

    Returns
    -------
    Nothing; writes

    ``var[f"{key_added}:{group}"]``, ``var[f"{key_added}:{reference}"]`` : Int64
        Module of each gene, numbered from 0 by falling size; NA for genes outside the network. ``var[key_added]``
        without a group.
    ``obsm[key_added]`` : DataFrame
        Scores (cells x modules of the group); NaN for modules without expressed genes.
    ``uns[key_added]["table"]`` : DataFrame
        A row for each module of the group; :func:`cellhermes.get.modules` describes the columns.
    ``uns[key_added]["jaccard"]`` : array
        All Jaccard indices, modules of the group x modules of the reference.
    ``uns[key_added]["nulls"]`` : DataFrame
        Share of specific modules and changes of degree, observed and under both nulls;
        :func:`cellhermes.get.modules` describes the columns.
    ``uns[key_added]["params"]`` : dict
        The arguments, options of the scores, seed, version.

    Raises
    ------
    KeyError
        If a network or a column is not there.
    ValueError
        If the networks were made in different ways, such as from vectors of two models, or of different columns, if a
        network falls apart at this resolution, if a group has no cells, or if the expression holds raw counts, negative
        values, NaN or infinity.

    Warns
    -----
    UserWarning
        If modules have no score, if a group has one cell, or if genes of modules are not in the reference's network.

    See Also
    --------
    cellhermes.get.modules, cellhermes.tl.split_groups, cellhermes.tl.enrich, cellhermes.pl.modules

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, groupby="cell_type", groups=["B", "NK"], use_rep="expression")
    >>> ch.tl.modules(adata, "B", "NK")
    >>> table = ch.get.modules(adata)
    >>> bool((table["n_genes"].diff().dropna() <= 0).all())
    True
    """
    rule = _rule(max_jaccard, min_genes, resolution, rng)
    adata = _adata.writable(data, mod)
    use_raw = _adata.reads_raw(adata, layer, use_raw=use_raw)
    taken = _taken(data, adata, group, reference, network_key, layer, use_raw=use_raw, mod=mod)
    labels = [network.label for network in taken.networks]
    keys = group_keys(key_added, labels) if labels[0] else {"": key_added}
    entries = [f"obsm/{key_added}", *(f"var/{key}" for key in keys.values())]
    check_free(adata, key_added, entries)

    weights, halves = ([network.weights for network in networks] for networks in (taken.networks, taken.halves))
    partitions = {label: _partition(each, rule, label) for label, each in zip(labels, weights, strict=True)}
    own, other = partitions[labels[0]], partitions[labels[1]] if len(labels) > 1 else None
    table, overlap = _overlaps(own, other, rule)
    own_null, half_null = reseeded(weights[0], own, rule), halved(halves, own, rule)
    scored = np.full(taken.expression.shape[1], OUTSIDE)
    scored[taken.columns[taken.columns >= 0]] = own[taken.columns >= 0]
    scores, n_expressed, without_control = module_scores(taken.expression, scored, seed=rule.seed)
    table = table.assign(reseed_specific=own_null.specific, halves_specific=half_null.specific, n_expressed=n_expressed)
    table = table.join(compare(scores, *taken.sides))
    names = {"group": labels[0], "reference": labels[1] if len(labels) > 1 else ""}
    for place, (name, label) in enumerate(names.items(), 1):
        table.insert(place, name, label)
    nulls = summary(own, other, weights, own_null, half_null, rule)
    _warn(table, without_control, taken.sides)

    params = {**names, "groupby": taken.networks[0].groupby, "network_key": network_key, **asdict(rule)}
    params |= {"n_reseeded": N_RESEEDED, "halves": [network.label for network in taken.halves]}
    with written(adata, key_added, entries):
        for label, numbers in partitions.items():
            adata.var[keys[label]] = pd.arrays.IntegerArray(numbers.astype(np.int64), numbers == OUTSIDE)
        adata.obsm[key_added] = pd.DataFrame(scores, adata.obs_names, table["module"].astype(str).tolist())
        adata.uns[key_added] = {TABLE: table, JACCARD: overlap, NULLS: nulls}
        write_params(adata, key_added, {**params, "layer": layer, "use_raw": use_raw, **SCORE})
    _report(table, nulls, key_added)


def _rule(max_jaccard: float, min_genes: int, resolution: float, rng: int | np.random.Generator | None) -> Rule:
    """Check the arguments; what decides over modules becomes a record."""
    seed = seed_of(rng)
    for name, value, fine, expected in (
        ("max_jaccard", max_jaccard, 0 < max_jaccard <= 1, "above 0, at most 1"),
        ("min_genes", min_genes, min_genes >= 1, "at least 1"),
        ("resolution", resolution, 0 < resolution < np.inf, "above 0"),
        ("rng", seed, 0 <= seed < 2**32, "a generator, or a seed from 0 to 2**32 - 1"),
    ):
        if not fine:
            msg = f"{name}={value}; expected {expected}."
            raise ValueError(msg)
    return Rule(float(max_jaccard), int(min_genes), float(resolution), seed)


@dataclass(frozen=True)
class _Taken:
    """What is taken out of the object, at once."""

    networks: list[Network]
    """Of the group, and of the reference where there is one."""
    halves: list[Network]
    """Of two halves of the group's cells, or none."""
    sides: tuple[np.ndarray, np.ndarray]
    """Rows of the cells that are compared; none without a group."""
    expression: sparse.csr_matrix
    columns: np.ndarray
    """Column of the expression for each gene of the object; -1 where it has none."""


def _taken(
    data: "AnnData | MuData",
    adata: "AnnData",
    group: str | None,
    reference: str | None,
    network_key: str,
    layer: str | None,
    *,
    use_raw: bool,
    mod: str | None,
) -> _Taken:
    networks, halves = compared(adata, group, reference, network_key)
    columns, labels = [network.groupby for network in networks], [network.label for network in networks]
    if len({*columns}) > 1:
        msg = (
            f"The networks of {labels} come from different columns of obs, {columns}, so that their cells may be the "
            "same. Make both from one column: `ch.tl.gene_network(adata, groupby=..., groups=...)`."
        )
        raise ValueError(msg)
    nobody = np.zeros(0, int)
    sides = groups_of(data, columns[0], labels, mod=mod).sides if labels[0] else (nobody, nobody)
    expression = sparse.vstack([block for _, block in blocks(adata, layer, use_raw=use_raw)], format="csr")
    return _Taken(networks, halves, sides, expression, columns_in(adata, networks[0].gene_symbols, use_raw=use_raw))


def _partition(weights: sparse.csr_matrix, rule: Rule, label: str) -> np.ndarray:
    """Modules of one network, refused where they are no answer."""
    options = {"resolution": rule.resolution, "seed": rule.seed}
    numbers = partition(weights, **options)
    where = f"Group {label!r}" if label else "The network without groups"
    check_resolution(weights, numbers, **options, min_genes=rule.min_genes, where=where)
    return numbers


def _overlaps(own: np.ndarray, other: np.ndarray | None, rule: Rule) -> tuple[pd.DataFrame, np.ndarray]:
    """Size of each module and its overlap with those of the reference, and all Jaccard indices."""
    n_genes = np.bincount(own[own != OUTSIDE])
    number = np.arange(len(n_genes))
    if other is None:
        unknown = pd.arrays.IntegerArray(np.zeros(len(number), np.int64), np.ones(len(number), bool))
        table = pd.DataFrame({"module": number, "n_genes": n_genes, "n_in_reference": unknown})
        empty = {"max_jaccard": np.nan, "nearest": unknown, "specific": unknown.astype("boolean")}
        return table.assign(**empty), np.zeros((len(number), 0))
    overlap = jaccard(own, other)
    shared = np.bincount(own[(own != OUTSIDE) & (other != OUTSIDE)], minlength=len(number))
    table = pd.DataFrame(
        {
            "module": number,
            "n_genes": n_genes,
            "n_in_reference": pd.array(shared, dtype="Int64"),
            "max_jaccard": overlap.max(axis=1),
            "nearest": pd.arrays.IntegerArray(overlap.argmax(axis=1), overlap.max(axis=1) == 0),
            "specific": pd.array(specific(own, other, rule), dtype="boolean"),
        }
    )
    return table, overlap


def _warn(table: pd.DataFrame, without_control: list[int], sides: tuple[np.ndarray, np.ndarray]) -> None:
    n = len(table)
    messages = []
    if silent := int((table["n_expressed"] == 0).sum()):
        messages.append(f"{silent} of {n} modules have no expressed gene and get no score (NaN)")
    if without_control:
        messages.append(
            f"{len(without_control)} of {n} modules hold all genes of their level of expression, so that no control "
            "genes are left and they get no score (NaN)"
        )
    n_group, n_reference = map(len, sides)
    if n_group and min(n_group, n_reference) < 2:
        counts = f"{n_group} in the group, {n_reference} in the reference"
        messages.append(f"A test needs two cells on each side; there are {counts}, and p-values are NaN")
    if few := int((table["n_in_reference"] * 2 < table["n_genes"]).sum()):
        messages.append(
            f"{few} of {n} modules have less than half of their genes in the network of the reference, so that they "
            "can't overlap with its modules; make both networks of the same genes"
        )
    for message in messages:
        warnings.warn(f"{message}.", stacklevel=3)


def _report(table: pd.DataFrame, nulls: pd.DataFrame, key: str) -> None:
    if table["specific"].isna().all():
        logger.info("%d modules; uns[%r]['table'].", len(table), key)
        return
    observed, reseed, halves = nulls["share_specific"]
    logger.info(
        "%d of %d modules are specific (%.0f%%); chance gives: another seed %.0f%%, two halves of the group's cells "
        "%s. uns[%r]['table'].",
        table["specific"].sum(), nulls["n_modules"].iloc[0], 100 * observed, 100 * reseed,
        "not computed (see ch.tl.split_groups)" if np.isnan(halves) else f"{halves:.0%}", key,
    )  # fmt: skip
