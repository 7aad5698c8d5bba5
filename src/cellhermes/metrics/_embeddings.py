"""Vectors of genes that are had without a language model: what an embedding has to beat.

Each function returns one row a gene and the genes as index, which all measures of gene embeddings take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    import networkx as nx

Expression = Literal["pca", "coexpression"]
Spectrum = Literal["ppmi", "laplacian"]


def random_embedding(genes: Sequence[str], *, n_components: int = 128, seed: int = 0) -> pd.DataFrame:
    """Independent normal numbers: what a measure gives without any knowledge.

    Parameters
    ----------
    genes
        Genes.
    n_components
        Dimensions; take those of the embedding that stands beside it.
    seed
        Of the numbers.

    Returns
    -------
    Genes x dimensions.

    Examples
    --------
    >>> from cellhermes.metrics import random_embedding
    >>> random_embedding(["CD3D", "LYZ"], n_components=3).shape
    (2, 3)
    """
    values = np.random.default_rng(seed).normal(size=(len(genes), n_components))
    return _frame(values, genes)


def ngram_embedding(genes: Sequence[str], *, n_components: int = 128, seed: int = 0) -> pd.DataFrame:
    """Genes by the letters of their symbols alone.

    Symbols name families (``ZNF``, ``SLC25A``), and families share properties. What a language model reaches here may
    come from spelling. Two to four characters, the ends of a symbol marked, of those that occur in three symbols or
    more: tf-idf, then the largest singular vectors.

    Parameters
    ----------
    genes
        Symbols.
    n_components
        Dimensions, fewer if there are not as many n-grams.
    seed
        Of the randomised decomposition.

    Returns
    -------
    Genes x dimensions; symbols without a frequent n-gram are rows of zeros.

    Raises
    ------
    ValueError
        If no n-gram occurs in three symbols.

    Examples
    --------
    >>> from cellhermes.metrics import ngram_embedding
    >>> vectors = ngram_embedding(["CD3D", "CD3E", "CD3G", "KRT1", "KRT2", "KRT5"], n_components=2)
    >>> bool(vectors.loc["CD3D"] @ vectors.loc["CD3E"] > vectors.loc["CD3D"] @ vectors.loc["KRT1"])
    True
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counted = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=3, lowercase=False)
    try:
        counts = counted.fit_transform(genes)
    except ValueError as error:
        msg = (
            f"No two to four characters occur in three of the {len(genes):,} symbols, so there is no spelling to read."
        )
        raise ValueError(msg) from error
    n = _at_most(n_components, min(counts.shape))
    return _frame(TruncatedSVD(n, random_state=seed).fit_transform(counts), genes)


def expression_embedding(
    expression: np.ndarray | sparse.csr_array | sparse.csr_matrix,
    genes: Sequence[str],
    *,
    n_components: int = 50,
    method: Expression = "pca",
    seed: int = 0,
) -> pd.DataFrame:
    r"""Genes by where they are expressed.

    With the log-normalised expression of each gene standardised over cells, :math:`Z` (genes x cells):

    ``"pca"``
        The principal components of the rows of :math:`Z`.
    ``"coexpression"``
        The rows of the Pearson correlation matrix :math:`C = Z Z^T / n` in its first eigenvectors, so that genes are
        near when they correlate with the same genes. With :math:`Z = U S V^T` that is :math:`U S^2 / n`, and
        :math:`C` is never made.

    Parameters
    ----------
    expression
        Cells x genes, log-normalised.
    genes
        Gene of each column.
    n_components
        Dimensions, fewer if there are not as many cells or genes.
    method
        One of the above.
    seed
        Of the randomised decomposition.

    Returns
    -------
    Genes x dimensions. Genes that are constant over the cells are rows of zeros in ``"coexpression"``.

    Raises
    ------
    ValueError
        If shapes differ, values are missing, or the method is not known.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.metrics.expression_embedding(adata.X, adata.var_names, n_components=5).shape == (adata.n_vars, 5)
    True
    """
    if method not in get_args(Expression):
        msg = f"method={method!r}; expected one of {get_args(Expression)}."
        raise ValueError(msg)
    x = (expression.toarray() if sparse.issparse(expression) else np.asarray(expression)).T
    if x.ndim != 2 or len(x) != len(genes):
        msg = f"expression has the shape {x.T.shape} and there are {len(genes):,} genes; expected cells x genes."
        raise ValueError(msg)
    if not np.isfinite(x).all():
        msg = "expression has missing or infinite values."
        raise ValueError(msg)
    x = (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6)
    n = _at_most(n_components, min(x.shape))
    if method == "pca":
        from sklearn.decomposition import PCA

        return _frame(PCA(n, random_state=seed).fit_transform(x), genes)
    u, s = _svd(x, n, seed)
    return _frame(np.where(x.any(axis=1, keepdims=True), u * s**2 / x.shape[1], 0), genes)


