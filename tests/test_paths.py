"""Annotated data by its path: healthy zarr stores are read, damaged ones and other formats are named."""

import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata import settings
from scipy import sparse

import cellhermes as ch
from cellhermes import _adata, _paths

FORMATS = {  # the one of zarr, chunks in a file
    "v2": (2, None),
    "v3": (3, None),
    "sharded": (3, 2),
}


@pytest.fixture(params=[*FORMATS])
def write(request):
    """Write a store of one format, in chunks of 1,024 values or 32 cells (and, if sharded, two of them in a file)."""
    version, n_shard = FORMATS[request.param]

    def chunked(write_elem, group, name, elem, dataset_kwargs, iospec):
        kind, shape, options = iospec.encoding_type, getattr(elem, "shape", ()), {}
        if kind in ("csr_matrix", "csc_matrix"):
            options["chunks"] = (1024,)
        elif kind in ("array", "string-array") and shape and min(shape):
            options["chunks"] = tuple(min(32, n) for n in shape)
        if n_shard and options:
            options["shards"] = tuple(n_shard * n for n in options["chunks"])
        write_elem(group, name, elem, dataset_kwargs=options)

    def run(adata, path):
        with settings.override(zarr_write_format=version, auto_shard_zarr_v3=False):
            ad.experimental.write_dispatched(zarr.open_group(path, mode="w", zarr_format=version), "/", adata, chunked)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr's, that format 3 has no words for it
            zarr.consolidate_metadata(path)
        return path

    return run


def sentences(path, out, **options):
    ch.pp.cell_sentences(path, out=out, **options)
    return ad.read_zarr(out).obs["cell_sentence"].astype(str).tolist()


def expected(adata, **options):
    adata = adata.copy()
    ch.pp.cell_sentences(adata, **options)
    return adata.obs["cell_sentence"].tolist()


def chunks_of(array):
    return sorted(p for p in array.rglob("*") if p.is_file() and _paths.CHUNK.fullmatch(p.name))


@pytest.fixture
def cells(adata):
    """Cells with columns of each type, a mask that was made before, and layers that zarr writes no chunk for."""
    adata = adata[:90, :200].copy()
    ch.pp.mask_genes(adata)
    adata.var.loc["CD4", "sentence_gene"] = False
    adata.obs["flag"] = pd.array([True, None, False] * 30, dtype="boolean")
    adata.obs["count"] = pd.array([1, None, 3] * 30, dtype="Int64")
    adata.obs["score"] = np.linspace(0, 1, 90)
    adata.obs["note"] = [f"n{i}" for i in range(90)]
    adata.obs["nothing"] = ["a", *[""] * 89]
    adata.layers["ambiguous"] = adata.X.copy()
    adata.layers["ambiguous"].data[:] = 0
    adata.layers["placeholder"] = np.zeros(adata.shape, np.float32)
    return adata


@pytest.mark.filterwarnings("ignore:.*express no gene")
def test_healthy_stores_are_read(cells, write, tmp_path):
    cells.X.data[:5000] = 0  # stored zeros of some cells
    path = write(cells, tmp_path / "a.zarr")
    stored = zarr.open_group(path, mode="r")
    assert stored["layers/ambiguous/data"].nchunks_initialized == stored["layers/placeholder"].nchunks_initialized == 0
    assert stored["X/data"].nchunks_initialized < stored["X/data"].nchunks
    found = sentences(path, tmp_path / "s.zarr")
    assert found == expected(cells)
    assert not any("CD4" in one.split() for one in found)
    obs = ad.read_zarr(tmp_path / "s.zarr").obs
    for name in ("flag", "count", "score", "note", "cell_type"):
        pd.testing.assert_series_equal(
            obs[name].astype(object), cells.obs[name].astype(object), check_dtype=False, check_index_type=False
        )


@pytest.mark.parametrize("matrix", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_matrix.toarray])
def test_every_matrix_is_read_with_all_its_values(cells, write, tmp_path, matrix):
    cells.X = matrix(cells.X)
    assert sentences(write(cells, tmp_path / "a.zarr"), tmp_path / "s.zarr") == expected(cells)


def test_a_matrix_of_a_first_gene_only_is_healthy(write, tmp_path):
    """Its places are all 0, so that zarr writes no chunk of them."""
    x = sparse.csr_matrix((np.ones(200, np.float32), np.zeros(200, int), np.arange(201)), shape=(200, 5))
    adata = ad.AnnData(x, var=pd.DataFrame(index=["CD4", "CD8A", "LYZ", "NKG7", "MS4A1"]))
    assert sentences(write(adata, tmp_path / "a.zarr"), tmp_path / "s.zarr") == ["CD4"] * 200


@pytest.mark.parametrize(
    "lost", ["X/data", "X/indices", "X/indptr", "obs/_index", "var/_index", "obs/note", "layers/counts/indices"]
)
def test_a_lost_chunk_is_named(cells, write, tmp_path, lost):
    del cells.obs["nothing"]
    cells.X.eliminate_zeros()
    path = write(cells, tmp_path / "a.zarr")
    for chunk in chunks_of(path / lost):
        content = chunk.read_bytes()
        chunk.unlink()
        with pytest.raises(OSError, match=rf"a.zarr can't be read.*{lost} lacks 1 of \d+ chunks"):
            _adata.opened(path)
        chunk.write_bytes(content)
    assert _adata.opened(path).n_obs == 90


