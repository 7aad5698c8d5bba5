"""The door between AnnData and everything below it.

Takes out what a function needs (modality, expression, symbols, columns) and says what is missing and which call
provides it. Knows nothing of text or models.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ._symbols import human_symbols, is_ensembl_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData


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
    if use_raw:
        if layer is not None:
            msg = f"layer={layer!r} and use_raw=True exclude each other; pass one of them."
            raise ValueError(msg)
        return _raw(adata).X
    if layer is not None:
        if layer not in adata.layers:
            msg = f"layer {layer!r} not found; the object has the layers {list(adata.layers)}. Pass layer=None for X."
            raise KeyError(msg)
        return adata.layers[layer]
    if adata.X is None:
        msg = f"`adata.X` is empty; pass layer= (the object has {list(adata.layers)}) or use_raw=True."
        raise ValueError(msg)
    return adata.X


def var_of(adata: AnnData, *, use_raw: bool = False) -> pd.DataFrame:
    """Gene annotation of the matrix that ``expression`` returns."""
    return _raw(adata).var if use_raw else adata.var


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
            rows = matrix.blocks[i].compute()
            for start, block in row_blocks(rows, size):
                yield first + start, block
            first += rows.shape[0]
        return
    if getattr(matrix, "format", None) == "csc":
        in_memory = matrix if sparse.issparse(matrix) else matrix.to_memory()
        matrix = in_memory.tocsr()
    cut = _cut_csr if sparse.issparse(matrix) and matrix.format == "csr" else _cut
    for start in range(0, matrix.shape[0], size):
        yield start, cut(matrix, start, min(start + size, matrix.shape[0]))


def _cut_csr(matrix: sparse.csr_matrix, start: int, stop: int) -> sparse.csr_matrix:
    """Rows of a CSR matrix without a copy (slicing would make one, and so would the constructor)."""
    first, last = matrix.indptr[start], matrix.indptr[stop]
    block = sparse.csr_matrix((stop - start, matrix.shape[1]), dtype=matrix.dtype)
    block.data, block.indices = matrix.data[first:last], matrix.indices[first:last]
    block.indptr = matrix.indptr[start : stop + 1] - first
    block.has_canonical_format = matrix.has_canonical_format  # looked up once, for all blocks
    return block


def _cut(matrix: object, start: int, stop: int) -> sparse.csr_matrix:
    return sparse.csr_matrix(matrix[start:stop])


def is_counts(block: sparse.csr_matrix | np.ndarray) -> bool:
    """Whether a block of rows looks like raw counts: there are values, and all are whole numbers >= 0."""
    values = block.data if sparse.issparse(block) else np.asarray(block)
    return bool(values.size and (values >= 0).all() and (values == np.floor(values)).all() and values.any())


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


def require_obs(adata: AnnData, key: str, hint: str) -> pd.Series:
    """Return ``obs[key]``, or say with ``hint`` which call provides it."""
    return _require(adata.obs, "obs", key, hint)


def require_var(adata: AnnData, key: str, hint: str) -> pd.Series:
    """Return ``var[key]``, or say with ``hint`` which call provides it."""
    return _require(adata.var, "var", key, hint)


def require_varm(adata: AnnData, key: str, hint: str) -> np.ndarray:
    """Return ``varm[key]``, or say with ``hint`` which call provides it."""
    return _require(adata.varm, "varm", key, hint)


def _require(slot: object, name: str, key: str, hint: str) -> object:
    if key not in slot:
        msg = f"`adata.{name}[{key!r}]` not found. {hint}"
        raise KeyError(msg)
    return slot[key]
