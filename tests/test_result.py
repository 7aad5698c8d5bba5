"""Stores that are filled in chunks: zarr and anndata read what was written, and only what is whole has its name."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cellhermes._result import Chunks, Numbers, Result, Texts, hashed

NAMES = pd.Index(["a", "b", "c", "dé", "e"])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=30), st.integers(1, 12))
def test_texts_are_what_zarr_reads(tmp_path_factory, texts, size):
    folder = tmp_path_factory.mktemp("texts")
    chunks = Chunks(folder, len(texts), size, Texts())
    texts = [text.encode(errors="replace").decode() for text in texts]
    chunks.write(texts[chunks.rows(i)] for i in range(chunks.n))
    assert zarr.open_array(folder, mode="r")[:].tolist() == texts
    assert [text for i in range(chunks.n) for text in chunks.load(i)] == texts


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.integers(1, 12), st.sampled_from([None, 1, 3]), st.sampled_from(["<f4", "<f8", "|i1"]))
def test_numbers_are_what_zarr_reads(tmp_path_factory, n, size, width, dtype):
    folder = tmp_path_factory.mktemp("numbers")
    values = np.random.default_rng(0).integers(-9, 9, (n, width) if width else n).astype(dtype)
    chunks = Chunks(folder, n, size, Numbers(dtype, width))
    chunks.write(values[chunks.rows(i)] for i in range(chunks.n))
    found = zarr.open_array(folder, mode="r")[:]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(np.concatenate([chunks.load(i) for i in range(chunks.n)]), values)


def test_a_chunk_that_was_cut_does_not_count(tmp_path):
    chunks = Chunks(tmp_path, 10, 4, Numbers("<f4", 2))
    assert not chunks.has(0)
    chunks.save(0, np.ones((4, 2)))
    assert chunks.has(0)
    chunks.path(0).write_bytes(chunks.path(0).read_bytes()[:-1])
    assert not chunks.has(0)
    texts = Chunks(tmp_path / "t", 3, 3, Texts())
    texts.path(0).touch()
    assert not texts.has(0)


def made(out, about, **blocks):
    """A store with a column, of which only some blocks are made."""
    with Result(out, NAMES) as result:
        if not result.begin(about):
            return True
        array = result.array("obsm/X", 2, Numbers("<f4", 3))
        for i in blocks.get("blocks", range(3)):
            array.save(i, np.full((2, 3), i)[: 2 if i < 2 else 1])
        return result.finish(array, 3, lambda: result.params("X", {"none": None, "many": ["a", "b"], "n": 3}))


def test_a_store_has_its_name_when_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLHERMES_SHARD", "0/2")
    out = tmp_path / "a.zarr"
    assert not made(out, {"x": 1}, blocks=[0, 2])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr.parts"]
    assert made(out, {"x": 1}, blocks=[1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr"]
    for found in (ad.read_zarr(out), ad.experimental.read_lazy(out).to_memory()):
        assert found.obs_names.tolist() == NAMES.tolist()
        assert found.obsm["X"][:, 1].tolist() == [0, 0, 1, 1, 2]
        params = found.uns["X"]["params"]
        assert (params["none"], list(params["many"]), params["n"]) == ("", ["a", "b"], 3)
    assert made(out, {"x": 1}, blocks=[])  # is there
    with pytest.raises(ValueError, match="a.zarr holds blocks of another run: x differ"):
        made(out, {"x": 2})


def test_other_cells_are_refused(tmp_path):
    made(tmp_path / "a.zarr", {})
    with Result(tmp_path / "a.zarr", NAMES[::-1]) as result, pytest.raises(ValueError, match="names_sha256 differ"):
        result.begin({})


def test_what_stands_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(FileExistsError, match="is there already and is no result of cellhermes"):
        made(tmp_path / "a.zarr", {})
    with pytest.raises(ValueError, match="expected a name that ends with .zarr"):
        made(tmp_path / "a.h5ad", {})
    with pytest.raises(FileNotFoundError, match="The folder .*no of a.zarr does not exist"):
        made(tmp_path / "no" / "a.zarr", {})


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    folder = tmp_path / "a.zarr.parts" / "a.zarr" / "obsm" / "X"
    folder.mkdir(parents=True)
    (folder / "0.0.12ab.part").write_bytes(b"half")
    (folder.parent.parent / ".zgroup.12ab.partial").write_bytes(b"half")  # of zarr itself
    made(tmp_path / "a.zarr", {})
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".part", ".partial")]


def test_hashes_tell_where_a_text_ends():
    assert hashed(["ab", "c"]) != hashed(["a", "bc"])
    assert hashed(iter(["a"] * 5000)) == hashed(["a"] * 5000) != hashed(["a"] * 5001)
