"""Stores that are filled in chunks: zarr and anndata read what was written, and only what is whole has its name."""

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cellhermes._adata import Column
from cellhermes._blocks import Shard, Work
from cellhermes._chunks import Chunks, Numbers, TextCodec
from cellhermes._hash import hashed
from cellhermes._result import Result

NAMES = pd.Index(["a", "b", "c", "dé", "e"])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=30), st.integers(1, 12))
def test_texts_are_what_zarr_reads(tmp_path_factory, texts, size):
    folder = tmp_path_factory.mktemp("texts")
    chunks = Chunks(folder, len(texts), size, TextCodec())
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


BLOCKS = {"numbers": (Numbers("<f4", 2), np.arange(8.0).reshape(4, 2)), "texts": (TextCodec(), ["CD4", "é", "", "x"])}


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_chunk_that_was_cut_or_changed_does_not_count(tmp_path, kind, caplog):
    codec, block = BLOCKS[kind]
    chunks = Chunks(tmp_path, 10, 4, codec)
    assert not chunks.has(0)
    chunks.save(0, block)
    whole = chunks.path(0).read_bytes()
    cut = [whole[:n] for n in range(len(whole))]
    changed = [whole[:i] + bytes([whole[i] ^ 16]) + whole[i + 1 :] for i in range(len(whole))]
    n_read = 0
    for content in cut + changed:
        chunks.path(0).write_bytes(content)
        again = Chunks(tmp_path, 10, 4, codec)
        if again.has(0):  # a bit that stands for nothing
            n_read += 1
            np.testing.assert_array_equal(again.load(0), block)
    assert n_read <= 1
    assert "is damaged and is made again" in caplog.text


def test_what_is_missing_never_reads_as_a_number(tmp_path):
    for dtype, expected in (("<f4", np.nan), ("<f8", np.nan), ("|i1", -1), ("<i2", -1)):
        Chunks(tmp_path / dtype, 3, 3, Numbers(dtype))
        np.testing.assert_array_equal(zarr.open_array(tmp_path / dtype, mode="r")[:], [expected] * 3)


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
    with pytest.warns(UserWarning, match="Not computed: .*a.zarr is there already"):
        assert made(out, {"x": 1}, blocks=[])
    for other in ({"x": 2}, {"x": True}, {"x": 1, "y": None}, {}):
        with pytest.raises(ValueError, match="a.zarr holds blocks of another run: [xy] differ"):
            made(out, other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr"]


def test_a_finished_store_is_there_also_where_nothing_may_be_written(tmp_path, monkeypatch):
    made(tmp_path / "a.zarr", {})
    monkeypatch.setattr(Work, "__enter__", lambda _: pytest.fail("locked"))
    with pytest.warns(UserWarning, match="Not computed"):
        made(tmp_path / "a.zarr", {})


@pytest.fixture
def full(tmp_path):
    """A store with columns of all kinds."""
    with Result(tmp_path / "full.zarr", NAMES) as result:
        result.begin({})
        array = result.array("obsm/X", 2, Numbers("<f4", 3))
        array.write(np.ones((2, 3)) for _ in range(3))
        codes = result.array("obs/type/codes", 5, Numbers("|i1"))
        codes.write([np.array([0, 1, 0, 1, -1])])
        result.categories("obs/type", ["B", "T"])

        def write():
            result.frame("obsm/frame", ["p"])
            result.array("obsm/frame/p", 5, Numbers("<f8")).write([np.arange(5.0)])
            carried = result.carry(
                {"score": Column(pd.Series(range(5))), "kind": Column(pd.Series(["a", "b"] * 2 + ["c"]))}
            )
            result.columns(["type", *carried])
            result.params("X", {"n": 3, "text": "é"})

        result.finish(array, 3, write)
    return tmp_path / "full.zarr"


def again(out):
    with Result(out, NAMES) as result:
        return result.begin({})


def test_any_file_that_is_missing_cut_or_changed_is_found(full):
    assert ad.read_zarr(full).obs["type"].isna().sum() == 1
    files = [path for path in sorted(full.rglob("*")) if path.is_file()]
    slots = {"obs/_index", "obs/type/codes", "obs/type/categories", "obs/score", "obs/kind", "obsm/X", "obsm/frame/p"}
    assert slots <= {path.parent.relative_to(full).as_posix() for path in files}
    for path in files:
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        for damaged in (None, content[:middle], flipped):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            with pytest.raises((ValueError, FileExistsError), match="is damaged|is no .whole. result|differ"):
                again(full)
            path.write_bytes(content)
    with pytest.warns(UserWarning, match="Not computed"):
        again(full)


def test_other_cells_are_refused(tmp_path):
    made(tmp_path / "a.zarr", {})
    with Result(tmp_path / "a.zarr", NAMES[::-1]) as result, pytest.raises(ValueError, match="names_sha256 differ"):
        result.begin({})


def test_what_stands_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(FileExistsError, match="is there already and is no .whole. result of cellhermes"):
        made(tmp_path / "a.zarr", {})
    with pytest.raises(ValueError, match="expected a name that ends with .zarr"):
        made(tmp_path / "a.h5ad", {})
    with pytest.raises(FileNotFoundError, match="The folder .*no of a.zarr does not exist"):
        made(tmp_path / "no" / "a.zarr", {})


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    with Work(tmp_path / "a.zarr.parts", Shard()) as work:
        work.claim({"cells": 5, "names_sha256": hashed(NAMES)})
    folder = tmp_path / "a.zarr.parts" / "a.zarr" / "obsm" / "X"
    folder.mkdir(parents=True)
    (folder / "0.0.12ab.part").write_bytes(b"half")
    (folder.parent.parent / ".zgroup.12ab.partial").write_bytes(b"half")  # of zarr itself
    made(tmp_path / "a.zarr", {})
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".part", ".partial")]


