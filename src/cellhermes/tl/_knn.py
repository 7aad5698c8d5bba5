"""Nearest neighbours of genes: exact search, and the weights that scanpy gives a neighbour graph.

Takes profiles (one row a gene) and knows nothing of what they are: vectors of a model, or expression over cells.
"""

import numpy as np
from anndata import AnnData
from scipy import sparse

BLOCK = 1_000  # genes whose distances to all others are in memory at once
DECIMALS = 12  # distances that differ by less are ties; a product in float64 has noise of about 1e-15


def connectivities(
    profiles: np.ndarray | sparse.csr_matrix, n_neighbors: int, *, centre: bool
) -> tuple[sparse.csr_matrix, int]:
    """Weights of the k-nearest-neighbour graph as :func:`scanpy.pp.neighbors` computes them, from an exact search.

    Parameters
    ----------
    profiles
        One row a gene.
    n_neighbors
        As scanpy counts: the gene itself is one of them.
    centre
        Subtract each row's mean first, which makes the cosine a Pearson correlation.

    Returns
    -------
    (genes, genes) symmetric weights in float32, and how many genes have all their neighbours at distance zero.
    """
    import scanpy as sc

    search = ExactSearch(n_neighbors, centre=centre)
    table = AnnData(profiles)  # thrown away: nothing of the user's object is touched
    sc.pp.neighbors(table, n_neighbors=n_neighbors, use_rep="X", metric="cosine", transformer=search)
    edges = search.edges * np.finfo(np.float32).tiny  # beside many neighbours at distance 0, weights of others vanish
    return table.obsp["connectivities"].tocsr().maximum(edges), search.n_crowded


class ExactSearch:
    """Exact nearest neighbours by cosine distance, in the form that ``scanpy.pp.neighbors(transformer=)`` takes.

    scanpy itself searches exactly below 4,096 rows and approximately above. Here every pair is compared in float64,
    sparse rows stay sparse, and equal distances are ordered by position, so that the answer depends neither on the
    block size nor on the number of threads.
    """

    def __init__(self, n_neighbors: int, *, centre: bool = False) -> None:
        self.n_neighbors, self.centre = n_neighbors, centre
        self.n_crowded = 0  # rows whose k nearest are all at distance zero; known after the search, as are the edges

    def get_params(self, deep: bool = True) -> dict:  # noqa: FBT001, FBT002 # scikit-learn's signature
        """Return the parameters that scanpy asks for."""
        return {"n_neighbors": self.n_neighbors, "metric": "cosine"}

    def fit_transform(self, rows: np.ndarray | sparse.csr_matrix) -> sparse.csr_matrix:
        """Return the distances to the k nearest rows, each row's own (0) first."""
        n, k = rows.shape[0], self.n_neighbors
        unit, offset = _normalised(rows, centre=self.centre)
        columns = unit.T.tocsr() if sparse.issparse(unit) else unit.T
        indices = np.empty((n, k), dtype=np.int32)
        distances = np.empty((n, k))
        for start in range(0, n, BLOCK):
            some = slice(start, min(start + BLOCK, n))
            product = unit[some] @ columns
            away = _distances(product.toarray() if sparse.issparse(product) else product, offset[some], offset)
            away[np.arange(len(away)), np.arange(some.start, some.stop)] = -1  # the row itself comes first
            indices[some] = _smallest(away, k)
            distances[some] = np.take_along_axis(away, indices[some], axis=1)
        distances[:, 0] = 0
        self.n_crowded = int((distances[:, -1] == 0).sum())
        others = (np.ones(n * (k - 1), np.float32), indices[:, 1:].ravel(), np.arange(n + 1) * (k - 1))
        neighbours = sparse.csr_matrix(others, shape=(n, n))
        self.edges = neighbours.maximum(neighbours.T)
        return sparse.csr_matrix((distances.ravel(), indices.ravel(), np.arange(n + 1) * k), shape=(n, n))


def _normalised(
    rows: np.ndarray | sparse.csr_matrix, *, centre: bool
) -> tuple[np.ndarray | sparse.csr_matrix, np.ndarray]:
    """Scaled rows u and offsets a, such that the cosine of rows i and j is u_i u_j - a_i a_j.

    Centring would make sparse rows dense. Instead, with mean m and centred norm s of d values,
    sum (x_i - m_i)(x_j - m_j) / (s_i s_j) = x_i x_j / (s_i s_j) - (sqrt(d) m_i / s_i)(sqrt(d) m_j / s_j).
    """
    d = rows.shape[1]
    if not sparse.issparse(rows):
        rows = np.asarray(rows, dtype=np.float64)
        rows = rows - rows.mean(axis=1, keepdims=True) if centre else rows
        return rows / np.linalg.norm(rows, axis=1, keepdims=True), np.zeros(len(rows))
    rows = rows.astype(np.float64)
    mean = np.asarray(rows.mean(axis=1)).ravel() if centre else np.zeros(rows.shape[0])
    squares = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
    norm = np.sqrt(squares - d * mean**2)
    return rows.multiply(1 / norm[:, None]).tocsr(), np.sqrt(d) * mean / norm


def _distances(product: np.ndarray, above: np.ndarray, right: np.ndarray) -> np.ndarray:
    """1 - cosine, written over ``product``: with many genes, each copy of a block counts."""
    if right.any():
        product -= np.outer(above, right)
    np.subtract(1, product, out=product)
    np.clip(product, 0, 2, out=product)
    return np.round(product, DECIMALS, out=product)


def _smallest(away: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k smallest values of each row in rising order, earlier columns first among equals."""
    columns = np.argpartition(away, k - 1, axis=1)[:, :k]
    limit = np.take_along_axis(away, columns, axis=1).max(axis=1, keepdims=True)
    for row in np.flatnonzero((away <= limit).sum(axis=1) > k):  # a tie at the limit: argpartition took any of them
        near = np.flatnonzero(away[row] <= limit[row])
        columns[row] = near[np.argsort(away[row, near], kind="stable")[:k]]
    columns.sort(axis=1)
    order = np.argsort(np.take_along_axis(away, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)
