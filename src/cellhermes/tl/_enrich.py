"""Over-representation of gene sets in modules, in the neighbourhood of a gene, or in any list of genes."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control
from tqdm.auto import tqdm

from .. import _adata
from .._entries import check_free, written
from .._keys import ENRICH, LISTS, MODULES, NETWORK, TABLE, read_params, write_params
from .._networks import Network, modules_of, network_of
from ._gene_sets import fingerprint, gene_sets_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger("cellhermes")

ALPHA = 0.05  # of the count in the log; the table holds all
COLUMNS = {
    **dict.fromkeys(["group", "of", "term"], object),
    **dict.fromkeys(["overlap", "n_genes", "set_size"], int),
    **dict.fromkeys(["odds_ratio", "pval", "pval_adj"], float),
    "genes": object,
}


def enrich(
    data: "AnnData | MuData",
    gene_sets: str | Path | Mapping[str, Sequence[str]],
    *,
    of: str | Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    background: Iterable[str] | int | None = None,
    group: str | None = None,
    min_size: int = 3,
    network_key: str = NETWORK,
    modules_key: str = MODULES,
    key_added: str = ENRICH,
    mod: str | None = None,
) -> None:
    r"""Find gene sets that are over-represented in modules, around a gene, or in a list of genes.

    The hypergeometric test of ``gseapy.enrich`` (the paper's choice, with GO Biological Process), against the genes of
    the network as background. Of :math:`N` genes in the network, :math:`m` are in the gene set and :math:`n` in the
    list; the p-value is the chance of :math:`x` or more in both,

    .. math:: p = \sum_{i \ge x} \binom{m}{i} \binom{N - m}{n - i} \bigg/ \binom{N}{n}.

    A gene that is not in the network counts nowhere: neither in a list, nor in a gene set, nor in the background.
    P-values are adjusted by Benjamini and Hochberg within each list, over all gene sets that were tested. gseapy itself
    adjusts over those that share a gene with the list, which are fewer and were chosen by looking, so that its adjusted
    values are smaller.

    Parameters
    ----------
    data
        Annotated data with a network (:func:`cellhermes.tl.gene_network`).
    gene_sets
        A GMT file (plain or gzipped), a dict of term to genes, or the name of a library of Enrichr such as
        ``"GO_Biological_Process_2021"``. A library is downloaded at its first use, its checksum is recorded, and later
        runs need no connection; ``$CELLHERMES_CACHE`` names another folder for it.
    of
        What is tested. None: every module (:func:`cellhermes.tl.modules`). A symbol: this gene and its neighbours in
        the network. A list of symbols: these genes. A dict: several lists by name.
    background
        Genes that could have been in a list, such as all that stand in a sentence for recurrent genes
        (:func:`cellhermes.get.explain`); no network is needed then, and ``of`` must be lists. A number is how many
        they are, where only this is known: the genes of the lists and sets, and others that are in none. None takes
        the genes of the network.
    group
        Group whose network and modules are meant; None takes that of the modules, or the network without groups.
    min_size
        Gene sets with fewer genes in the network are not tested; the paper names no limit.
    network_key
        Entry of ``varp`` and ``uns`` with the network.
    modules_key
        Entry of ``var`` and ``uns`` with the modules.
    key_added
        Entry of ``uns`` that is written.
    mod
        Modality of a MuData.

    Returns
    -------
    Nothing; writes

    ``uns[key_added]["table"]`` : DataFrame
        A row for each list and gene set that share a gene, best first: ``group``, ``of`` (module, gene or name of the
        list), ``term``, ``overlap`` (:math:`x`), ``n_genes`` (:math:`n`), ``set_size`` (:math:`m`), ``odds_ratio``
        (with 0.5 added to each count, as gseapy does), ``pval``, ``pval_adj``, ``genes`` (shared, joined by ``;``).
    ``uns[key_added]["lists"]`` : DataFrame
        What was tested: ``group``, ``of``, ``n_genes``, ``n_outside`` (genes that are not in the network). Also lists
        that share no gene with any set, of which the table has no row.
    ``uns[key_added]["params"]`` : dict
        Gene sets and their SHA-256, how many were tested, background size, arguments, version.

    Raises
    ------
    KeyError
        If the network, the modules or the gene are not there.
    ValueError
        If ``uns[key_added]`` is yours, or no gene set, or no gene of a list, is in the network.
    ConnectionError
        If a library is not in the cache and can't be downloaded.

    See Also
    --------
    cellhermes.get.enrich, cellhermes.pl.enrich

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, use_rep="expression")
    >>> ch.tl.enrich(adata, {"T cell receptor": ["CD3D", "CD3E", "CD3G", "CD247"]}, of="CD3E")
    >>> ch.get.enrich(adata)["genes"].str.contains("CD3E").tolist()
    [True]
    """
    adata = _adata.writable(data, mod)
    check_free(adata, key_added, [])
    if of is None and group is None:
        group = str(read_params(adata, modules_key).get("group", "")) or None
    if background is None:
        network = network_of(adata, group, network_key)
        group = network.label
        background = pd.Index(pd.unique(network.symbols[network.present & (network.symbols != "")]))
        module = modules_of(adata, network, modules_key) if of is None else None
        lists = _of_network(of, network, module) if of is None or isinstance(of, str) else _lists(of)
    else:
        _check_lists(background, of)
        lists = _lists(of)
        background = _given(background, lists, gene_sets)
    members = {
        name: background.intersection(pd.unique(np.asarray(genes, dtype=object))) for name, genes in lists.items()
    }
    tested = _summary(lists, members, group)
    sets, source = gene_sets_of(gene_sets)
    usable = _usable(sets, background, min_size, source)
    tables = [
        frame.assign(of=name)
        for name, genes in tqdm(members.items(), desc="enrich", delay=2, leave=False)
        if (frame := _over_representation(genes, usable, background)) is not None
    ]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))
    table = table.assign(group=group or "")[list(COLUMNS)].astype(COLUMNS)
    params = {"gene_sets": source, "gene_sets_sha256": fingerprint(sets), "n_sets": len(sets), "n_tested": len(usable)}
    params |= {"n_background": len(background), "min_size": min_size, "group": group, "of": _described(of)}
    with written(adata, key_added, []):
        adata.uns[key_added] = {TABLE: table, LISTS: tested}
        write_params(adata, key_added, {**params, "network_key": network_key, "modules_key": modules_key})
    n_enriched = table.loc[table["pval_adj"] < ALPHA, "of"].nunique()
    message = "%d of %d lists have a gene set with adjusted p < %s (%s sets tested); uns[%r]['table']."
    logger.info(message, n_enriched, len(lists), ALPHA, f"{len(usable):,}", key_added)


def _check_lists(background: object, of: object) -> None:
    """Refuse a background of the caller's for lists that are not the caller's."""
    if of is None or isinstance(of, str):
        msg = f"background= is for lists of your own, and of={of!r} is read from a network. Pass lists as of=."
        raise ValueError(msg)
    is_number = isinstance(background, int | np.integer) and not isinstance(background, bool)
    if isinstance(background, str) or not (is_number or isinstance(background, Iterable)):
        kind = "the single string " if isinstance(background, str) else ""
        msg = f"background is {kind}{background!r}; expected symbols (a list or a set), or how many genes there are."
        raise TypeError(msg)


def _given(
    background: Iterable[str] | int,
    lists: Mapping[str, Iterable[str]],
    gene_sets: str | Path | Mapping[str, Sequence[str]],
) -> pd.Index:
    """Genes of the caller's background, each once; for a number, those that are known by name, and others."""
    if isinstance(background, Iterable):
        return pd.Index(pd.unique(np.array([*background], dtype=object)))
    sets, _ = gene_sets_of(gene_sets)
    named = {gene for genes in [*lists.values(), *sets.values()] for gene in genes}
    if background < len(named):
        msg = f"background={background:,}, but lists and gene sets have {len(named):,} genes; pass at least as many."
        raise ValueError(msg)
    others = [("other", i) for i in range(background - len(named))]
    return pd.Index([*sorted(named, key=str), *others], tupleize_cols=False)