def graph_embedding(
    graph: nx.Graph | pd.DataFrame,
    *,
    genes: Sequence[str] | None = None,
    n_components: int = 128,
    method: Spectrum = "ppmi",
    seed: int = 0,
) -> pd.DataFrame:
    r"""Genes by their partners in an interaction graph, without a language model.

    With the adjacency :math:`A`, degrees :math:`d` (at least one) and :math:`v = \sum_i d_i`:

    ``"ppmi"``
        Singular vectors of :math:`A_{ij} \log(1 + v / (d_i d_j))`, times the root of their values, each gene of length
        one. This is the factorisation that node2vec with windows of one step and skip-gram vectors approximate
        (Qiu et al. 2018), with :math:`\log(1 + x)` for the cut-off logarithm, so that every edge counts.
    ``"laplacian"``
        Eigenvectors of :math:`D^{-1/2} A D^{-1/2}` with the largest values, without the first, which is the degree
        (Laplacian eigenmaps), times the root of the degree's inverse.

    Parameters
    ----------
    graph
        Undirected graph of genes, or a frame of pairs with the columns ``gene_a`` and ``gene_b``, or two columns only.
        Weights are not read, repeated pairs count once, pairs of a gene with itself not at all.
    genes
        Genes to embed; None takes those of the graph, sorted. Pairs with others are left out.
    n_components
        Dimensions, fewer if there are not as many genes.
    method
        One of the above.
    seed
        Of the randomised decomposition.

    Returns
    -------
    Genes x dimensions; a gene without a partner is a row of zeros.

    Raises
    ------
    KeyError
        If the frame has no columns with genes.
    ValueError
        If no pair is left, or the method is not known.

    Examples
    --------
    >>> import cellhermes as ch
    >>> graph = ch.datasets.ppi("toy")
    >>> ch.metrics.graph_embedding(graph, n_components=8).shape == (graph.number_of_nodes(), 8)
    True
    """
    if method not in get_args(Spectrum):
        msg = f"method={method!r}; expected one of {get_args(Spectrum)}."
        raise ValueError(msg)
    from sklearn.preprocessing import normalize

    pairs, nodes = _pairs(graph)
    names = pd.Index(sorted(nodes) if genes is None else list(genes))
    at = names.get_indexer(pairs.ravel()).reshape(-1, 2)
    at = at[(at >= 0).all(1) & (at[:, 0] != at[:, 1])]
    if not len(at):
        msg = f"None of {len(pairs):,} pairs is between two different genes of {len(names):,}."
        raise ValueError(msg)
    n = len(names)
    a = sparse.csr_array((np.ones(2 * len(at)), (at.T.ravel(), at[:, ::-1].T.ravel())), shape=(n, n))
    a.data[:] = 1  # pairs that were named twice have been added up
    degree = np.asarray(a.sum(1)).ravel()
    a, d = a.tocoo(), np.maximum(degree, 1)
    i, j = a.row, a.col
    k = _at_most(n_components, n - 1)
    if method == "ppmi":
        a.data = np.log1p(d.sum() / (d[i] * d[j]))
        u, s = _svd(a.tocsr(), k, seed)
        return _frame(np.where(degree[:, None] > 0, normalize(u * np.sqrt(s)), 0), names)
    from scipy.sparse.linalg import eigsh

    a.data = 1 / np.sqrt(d[i] * d[j])
    start = np.random.default_rng(seed).normal(size=n)
    _, u = eigsh(a.tocsr(), k=_at_most(k + 1, n - 1), which="LA", v0=start)
    x = u[:, ::-1][:, 1:] / np.sqrt(d)[:, None]
    return _frame(np.where(degree[:, None] > 0, x, 0), names)


def _pairs(graph: nx.Graph | pd.DataFrame) -> tuple[np.ndarray, set[str]]:
    """(pairs, 2) symbols, and all nodes."""
    if hasattr(graph, "edges"):
        return np.array(list(graph.edges()), dtype=object).reshape(-1, 2), {*graph.nodes}
    columns = ["gene_a", "gene_b"] if {"gene_a", "gene_b"} <= {*graph} else list(graph)
    if len(columns) != 2:
        msg = f"The frame has the columns {columns}; expected gene_a and gene_b, or two columns only."
        raise KeyError(msg)
    pairs = graph[columns].to_numpy(object)
    return pairs, {*pairs.ravel()}


def _svd(x: np.ndarray | sparse.csr_array, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.utils.extmath import randomized_svd

    u, s, _ = randomized_svd(x, n, n_iter=5, random_state=seed)
    return u, s


def _at_most(n: int, most: int) -> int:
    if n < 1:
        msg = f"n_components={n}; expected one or more."
        raise ValueError(msg)
    return min(n, most)


def _frame(values: np.ndarray, genes: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(values.astype(np.float32), index=pd.Index(list(genes), name="gene"))
