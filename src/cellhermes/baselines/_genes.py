"""Vectors of genes that are had without a language model: what an embedding has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from scipy import sparse

from .._streams import seed_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import networkx as nx

Method = Literal["random", "ngrams", "pca", "coexpression", "ppmi", "laplacian"]


def embed_genes(
    genes: Sequence[str],
    method: Method,
    *,
    graph: nx.Graph | pd.DataFrame | None = None,
    expression: np.ndarray | sparse.csr_array | sparse.csr_matrix | None = None,
    n_components: int = 128,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    r"""Embed genes without a language model, as all measures of gene embeddings take them.

    ``"random"``
        Independent normal numbers: what a measure gives without any knowledge.
    ``"ngrams"``
        The letters of the symbols alone. Symbols name families (``ZNF``, ``SLC25A``), and families share properties, so
        that what a language model reaches may come from spelling. Two to four characters, the ends of a symbol marked,
        of those that occur in three symbols or more: tf-idf, then the largest singular vectors. Symbols without a
        frequent n-gram are rows of zeros.
    ``"pca"``
        Where genes are expressed: the log-normalised expression of each is standardised over cells, :math:`Z` (genes x
        cells), and the principal components of its rows are taken.
    ``"coexpression"``
        The rows of the Pearson correlation matrix :math:`C = Z Z^T / n` in its first eigenvectors, so that genes are
        near when they correlate with the same genes. With :math:`Z = U S V^T` that is :math:`U S^2 / n`, and :math:`C`
        is never made. Genes that are constant over the cells are rows of zeros.
    ``"ppmi"``
        Partners in an interaction graph with the adjacency :math:`A`, degrees :math:`d` (at least one) and :math:`v =
        \sum_i d_i`: singular vectors of :math:`A_{ij} \log(1 + v / (d_i d_j))`, times the root of their values, each
        gene of length one. This is the factorisation that node2vec with windows of one step and skip-gram vectors
        approximate (Qiu et al. 2018), with :math:`\log(1 + x)` for the cut-off logarithm, so that every edge counts. A
        gene without a partner is a row of zeros.
    ``"laplacian"``
        Eigenvectors of :math:`D^{-1/2} A D^{-1/2}` with the largest values, without the first, which is the degree
        (Laplacian eigenmaps), times the root of the degree's inverse; zeros as in ``"ppmi"``.

    Parameters
    ----------
    genes
        Symbols; with ``expression``, the gene of each of its columns.
    method
        One of the above.
    graph
        For ``"ppmi"`` and ``"laplacian"``: an undirected graph of genes, or a frame of pairs with the columns
        ``gene_a`` and ``gene_b``, or two columns only. Weights are not read, repeated pairs count once; pairs of a gene
        with itself and with genes that are not asked for are left out.
    expression
        For ``"pca"`` and ``"coexpression"``: cells x genes, log-normalised.
    n_components
        Dimensions, fewer if there are not as many genes, cells or n-grams.
    rng
        Seed or generator of the numbers, or of the randomised decomposition.

    Returns
    -------
    Genes x dimensions, genes as index.

    Raises
    ------
    KeyError
        If a frame has no columns with genes.
    ValueError
        If the method is not known or lacks what it reads, shapes differ, values are missing, no pair is left, or no
        n-gram occurs in three symbols.

    Examples
    --------
    >>> import cellhermes as ch
    >>> graph = ch.datasets.ppi("toy")
    >>> ch.baselines.embed_genes(sorted(graph), "ppmi", graph=graph, n_components=8).shape == (len(graph), 8)
    True
    """
    if method not in get_args(Method):
        msg = f"method={method!r}; expected one of {get_args(Method)}."
        raise ValueError(msg)
    needs = {"pca": "expression", "coexpression": "expression", "ppmi": "graph", "laplacian": "graph"}.get(method)
    if needs is not None and {"expression": expression, "graph": graph}[needs] is None:
        msg = f"method={method!r} reads {needs}; pass {needs}=."
        raise ValueError(msg)
    if n_components < 1:
        msg = f"n_components={n_components}; expected one or more."
        raise ValueError(msg)
    seed = seed_of(rng)
    if method == "random":
        values = np.random.default_rng(rng).normal(size=(len(genes), n_components))
    elif method == "ngrams":
        values = _ngrams(genes, n_components, seed)
    elif needs == "expression":
        values = _of_expression(expression, len(genes), n_components, seed, is_pca=method == "pca")
    else:
        values = _of_graph(graph, genes, n_components, seed, is_ppmi=method == "ppmi")
    return pd.DataFrame(values.astype(np.float32), index=pd.Index(list(genes), name="gene"))


def _ngrams(genes: Sequence[str], n_components: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=3, lowercase=False)
    try:
        counts = vectorizer.fit_transform(genes)
    except ValueError as error:
        msg = (
            f"No two to four characters occur in three of the {len(genes):,} symbols, so there is no spelling to read."
        )
        raise ValueError(msg) from error
    return TruncatedSVD(min(n_components, *counts.shape), random_state=seed).fit_transform(counts)


def _of_expression(
    expression: np.ndarray | sparse.csr_array | sparse.csr_matrix,
    n_genes: int,
    n_components: int,
    seed: int,
    *,
    is_pca: bool,
) -> np.ndarray:
    x = (expression.toarray() if sparse.issparse(expression) else np.asarray(expression)).T
    if x.ndim != 2 or len(x) != n_genes:
        msg = f"expression has the shape {x.T.shape} and there are {n_genes:,} genes; expected cells x genes."
        raise ValueError(msg)
    if not np.isfinite(x).all():
        msg = "expression has missing or infinite values."
        raise ValueError(msg)
    x = (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6)
    n = min(n_components, *x.shape)
    if is_pca:
        from sklearn.decomposition import PCA

        return PCA(n, random_state=seed).fit_transform(x)
    u, s = _svd(x, n, seed)
    return np.where(x.any(axis=1, keepdims=True), u * s**2 / x.shape[1], 0)


def _of_graph(
    graph: nx.Graph | pd.DataFrame, genes: Sequence[str], n_components: int, seed: int, *, is_ppmi: bool
) -> np.ndarray:
    from sklearn.preprocessing import normalize

    pairs, n = _pairs(graph), len(genes)
    at = pd.Index(list(genes)).get_indexer(pairs.ravel()).reshape(-1, 2)
    at = at[(at >= 0).all(1) & (at[:, 0] != at[:, 1])]
    if not len(at):
        msg = f"None of {len(pairs):,} pairs is between two different genes of {n:,}."
        raise ValueError(msg)
    a = sparse.csr_array((np.ones(2 * len(at)), (at.T.ravel(), at[:, ::-1].T.ravel())), shape=(n, n))
    a.data[:] = 1  # pairs that were named twice have been added up
    degree = np.asarray(a.sum(1)).ravel()
    a, d = a.tocoo(), np.maximum(degree, 1)
    i, j = a.row, a.col
    k = min(n_components, n - 1)
    if is_ppmi:
        a.data = np.log1p(d.sum() / (d[i] * d[j]))
        u, s = _svd(a.tocsr(), k, seed)
        x = normalize(u * np.sqrt(s))
    else:
        from scipy.sparse.linalg import eigsh

        a.data = 1 / np.sqrt(d[i] * d[j])
        start = np.random.default_rng(seed).normal(size=n)
        _, u = eigsh(a.tocsr(), k=min(k + 1, n - 1), which="LA", v0=start)
        x = u[:, ::-1][:, 1:] / np.sqrt(d)[:, None]
    return np.where(degree[:, None] > 0, x, 0)


def _pairs(graph: nx.Graph | pd.DataFrame) -> np.ndarray:
    """(pairs, 2) symbols."""
    if hasattr(graph, "edges"):
        return np.array(list(graph.edges()), dtype=object).reshape(-1, 2)
    columns = ["gene_a", "gene_b"] if {"gene_a", "gene_b"} <= {*graph} else list(graph)
    if len(columns) != 2:
        msg = f"The frame has the columns {columns}; expected gene_a and gene_b, or two columns only."
        raise KeyError(msg)
    return graph[columns].to_numpy(object)


def _svd(x: np.ndarray | sparse.csr_array, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.utils.extmath import randomized_svd

    u, s, _ = randomized_svd(x, n, n_iter=5, random_state=seed)
    return u, s
