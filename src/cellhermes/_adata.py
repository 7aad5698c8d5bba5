"""The door between AnnData and everything below it.

Takes out what a function needs (modality, expression, symbols, columns) and says what is missing and which call
provides it. Knows nothing of text or models.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from . import _place
from ._keys import GENE_MASK, SENTENCE, read_params
from ._paths import VALUELESS, open_path
from ._symbols import human_symbols, is_ensembl_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    import zarr
    from mudata import MuData

T = TypeVar("T")

LARGEST_LOG = 50  # no logarithm of a count comes near


def opened(data: AnnData | MuData | str | Path, out: str | Path | None = None) -> AnnData | MuData:
    """Open a path so that matrices and sentences stay on disk (:func:`open_path`); objects pass as they are.

    A path that the result, ``out``, or what there is of it before it is whole, would be written over is refused.
    """
    if not isinstance(data, str | Path):
        return data
    if out is not None:
        for place in (Path(out), Path(f"{out}.parts")):
            _place.check_apart(place, [Path(data)])
    return open_path(Path(data))


def resolve(data: AnnData | MuData, mod: str | None = None) -> AnnData:
    """Return the AnnData to work on: ``data`` itself, or the modality ``mod`` of a MuData."""
    if isinstance(data, AnnData):
        if mod is not None:
            msg = f"mod={mod!r} names a modality of a MuData, but data is an AnnData; leave mod out."
            raise ValueError(msg)
        return data
    mudata = sys.modules.get("mudata")  # whoever holds a MuData has imported it
    if mudata is None or not isinstance(data, mudata.MuData):
        msg = f"data is a {type(data).__name__}; expected an AnnData, or a MuData together with mod=."
        raise TypeError(msg)
    if mod is None:
        msg = f"data is a MuData; choose a modality with mod=, one of {list(data.mod)}."
        raise ValueError(msg)
    if mod not in data.mod:
        msg = f"modality {mod!r} not found; the MuData has {list(data.mod)}."
        raise KeyError(msg)
    return data.mod[mod]


def source(data: AnnData | MuData | str | Path, mod: str | None, out: str | Path | None) -> AnnData:
    """The AnnData that is read, where results go into it, or to ``out``; then a path will do as well."""
    if out is not None:
        return resolve(opened(data, out), mod)
    if isinstance(data, str | Path):
        msg = f"data is the path {str(data)!r}; pass out= as well, as there is no object that results could go into."
        raise TypeError(msg)
    adata = resolve(data, mod)
    check_writable(adata)
    return adata


def check_writable(adata: AnnData) -> None:
    """Refuse what anndata cannot write to, before the expensive step: a view of a backed object."""
    if adata.isbacked and adata.is_view:
        msg = "data is a view of a backed AnnData and cannot store results; pass data.to_memory(), or the whole object."
        raise ValueError(msg)


def check_not_empty(adata: AnnData) -> None:
    """Refuse an object without cells or without genes."""
    if 0 in adata.shape:
        msg = f"data has {adata.n_obs} cells and {adata.n_vars} genes; expected at least one of each."
        raise ValueError(msg)


# --------------------------------------------------------------------------------------------------- expression


def expression(adata: AnnData, layer: str | None = None, *, use_raw: bool = False) -> object:
    """Return the matrix that ``layer`` and ``use_raw`` choose (default: X) as it is stored, for ``row_blocks``."""
    name = "raw/X" if use_raw else "X" if layer is None else f"layers/{layer}"
    if name in getattr(adata, VALUELESS, ()):
        msg = (
            f"No chunk of {name} is stored: all its values are 0, or they were lost. Pass layer= of another matrix, or "
        )
        msg += "copy the store again."
        raise OSError(msg)
    if use_raw and layer is not None:
        msg = f"layer={layer!r} and use_raw=True exclude each other; pass one of them."
        raise ValueError(msg)
    if layer is not None and layer not in adata.layers:
        msg = f"layer {layer!r} not found; the object has the layers {list(adata.layers)}. Pass layer=None for X."
        raise KeyError(msg)
    matrix = _raw(adata).X if use_raw else adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        msg = f"`adata.X` is empty; pass layer= (the object has {list(adata.layers)}) or use_raw=True."
        raise ValueError(msg)
    at = "adata.raw.X" if use_raw else "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    if np.ma.is_masked(matrix):
        msg = f"`{at}` is a masked array with {int(np.ma.count_masked(matrix)):,} masked values; expected all of them. "
        msg += "Say what they are, as by .filled(0)."
        raise TypeError(msg)
    try:
        number_type(matrix)
    except TypeError as error:
        msg = f"`{at}` holds {error}; expected real numbers. If they are, convert it with .astype('float32')."
        raise TypeError(msg) from None
    return matrix


def number_type(matrix: object) -> np.dtype:
    """The type that values of a matrix are read as: one that sparse matrices have, in the order of this machine.

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


