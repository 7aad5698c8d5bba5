"""Vectors and answers that are streamed to a store: those of the call in memory, by one process or by several."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cellhermes as ch
from cellhermes import _blocks, _disk
from cellhermes.tl import _ask, _embed_cells, _predict

KEY = "X_cellhermes"
TYPES = ["B", "CD8/NK", "Mono"]
QUESTION = ch.text.Question("cell_type", answers=TYPES)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    for module in (_embed_cells, _ask, _predict):
        monkeypatch.setattr(module, "BLOCK", 7)
    monkeypatch.setattr(_predict, "TOGETHER", 2)
    for name in (_blocks.SHARD, "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cells(adata):
    """Thirty cells with short sentences, one of them without."""
    cells = adata[:30].copy()
    ch.pp.cell_sentences(cells, n_genes=8)
    cells.obs["cell_sentence"] = cells.obs["cell_sentence"].astype(object)
    cells.obs.iloc[11, cells.obs.columns.get_loc("cell_sentence")] = ""
    return cells


def warned(text="1 of 30 cells have an empty sentence"):
    return pytest.warns(UserWarning, match=text)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.nanmax(np.abs(expected)))


@pytest.fixture
def embedded(cells, tiny):
    done = cells.copy()
    with warned():
        ch.tl.embed_cells(done, tiny)
    return done


def check_vectors(out, expected):
    found = ad.read_zarr(out)
    assert found.obs_names.equals(expected.obs_names)
    assert found.obsm[KEY].dtype == np.float32
    close(found.obsm[KEY], expected.obsm[KEY])
    assert dict(found.uns[KEY]["params"]) == expected.uns[KEY]["params"]
    assert not out.with_name(out.name + ".parts").exists()


def test_vectors_are_those_in_memory_and_the_object_stays(cells, embedded, tiny, tmp_path):
    before = list(cells.obsm), list(cells.uns)
    with warned():
        ch.tl.embed_cells(cells, tiny, out=tmp_path / "v.zarr")
    check_vectors(tmp_path / "v.zarr", embedded)
    assert (list(cells.obsm), list(cells.uns)) == before
    with warned("Not computed: .*v.zarr is there already"), warned():
        ch.tl.embed_cells(cells, tiny, out=tmp_path / "v.zarr")
    check_vectors(tmp_path / "v.zarr", embedded)


def test_sentences_are_read_from_their_store(cells, embedded, tiny, tmp_path, monkeypatch):
    cells.X = cells.X.multiply((np.arange(30) != 11)[:, None]).tocsr()
    with pytest.warns(UserWarning, match="1 of 30 cells express no gene"):
        ch.pp.cell_sentences(cells, n_genes=8, out=tmp_path / "s.zarr", chunk_size=4)
    for data in (tmp_path / "s.zarr", str(tmp_path / "s.zarr"), ad.experimental.read_lazy(tmp_path / "s.zarr")):
        with warned():
            ch.tl.embed_cells(data, tiny, out=tmp_path / "v.zarr")
        check_vectors(tmp_path / "v.zarr", embedded)
        shutil.rmtree(tmp_path / "v.zarr")
    lazy = ad.experimental.read_lazy(tmp_path / "s.zarr")
    with warned():
        ch.tl.embed_cells(lazy, tiny)
    close(np.asarray(lazy.obsm[KEY]), embedded.obsm[KEY])


def test_sentences_that_h5ad_made_categories(cells, tiny, tmp_path):
    cells.obs["cell_sentence"] = pd.Categorical(["CD4 LYZ", "LYZ", None] * 10)
    cells.write_h5ad(tmp_path / "a.h5ad")
    cells.write_zarr(tmp_path / "a.zarr")
    with warned("10 of 30"):
        ch.tl.embed_cells(cells, tiny)
    for source in ("a.h5ad", "a.zarr"):
        with warned("10 of 30"):
            ch.tl.embed_cells(tmp_path / source, tiny, out=tmp_path / "v.zarr")
        close(ad.read_zarr(tmp_path / "v.zarr").obsm[KEY], cells.obsm[KEY])
        shutil.rmtree(tmp_path / "v.zarr")


@pytest.mark.parametrize("kind", ["csr", "backed", "dask"])
def test_weighted_vectors_are_those_in_memory(cells, tiny, tmp_path, kind, monkeypatch):
    ch.tl.embed_genes(cells, tiny)
    expected = cells.copy()
    ch.tl.embed_cells(expected, tiny, method="weighted")
    if kind == "backed":
        cells.write_h5ad(tmp_path / "a.h5ad")
        cells = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    if kind == "dask":
        cells.X = da.from_array(cells.X.toarray(), chunks=(5, -1))
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        ch.tl.embed_cells(cells, tiny, method="weighted", out=tmp_path / "v.zarr")
    monkeypatch.undo()
    monkeypatch.setattr(_embed_cells, "BLOCK", 7)
    if kind == "csr":
        other = cells.copy()
        other.X.data = other.X.data[::-1].copy()
        with pytest.raises(ValueError, match="holds blocks of other data: what block 0 was made of differs"):
            ch.tl.embed_cells(other, tiny, method="weighted", out=tmp_path / "v.zarr")
    ch.tl.embed_cells(cells, tiny, method="weighted", out=tmp_path / "v.zarr")
    check_vectors(tmp_path / "v.zarr", expected)


def check_answers(out, expected):
    found = ad.read_zarr(out)
    assert list(found.obs["made"].cat.categories) == list(expected.obs["made"].cat.categories)
    assert (
        found.obs["made"].astype(object).fillna("-").tolist()
        == expected.obs["made"].astype(object).fillna("-").tolist()
    )
    if "made" in expected.obsm:
        pd.testing.assert_frame_equal(found.obsm["made"], expected.obsm["made"], rtol=1e-5)
    else:
        assert found.obs["made_text"].astype(str).tolist() == expected.obs["made_text"].tolist()
    params = expected.uns["made"]["params"]
    read = {k: list(v) if isinstance(v, np.ndarray) else v for k, v in found.uns["made"]["params"].items()}
    assert read == {k: v for k, v in params.items() if v != []} | {k: [] for k, v in params.items() if v == []}


@pytest.mark.parametrize(
    "options",
    [
        {"decode": "score"},
        {"decode": "score", "prior": "N/A", "calibration": 2.0, "abstain_below": 0.4},
        {"decode": "generate", "max_new_tokens": 3},
    ],
    ids=["scored", "calibrated", "generated"],
)
def test_answers_are_those_in_memory_also_after_an_interruption(cells, tiny, tmp_path, monkeypatch, options):
    expected, question = cells.copy(), ch.text.Question("cell_type", answers=TYPES, **options)
    with warned():
        ch.tl.predict(expected, tiny, question, key_added="made")
    stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        ch.tl.predict(cells, tiny, question, key_added="made", out=tmp_path / "a.zarr")
    monkeypatch.setattr("cellhermes._chunks.commit", COMMIT)
    calls, compute = [], _ask._compute
    monkeypatch.setattr(_ask, "_compute", lambda *args: calls.append(len(args[1])) or compute(*args))
    with warned():
        ch.tl.predict(cells, tiny, question, key_added="made", out=tmp_path / "a.zarr")
    assert calls == [7, 2] + [1] * ("prior" in options)
    check_answers(tmp_path / "a.zarr", expected)


def test_generated_answers_of_an_open_task_have_the_categories_that_were_seen(cells, tiny, tmp_path, monkeypatch):
    words = iter(["b", "a", "c"] * 20)
    monkeypatch.setattr(type(tiny), "generate", lambda self, prompts, **_: [next(words) for _ in prompts])
    cells.obs["genes"] = "CD4 LYZ"
    ch.tl.predict(cells, tiny, "gene_set_disease", out=tmp_path / "a.zarr", key_added="made")
    found = ad.read_zarr(tmp_path / "a.zarr").obs["made"]
    assert found.tolist() == ["b", "a", "c"] * 10
    assert list(found.cat.categories) == ["a", "b", "c"]


# --------------------------------------------------------------------------------------------------- interruptions

COMMIT = _disk.commit


def stop_after(monkeypatch, n):
    """Let so many blocks be written, then raise."""
    done = []

    def commit(path, content, **options):
        if path.name[0].isdigit():
            if len(done) == n:
                raise KeyboardInterrupt
            done.append(path.name)
        COMMIT(path, content, **options)

    monkeypatch.setattr("cellhermes._chunks.commit", commit)
    return done


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 4), st.integers(1, 16))
def test_an_interrupted_embedding_goes_on_where_it_stopped(cells, embedded, tiny, tmp_path_factory, n, size):
    out = tmp_path_factory.mktemp("stop") / "v.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_embed_cells, "BLOCK", size)
        n = min(n, -(-30 // size) - 1)
        stop_after(patch, n)
        with pytest.raises(KeyboardInterrupt):
            ch.tl.embed_cells(cells, tiny, out=out)
        patch.setattr("cellhermes._chunks.commit", COMMIT)
        calls, embed = [], type(tiny).embed
        patch.setattr(type(tiny), "embed", lambda s, p, **o: calls.append(len(p)) or embed(s, p, **o))
        with warned():
            ch.tl.embed_cells(cells, tiny, out=out)
    assert sum(calls) == 30 - n * size - (n * size <= 11)
    check_vectors(out, embedded)


def test_other_data_models_and_arguments_are_refused(cells, tiny, folders, tmp_path, monkeypatch):
    out = tmp_path / "v.zarr"
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        ch.tl.embed_cells(cells, tiny, out=out)
    monkeypatch.setattr("cellhermes._chunks.commit", COMMIT)
    other = cells.copy()
    other.obs.iloc[29, other.obs.columns.get_loc("cell_sentence")] = "CD4"
    with pytest.raises(ValueError, match="data_sha256 differ"):
        ch.tl.embed_cells(other, tiny, out=out)
    with pytest.raises(ValueError, match="base, .*model, .*differ"):
        ch.tl.embed_cells(cells, "mini", out=out)
    with pytest.raises(ValueError, match="key differ"):
        ch.tl.embed_cells(cells, tiny, out=out, key_added="other")
    copied = shutil.copytree(folders("llama"), tmp_path / "model")
    model = ch.CellHermes.from_pretrained(copied, device="cpu")
    with warned():
        ch.tl.embed_cells(cells, model, out=tmp_path / "w.zarr")
    weights = copied / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1  # trained again
    weights.write_bytes(content)
    with warned("Not computed: .*w.zarr is there already"), warned():
        ch.tl.embed_cells(cells, model, out=tmp_path / "w.zarr")  # the model was loaded before
    with pytest.raises(ValueError, match="model_sha256 differ"):
        ch.tl.embed_cells(cells, copied, out=tmp_path / "w.zarr")


ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 77.0}}
CUT = {"truncation": {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}}


@pytest.mark.parametrize("what", ["weights", "tokenizer", "config"])
def test_a_model_of_other_content_under_its_name_is_refused(cells, folders, tmp_path, what):
    model = shutil.copytree(folders("llama"), tmp_path / "model")
    with warned():
        ch.tl.embed_cells(cells, model, out=tmp_path / "v.zarr")
    if what == "weights":
        content = bytearray((model / "model.safetensors").read_bytes())
        content[len(content) // 2] ^= 1
        (model / "model.safetensors").write_bytes(content)
    else:
        path = model / f"{what}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | (ROPE if what == "config" else CUT)))
    with pytest.raises(ValueError, match="model_sha256 differ"):
        ch.tl.embed_cells(cells, model, out=tmp_path / "v.zarr")


def test_weighted_blocks_of_other_values_are_refused(cells, tiny, tmp_path):
    ch.tl.embed_genes(cells, tiny)
    cells.layers["other"] = cells.X.copy()
    cells.layers["other"].data[-1] = 9.0
    ch.tl.embed_cells(cells, tiny, method="weighted", out=tmp_path / "v.zarr")
    with pytest.raises(ValueError, match="layer differ"):
        ch.tl.embed_cells(cells, tiny, method="weighted", layer="other", out=tmp_path / "v.zarr")
    other = cells.copy()
    other.X = cells.layers["other"]
    with pytest.raises(ValueError, match="values differ"):
        ch.tl.embed_cells(other, tiny, method="weighted", out=tmp_path / "v.zarr")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_block_of_a_checkpoint_is_computed_again(cells, tiny, tmp_path, monkeypatch, damage):
    rows = cells.obs.assign(gene_a="CD4", gene_b=[f"G{i}" for i in range(cells.n_obs)])
    first = ch.tl.answer(rows, tiny, "genetic_interaction_synthetic", checkpoint=tmp_path / "c")
    path = tmp_path / "c" / "000002.npy"
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes({"cut": content[:middle], "flipped": flipped, "empty": b""}[damage])
    calls, compute = [], _ask._compute
    monkeypatch.setattr(_ask, "_compute", lambda *args: calls.append(len(args[1])) or compute(*args))
    again = ch.tl.answer(rows, tiny, "genetic_interaction_synthetic", checkpoint=tmp_path / "c")
    assert calls == [7]
    pd.testing.assert_frame_equal(again, first)


def test_sentences_that_lost_a_chunk_are_not_read_as_empty(cells, tiny, tmp_path):
    ch.pp.cell_sentences(cells, out=tmp_path / "s.zarr", chunk_size=10)
    (tmp_path / "s.zarr" / "obs" / "cell_sentence" / "1").unlink()
    with pytest.raises(OSError, match="s.zarr can't be read.*1 files are missing, such as obs/cell_sentence/1"):
        ch.tl.embed_cells(tmp_path / "s.zarr", tiny, out=tmp_path / "v.zarr")


def test_what_cannot_be_is_said_before_a_model_is_loaded(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(ch.CellHermes, "from_pretrained", lambda *_: pytest.fail("loaded"))
    with pytest.raises(TypeError, match="pass out= as well"):
        ch.tl.embed_cells(tmp_path / "a.h5ad")
    (tmp_path / "a.h5ad").write_bytes(b"cut")
    with pytest.raises(OSError, match="truncated, damaged"):
        ch.tl.embed_cells(tmp_path / "a.h5ad", out=tmp_path / "v.zarr")
    with (
        _blocks.Work(tmp_path / "v.zarr.parts", _blocks.Shard()),
        pytest.raises(BlockingIOError, match="Another process"),
    ):
        ch.tl.embed_cells(cells, out=tmp_path / "v.zarr")


def test_a_call_that_returns_all_rows_has_no_shares(cells, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv(_blocks.SHARD, "0/2")
    with pytest.raises(ValueError, match="pass out= to a function that takes it"):
        ch.tl.answer(cells.obs, tiny, "t_cell_reactivity", checkpoint=tmp_path / "c")


# ------------------------------------------------------------------------------------------------ several processes


def test_shares_are_merged_by_the_last_one(cells, embedded, tiny, tmp_path, monkeypatch):
    for name in ("v.zarr", "a.zarr"):
        out = tmp_path / name
        for k in (2, 0, 1):
            assert not out.exists()
            monkeypatch.setenv(_blocks.SHARD, f"{k}/3")
            with warned():
                if name == "v.zarr":
                    ch.tl.embed_cells(cells, tiny, out=out)
                else:
                    ch.tl.predict(cells, tiny, QUESTION, key_added="made", out=out)
    monkeypatch.delenv(_blocks.SHARD)
    check_vectors(tmp_path / "v.zarr", embedded)
    with warned():
        ch.tl.predict(cells, tiny, QUESTION, key_added="made")
    check_answers(tmp_path / "a.zarr", cells)


LAUNCHED = """
import dataclasses
import sys
import anndata as ad, cellhermes as ch
from cellhermes.tl import _ask, _embed_cells, _predict
for module in (_ask, _embed_cells, _predict):
    module.BLOCK = 7
