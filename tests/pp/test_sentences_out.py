"""Sentences that are streamed to a store: those of the call in memory, whatever the storage and the interruption."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import anndata as ad
import dask
import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

import cellhermes as ch
from cellhermes import _adata, _chunks, _disk, _result
from cellhermes._keys import SENTENCE


def in_memory(adata, **options):
    adata = adata.copy()
    ch.pp.cell_sentences(adata, **options)
    return adata


def read(out):
    assert not out.with_name(out.name + ".parts").exists()
    return ad.read_zarr(out)


def sentences(adata):
    return adata.obs[SENTENCE].astype(str).tolist()


def test_the_store_has_what_the_object_would_get_and_the_object_stays(adata, tmp_path):
    expected, before = in_memory(adata, n_genes=20), (list(adata.obs), list(adata.var), list(adata.uns))
    adata.obs["score"], adata.obs["mixed"] = np.arange(300.0), pd.Series([1, "a"] * 150, index=adata.obs_names)
    ch.pp.cell_sentences(adata, n_genes=20, out=tmp_path / "s.zarr", chunk_size=64)
    found = read(tmp_path / "s.zarr")
    assert sentences(found) == sentences(expected)
    assert found.obs_names.equals(adata.obs_names)
    assert dict(found.uns[SENTENCE]["params"]) == expected.uns[SENTENCE]["params"]
    assert found.obs["cell_type"].equals(adata.obs["cell_type"])
    assert found.obs["score"].tolist() == list(range(300))
    assert "mixed" not in found.obs
    del adata.obs["score"], adata.obs["mixed"]
    assert (list(adata.obs), list(adata.var), list(adata.uns)) == before


@pytest.mark.parametrize("out", ["in.zarr", "in.zarr/obsm/new.zarr", "link.zarr"])
def test_an_input_is_never_the_place_of_the_result(adata, tmp_path, out):
    adata[:20].copy().write_zarr(tmp_path / "in.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "in.zarr")
    before = sorted(tmp_path.rglob("*"))
    for call in (ch.pp.cell_sentences, ch.tl.embed_cells):
        with pytest.raises(FileExistsError, match="is, holds or lies in .*in.zarr', which is read"):
            call(tmp_path / "in.zarr", out=tmp_path / out)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_input_in_the_folder_of_blocks_is_no_input(adata, tmp_path):
    parts = tmp_path / "s.zarr.parts"
    parts.mkdir()
    adata.write_h5ad(parts / "in.h5ad")
    with pytest.raises(FileExistsError, match="s.zarr.parts' is, holds or lies in .*in.h5ad', which is read"):
        ch.pp.cell_sentences(parts / "in.h5ad", out=tmp_path / "s.zarr")


@pytest.mark.parametrize("name", ["obs/_index/0", f"obs/{SENTENCE}/0"])
def test_a_damaged_chunk_of_the_input_is_told(adata, tmp_path, name):
    ch.pp.cell_sentences(adata, out=tmp_path / "s.zarr")
    chunk = tmp_path / "s.zarr" / name
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 4
    chunk.write_bytes(content)
    with pytest.raises(OSError, match="truncated"):
        ch.tl.embed_cells(tmp_path / "s.zarr", out=tmp_path / "v.zarr")


def storages(adata, folder):
    """What is read without holding it."""
    adata = adata.copy()
    for name, x in {"csr": adata.X, "csc": adata.X.tocsc(), "dense": adata.X.toarray()}.items():
        adata.X = x
        adata.write_h5ad(folder / f"{name}.h5ad")
        adata.write_zarr(folder / f"{name}.zarr")
        yield name, adata.copy()
        yield f"{name} h5ad by path", folder / f"{name}.h5ad"
        yield f"{name} zarr by path", folder / f"{name}.zarr"
        backed = ad.read_h5ad(folder / f"{name}.h5ad", backed="r")
        yield f"{name} backed", backed
        yield f"{name} view of backed", backed[:]
        backed.file.close()
        with h5py.File(folder / f"{name}.h5ad") as file:
            yield f"{name} lazy h5ad", ad.experimental.read_lazy(file)
    x = adata.X
    adata.X = da.from_array(x, chunks=(70, 100))
    yield "dask", adata
    adata.X = da.concatenate([da.from_array(x[:11], chunks=(4, -1)), da.from_array(x[11:], chunks=(90, -1))])
    yield "dask of unequal chunks", adata


def test_storage_does_not_change_what_is_streamed(adata, tmp_path):
    adata.var_names = adata.var_names.astype(object)
    expected = sentences(in_memory(adata))
    for name, stored in storages(adata, tmp_path):
        ch.pp.cell_sentences(stored, out=tmp_path / "s.zarr", chunk_size=64)
        assert sentences(read(tmp_path / "s.zarr")) == expected, name
        shutil.rmtree(tmp_path / "s.zarr")


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore:.* express no gene of the mask")
@given(
    st.integers(1, 40),
    st.integers(1, 30),
    st.sampled_from(["csr", "csc", "dense", "dask"]),
    st.sampled_from(["float32", "float64", "int32", "uint8", "bool"]),
    st.integers(1, 17),
    st.integers(1, 9),
    st.integers(0, 5),
)
def test_any_shape_is_streamed_as_it_is_written_in_memory(tmp_path_factory, n, genes, kind, dtype, size, n_genes, seed):
    rng = np.random.default_rng(seed)
    values = (rng.integers(0, 4, (n, genes)) * (rng.random((n, genes)) < 0.5)).astype(dtype)
    x = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.array}.get(kind, np.array)(values)
    if kind == "dask":
        x = da.from_array(values, chunks=(max(1, n // 3), -1)).map_blocks(sparse.csr_matrix)
    var = pd.DataFrame({"sentence_gene": True}, index=[f"GÉNE{i}" for i in range(genes)])
    adata = ad.AnnData(x, obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]), var=var)
    out = tmp_path_factory.mktemp("any") / "s.zarr"
    ch.pp.cell_sentences(adata, n_genes=n_genes, chunk_size=size, out=out)
    expected = ad.AnnData(values.astype("float64"), obs=adata.obs, var=var)
    ch.pp.cell_sentences(expected, n_genes=n_genes)
    assert sentences(read(out)) == sentences(expected)


def test_empty_cells_are_counted(adata, tmp_path):
    x = adata.X.tolil()
    x[[3, 7, 299]] = 0
    adata.X = x.tocsr()
    with pytest.warns(UserWarning, match="3 of 300 cells express no gene of the mask"):
        ch.pp.cell_sentences(adata, out=tmp_path / "s.zarr", chunk_size=64)
    assert np.flatnonzero(read(tmp_path / "s.zarr").obs[SENTENCE].astype(str) == "").tolist() == [3, 7, 299]


def test_dask_chunks_are_computed_once_and_by_the_scheduler(adata, tmp_path):
    calls = []
    x = da.from_array(adata.X.toarray(), chunks=(50, -1)).map_blocks(
        lambda block: calls.append(len(block)) or sparse.csr_matrix(block), meta=sparse.csr_matrix((0, 0))
    )
    calls.clear()
    adata.X = x
    with dask.config.set(scheduler="threads"):
        ch.pp.cell_sentences(adata, out=tmp_path / "s.zarr", chunk_size=120)
    assert calls == [50] * 6
    calls.clear()
    ch.pp.cell_sentences(adata)
    assert calls == [50] * 6


# ------------------------------------------------------------------------------------------------------- faults


def stops_at(monkeypatch, n):
    """Let so many blocks be written, then raise."""
    done = []

    def commit(path, content, **options):
        if path.name.isdigit() and path.parent.name == SENTENCE:
            if len(done) == n:
                raise KeyboardInterrupt
            done.append(path.name)
        _disk.commit(path, content, **options)

    monkeypatch.setattr(_chunks, "commit", commit)
    return done


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 6))
def test_an_interrupted_call_goes_on_where_it_stopped(tmp_path_factory, n):
    adata, out = ch.datasets.toy(n_obs=100), tmp_path_factory.mktemp("stop") / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        stops_at(patch, n)
        with pytest.raises(KeyboardInterrupt):
            ch.pp.cell_sentences(adata, out=out, chunk_size=13)
        assert not out.exists()
    with pytest.MonkeyPatch.context() as patch:
        done = stops_at(patch, 100)
        ch.pp.cell_sentences(adata, out=out, chunk_size=13)
    assert len(done) == 8 - n
    assert sentences(read(out)) == sentences(in_memory(adata))


def test_orders_of_ties_are_streamed_also_after_an_interruption(adata, tmp_path, monkeypatch):
    expected = in_memory(adata, n_genes=20, n_orders=3)
    columns = [name for name in expected.obs if name.startswith(SENTENCE)]
    assert len(columns) == 4
    stopped = []

    def commit(path, content, **options):
        if path.parent.name == columns[1] and path.name == "2":  # its block of the first order is there already
            stopped.append(path)
            raise KeyboardInterrupt
        _disk.commit(path, content, **options)

    monkeypatch.setattr(_chunks, "commit", commit)
    with pytest.raises(KeyboardInterrupt):
        ch.pp.cell_sentences(expected, n_genes=20, n_orders=3, out=tmp_path / "s.zarr", chunk_size=64)
    assert len(stopped) == 1
    done = stops_at(monkeypatch, 100)
    ch.pp.cell_sentences(expected, n_genes=20, n_orders=3, out=tmp_path / "s.zarr", chunk_size=64)
    assert sorted(done) == ["2", "3", "4"]
    found = read(tmp_path / "s.zarr")
    for name in columns:
        assert found.obs[name].astype(expected.obs[name].dtype).tolist() == expected.obs[name].tolist()
    assert sorted(found.obs) == sorted(expected.obs)
    for name in columns[:3]:
        assert dict(found.uns[name]["params"]) == expected.uns[name]["params"]
    with pytest.warns(UserWarning, match="Not computed"):
        ch.pp.cell_sentences(adata, n_genes=20, n_orders=3, out=tmp_path / "s.zarr", chunk_size=64)
    with pytest.raises(ValueError, match="n_orders differ"):
        ch.pp.cell_sentences(adata, n_genes=20, out=tmp_path / "s.zarr", chunk_size=64)


def test_other_data_or_arguments_are_refused(adata, tmp_path, monkeypatch):
    stops_at(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        ch.pp.cell_sentences(adata, out=tmp_path / "s.zarr", chunk_size=64)
    monkeypatch.undo()
    for options, name in [({"n_genes": 5}, "n_genes"), ({"layer": "counts"}, "layer"), ({"chunk_size": 70}, "chunk")]:
        with pytest.raises(ValueError, match=f"blocks of another run: .*{name}.* differ"):
            ch.pp.cell_sentences(adata, out=tmp_path / "s.zarr", **{"chunk_size": 64} | options)
    with pytest.raises(ValueError, match=r"names_sha256, obs\['batch'\], .* differ"):
        ch.pp.cell_sentences(adata[::-1].copy(), out=tmp_path / "s.zarr", chunk_size=64)
    other = adata.copy()
    other.X.data = other.X.data[::-1].copy()
    with pytest.raises(ValueError, match="holds blocks of other data: what block 0 was made of differs"):
        ch.pp.cell_sentences(other, out=tmp_path / "s.zarr", chunk_size=64)
    ch.pp.cell_sentences(adata, out=tmp_path / "s.zarr", chunk_size=64)
    with pytest.raises(ValueError, match="n_genes differ"):
        ch.pp.cell_sentences(adata, out=tmp_path / "s.zarr", chunk_size=64, n_genes=5)


@pytest.mark.parametrize("is_finished", [True, False])
def test_any_other_content_is_refused_and_named(adata, tmp_path, monkeypatch, is_finished):
    out = tmp_path / "s.zarr"
    adata.layers["same"] = adata.X.copy()
    adata.var["other"] = np.arange(adata.n_vars) % 2 == 0
    if not is_finished:
        stops_at(monkeypatch, 3)
    with nullcontext() if is_finished else pytest.raises(KeyboardInterrupt):
        ch.pp.cell_sentences(adata, out=out, chunk_size=64)
    monkeypatch.undo()
    one = adata.X.copy()
    one.data[1000] += 1
    values = "values differ" if is_finished else "what block 0 was made of differs"
    others = {
        "layer differ": ({"layer": "same"}, {}),
        "gene_mask, genes_sha256 differ": ({"gene_mask": "other"}, {}),
        "dtype differ": ({}, {"X": adata.X.astype("float64")}),
        values: ({}, {"X": one}),
        r"obs\['cell_type'\] differ": ({}, {"cell_type": adata.obs["cell_type"].to_numpy()[::-1]}),
        r"obs\['new'\] differ": ({}, {"new": 1}),
    }
    for message, (options, changes) in others.items():
        other = adata.copy()
        for name, value in changes.items():
            if name == "X":
                other.X = value
            else:
                other.obs[name] = value
        with pytest.raises(ValueError, match=message):
            ch.pp.cell_sentences(other, out=out, chunk_size=64, **options)
    with pytest.warns(UserWarning, match="Not computed") if is_finished else nullcontext():
        ch.pp.cell_sentences(adata, out=out, chunk_size=64)
    assert sentences(read(out)) == sentences(in_memory(adata))


def test_a_bad_value_is_named_and_what_is_finished_stays(adata, tmp_path):
    x = adata.X.toarray()
    x[200, adata.var_names.get_loc("CD4")] = -1
    for stored in (x, da.from_array(x, chunks=(64, -1))):
        adata.X = stored
        with pytest.raises(ValueError, match="the value of gene 'CD4' in cell 'cell_200' is -1"):
            ch.pp.cell_sentences(adata, out=tmp_path / "s.zarr", chunk_size=64)
        assert (tmp_path / "s.zarr.parts").is_dir()
        shutil.rmtree(tmp_path / "s.zarr.parts")


def test_a_path_needs_a_place_for_the_result(adata, tmp_path):
    with pytest.raises(TypeError, match="pass out= as well"):
        ch.pp.cell_sentences(str(tmp_path / "a.h5ad"))
    with pytest.raises(FileNotFoundError, match="There is no file .*a.h5ad"):
        ch.pp.cell_sentences(tmp_path / "a.h5ad", out=tmp_path / "s.zarr")


def test_truncated_files_are_named(adata, tmp_path):
    whole = tmp_path / "a.h5ad"
    adata.write_h5ad(whole)
    content = whole.read_bytes()
    for size in (len(content) // 2, 100, 0):
        whole.write_bytes(content[:size])
        with pytest.raises(OSError, match=r"a.h5ad can't be read as AnnData: it is truncated, damaged"):
            ch.pp.cell_sentences(whole, out=tmp_path / "s.zarr")
    adata.write_zarr(tmp_path / "a.zarr", chunks=None)
    next((tmp_path / "a.zarr" / "X" / "indices").glob("[0-9]*")).unlink()
    with pytest.raises(OSError, match="a.zarr can't be read.*X/indices lacks 1 of"):
        ch.pp.cell_sentences(tmp_path / "a.zarr", out=tmp_path / "s.zarr")
    shutil.rmtree(tmp_path / "a.zarr" / "obs")
    with pytest.raises(OSError, match="a.zarr can't be read"):
        ch.pp.cell_sentences(tmp_path / "a.zarr", out=tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr.parts").exists()


def test_a_matrix_that_is_cut_or_damaged_is_named(adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad", compression="gzip")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        place = file["X/data"].id.get_chunk_info(0)
        values = file["X/indices"][:-1]
        damaged = place.byte_offset, place.size
    content = bytearray((tmp_path / "a.h5ad").read_bytes())
    content[damaged[0] : damaged[0] + damaged[1]] = b"\0" * damaged[1]
    (tmp_path / "b.h5ad").write_bytes(content)
    with pytest.raises(OSError, match=r"Rows 0 to 300 of .*b.h5ad can't be read: it is truncated or damaged"):
        ch.pp.cell_sentences(tmp_path / "b.h5ad", out=tmp_path / "s.zarr")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        del file["X/indices"]
        file["X/indices"] = values
    with pytest.raises(OSError, match="The matrix in .*a.h5ad is not whole"):
        ch.pp.cell_sentences(tmp_path / "a.h5ad", out=tmp_path / "s.zarr")


SCRIPT = """
import sys, time, cellhermes as ch
from cellhermes import _chunks, _disk
def slow(path, content, **options):
    time.sleep(0.05)
    _disk.commit(path, content, **options)
