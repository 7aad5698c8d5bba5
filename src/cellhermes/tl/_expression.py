"""Expression values that are to be compared between genes or cells, block by block."""

from collections.abc import Iterator

import numpy as np
from anndata import AnnData
from scipy import sparse

from .. import _adata

BLOCK = 2_000  # cells read at once


def blocks(
    adata: AnnData, layer: str | None, *, use_raw: bool, log_normalised: bool
) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """Yield (first row, rows) of the chosen expression, refusing what can't be compared.

    Raises
    ------
    ValueError
        At negative values, NaN and infinity, and, where ``log_normalised`` is asked for, at raw counts.
    """
    for start, block in _adata.row_blocks(_adata.expression(adata, layer, use_raw=use_raw), BLOCK):
        check_values(block)
        if start == 0 and log_normalised:
            check_no_counts(block)
        yield start, block


def check_values(block: sparse.csr_matrix) -> None:
    """Refuse negative values, NaN and infinity."""
    if block.nnz and not np.isfinite(block.data).all():
        msg = "The expression holds NaN or infinite values; expected finite values that are not negative."
        raise ValueError(msg)
    if block.nnz and block.data.min() < 0:
        msg = (
            "The expression holds negative values, as scaled data do; expected log-normalised values. "
            "Pass layer=, or use_raw=True if adata.raw holds them."
        )
        raise ValueError(msg)


def check_no_counts(block: sparse.csr_matrix) -> None:
    """Refuse raw counts, where log-normalised values are asked for."""
    if block.nnz and _adata.is_counts(block):
        msg = (
            "The expression looks like raw counts (whole numbers); expected log-normalised values. Run "
            "sc.pp.normalize_total(adata, target_sum=1e4) and sc.pp.log1p(adata) first, or pass layer=."
        )
        raise ValueError(msg)
