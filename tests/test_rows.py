"""Rows of matrices are the same from every container."""

from __future__ import annotations

import anndata as ad
import dask.array as da
import h5py
import numpy as np
import pytest
from scipy import sparse

from cellhermes import _rows


def storages(adata, folder):
    """The same matrix in every container that is read in chunks."""
    x = adata.X
    adata.layers["dense"], adata.layers["csc"] = x.toarray(), x.tocsc()
    adata.write_h5ad(folder / "a.h5ad")
    adata.write_zarr(folder / "a.zarr")
    file = h5py.File(folder / "a.h5ad")
    yield "csr", x
    yield "csr array", sparse.csr_array(x)
    yield "csc", x.tocsc()
    yield "dense", x.toarray()
    yield "view", adata[:, :].X
    yield "backed csr", ad.io.sparse_dataset(file["X"])
    yield "backed csc", ad.io.sparse_dataset(file["layers/csc"])
    yield "backed dense", file["layers/dense"]
    yield "dask dense", da.from_array(x.toarray(), chunks=(70, 100))
    yield "dask csr", da.from_array(x.toarray(), chunks=(70, -1)).map_blocks(sparse.csr_matrix)
    yield "dask csc", da.from_array(x.toarray(), chunks=(70, -1)).map_blocks(sparse.csc_matrix)
    file.close()


@pytest.mark.parametrize("size", [1, 64, 10_000])
def test_row_blocks_give_the_same_rows_from_every_container(adata, tmp_path, size):
    adata = adata[:150].copy()
    for name, matrix in storages(adata, tmp_path):
        starts, blocks = zip(*_rows.row_blocks(matrix, size), strict=True)
        assert all(block.format == "csr" and block.shape[0] <= size for block in blocks), name
        assert list(starts) == list(np.cumsum([0, *(block.shape[0] for block in blocks[:-1])])), name
        np.testing.assert_array_equal(sparse.vstack(blocks).toarray(), adata.X.toarray(), err_msg=name)


def test_row_blocks_of_csr_share_memory(adata):
    assert all(np.shares_memory(block.data, adata.X.data) for _, block in _rows.row_blocks(adata.X, 100))


def test_row_blocks_compute_each_dask_chunk_once():
    calls = []

    def note(block):
        calls.append(block.shape)
        return block

    matrix = da.ones((100, 4), chunks=(30, 4)).map_blocks(note, dtype=float, meta=np.empty((0, 0)))
    calls.clear()
    assert [start for start, _ in _rows.row_blocks(matrix, 20)] == [0, 20, 30, 50, 60, 80, 90]
    assert calls == [(30, 4), (30, 4), (30, 4), (10, 4)]


def test_counts_are_told_from_normalised_values(adata):
    assert _rows.is_counts(adata.layers["counts"])
    assert _rows.is_counts(adata.layers["counts"].toarray())
    assert not _rows.is_counts(adata.X)
    assert not _rows.is_counts(-adata.layers["counts"])
    assert not _rows.is_counts(sparse.csr_matrix((3, 3)))


NUMBERS = ["float16", "float32", "float64", "longdouble", ">f4", ">i2", "bool", "int8", "uint8", "uint16", "int64"]


@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_kind_of_number_is_read_from_every_container(dtype, tmp_path):
    values = np.array([[0, 1, 0, 3], [2, 0, 0, 1], [0, 0, 5, 0]])
    x = values.astype(dtype)
    expected = x.astype(np.float64)
    adata = ad.AnnData(x)
    containers = {"dense": adata.X, "dask": da.from_array(x, chunks=(2, 4))}
    if dtype != "longdouble":  # which hdf5 has in another form
        adata.write_h5ad(tmp_path / "dense.h5ad")
        containers["backed"] = ad.read_h5ad(tmp_path / "dense.h5ad", backed="r").X
    if dtype not in ("float16", ">f4", ">i2"):  # which scipy has not
        containers |= {"csr": sparse.csr_matrix(x), "csc": sparse.csc_matrix(x), "csr_array": sparse.csr_array(x)}
    for name, matrix in containers.items():
        blocks = [block for _, block in _rows.row_blocks(matrix, 2)]
        blocks += [*_rows.map_rows(matrix, [slice(0, 2), slice(2, 3)], csr_of)]
        assert {block.dtype.isnative and block.dtype.itemsize <= 8 for block in blocks} == {True}, name
        np.testing.assert_array_equal(sparse.vstack(blocks).toarray(), np.vstack([expected, expected]), name)


def csr_of(block):
    return block


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix"])
def test_half_precision_is_read_from_sparse_files(kind, tmp_path):
    values = np.array([[0, 1, 0, 3], [2, 0, 0, 1], [0, 0, 5, 0]], dtype=np.float32)
    ad.AnnData(getattr(sparse, kind)(values)).write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        stored = file["X/data"][:].astype(np.float16)
        del file["X/data"]
        file["X/data"] = stored
    matrix = ad.read_h5ad(tmp_path / "a.h5ad", backed="r").X
    read = sparse.vstack([block for _, block in _rows.row_blocks(matrix, 2)])
    np.testing.assert_array_equal(read.toarray(), values)