def var_of(adata: AnnData, *, use_raw: bool = False) -> pd.DataFrame:
    """Gene annotation of the matrix that ``expression`` returns."""
    return _frame(_raw(adata).var if use_raw else adata.var)


def _frame(table: object) -> pd.DataFrame:
    """A table of cells or genes as a frame, also where it is read lazily."""
    with _reading():
        return table if isinstance(table, pd.DataFrame) else table.to_memory()


@contextmanager
def _reading() -> Iterator[None]:
    """Errors while something is read lazily say that it may be its file."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the latter of those that unpack chunks
        msg = f"The data can't be read: a file is truncated or damaged. Copy it again, then call again. ({error})"
        raise OSError(msg) from error


def has_own_genes(adata: AnnData, *, use_raw: bool) -> bool:
    """Whether the chosen matrix has the genes of the object, in their order."""
    return not use_raw or var_of(adata, use_raw=True).index.equals(adata.var_names)


def check_own_genes(adata: AnnData, *, use_raw: bool) -> None:
    """Refuse raw with other genes where a result is written along the genes of the object."""
    if not has_own_genes(adata, use_raw=use_raw):
        msg = (
            f"`adata.raw` has other genes ({_raw(adata).n_vars}) than the object ({adata.n_vars}), so results per gene "
            "have no place in it; work on `adata.raw.to_adata()`, or pass use_raw=False."
        )
        raise ValueError(msg)


def _raw(adata: AnnData) -> object:
    if adata.raw is None:
        msg = "use_raw=True, but `adata.raw` is not set; pass use_raw=False, or layer=."
        raise ValueError(msg)
    return adata.raw


def row_blocks(matrix: object, size: int) -> Iterator[tuple[int, sparse.csr_matrix | sparse.csr_array]]:
    """Yield ``(first row, block)``: the rows of a matrix as CSR, at most ``size`` at a time, in order.

    In memory: dense or sparse. On disk: the matrices of a backed h5ad or zarr. Lazy: dask. Nothing is made dense, and
    nothing is read at once but a CSC matrix, whose rows are spread over all of it. A block may share memory with the
    matrix: do not write to it.
    """
    if hasattr(matrix, "dask"):
        first = 0
        for i in range(matrix.numblocks[0]):  # by its own chunks, so that each is computed once
            with _reading():
                chunk = _csr(matrix.blocks[i].compute())
            for start, block in row_blocks(chunk, size):
                yield first + start, block
            first += chunk.shape[0]
        return
    matrix = by_rows(matrix)
    for start in range(0, matrix.shape[0], size):
        yield start, rows(matrix, start, min(start + size, matrix.shape[0]))


def by_rows(matrix: object) -> object:
    """The matrix, if rows can be cut from it; a CSC matrix is read and turned first. Refuses one that is not whole."""
    if getattr(matrix, "format", None) == "csc":
        return _csr(matrix if sparse.issparse(matrix) else _stored_columns(matrix))
    if not sparse.issparse(matrix) and hasattr(matrix, "group"):
        return _StoredRows.of(matrix)
    return matrix


def _stored_columns(matrix: object) -> sparse.csc_matrix:
    """A CSC matrix on disk, read; ``to_memory`` of anndata can't where scipy has no such type."""
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
        with _reading():
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
        with _reading():
            results = dask.compute(*tasks)
        for result in results:
            if isinstance(result, ValueError):
                raise result
            yield result


