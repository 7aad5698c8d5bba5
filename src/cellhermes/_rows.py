"""Rows of matrices: in memory, on disk or lazy, some at a time. Knows nothing of what the rows and columns are."""

from __future__ import annotations

import os
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    import zarr

T = TypeVar("T")


def number_type(matrix: object) -> np.dtype:
    """Return the type that values of a matrix are read as: one that sparse matrices have, in the order of this machine.

    Raises
    ------
    TypeError
        If they are no real numbers; it names the type.
    """
    dtype = np.dtype(matrix.dtype)
    if dtype.kind not in "biuf":
        names = {"O": "Python objects", "U": "texts", "S": "texts", "T": "texts", "c": "complex numbers"}
        msg = f"{names.get(dtype.kind, 'no numbers')} (type {dtype})"
        raise TypeError(msg)
    if dtype.kind == "b" or dtype == np.float16:
        return np.dtype(np.float32)
    return dtype.newbyteorder("=") if dtype.itemsize <= 8 else np.dtype(np.float64)


@contextmanager
def reading() -> Iterator[None]:
    """Errors while something is read lazily say that it may be its file."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the latter of those that unpack chunks
        msg = f"The data can't be read: a file is truncated or damaged. Copy it again, then call again. ({error})"
        raise OSError(msg) from error


def row_blocks(matrix: object, size: int) -> Iterator[tuple[int, sparse.csr_matrix | sparse.csr_array]]:
    """Yield ``(first row, block)``: the rows of a matrix as CSR, at most ``size`` at a time, in order.

    In memory: dense or sparse. On disk: the matrices of a backed h5ad or zarr. Lazy: dask. Nothing is made dense, and
    nothing is read at once but a CSC matrix, whose rows are spread over all of it. A block may share memory with the
    matrix: do not write to it.
    """
    if hasattr(matrix, "dask"):
        first = 0
        for i in range(matrix.numblocks[0]):  # by its own chunks, so that each is computed once
            with reading():
                chunk = _csr(matrix.blocks[i].compute())
            for start, block in row_blocks(chunk, size):
                yield first + start, block
            first += chunk.shape[0]
        return
    matrix = by_rows(matrix)
    for start in range(0, matrix.shape[0], size):
        yield start, rows(matrix, start, min(start + size, matrix.shape[0]))


def by_rows(matrix: object) -> object:
    """Return a matrix whose rows can be cut; a CSC matrix is read and turned first. Refuse one that is not whole."""
    if getattr(matrix, "format", None) == "csc":
        return _csr(matrix if sparse.issparse(matrix) else _stored_columns(matrix))
    if not sparse.issparse(matrix) and hasattr(matrix, "group"):
        return _StoredRows.of(matrix)
    return matrix


def _stored_columns(matrix: object) -> sparse.csc_matrix:
    """Read a CSC matrix on disk; ``to_memory`` of anndata can't where scipy has no such type."""
    values, indices, indptr = (matrix.group[name][:] for name in ("data", "indices", "indptr"))
    return sparse.csc_matrix((values.astype(number_type(matrix), copy=False), indices, indptr), shape=matrix.shape)


@dataclass(frozen=True)
class _StoredRows:
    """A CSR matrix on disk; slicing that of anndata looks up more than it reads."""

    group: zarr.Group
    """Or that of h5py, which is used in the same way."""
    indptr: np.ndarray
    shape: tuple[int, int]
    dtype: np.dtype

    @classmethod
    def of(cls, matrix: object) -> _StoredRows:
        if isinstance(matrix, cls):
            return matrix
        group, indptr = matrix.group, matrix.group["indptr"][:]
        sizes = {"data": len(group["data"]), "indices": len(group["indices"]), "indptr": int(indptr[-1])}
        if len({*sizes.values()}) > 1 or len(indptr) != matrix.shape[0] + 1:
            msg = f"The matrix in {_file_of(matrix)} is not whole: {sizes} values. Copy or write the file again."
            raise OSError(msg)
        return cls(group, indptr, tuple(matrix.shape), np.dtype(matrix.dtype))

    def __getitem__(self, rows: slice) -> sparse.csr_matrix:
        first, last = self.indptr[rows.start], self.indptr[rows.stop]
        values = self.group["data"][first:last].astype(number_type(self), copy=False)
        arrays = values, self.group["indices"][first:last]
        return sparse.csr_matrix(
            (*arrays, self.indptr[rows.start : rows.stop + 1] - first), (rows.stop - rows.start, self.shape[1])
        )


def rows(matrix: object, start: int, stop: int) -> sparse.csr_matrix:
    """Rows of a matrix that :func:`by_rows` returned, or of a dask array, as CSR.

    Raises
    ------
    OSError
        If the file that holds them is damaged.
    """
    if sparse.issparse(matrix) and matrix.format == "csr":
        return _cut_csr(matrix, start, stop)
    if hasattr(matrix, "dask"):
        with reading():
            return _csr(matrix[start:stop].compute())
    try:
        return _csr(matrix[start:stop])
    except (OSError, RuntimeError, ValueError) as error:
        msg = f"Rows {start:,} to {stop:,} of {_file_of(matrix)} can't be read: it is truncated or damaged. Copy it "
        msg += f"again, then call again. ({error})"
        raise OSError(msg) from error


