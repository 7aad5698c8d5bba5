"""Annotated data by its path: h5ad, h5mu and zarr are opened, other formats told with the call that reads them.

zarr writes no chunk that holds only the fill value (0, or an empty text), and reads a chunk that was lost as one of
these. What can be told apart:

- names: never without a chunk, as names differ;
- places of a sparse matrix (``indptr``, ``indices``): zeros in the place of lost ones are no matrix, as rows would not
  be in order, or would name the first gene twice;
- values: where all are lost, the matrix is refused when it is used, as nothing could come of it. Where some are, zeros
  have to stand in other chunks, too; then it is believed, with a warning. A matrix whose other chunks have no zero is
  damaged.

Texts of cells are judged as values are. Numbers and categories of cells are believed: a whole chunk of cells of the
first category is nothing strange.
"""

from __future__ import annotations

import logging
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import zarr
    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger("cellhermes")

CHUNK = re.compile(r"(c\.)?\d+(\.\d+)*")  # names of chunks, in both formats of zarr
SPARSE = ("csr_matrix", "csc_matrix")
AT_ONCE = 2**24  # numbers that are read of an array
VALUELESS = "cellhermes_valueless"  # attribute of what is read lazily: its matrices that have no chunk


def open_path(path: Path) -> AnnData | MuData:
    """Open a file so that its matrices stay on disk: h5ad and h5mu backed, zarr lazily.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If it is of another format; the message has the call that reads it.
    OSError
        If it is truncated or damaged.
    """
    check_format(path)
    import anndata as ad

    try:
        if path.is_file():
            return _backed(path)
        valueless = check_store(path)
        adata = ad.experimental.read_lazy(path)
        setattr(adata, VALUELESS, valueless)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise _damaged(path, error) from error
    except (ImportError, AttributeError) as error:
        msg = "Reading zarr lazily needs anndata 0.12, xarray and dask: pip install 'cellhermes[lazy]'."
        raise ImportError(msg) from error
    return adata


def read_path(path: Path) -> AnnData | MuData:
    """Read a file of cells, h5ad or h5mu, into memory; raises what :func:`open_path` does."""
    check_format(path)
    import anndata as ad

    try:
        if path.suffix.lower() != ".h5mu":
            return ad.read_h5ad(path)
        import mudata

        return mudata.read_h5mu(path)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise _damaged(path, error) from error


def check_format(path: Path) -> None:
    """Refuse what is not there, and other formats, with the call that reads them."""
    if not path.exists():
        msg = f"There is no file {path}; expected an h5ad file or the folder of a zarr store."
        raise FileNotFoundError(msg)
    if call := other_format(path):
        msg = f"{path} is not h5ad. Read it with `adata = {call}`, and pass adata; or write it once, as "
        msg += "`adata.write_h5ad('cells.h5ad')`."
        raise ValueError(msg)


def _damaged(path: Path, error: Exception) -> OSError:
    msg = f"{path} can't be read as AnnData: it is truncated, damaged, or something else. Copy it again. ({error})"
    return OSError(msg)


def _backed(path: Path) -> AnnData | MuData:
    if path.suffix.lower() == ".h5mu":
        import mudata

        return mudata.read_h5mu(path, backed="r")
    import anndata as ad

    return ad.read_h5ad(path, backed="r")


# ----------------------------------------------------------------------------------------------------- other formats


def other_format(path: Path) -> str | None:
    """Name the call that reads a file or folder of another format; None for ours, and where it is not known."""
    return _other_folder(path) if path.is_dir() else _other_file(path)


def _other_folder(path: Path) -> str | None:
    names = {entry.name for entry in path.iterdir()}
    if names & {".zgroup", ".zattrs", "zarr.json", ".zmetadata"}:
        about = [(path / name).read_text("utf-8", "replace") for name in names & {".zattrs", "zarr.json"}]
        is_mudata = any(re.search(r'"encoding-type":\s*"MuData"', text) for text in about)
        return f"mudata.read_zarr({str(path)!r})" if is_mudata else None
    if any(re.search(r"matrix\.mtx(\.gz)?$", name) for name in names):
        return f"scanpy.read_10x_mtx({str(path)!r})"
    for ending, call in (
        (r"feature_bc_matrix\.h5$", "read_10x_h5"),
        (r"(feature|gene)_bc_matri(x|ces)$", "read_10x_mtx"),
    ):
        if matrices := [name for name in sorted(names) if re.search(ending, name)]:  # filtered before raw
            return f"scanpy.{call}({str(path / matrices[0])!r})"
    return None


