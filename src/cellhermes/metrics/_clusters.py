"""Whether clusters of genes in an embedding have a function."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import false_discovery_control, hypergeom

from .._streams import seed_of
from . import _vectors
from ._semantic import check_sets, membership

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger("cellhermes")


def cluster_enrichment(
    embeddings: pd.DataFrame | Mapping[str, pd.DataFrame],
    gene_sets: Mapping[str, Sequence[str]],
    *,
    n_clusters: Sequence[int] = range(20, 81, 10),
    alpha: float = 0.05,
    min_size: int = 3,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    r"""Share of the k-means clusters of genes in which some gene set is over-represented.

    Clusters are tested as :func:`cellhermes.tl.enrich` tests lists: of :math:`N` genes, :math:`m` are in a gene set and
    :math:`n` in a cluster, and the p-value is the chance of :math:`x` or more in both,

    .. math:: p = \sum_{i \ge x} \binom{m}{i} \binom{N - m}{n - i} \bigg/ \binom{N}{n},

    adjusted by Benjamini and Hochberg over all gene sets within a cluster (gseapy adjusts over those that share a gene
    with it). Genes are those with a vector in every embedding, whether they are in a gene set or not. ``share_random``
    is the share when the same cluster sizes are filled with random genes: about ``alpha`` at most.

    Parameters
    ----------
    embeddings
        Vectors with one row a gene, or several such frames by name.
    gene_sets
        Term to genes, such as :func:`cellhermes.datasets.gene_sets` returns them.
    n_clusters
        Numbers of clusters; the paper's are 20 to 80.
    alpha
        False discovery rate below which a cluster counts as enriched.
    min_size
        Gene sets with fewer genes are not tested.
    rng
        Seed or generator of k-means and of the random genes.

    Returns
    -------
    A row for each embedding and number of clusters: ``embedding``, ``n_clusters``, ``share``, ``share_random``,
    ``n_enriched`` (clusters), ``largest`` (genes in the largest cluster), ``n_genes``, ``n_sets``. ``attrs["missing"]``
    counts genes that some other embedding has and this one has not.

    Raises
    ------
    ValueError
        If there are fewer genes than clusters, or no gene set has genes with vectors.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from cellhermes.metrics import cluster_enrichment
    >>> genes = np.array([f"GENE{i}" for i in range(60)])
    >>> sets = {f"set {i}": genes[i::3].tolist() for i in range(3)}
    >>> vectors = pd.DataFrame(np.tile(np.eye(3), (20, 1)), index=genes)
    >>> cluster_enrichment(vectors, sets, n_clusters=[3])[["share", "share_random"]].to_dict("list")
    {'share': [1.0], 'share_random': [0.0]}
    """
    from sklearn.cluster import KMeans

    check_sets(gene_sets)
    tables = _vectors.by_name(embeddings)
    everything = pd.Index(pd.unique(np.concatenate([table.index.to_numpy(object) for table in tables.values()])))
    genes, missing = _vectors.shared(tables, everything)
    if not len(n_clusters) or min(n_clusters) < 2 or max(n_clusters) > len(genes):
        msg = f"n_clusters={n_clusters} for {len(genes):,} genes with vectors; expected numbers from 2 to that."
        raise ValueError(msg)
    member = membership(gene_sets, genes, min_size)
    seed = seed_of(rng)
    rng = np.random.default_rng(seed)
    rows = []
    for name, table in tables.items():
        x = _vectors.vectors_of(table, genes)
        for k in n_clusters:
            cluster = KMeans(k, random_state=seed).fit_predict(x)
            enriched, chance = (_is_enriched(c, member, alpha) for c in (cluster, rng.permutation(cluster)))
            about = {"share": enriched.mean(), "share_random": chance.mean(), "n_enriched": int(enriched.sum())}
            rows.append({"embedding": name, "n_clusters": k, **about, "largest": int(np.bincount(cluster).max())})
    table = pd.DataFrame(rows).assign(n_genes=len(genes), n_sets=member.shape[1])
    table.attrs = {"missing": missing, "alpha": alpha, "min_size": min_size, "seed": seed}
    logger.info("cluster_enrichment: %s genes, %d embeddings", f"{len(genes):,}", len(tables))
    return table


def _is_enriched(cluster: np.ndarray, member: sparse.csc_array, alpha: float) -> np.ndarray:
    """Whether each cluster that has genes has a gene set below ``alpha``."""
    return (false_discovery_control(_pvals(cluster, member), axis=1) < alpha).any(axis=1)


def _pvals(cluster: np.ndarray, member: sparse.csc_array) -> np.ndarray:
    """(clusters, gene sets) chance of so many shared genes or more; each (x, m, n) is computed once."""
    codes = np.unique(cluster, return_inverse=True)[1]
    n_genes = len(codes)
    hot = sparse.csr_array((np.ones(n_genes), (codes, np.arange(n_genes))))
    x = (hot @ member).toarray().astype(np.int64)
    m, n = np.asarray(member.sum(0)).ravel().astype(np.int64), np.bincount(codes)
    out = np.ones(x.shape)  # sharing none or more is certain
    row, column = np.nonzero(x)
    case, place = np.unique(np.stack([x[row, column], m[column], n[row]]), axis=1, return_inverse=True)
    out[row, column] = hypergeom.sf(case[0] - 1, n_genes, case[1], case[2])[place]
    return out
