"""Expression values that are to be compared between genes or cells, block by block."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from anndata import AnnData
from scipy import sparse

from .. import _adata, _rows

BLOCK = 2_000  # cells read at once
TARGET_SUM = 1e4  # counts of a cell after normalisation


def blocks(
    adata: AnnData, layer: str | None, *, use_raw: bool, counts: Literal["refuse", "normalise"] = "refuse"
) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """Yield (first row, rows) of the chosen expression, log-normalised, refusing what can't be compared.

    Counts are refused, or scaled to 10,000 a cell and logarithmised as scanpy does it.

    Raises
    ------
    ValueError
        At negative values, NaN and infinity, at raw counts where they are not to be normalised, and where only some
        cells have counts.

    Warns
    -----
    UserWarning
        If values are neither counts nor logarithms.
    """
    are_counts = warned = None
    for start, block in _rows.row_blocks(_adata.expression(adata, layer, use_raw=use_raw), BLOCK):
        check_values(adata, block, use_raw=use_raw)
        if counts == "refuse":
            check_no_counts(adata, block, use_raw=use_raw)
        elif block.nnz and block.data.any():
            if are_counts not in (None, is_counts := _rows.is_counts(block)):
                msg = f"Cells before row {start:,} and behind it differ: one part has counts, the other has not. "
                msg += "Normalise all in the same way, or pass layer=."
                raise ValueError(msg)
            are_counts = is_counts
        warned = warned or _adata.warn_unlogged(adata, block)
        yield start, log_normalised(block) if are_counts else block


def columns_in(adata: AnnData, gene_symbols: str | None, *, use_raw: bool) -> np.ndarray:
    """Column of the chosen expression for each gene of the object, by its symbol; -1 where raw has no such gene."""
    if _adata.has_own_genes(adata, use_raw=use_raw):
        return np.arange(adata.n_vars)
    columns = _adata.columns_of_symbols(adata, gene_symbols, use_raw=True)
    return columns.reindex(_adata.symbols(adata, gene_symbols), fill_value=-1).to_numpy()


def log_normalised(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scale counts of cells to 10,000 each, as log(1 + x) in float32."""
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    scaled = sparse.csr_matrix(counts, dtype=np.float64, copy=True)
    scaled.data *= np.repeat(TARGET_SUM / np.where(total > 0, total, 1), np.diff(scaled.indptr))
    return scaled.log1p().astype(np.float32)


def check_values(adata: AnnData, block: sparse.csr_matrix, *, use_raw: bool) -> None:
    """Refuse negative values, NaN and infinity."""
    if block.nnz and not np.isfinite(block.data).all():
        msg = "The expression holds NaN or infinite values; expected finite values that are not negative."
        raise ValueError(msg)
    if block.nnz and block.data.min() < 0:
        msg = "The expression holds negative values, as scaled data do; expected log-normalised values. "
        raise ValueError(msg + _adata.other_values(adata, use_raw=use_raw))


def check_no_counts(adata: AnnData, block: sparse.csr_matrix, *, use_raw: bool) -> None:
    """Refuse raw counts, where log-normalised values are asked for."""
    if block.nnz and _rows.is_counts(block):
        name = "log" if use_raw else "adata"
        steps = f"sc.pp.normalize_total({name}, target_sum=1e4); sc.pp.log1p({name})"
        way = f"`log = adata.raw.to_adata(); {steps}; adata.raw = log`" if use_raw else f"`{steps}`"
        msg = "The expression looks like raw counts (whole numbers); expected log-normalised values. Run "
        msg += f"{way} first, or pass layer=."
        raise ValueError(msg)