@pytest.mark.parametrize("layer", [None, "counts", "ambiguous", "placeholder"])
def test_a_matrix_without_any_chunk_is_refused_where_it_is_used(cells, write, tmp_path, layer):
    path = write(cells, tmp_path / "a.zarr")
    for name in ("X/data", "layers/counts/data"):
        for chunk in chunks_of(path / name):
            chunk.unlink()
    where = "X" if layer is None else f"layers/{layer}"
    with pytest.raises(OSError, match=f"No chunk of {where} is stored: all its values are 0, or they were lost"):
        sentences(path, tmp_path / "s.zarr", layer=layer)


def test_chunks_of_zeros_are_told_where_zeros_stand_elsewhere_too(cells, write, tmp_path, caplog):
    cells.X = cells.X.toarray()
    cells.X[:64] = 0
    with pytest.warns(UserWarning, match="64 of 90 cells express no gene"):
        found = sentences(write(cells, tmp_path / "a.zarr"), tmp_path / "s.zarr")
    assert found == [""] * 64 + expected(cells[64:])
    assert "chunks of X in" in caplog.text


def test_a_store_without_a_fill_value_needs_all_chunks(cells, tmp_path):
    cells.write_zarr(tmp_path / "a.zarr")
    meta = tmp_path / "a.zarr" / "X" / "data" / ".zarray"
    meta.write_text(meta.read_text().replace('"fill_value": 0.0', '"fill_value": null'))
    (tmp_path / "a.zarr" / ".zmetadata").unlink()
    chunks_of(tmp_path / "a.zarr" / "X" / "data")[0].unlink()
    with pytest.raises(OSError, match="X/data lacks 1 of 1 chunks"):
        sentences(tmp_path / "a.zarr", tmp_path / "s.zarr")


def test_lazy_columns_are_those_in_memory(cells, write, tmp_path):
    lazy = _adata.opened(write(cells, tmp_path / "a.zarr"))
    for name in cells.obs:
        found = _adata.obs_column(lazy, name, "")[10:70]
        own = cells.obs[name].iloc[10:70].reset_index(drop=True)
        assert found.isna().tolist() == own.isna().tolist(), name
        assert found.dropna().tolist() == own.dropna().tolist(), name


# ------------------------------------------------------------------------------------------------- other formats


def hdf5(path, **groups):
    with h5py.File(path, "w") as file:
        for name, members in groups.items():
            group = file.create_group(name)
            for member in members:
                group[member] = [1]


@pytest.mark.parametrize(
    ("make", "name", "call"),
    [
        (lambda p: hdf5(p, matrix=["barcodes", "data", "indices", "indptr", "shape"]), "m.h5", "scanpy.read_10x_h5('"),
        (lambda p: hdf5(p, GRCh38=["barcodes", "genes", "indptr"]), "m.h5", "scanpy.read_10x_h5('"),
        (lambda p: hdf5(p, row_attrs=["Gene"], col_attrs=["CellID"]), "m.loom", "scanpy.read_loom('"),
        (lambda p: p.write_text("%%MatrixMarket"), "matrix.mtx", "scanpy.read_10x_mtx('"),
        (lambda p: p.write_text("a,b"), "m.csv", "scanpy.read_csv('"),
        (lambda p: p.write_bytes(b"RDX3"), "m.rds", "anndataR::write_h5ad"),
        (
            lambda p: (p.mkdir(), (p / ".zattrs").write_text('{\n "encoding-type": "MuData"}')),
            "m.zarr",
            "mudata.read_zarr('",
        ),
        (lambda p: (p.mkdir(), (p / "matrix.mtx.gz").write_bytes(b"")), "folder", "scanpy.read_10x_mtx('"),
        (lambda p: (p / "filtered_feature_bc_matrix").mkdir(parents=True), "outs", "scanpy.read_10x_mtx('"),
        (
            lambda p: ((p / "spatial").mkdir(parents=True), (p / "filtered_feature_bc_matrix.h5").touch()),
            "visium",
            "filtered_feature_bc_matrix.h5')",
        ),
    ],
)
def test_other_formats_are_told_with_the_call_that_reads_them(make, name, call, tmp_path):
    make(tmp_path / name)
    with pytest.raises(ValueError, match="is not h5ad. Read it with `adata = ") as caught:
        sentences(tmp_path / name, tmp_path / "s.zarr")
    assert call in str(caught.value)
    assert "write_h5ad('cells.h5ad')" in str(caught.value)


@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr"])
def test_what_is_nothing_of_all_is_damaged(name, tmp_path):
    if name == "a.zarr":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(OSError, match=r"can't be read as AnnData"):
        sentences(tmp_path / name, tmp_path / "s.zarr")