def _other_file(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    calls = {".mtx": "read_10x_mtx", ".csv": "read_csv", ".tsv": "read_text", ".txt": "read_text"}
    if (call := calls.get(Path(name).suffix)) is not None:
        where, turned = (path.parent, "") if call == "read_10x_mtx" else (path, "  # .T where genes are rows")
        return f"scanpy.{call}({str(where)!r}){turned}"
    if name.endswith((".rds", ".rdata", ".h5seurat")):
        return "anndata.read_h5ad('cells.h5ad')  # after anndataR::write_h5ad(x, 'cells.h5ad') in R"
    with path.open("rb") as file:
        is_hdf5 = file.read(8) == b"\x89HDF\r\n\x1a\n"
    return _other_hdf5(path) if is_hdf5 else None


def _other_hdf5(path: Path) -> str | None:
    from anndata.compat import H5File, H5Group

    try:
        with H5File(path, "r") as file:
            groups = [group for group in file.values() if isinstance(group, H5Group)]
            if {"row_attrs", "col_attrs"} <= {*file}:
                return f"scanpy.read_loom({str(path)!r})"
            if "obs" not in file and any({"barcodes", "indptr"} <= {*group} for group in groups):
                return f"scanpy.read_10x_h5({str(path)!r})"
    except (OSError, KeyError, RuntimeError):  # damaged, which shows when it is opened
        pass
    return None


# ------------------------------------------------------------------------------------------------ chunks of a store


def check_store(path: Path) -> set[str]:
    """Refuse a zarr store that lacks chunks which held something; return its matrices that have none at all."""
    import zarr

    root = zarr.open_group(path, mode="r")
    if "obs" not in root:
        msg = "it has no obs"
        raise KeyError(msg)
    for table in ("obs", "var"):
        names = root[table][root[table].attrs["_index"]]
        if isinstance(names, zarr.Array) and (lost := _n_lost(path, names)):
            raise _lacks(names, lost)
    noted = root.attrs.get("cellhermes", {}).get("files", ())  # what a store of ours was written with
    if gone := [name for name in noted if not (path / name).exists() and (path / name).with_name(".zarray").exists()]:
        msg = f"{len(gone)} files are missing, such as {gone[0]}"
        raise ValueError(msg)
    obs = root["obs"]
    texts = [f"obs/{key}" for key in obs if obs[key].attrs.get("encoding-type") == "string-array"]
    slots = ["X", "raw/X", *(f"layers/{key}" for key in root.get("layers", ())), *texts]
    return {name for name in slots if name in root and not _has_values(path, root[name])}


def _has_values(path: Path, matrix: zarr.Array | zarr.Group) -> bool:
    if matrix.attrs.get("encoding-type") in SPARSE:
        _check_places(path, matrix)
        matrix = matrix["data"]
    if not hasattr(matrix, "chunks") or not (lost := _n_lost(path, matrix)):
        return True
    if matrix.fill_value is None:  # then nothing says what a chunk that is not there holds
        raise _lacks(matrix, lost)
    if lost == _n_chunks(matrix):
        return False
    if not _holds_fill_value(matrix):
        raise _lacks(matrix, lost)
    message = (
        "%s of %s chunks of %s in %s are not stored and read as %r: zarr leaves out those that hold nothing else. "
    )
    message += "If there should be other values, copy the store again."
    logger.warning(message, lost, _n_chunks(matrix), matrix.path, path, np.asarray(matrix.fill_value).item())
    return True


def _check_places(path: Path, matrix: zarr.Group) -> None:
    """Refuse a sparse matrix if zeros in the place of chunks that are not there are no places."""
    indptr, indices = matrix["indptr"], matrix["indices"]
    lost, lost_rows = _n_lost(path, indices), _n_lost(path, indptr)
    if not lost and not lost_rows:
        return
    is_by_rows = matrix.attrs["encoding-type"] == "csr_matrix"
    ends, n_other = indptr[:].astype(np.int64), matrix.attrs["shape"][is_by_rows]
    lengths = np.diff(ends)
    if lost_rows and (ends[-1] != indices.shape[0] or ((lengths < 0) | (lengths > n_other)).any()):
        raise _lacks(indptr, lost_rows)
    if _names_the_first_twice(indices, ends):
        raise _lacks(indices, lost) if lost else _lacks(indptr, lost_rows)


def _names_the_first_twice(indices: zarr.Array, ends: np.ndarray) -> bool:
    """Whether a row has more than one value in its first column."""
    last = -1
    for start in range(0, indices.shape[0], AT_ONCE):
        at = start + np.flatnonzero(indices[start : start + AT_ONCE] == 0)
        rows = np.concatenate([[last], np.searchsorted(ends, at, side="right")])
        if (rows[1:] == rows[:-1]).any():
            return True
        last = rows[-1]
    return False


def _holds_fill_value(array: zarr.Array) -> bool:
    """Whether the fill value stands beside others in a chunk, so that whole chunks of it are to be expected."""
    rows = max(1, (array.shards or array.chunks)[0])
    for start in range(0, array.shape[0], rows):
        is_fill = array[start : start + rows] == array.fill_value
        if is_fill.any() and not is_fill.all():
            return True
    return False


def _n_chunks(array: zarr.Array) -> int:
    """Files of an array, if all are there."""
    return math.prod(-(-n // size) for n, size in zip(array.shape, array.shards or array.chunks, strict=True))


def _n_lost(path: Path, array: zarr.Array) -> int:
    """How many files of an array are not there; zarr 3.1 can count them, too, but compares each with all."""
    names = (name for _, _, files in os.walk(path / array.path) for name in files)
    return max(0, _n_chunks(array) - sum(CHUNK.fullmatch(name) is not None for name in names))


def _lacks(array: zarr.Array, lost: int) -> ValueError:
    return ValueError(f"{array.path} lacks {lost} of {_n_chunks(array)} chunks")
