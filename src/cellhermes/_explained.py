"""What is stored of an explanation: read by tools and readers alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._keys import EXPLAIN, read_params

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse


def importance_of(adata: AnnData, key: str = EXPLAIN) -> tuple[sparse.csr_matrix, pd.Series]:
    """Return importances (cells x genes, an entry for each gene of a sentence) and the answers that they explain."""
    if "method" not in read_params(adata, key) or key not in adata.layers:
        msg = f"`adata.layers[{key!r}]` is no explanation. Run `ch.tl.explain(adata, model, task)` first, or pass key="
        raise KeyError(msg)
    return adata.layers[key].tocsr(), adata.obs[f"{key}_answer"]


def top_of(matrix: sparse.csr_matrix, n: int) -> np.ndarray:
    """Return which entries of a CSR matrix are among the ``n`` largest of their row, and positive."""
    is_top = np.zeros(matrix.nnz, dtype=bool)
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        is_top[start + np.argsort(-matrix.data[start:stop], kind="stable")[:n]] = True
    return is_top & (matrix.data > 0)