folder, base = sys.argv[1:]
ch.pp.cell_sentences(f"{folder}/cells.h5ad", n_genes=8, chunk_size=8, key_added="again", out=f"{folder}/s.zarr")
cells = ad.read_h5ad(f"{folder}/cells.h5ad")
model = ch.CellHermes.from_pretrained(base, device="cpu")
model.card = dataclasses.replace(model.card, tasks=(*ch.text.Task.names(),))  # as the fixture tiny
ch.tl.embed_cells(cells, model, out=f"{folder}/v.zarr")
assert ad.read_zarr(f"{folder}/v.zarr").n_obs == 30  # for each process
question = ch.text.Question("cell_type", answers=["B", "CD8/NK", "Mono"])
ch.tl.predict(cells, model, question, key_added="made", out=f"{folder}/a.zarr")
cells.obs["gene_a"], cells.obs["gene_b"] = "CD4", cells.obs["batch"].astype(str)
found = ch.tl.answer(cells.obs, model, "genetic_interaction_synthetic", checkpoint=f"{folder}/c")
import os
found.to_csv(f"{folder}/found{os.environ['RANK']}.csv")
ch.tl.embed_cells(cells, model)
cells.write_h5ad(f"{folder}/done{os.environ['RANK']}.h5ad")
"""


@pytest.fixture
def launch(cells, folders, tmp_path):
    """Two processes of torchrun."""
    cells.obs["batch"] = [f"GENE{i % 9}" for i in range(30)]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    script = tmp_path / "run.py"
    script.write_text(LAUNCHED)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    return lambda: subprocess.run(
        [*command, str(tmp_path), str(folders("llama"))], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.usefixtures("all_cores")
def test_two_launched_processes_give_the_result_of_one(launch, cells, embedded, tiny, tmp_path):
    ended = launch()
    assert ended.returncode == 0, ended.stderr[-3000:]
    check_vectors(tmp_path / "v.zarr", embedded)
    with warned():
        ch.tl.predict(cells, tiny, QUESTION, key_added="made")
    check_answers(tmp_path / "a.zarr", cells)
    ch.pp.cell_sentences(cells, n_genes=8, key_added="again")
    assert ad.read_zarr(tmp_path / "s.zarr").obs["again"].astype(str).tolist() == cells.obs["again"].tolist()
    cells.obs["gene_a"], cells.obs["gene_b"] = "CD4", cells.obs["batch"].astype(str)
    expected = ch.tl.answer(cells.obs, tiny, "genetic_interaction_synthetic")
    for rank in (0, 1):
        found = pd.read_csv(tmp_path / f"found{rank}.csv", index_col=0)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5, check_names=False)
        close(ad.read_h5ad(tmp_path / f"done{rank}.h5ad").obsm[KEY], embedded.obsm[KEY])


KILLED = """
import sys, time
import cellhermes as ch
from cellhermes.tl import _embed_cells
_embed_cells.BLOCK = 2
real = ch.CellHermes.embed
def slow(self, prompts, **options):
    time.sleep(0.2)
    return real(self, prompts, **options)
ch.CellHermes.embed = slow
ch.tl.embed_cells(sys.argv[1], ch.CellHermes.from_pretrained(sys.argv[2], device="cpu"), out=sys.argv[3])
"""


@pytest.mark.slow
def test_a_killed_process_loses_nothing(cells, embedded, tiny, folders, tmp_path, monkeypatch):
    cells.write_h5ad(tmp_path / "a.h5ad")
    out, env = tmp_path / "v.zarr", {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    blocks = tmp_path / "v.zarr.parts" / "v.zarr" / "obsm" / KEY
    command = [sys.executable, "-W", "ignore", "-c", KILLED, tmp_path / "a.h5ad", str(folders("llama")), out]
    seen = 0
    for _ in range(3):
        process = subprocess.Popen(command, env=env)
        while process.poll() is None and len(list(blocks.glob("[0-9]*.0"))) < seen + 3:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(list(blocks.glob("[0-9]*.0"))) > seen
        seen = len(list(blocks.glob("[0-9]*.0")))
    monkeypatch.setattr(_embed_cells, "BLOCK", 2)
    with warned():
        ch.tl.embed_cells(tmp_path / "a.h5ad", tiny, out=out)
    check_vectors(out, embedded)