def _on_rows(function: Callable[[sparse.csr_matrix], T], block: object) -> T | ValueError:
    """The error comes back as a result, so that it is raised in the place of its part."""
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
    """What can be told of a matrix without reading it."""
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


def warn_unlogged(adata: AnnData, block: sparse.csr_matrix) -> bool:
    """Say that values look normalised without a logarithm, which lets few genes outweigh all others."""
    if not block.nnz or block.data.max() <= LARGEST_LOG or "log1p" in adata.uns or is_counts(block):
        return False
    warnings.warn(
        f"The expression has values up to {block.data.max():,.0f}, as normalised values have before the logarithm: the "
        "strongest genes outweigh all others. Run sc.pp.log1p(adata) first, or pass layer=.",
        UserWarning,
        stacklevel=3,
    )
    return True


# ------------------------------------------------------------------------------------------------------ symbols


def symbols(adata: AnnData, gene_symbols: str | None = None, *, use_raw: bool = False) -> np.ndarray:
    """Gene symbols of the columns: ``var_names`` or the column ``gene_symbols``; ``""`` where a gene has none.

    Ensembl ids are refused with the column to pass instead.
    """
    var = var_of(adata, use_raw=use_raw)
    where = "adata.raw.var" if use_raw else "adata.var"
    if gene_symbols is None:
        names, source = var.index.astype(str).to_numpy(object), f"`{where}_names`"
    else:
        if gene_symbols not in var:
            msg = f"`{where}[{gene_symbols!r}]` not found; its columns are {list(var.columns)}.{_advice(var)}"
            raise KeyError(msg)
        names, source = _text(var[gene_symbols]), f"`{where}[{gene_symbols!r}]`"
    n_ids = sum(map(is_ensembl_id, names))
    if n_ids > len(names) / 2:
        msg = f"{source} holds Ensembl ids ({n_ids:,} of {len(names):,}, e.g. {names[0]!r}); expected gene symbols."
        msg += _advice(var)
        raise ValueError(msg)
    return names


def columns_of_symbols(
    adata: AnnData,
    gene_symbols: str | None = None,
    *,
    gene_mask: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
) -> pd.Series:
    """Which column each gene symbol means: symbol to number of its column, in the order of the columns.

    Of several columns with one symbol, it is the one that ``var[gene_mask]`` marks (None: the mask that the sentences
    were made with); where that decides nothing, the one with the largest total of the chosen matrix, the first of
    equals. A column without a symbol is left out.
    """
    names = symbols(adata, gene_symbols, use_raw=use_raw)
    var = var_of(adata, use_raw=not has_own_genes(adata, use_raw=use_raw))
    mask = var.get(gene_mask or read_params(adata, SENTENCE).get("gene_mask") or GENE_MASK)
    decides = mask is not None and pd.api.types.is_bool_dtype(mask) and not mask.isna().any()
    marked = mask.to_numpy(bool) if decides else None
    matrix = None if adata.X is None and layer is None and not use_raw else expression(adata, layer, use_raw=use_raw)
    return one_column_each(names, matrix, marked)