_chunks.commit = slow
ch.pp.cell_sentences(sys.argv[1], out=sys.argv[2], chunk_size=8)
"""


@pytest.mark.slow
def test_a_killed_process_loses_nothing(adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    out, env = tmp_path / "s.zarr", {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    chunks = tmp_path / "s.zarr.parts" / "s.zarr" / "obs" / SENTENCE
    seen = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path / "a.h5ad", out], env=env)
        while process.poll() is None and len(list(chunks.glob("[0-9]*"))) < seen + 4:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(list(chunks.glob("[0-9]*"))) > seen
        seen = len(list(chunks.glob("[0-9]*")))
    ch.pp.cell_sentences(tmp_path / "a.h5ad", out=out, chunk_size=8)
    assert sentences(read(out)) == sentences(in_memory(adata))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_cells(tmp_path):
    def peak(n):
        adata = ch.datasets.toy(n_obs=1000)
        big = ad.AnnData(sparse.vstack([adata.X] * (n // 1000)).tocsr(), var=adata.var)
        big.obs_names = [f"c{i}" for i in range(n)]
        big.write_h5ad(tmp_path / "a.h5ad")
        code = f"""
import re, pathlib, cellhermes as ch
ch.pp.cell_sentences({str(tmp_path / "a.h5ad")!r}, out={str(tmp_path / f"{n}.zarr")!r})
print(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])"""  # ru_maxrss is inherited
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1]) / 1024

    small, large = peak(10_000), peak(100_000)
    # 60 bytes or so of each name, in several copies; sentences alone would be 60 MB
    assert large - small < 45


def test_lazy_objects_take_results_in_memory_too(adata, tmp_path):
    adata.write_zarr(tmp_path / "a.zarr")
    lazy = ad.experimental.read_lazy(tmp_path / "a.zarr")
    ch.pp.cell_sentences(lazy)
    assert _adata.require_obs(lazy, SENTENCE, "").astype(str).tolist() == sentences(in_memory(adata))
    assert Path(tmp_path / "a.zarr").is_dir()


def test_what_is_stopped_before_it_has_its_name_is_whole_the_next_time(adata, tmp_path, monkeypatch):
    def power_cut(*_):
        raise RuntimeError("power cut")

    out, plain = tmp_path / "s.zarr", _result.flush
    monkeypatch.setattr(_result, "flush", power_cut)  # all is written, and nothing has its name
    with pytest.raises(RuntimeError, match="power cut"):
        ch.pp.cell_sentences(adata, out=out)
    assert not out.exists()
    monkeypatch.setattr(_result, "flush", plain)
    ch.pp.cell_sentences(adata, out=out)
    with pytest.warns(UserWarning, match="Not computed"):
        ch.pp.cell_sentences(adata, out=out)
