"""The door between AnnData and everything below it.

Takes out what a function needs (modality, expression, symbols, columns) and says what is missing and which call
provides it. Knows nothing of text or models.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from . import _place, _rows
from ._entries import is_ours
from ._gene_names import map_call, species_of
from ._keys import GENE_MASK, HUMAN_SYMBOL, SENTENCE, read_params
from ._paths import VALUELESS, open_path
from ._symbols import human_symbols, is_ensembl_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mudata import MuData
    from scipy import sparse

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
    """Return the AnnData that is read, where results go into it, or to ``out``; then a path will do as well."""
    if out is not None:
        return resolve(opened(data, out), mod)
    if isinstance(data, str | Path):
        msg = f"data is the path {str(data)!r}; pass out= as well, as there is no object that results could go into."
        raise TypeError(msg)
    return writable(data, mod)


def writable(data: AnnData | MuData, mod: str | None = None) -> AnnData:
    """Return the AnnData to read and write; what anndata cannot write to, a view of a backed object, is refused."""
    adata = resolve(data, mod)
    if adata.isbacked and adata.is_view:
        msg = "data is a view of a backed AnnData and cannot store results; pass data.to_memory(), or the whole object."
        raise ValueError(msg)
    return adata


def check_not_empty(adata: AnnData) -> None:
    """Refuse an object without cells or without genes."""
    if 0 in adata.shape:
        msg = f"data has {adata.n_obs} cells and {adata.n_vars} genes; expected at least one of each."
        raise ValueError(msg)


# --------------------------------------------------------------------------------------------------- expression


def expression(adata: AnnData, layer: str | None = None, *, use_raw: bool = False) -> object:
    """Return the matrix that ``layer`` and ``use_raw`` choose (default: X), as it is stored."""
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
        _rows.number_type(matrix)
    except TypeError as error:
        msg = f"`{at}` holds {error}; expected real numbers. If they are, convert it with .astype('float32')."
        raise TypeError(msg) from None
    return matrix


def var_of(adata: AnnData, *, use_raw: bool = False) -> pd.DataFrame:
    """Gene annotation of the matrix that ``expression`` returns."""
    return _frame(_raw(adata).var if use_raw else adata.var)


def _frame(table: object) -> pd.DataFrame:
    """Return a table of cells or genes as a frame, also where it is read lazily."""
    with _rows.reading():
        return table if isinstance(table, pd.DataFrame) else table.to_memory()


def has_own_genes(adata: AnnData, *, use_raw: bool) -> bool:
    """Whether the chosen matrix has the genes of the object, in their order."""
    return not use_raw or var_of(adata, use_raw=True).index.equals(adata.var_names)


def var_slot(adata: AnnData, *, use_raw: bool) -> str:
    """Name the table along the genes of the chosen matrix: ``"raw.var"`` where raw has others than the object."""
    return "var" if has_own_genes(adata, use_raw=use_raw) else "raw.var"


def reads_raw(
    adata: AnnData, layer: str | None = None, *, use_raw: bool | None = None, sentence_key: str = SENTENCE
) -> bool:
    """Whether raw is read: as asked, or with None as the sentences were made, if it is still there."""
    if use_raw is None:
        return layer is None and adata.raw is not None and bool(read_params(adata, sentence_key).get("use_raw", False))
    return use_raw


def has_words_of_raw(adata: AnnData, sentence_key: str = SENTENCE) -> bool:
    """Whether the sentences are of the genes of raw, and these are others than those of the object."""
    return not has_own_genes(adata, use_raw=reads_raw(adata, sentence_key=sentence_key))


def other_values(adata: AnnData, *, use_raw: bool) -> str:
    """Say which other matrices could be read, where the values of the chosen one do not fit."""
    ways = [] if use_raw or adata.raw is None else ["use_raw=True"]
    ways += [f"layer=, one of {[*adata.layers]}"] if len(adata.layers) else []
    return f"Pass {', or '.join(ways)}." if ways else "The object has no raw or layer that could hold others."


def _raw(adata: AnnData) -> object:
    if adata.raw is None:
        msg = "use_raw=True, but `adata.raw` is not set; pass use_raw=False, or layer=."
        raise ValueError(msg)
    return adata.raw


def warn_unlogged(adata: AnnData, block: sparse.csr_matrix) -> bool:
    """Say that values look normalised without a logarithm, which lets few genes outweigh all others."""
    if not block.nnz or block.data.max() <= LARGEST_LOG or "log1p" in adata.uns or _rows.is_counts(block):
        return False
    warnings.warn(
        f"The expression has values up to {block.data.max():,.0f}, as normalised values have before the logarithm: the "
        "strongest genes outweigh all others. Run sc.pp.log1p(adata) first, or pass layer=.",
        UserWarning,
        stacklevel=3,
    )
    return True


# ------------------------------------------------------------------------------------------------------ symbols


def names_of_genes(adata: AnnData, gene_symbols: str | None = None, *, use_raw: bool = False) -> np.ndarray:
    """Names of the columns as they stand: ``var_names``, or the column ``gene_symbols`` with ``""`` for no name."""
    var = var_of(adata, use_raw=use_raw)
    if gene_symbols is None:
        return var.index.astype(str).to_numpy(object)
    if gene_symbols not in var:
        msg = f"`{_at(use_raw)}[{gene_symbols!r}]` not found; its columns are {list(var.columns)}.{_advice(var)}"
        raise KeyError(msg)
    return _text(var[gene_symbols])


def symbols(adata: AnnData, gene_symbols: str | None = None, *, use_raw: bool = False) -> np.ndarray:
    """Gene symbols of the columns: those of ``gene_symbols``, of ``pp.map_genes``, or ``var_names``.

    ``""`` where a gene has none. Ensembl ids are refused with the call or the column that gives symbols.
    """
    var = var_of(adata, use_raw=use_raw)
    if gene_symbols is None and HUMAN_SYMBOL in var and is_ours(adata, HUMAN_SYMBOL, f"var/{HUMAN_SYMBOL}"):
        gene_symbols = HUMAN_SYMBOL
    names = names_of_genes(adata, gene_symbols, use_raw=use_raw)
    n_ids = sum(map(is_ensembl_id, names))
    if n_ids > len(names) / 2:
        source = f"`{_at(use_raw)}_names`" if gene_symbols is None else f"`{_at(use_raw)}[{gene_symbols!r}]`"
        msg = f"{source} holds Ensembl ids ({n_ids:,} of {len(names):,}, e.g. {names[0]!r}); expected gene symbols."
        msg += _advice(var) if (species := species_of(names)) is None else f"{_advice(var)} Or {map_call(species)}."
        raise ValueError(msg)
    return names


def _at(use_raw: bool) -> str:  # noqa: FBT001
    return "adata.raw.var" if use_raw else "adata.var"


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
    mask = mask_of(adata, gene_mask or str(read_params(adata, SENTENCE).get("gene_mask") or GENE_MASK), use_raw=use_raw)
    decides = mask is not None and pd.api.types.is_bool_dtype(mask) and not mask.isna().any()
    marked = mask.to_numpy(bool) if decides else None
    matrix = None if adata.X is None and layer is None and not use_raw else expression(adata, layer, use_raw=use_raw)
    return one_column_each(names, matrix, marked)


def mask_of(adata: AnnData, key: str, *, use_raw: bool) -> pd.Series | None:
    """Return the mask of the genes of the chosen matrix, or None; genes of the object have that of raw by name."""
    own = has_own_genes(adata, use_raw=use_raw)
    mask = var_of(adata, use_raw=not own).get(key)
    if mask is None and own and adata.raw is not None and adata.raw.var_names.is_unique:
        mask = var_of(adata, use_raw=True).get(key)
        return None if mask is None else mask.reindex(adata.var_names, fill_value=False)
    return mask


def symbols_of_genes(
    adata: AnnData, genes: Iterable[str], gene_symbols: str | None = None, *, use_raw: bool = False
) -> list[str]:
    """Symbols of the genes that are asked for, by symbol or by their name in ``var_names``; others stay as they are."""
    if isinstance(genes, str):
        msg = f"genes is the single string {genes!r}; expected a list of gene symbols."
        raise TypeError(msg)
    known = symbols(adata, gene_symbols, use_raw=use_raw)
    of_name = dict(zip(var_of(adata, use_raw=use_raw).index, known, strict=True)) | {name: name for name in known}
    return [of_name.get(gene) or gene for gene in genes]


def columns_of_genes(of_symbol: pd.Series, genes: Iterable[str]) -> np.ndarray:
    """Columns of the symbols that are asked for, rising; ``of_symbol`` as :func:`columns_of_symbols` returns it."""
    asked = pd.Index(list(genes), dtype=object).unique()
    if len(missing := asked.difference(of_symbol.index, sort=False)):
        msg = f"{len(missing):,} of {len(asked):,} genes are not in the data: {', '.join(map(str, missing[:5]))}."
        raise KeyError(msg)
    return np.sort(of_symbol[asked].to_numpy())


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
    for _, block in _rows.row_blocks(matrix, 2048):
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
        with _rows.reading():
            part = self._values.isel({self._values.dims[0]: rows}).data
            part = part.compute() if hasattr(part, "dask") else part
        if isinstance(part, np.ndarray) and part.dtype.kind in "TO":  # numpy's new strings are unknown to pandas
            part = part.astype(object)
        return pd.Series(part)


def obs_column(data: AnnData | MuData, key: str, hint: str, *, mod: str | None = None) -> Column:
    """Return ``obs[key]`` to be read by rows, or say with ``hint`` which call provides it."""
    return Column(_of_obs(data, key, hint, mod))


def require_obs(data: AnnData | MuData, key: str, hint: str = "", *, mod: str | None = None) -> pd.Series:
    """Return ``obs[key]``, or say with ``hint`` which call provides it; without one, which columns there are.

    Of a MuData, it is the column of the modality; else the joint one, or that of another modality by its name there,
    ``"rna:cell_type"``, for the cells of the modality.
    """
    column = _of_obs(data, key, hint, mod)
    if isinstance(column, pd.Series):
        return column
    return Column(column)[:].set_axis(resolve(data, mod).obs_names)


def _of_obs(data: AnnData | MuData, key: str, hint: str, mod: str | None) -> object:
    adata = resolve(data, mod)
    hint = hint or f"Its columns are {list(adata.obs.columns)}."
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