def test_a_process_that_was_killed_when_the_store_had_its_name_leaves_nothing(tmp_path, monkeypatch):
    out, parts = tmp_path / "a.zarr", tmp_path / "a.zarr.parts"
    with monkeypatch.context() as patch:
        patch.setattr(Work, "remove", lambda _: None)
        made(out, {"x": (1, 2)})
    assert parts.is_dir()
    with pytest.raises(ValueError, match="x differ"):
        made(out, {"x": (1, 3)})
    assert parts.is_dir()
    with pytest.warns(UserWarning, match="Not computed"):
        assert made(out, {"x": (1, 2)})
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def failing(out):
    """A call that fails while its first block is made."""
    with Result(out, NAMES) as result:
        result.begin({"x": 1})
        result.array("obsm/X", 2, Numbers("<f4", 3))
        (result.work.folder / "sources").mkdir()
        (result.work.folder / "sources" / "0").write_text("what block 0 would have been made of")
        msg = "wrong input"
        raise ValueError(msg)


@pytest.mark.parametrize("before", [False, True])
def test_a_call_that_fails_before_its_first_block_does_not_stand_in_the_way(tmp_path, before, monkeypatch):
    monkeypatch.setenv("CELLHERMES_SHARD", "0/1")  # waits for no other process
    out = tmp_path / "a.zarr"
    if before:  # of another call, whose blocks stay
        made(out, {"x": 2}, blocks=[0])
    with pytest.raises(ValueError, match="x differ" if before else "wrong input"):
        failing(out)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr.parts"] * before
    assert made(out, {"x": 2})


@pytest.mark.parametrize("what", ["folder", "file", "link", "dangling"])
@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.parts"])
def test_what_is_of_others_is_refused_at_once_and_left_alone(tmp_path, what, name):
    place, kept = tmp_path / name, tmp_path / "kept"
    kept.mkdir()
    (kept / "notes.txt").write_text("mine")
    if what == "folder":
        kept.rename(place)
    elif what == "file":
        place.write_text("mine")
    else:
        place.symlink_to(kept if what == "link" else tmp_path / "nowhere")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="is there already"):
        made(tmp_path / "a.zarr", {})
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_what_somebody_put_beside_blocks_stays(tmp_path):
    with Work(tmp_path / "a.zarr.parts", Shard()) as work:
        work.claim({"cells": 5, "names_sha256": hashed(NAMES)})
    (work.folder / "notes.txt").write_text("mine")
    assert made(tmp_path / "a.zarr", {})
    assert [path.name for path in work.folder.iterdir()] == ["notes.txt"]


def test_everything_reaches_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, fsync, replace = set(), os.fsync, Path.replace

    def seen(number):
        synced.add(os.fstat(number).st_ino)
        return fsync(number)

    def checked(path, target):
        for one in [path, *path.rglob("*")]:
            if path.name == "a.zarr" or (one.suffix == ".part" and target.name in ("0.0", "1.0", "2.0", "about.json")):
                assert one.stat().st_ino in synced, one
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", seen)
    monkeypatch.setattr(Path, "replace", checked)
    assert made(tmp_path / "a.zarr", {})
    assert tmp_path.stat().st_ino in synced  # the name itself, too