def one_column_each(names: np.ndarray, matrix: object, marked: np.ndarray | None = None) -> pd.Series:
    """As :func:`columns_of_symbols`, of symbols; the matrix is read only if it has to decide."""
    columns = pd.Series(np.arange(len(names)), index=names)
    fits = names != ""
    if marked is not None:
        fits &= marked | ~np.isin(names.astype(str), names[marked].astype(str))
    columns = columns[fits]
    if columns.index.is_unique or matrix is None:
        return columns[~columns.index.duplicated()]
    totals = np.zeros(len(names))
    for _, block in row_blocks(matrix, 2048):
        totals += np.asarray(block.sum(axis=0, dtype=np.float64)).ravel()
    largest = columns.iloc[np.argsort(-totals[columns], kind="stable")]
    return largest[~largest.index.duplicated()].sort_values()


def _text(column: pd.Series) -> np.ndarray:
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy(object)


def _advice(var: pd.DataFrame) -> str:
    """Say which column holds gene symbols."""
    known = human_symbols().known
    share = {
        name: np.mean([s in known for s in _text(var[name])])
        for name in var.columns
        if len(var) and not (pd.api.types.is_numeric_dtype(var[name]) or pd.api.types.is_bool_dtype(var[name]))
    }
    best = max(share, key=share.get, default=None)
    if best is None or share[best] == 0:
        return " No column holds human gene symbols: add one to var and pass its name as gene_symbols=."
    return f" Pass gene_symbols={best!r}, whose values are gene symbols."


# --------------------------------------------------------------------------------------------- what has to be there


class Column:
    """A column of ``obs`` that is read by rows: a series, or one of a lazily read table, which stays on disk."""

    def __init__(self, values: object) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, rows: slice) -> pd.Series:
        """Values of some rows, numbered from 0; a category is its label."""
        if isinstance(self._values, pd.Series):
            return self._values.iloc[rows].reset_index(drop=True)
        with _reading():
            part = self._values.isel({self._values.dims[0]: rows}).data
            part = part.compute() if hasattr(part, "dask") else part
        if isinstance(part, np.ndarray) and part.dtype.kind in "TO":  # numpy's new strings are unknown to pandas
            part = part.astype(object)
        return pd.Series(part)


def obs_column(data: AnnData | MuData, key: str, hint: str, *, mod: str | None = None) -> Column:
    """Return ``obs[key]`` to be read by rows, or say with ``hint`` which call provides it."""
    return Column(_of_obs(data, key, hint, mod))


def require_obs(data: AnnData | MuData, key: str, hint: str, *, mod: str | None = None) -> pd.Series:
    """Return ``obs[key]``, or say with ``hint`` which call provides it.

    Of a MuData, it is the column of the modality; else the joint one, or that of another modality by its name there,
    ``"rna:cell_type"``, for the cells of the modality.
    """
    column = _of_obs(data, key, hint, mod)
    if isinstance(column, pd.Series):
        return column
    return Column(column)[:].set_axis(resolve(data, mod).obs_names)


def _of_obs(data: AnnData | MuData, key: str, hint: str, mod: str | None) -> object:
    adata = resolve(data, mod)
    if adata is not data and key not in adata.obs:
        owner, _, name = str(key).partition(":")
        for table, column in ((data.obs, key), (data.mod[owner].obs if owner in data.mod else (), name)):
            if column in table:
                return table[column].reindex(adata.obs_names)
        hint += f" Joint columns of the MuData: {list(data.obs.columns)}."
    return _require(adata.obs, "obs", key, hint)


def require_var(adata: AnnData, key: str, hint: str) -> pd.Series:
    """Return ``var[key]``, or say with ``hint`` which call provides it."""
    return _require(_frame(adata.var), "var", key, hint)


def require_varm(adata: AnnData, key: str, hint: str) -> np.ndarray:
    """Return ``varm[key]``, or say with ``hint`` which call provides it."""
    return _require(adata.varm, "varm", key, hint)


def _require(slot: object, name: str, key: str, hint: str) -> object:
    if key not in slot:
        msg = f"`adata.{name}[{key!r}]` not found. {hint}"
        raise KeyError(msg)
    return slot[key]