def _of_network(gene: str | None, network: Network, module: pd.Series | None) -> dict[str, np.ndarray]:
    """Genes of every module, or a gene and its neighbours."""
    if gene is None:
        return {
            str(number): network.symbols[(module == number).fillna(value=False)]
            for number in np.unique(module.dropna())
        }
    row = np.flatnonzero(network.symbols == gene)
    neighbours = np.unique(network.weights[row].indices)
    if len(neighbours) == 0:
        where = f"the network of group {network.label!r}" if network.label else "the network"
        msg = f"Gene {gene!r} is not in {where}, so it has no neighbours. To test one list of genes, pass of=[...]."
        raise KeyError(msg)
    return {gene: network.symbols[np.union1d(row, neighbours)]}


def _lists(of: Sequence[str] | Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Name to genes of the caller's lists."""
    if isinstance(of, Mapping):
        if wrong := next((name for name, genes in of.items() if isinstance(genes, str)), None):
            msg = f"of[{wrong!r}] is the single string {of[wrong]!r}; expected a list of gene symbols."
            raise TypeError(msg)
        return {str(name): list(genes) for name, genes in of.items()}
    return {"genes": list(of)}


def _summary(lists: Mapping[str, Sequence[str]], members: Mapping[str, pd.Index], group: str | None) -> pd.DataFrame:
    """Return tested lists, and how many genes of it are outside the network; a list that is all outside is refused."""
    if not lists:
        msg = "There is nothing to test: of= is empty, or no gene is in a module."
        raise ValueError(msg)
    if empty := [name for name, genes in members.items() if len(genes) == 0]:
        first = ", ".join(map(str, lists[empty[0]][:3]))
        msg = (
            f"No gene of {len(empty)} of {len(lists)} lists is in the network: {empty[0]!r} ({first} ...). "
            "Expected symbols as in ch.get.gene_network(adata)."
        )
        raise ValueError(msg)
    outside = {name: len(set(lists[name])) - len(genes) for name, genes in members.items()}
    if n_outside := sum(outside.values()):
        logger.info("%s genes of the lists are not in the network and do not count.", f"{n_outside:,}")
    counts = {"n_genes": [len(genes) for genes in members.values()], "n_outside": list(outside.values())}
    return pd.DataFrame({"group": group or "", "of": list(members), **counts})


def _usable(
    sets: Mapping[str, Sequence[str]], background: pd.Index, min_size: int, source: str
) -> dict[str, np.ndarray]:
    """Gene sets as positions in the background; those with too few genes in it are left out."""
    places = {term: background.get_indexer(pd.Index(genes, dtype=object)) for term, genes in sets.items()}
    places = {term: np.unique(at[at >= 0]) for term, at in places.items()}
    usable = {term: at for term, at in places.items() if len(at) >= max(min_size, 1)}
    if not usable:
        some = next((genes[0] for genes in sets.values() if len(genes)), "")
        msg = (
            f"None of {len(sets):,} gene sets of {source} has min_size={min_size} genes in the network of "
            f"{len(background):,} genes. Their genes look like {some!r}, those of the network like {background[0]!r}: "
            "do both use symbols of the same species?"
        )
        raise ValueError(msg)
    return usable


def _over_representation(genes: pd.Index, sets: Mapping[str, np.ndarray], background: pd.Index) -> pd.DataFrame | None:
    """Test one list with gseapy; None where it shares no gene with any set, of which gseapy returns a bare list.

    gseapy takes identifiers that are all whole numbers for Entrez ids, and turns a list into capitals when the gene
    sets are in capitals and it is not (as C1orf112). It is therefore given neutral names.
    """
    import gseapy

    named = np.array([f"G{i}" for i in range(len(background))], dtype=object)
    at = background.get_indexer(genes)
    inside = np.zeros(len(background), dtype=bool)
    inside[at] = True
    sharing = {term: named[members].tolist() for term, members in sets.items() if inside[members].any()}
    if not sharing:
        return None
    tested = gseapy.enrich(named[at].tolist(), sharing, background=named.tolist(), outdir=None, no_plot=True)
    tested.close()
    result = tested.results.set_index("Term").loc[list(sharing)]
    pval = result["P-value"].to_numpy(float)
    not_sharing = np.ones(len(sets) - len(sharing))  # p = 1: the chance of sharing none or more
    shared = [sorted(background[int(name[1:])] for name in names.split(";")) for names in result["Genes"]]
    frame = pd.DataFrame(
        {
            "term": result.index.to_numpy(object),
            "overlap": [len(names) for names in shared],
            "n_genes": len(at),
            "set_size": [len(sets[term]) for term in result.index],
            "odds_ratio": result["Odds Ratio"].to_numpy(float),
            "pval": pval,
            "pval_adj": false_discovery_control(np.concatenate([pval, not_sharing]))[: len(pval)],
            "genes": [";".join(names) for names in shared],
        }
    )
    return frame.sort_values(["pval", "odds_ratio", "term"], ascending=[True, False, True])


def _described(of: str | Sequence[str] | Mapping[str, Sequence[str]] | None) -> str:
    """Return what ``of`` was, for the stored parameters; the lists themselves stand in their frame."""
    if of is None:
        return "modules"
    return of if isinstance(of, str) else f"{'dict' if isinstance(of, Mapping) else 'list'} of {len(of)}"