def _csr(block: object) -> sparse.csr_matrix:
    """Rows as CSR, of a type that it may have; what is CSR of such a type is not copied."""
    dtype = number_type(block)
    return sparse.csr_matrix(block.astype(dtype, copy=False) if sparse.issparse(block) else np.asarray(block, dtype))


def _file_of(matrix: object) -> str:
    """Name of the file or store that holds a matrix, as far as it is known."""
    stored = getattr(matrix, "group", matrix)
    file = getattr(stored, "file", None)
    return str(getattr(file, "filename", None) or getattr(stored, "store_path", None) or "the matrix")


def rows_at_once(matrix: object, size: int) -> int:
    """How many rows, about ``size``, are to be read at once so that each chunk of a dask array is computed once.

    Where its chunks are of unequal length, that can't be.
    """
    if not hasattr(matrix, "dask"):
        return size
    chunk = max(1, *matrix.chunks[0])  # there may be chunks without rows
    return chunk * max(1, round(size / chunk))


def map_rows(
    matrix: object, parts: Sequence[slice], function: Callable[[sparse.csr_matrix], T], threads: int = 0
) -> Iterator[T]:
    """Yield ``function`` of each part of the rows, in their order.

    Parts of a dask array are computed by its scheduler, on the cluster of an active client if there is one, some at a
    time; so ``function`` has to be one that other processes can import. Of other matrices, parts are read one after
    another while ``threads`` work on those that were read.
    """
    if hasattr(matrix, "dask"):
        yield from _map_dask(matrix, parts, function)
    elif not threads:
        yield from (function(rows(matrix, part.start, part.stop)) for part in parts)
    else:
        waiting: deque[Future[T]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            for part in parts:
                waiting.append(pool.submit(function, rows(matrix, part.start, part.stop)))
                if len(waiting) > threads:  # bounds what is in memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def _map_dask(matrix: object, parts: Sequence[slice], function: Callable[[sparse.csr_matrix], T]) -> Iterator[T]:
    import dask

    distributed = sys.modules.get("distributed")  # whoever has a client has imported it
    try:
        at_once = sum(distributed.default_client().ncores().values()) if distributed else os.cpu_count()
    except ValueError:  # no client
        at_once = os.cpu_count()
    on_rows = dask.delayed(_on_rows)
    for first in range(0, len(parts), 2 * at_once):
        tasks = [on_rows(function, matrix[part]) for part in parts[first : first + 2 * at_once]]
        with reading():
            results = dask.compute(*tasks)
        for result in results:
            if isinstance(result, ValueError):
                raise result
            yield result


def _on_rows(function: Callable[[sparse.csr_matrix], T], block: object) -> T | ValueError:
    """Return an error as a result, so that it is raised in the place of its part."""
    try:
        return function(_csr(block))
    except ValueError as error:
        return error


def parts_of(matrix: object, size: int) -> list[slice]:
    """All rows in parts: of a dask array its chunks, of others ``size`` at a time."""
    chunks = matrix.chunks[0] if hasattr(matrix, "dask") else [size] * (matrix.shape[0] // size)
    ends = [int(end) for end in np.cumsum([0, *chunks])]
    ends += [matrix.shape[0]] if ends[-1] < matrix.shape[0] else []
    return [slice(start, stop) for start, stop in pairwise(ends) if stop > start]


def about_matrix(matrix: object) -> dict[str, object]:
    """Describe what is known of a matrix without reading it."""
    about = {"shape": list(matrix.shape), "dtype": str(matrix.dtype)}
    if sparse.issparse(matrix) or hasattr(matrix, "group"):
        about["stored values"] = matrix.nnz if sparse.issparse(matrix) else len(matrix.group["data"])
    return about


def _cut_csr(matrix: sparse.csr_matrix, start: int, stop: int) -> sparse.csr_matrix:
    """Rows of a CSR matrix without a copy (slicing would make one, and so would the constructor)."""
    first, last = matrix.indptr[start], matrix.indptr[stop]
    dtype = number_type(matrix)
    block = sparse.csr_matrix((stop - start, matrix.shape[1]), dtype=dtype)
    block.data, block.indices = matrix.data[first:last].astype(dtype, copy=False), matrix.indices[first:last]
    block.indptr = matrix.indptr[start : stop + 1] - first
    block.has_canonical_format = matrix.has_canonical_format  # looked up once, for all blocks
    return block


def is_counts(block: sparse.csr_matrix | np.ndarray) -> bool:
    """Whether a block of rows looks like raw counts: there are values, and all are whole numbers >= 0."""
    values = block.data if sparse.issparse(block) else np.asarray(block)
    return bool(values.size and (values >= 0).all() and (values == np.floor(values)).all() and values.any())
