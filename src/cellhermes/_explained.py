"""What is stored of an explanation: read by tools and readers alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import _adata
from ._keys import EXPLAIN, answer_key, raw_key, read_params

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse


@dataclass(frozen=True)
class Explanation:
    """What was explained, and how much each gene weighs in it."""

    matrix: sparse.csr_matrix
    """(cells, genes of the object or of raw), with an entry for each gene of a sentence."""
    symbols: np.ndarray
    """Of these genes."""
    answer: pd.Series
    """Of each cell; missing where it was not explained."""
    use_raw: bool
    """Whether the genes are those of raw."""


def explanation_of(adata: AnnData, key: str = EXPLAIN) -> Explanation:
    """Return a stored explanation, of the genes of the object or of raw."""
    params, name = read_params(adata, key), raw_key(key)
    use_raw = key not in adata.layers and name in adata.obsm
    if "method" not in params or not (use_raw or key in adata.layers):
        msg = f"`adata.layers[{key!r}]` is no explanation. Run `ch.tl.explain(adata, model, task)` first, or pass key="
        raise KeyError(msg)
    symbols = _adata.symbols(adata, str(params["gene_symbols"]) or None, use_raw=use_raw)
    matrix = (adata.obsm[name] if use_raw else adata.layers[key]).tocsr()
    if matrix.shape[1] != len(symbols):
        msg = f"`adata.obsm[{name!r}]` is of {matrix.shape[1]:,} genes, and `adata.raw` has {len(symbols):,}; it is "
        msg += "another raw than that which was explained. Run `ch.tl.explain` again."
        raise ValueError(msg)
    return Explanation(matrix, symbols, adata.obs[answer_key(key)], use_raw)


def top_of(matrix: sparse.csr_matrix, n: int) -> np.ndarray:
    """Return which entries of a CSR matrix are among the ``n`` largest of their row, and positive."""
    is_top = np.zeros(matrix.nnz, dtype=bool)
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        is_top[start + np.argsort(-matrix.data[start:stop], kind="stable")[:n]] = True
    return is_top & (matrix.data > 0)


def recurrence_of(adata: AnnData, n_top: int, key: str = EXPLAIN) -> pd.DataFrame:
    """Count how often each gene is among the ``n_top`` most important ones, by answer; the most frequent first."""
    explained = explanation_of(adata, key)
    matrix, symbols, answer = explained.matrix, explained.symbols, explained.answer
    parts = []
    for name in answer.cat.categories:
        mine = matrix[(answer == name).to_numpy()]
        if not mine.shape[0]:
            continue
        n_listed = np.bincount(mine.indices, minlength=matrix.shape[1])
        total = np.bincount(mine.indices, mine.data, minlength=matrix.shape[1])
        tops = np.bincount(mine.indices[top_of(mine, n_top)], minlength=matrix.shape[1])
        listed = np.flatnonzero(n_listed)
        counts = {"answer": name, "gene": symbols[listed], "n_cells": mine.shape[0], "n_listed": n_listed[listed]}
        counts |= {"n_top": tops[listed], "frequency": tops[listed] / mine.shape[0]}
        part = pd.DataFrame({**counts, "mean_importance": total[listed] / n_listed[listed]})
        parts.append(part.sort_values(["frequency", "mean_importance", "gene"], ascending=[False, False, True]))
    return pd.concat(parts, ignore_index=True)
