"""The command line, as a user calls it."""

import json
import shutil
from collections import namedtuple

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import cellhermes as ch
from cellhermes import _blocks
from cellhermes.cli import app


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(app, [str(w) for w in words])


@pytest.fixture
def source(adata, tmp_path):
    adata[:20].write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


def test_embed_writes_what_the_functions_write(run, source, tmp_path):
    done = run("embed", source, tmp_path / "out.h5ad", "--batch-size", 4)
    assert done.exit_code == 0, done.output
    found, expected = ad.read_h5ad(tmp_path / "out.h5ad"), ad.read_h5ad(source)
    ch.pp.cell_sentences(expected)
    ch.tl.embed_cells(expected)
    scale = np.abs(expected.obsm["X_cellhermes"]).max()
    np.testing.assert_allclose(found.obsm["X_cellhermes"], expected.obsm["X_cellhermes"], atol=1e-5 * scale)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.h5ad", "out.h5ad"]


def test_interrupted_embed_resumes(run, source, tmp_path, monkeypatch):
    from cellhermes.tl import _embed_cells

    monkeypatch.setattr(_embed_cells, "BLOCK", 8)
    monkeypatch.setattr(ad.AnnData, "write_h5ad", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    assert run("embed", source, tmp_path / "out.h5ad").exit_code == 1
    assert not (tmp_path / "out.h5ad").exists()
    monkeypatch.undo()
    monkeypatch.setattr(_embed_cells, "BLOCK", 8)
    monkeypatch.setattr(ch.CellHermes, "embed", lambda *_, **__: pytest.fail("computed again"))
    assert run("embed", source, tmp_path / "out.h5ad").exit_code == 0
    assert "X_cellhermes" in ad.read_h5ad(tmp_path / "out.h5ad").obsm
    assert not (tmp_path / "out.h5ad.parts").exists()


def test_another_run_neither_deletes_nor_takes_blocks(run, source, tmp_path, monkeypatch):
    from cellhermes.tl import _embed_cells

    monkeypatch.setattr(_embed_cells, "BLOCK", 8)
    with monkeypatch.context() as patch:
        patch.setattr(ad.AnnData, "write_h5ad", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
        run("embed", source, tmp_path / "out.h5ad")
    parts = tmp_path / "out.h5ad.parts"
    before = {path: path.read_bytes() for path in parts.rglob("*") if path.is_file()}
    assert len(list((parts / "blocks" / "result.zarr" / "obsm" / "X_cellhermes").glob("[0-9]*"))) == 3
    done = run("embed", source, tmp_path / "out.h5ad", "--dtype", "bfloat16")
    assert done.exit_code == 1
    assert "dtype differ" in done.output
    with _blocks.Work(parts, _blocks.Shard()):
        done = run("embed", source, tmp_path / "out.h5ad")
    assert "Another process is writing" in done.output
    assert {path: path.read_bytes() for path in parts.rglob("*") if path.is_file()} == before
    assert run("embed", source, tmp_path / "out.h5ad").exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.h5ad", "out.h5ad"]


@pytest.mark.parametrize("name", ["out.h5ad", "out.h5ad.parts"])
@pytest.mark.parametrize("what", ["folder", "file", "link", "dangling"])
@pytest.mark.parametrize("command", [["embed"], ["predict", "--task", "cell_type"], ["explain", "--task", "cell_type"]])
def test_what_is_of_others_is_told_at_once_and_stays(run, source, tmp_path, monkeypatch, command, what, name):
    monkeypatch.setattr(ad, "read_h5ad", lambda *_: pytest.fail("read"))
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
    done = run(*command, source, tmp_path / "out.h5ad")
    assert done.exit_code == 1
    assert "is there already" in done.output
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_file_named_as_if_it_were_ours_may_be_the_input(run, source, tmp_path):
    named = source.rename(tmp_path / "unfinished.out.h5ad")
    content = named.read_bytes()
    assert run("embed", named, tmp_path / "out.h5ad").exit_code == 0
    assert named.read_bytes() == content


@pytest.mark.parametrize("name", ["out.h5ad", "out.zarr"])
def test_sentences_of_the_input_are_read_and_never_made_anew(run, source, tmp_path, name):
    adata = ad.read_h5ad(source)
    ch.pp.cell_sentences(adata, n_genes=4)
    expected = adata.obs["cell_sentence"].tolist()
    adata.write_h5ad(source)
    done = run("embed", source, tmp_path / name, "--use-raw")
    assert (done.exit_code, "--use-raw would change nothing" in done.output) == (1, True)
    assert run("embed", source, tmp_path / name).exit_code == 0
    ch.tl.embed_cells(adata)
    if name == "out.h5ad":
        found = ad.read_h5ad(tmp_path / name)
        assert found.obs["cell_sentence"].tolist() == expected
    else:
        found = ad.read_zarr(tmp_path / name)
    np.testing.assert_allclose(found.obsm["X_cellhermes"], adata.obsm["X_cellhermes"], atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.h5ad", name]


def test_orders_of_ties_are_averaged_from_the_shell(run, source, tmp_path):
    expected = ad.read_h5ad(source)
    ch.pp.cell_sentences(expected, n_orders=2)
    ch.tl.embed_cells(expected)
    for name in ("out.h5ad", "out.zarr"):
        done = run("embed", source, tmp_path / name, "--n-orders", 2)
        assert done.exit_code == 0, done.output
    for found in (ad.read_h5ad(tmp_path / "out.h5ad"), ad.read_zarr(tmp_path / "out.zarr")):
        np.testing.assert_allclose(found.obsm["X_cellhermes"], expected.obsm["X_cellhermes"], atol=1e-5)
        assert found.uns["X_cellhermes"]["params"]["n_orders"] == 2
    done = run("embed", tmp_path / "out.h5ad", tmp_path / "other.h5ad", "--n-orders", 3)
    assert (done.exit_code, "--n-orders would change nothing" in done.output) == (1, True)
    done = run("sentences", source, tmp_path / "s.zarr", "--n-orders", 2)
    assert done.exit_code == 0, done.output
    assert "cell_sentence_order_2" in ad.read_zarr(tmp_path / "s.zarr").obs


def test_a_full_disk_is_told_before_the_work(run, source, tmp_path, monkeypatch):
    monkeypatch.setattr(ad, "read_h5ad", lambda *_: pytest.fail("read"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(0, 0, 100))
    assert "Free some, or write to another disk" in run("embed", source, tmp_path / "out.h5ad").output


def test_number_formats_are_chosen_from_the_shell(run, source, tmp_path):
    done = run("embed", source, tmp_path / "out.h5ad", "--dtype", "bfloat16", "--quantize", "8bit")
    assert done.exit_code == 0, done.output
    params = ad.read_h5ad(tmp_path / "out.h5ad").uns["X_cellhermes"]["params"]
    assert (params["dtype"], params["quantize"]) == ("bfloat16", "8bit")
    for words in (("embed",), ("predict", "--task", "cell_type"), ("explain", "--task", "cell_type")):
        done = run(*words, source, tmp_path / "other.h5ad", "--quantize", "2bit")
        assert done.exit_code == 1
        assert "--quantize 2bit is not known" in done.output
        assert "cell_sentences" not in done.output, "it is told before anything is made"


def test_stores_are_written_in_shares_and_need_no_memory(run, source, tmp_path, monkeypatch):
    from cellhermes.tl import _ask, _embed_cells, _predict

    for module in (_embed_cells, _ask, _predict):
        monkeypatch.setattr(module, "BLOCK", 8)
    done = run("embed", source, tmp_path / "v.zarr")
    assert done.exit_code == 0, done.output
    expected = ad.read_h5ad(source)
    ch.pp.cell_sentences(expected)
    ch.tl.embed_cells(expected)
    scale = np.abs(expected.obsm["X_cellhermes"]).max()
    found = ad.read_zarr(tmp_path / "v.zarr").obsm["X_cellhermes"]
    np.testing.assert_allclose(found, expected.obsm["X_cellhermes"], atol=1e-5 * scale)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.h5ad", "v.sentences.zarr", "v.zarr"]

    done = run("sentences", source, tmp_path / "s.zarr", "--n-genes", 5)
    assert "Written: " in done.output
    for k in (1, 0):
        done = run("embed", tmp_path / "s.zarr", tmp_path / "w.zarr", "--shard", f"{k}/2")
        assert done.exit_code == 0, done.output
        assert ("This share is finished" in done.output) == (k == 1)
    assert len(ad.read_zarr(tmp_path / "w.zarr").obsm["X_cellhermes"]) == 20
    words = ("--task", "cell_type", "--answer", "B", "--answer", "NK", "--key-added", "made")
    done = run("predict", tmp_path / "s.zarr", tmp_path / "a.zarr", *words)
    assert done.exit_code == 0, done.output
    assert ad.read_zarr(tmp_path / "a.zarr").obs["made"].isin(["B", "NK"]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{in}", "{tmp}/out.zarr", "--shard", "2/2"], "expected k/n with k from 0"),
        (["{in}", "{tmp}/out.zarr", "--shard", "1/2"], "out.sentences.zarr lacks the other shares"),
        (["{in}", "{tmp}/out.h5ad", "--shard", "0/2"], "expected OUT.zarr"),
        (["{in}", "{tmp}/no/out.zarr"], "does not exist"),
        (["nowhere.h5ad", "{tmp}/out.zarr"], "There is no file nowhere.h5ad"),
        (["nowhere.h5ad", "{tmp}/out.h5ad"], "nowhere.h5ad is not a file"),
        (["{in}", "{in}"], "which is read"),
        (["{in}", "{tmp}/no/out.h5ad"], "does not exist"),
        (["{in}", "{tmp}/out.h5ad", "--model", "minni"], "No model 'minni'"),
        (["{in}", "{tmp}/out.h5ad", "--layer", "nope"], "layer 'nope' not found"),
        (["{in}", "{tmp}/out.h5ad", "--gene-symbols", "nope"], "'nope'"),
    ],
)
def test_errors_are_a_message_and_an_exit_code(run, source, tmp_path, words, message):
    done = run("embed", *[w.format(**{"in": source, "tmp": tmp_path}) for w in words])
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "out.h5ad.parts").exists()


WRONG = ("is there already", "to end with .h5ad", "No model", "as a table", "holds neither config.json")


@pytest.mark.parametrize("command", [["embed"], ["predict", "--task", "cell_type", "--answer", "B", "--answer", "NK"]])
@pytest.mark.parametrize("name", ["out.zarr", "out.csv"])
def test_a_wrong_place_or_model_is_told_before_cells_are_read(run, source, tmp_path, monkeypatch, command, name):
    (tmp_path / "out.zarr").write_text("mine")
    monkeypatch.setattr(ch.pp, "cell_sentences", lambda *_, **__: pytest.fail("made sentences"))
    monkeypatch.setattr(ad, "read_h5ad", lambda *_: pytest.fail("read"))
    before = sorted(path.name for path in tmp_path.iterdir())
    models = [(f"new.{ending}", model) for ending in ("zarr", "h5ad") for model in ("minni", tmp_path)]
    for target, model in ((name, "mini"), *models):
        done = run(*command, source, tmp_path / target, "--model", model)
        assert done.exit_code == 1
        assert any(said in done.output for said in WRONG)
        assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("is_other", [False, True])
def test_a_process_that_was_killed_when_out_had_its_name_leaves_nothing(
    run, questions, tmp_path, monkeypatch, is_other
):
    words = ["predict", tmp_path / "pairs.csv", tmp_path / "out.csv", "--task", "genetic_interaction_synthetic"]
    with monkeypatch.context() as patch:
        patch.setattr(_blocks.Work, "remove", lambda _: None)
        assert run(*words).exit_code == 0
    if is_other:  # then the blocks may still be wanted
        (tmp_path / "out.csv").rename(tmp_path / "moved.csv")
        (tmp_path / "out.csv").write_text("mine")
    assert "is there already" in run(*words).output
    assert (tmp_path / "out.csv.parts").exists() == is_other


@pytest.fixture
def edges(ppi, tmp_path):
    path = tmp_path / "edges.tsv"
    path.write_text("symbol_a\tsymbol_b\n" + "".join(f"{a}\t{b}\n" for a, b in ppi.edges))
    return path


def test_pairs_writes_what_the_functions_write(run, source, edges, tmp_path):
    out = tmp_path / "corpus.jsonl"
    done = run("pairs", out, "--cells", source, "--graph", edges, "--metadata", "cell_type", "--seed", 3, "--links", 60)
    assert done.exit_code == 0, done.output
    adata, graph = ad.read_h5ad(source), ch.io.read_edges(edges)
    ch.pp.cell_sentences(adata)
    options = {"metadata": ["cell_type"], "seed": 3}
    sets = [ch.train.corpus.mlm_pairs(adata, **options), ch.train.corpus.ar_pairs(adata, **options)]
    sets += [ch.train.corpus.node_pairs(graph, seed=3), ch.train.corpus.link_pairs(graph, n_pairs=60, seed=3)]
    expected = ch.train.corpus.mixture(sets, "paper", seed=3)
    assert list(ch.train.corpus.Pairs.read(out)) == list(expected)
    for words in ("masked_genes/metadata", "masked_link/both_hop1_2", f"{len(expected):,}", "-> ", "Tokens", "Card:"):
        assert words in done.output
    card = json.loads((tmp_path / "corpus.jsonl.card.json").read_text())
    assert [entry["name"] for entry in card["inputs"]] == ["in.h5ad", "edges.tsv"]
    again = run("pairs", out, "--graph", edges)
    assert again.exit_code == 1
    assert "--overwrite" in again.output


@pytest.fixture
def h5mu(adata, tmp_path):
    """A modality whose raw has the expression, and whose X is scaled."""
    cells = adata[:12].copy()
    cells.raw = cells.copy()
    cells.X = -np.ones(cells.shape, np.float32)
    mudata.MuData({"rna": cells}).write(tmp_path / "in.h5mu")
    return tmp_path / "in.h5mu"


@pytest.mark.parametrize("command", ["embed", "predict", "explain"])
def test_a_modality_and_raw_are_read_by_every_command(run, h5mu, tmp_path, command):
    asked = ("--task", "cell_type", "--answer", "B", "--answer", "NK", "--key-added", "made")
    words = () if command == "embed" else asked
    done = run(command, h5mu, tmp_path / "out.h5mu", *words, "--mod", "rna", "--use-raw")
    assert done.exit_code == 0, done.output
    found = mudata.read_h5mu(tmp_path / "out.h5mu")["rna"]
    expected = mudata.read_h5mu(h5mu)["rna"]
    ch.pp.cell_sentences(expected, use_raw=True)
    assert found.obs["cell_sentence"].tolist() == expected.obs["cell_sentence"].tolist()
    assert ("X_cellhermes" if command == "embed" else "made") in found.obsm
    for words, message in (
        (("--mod", "protein"), "modality 'protein' not found"),
        ((), "choose a modality with --mod"),
        (("--mod", "rna"), "Pass the layer that holds them as --layer, or --use-raw"),
    ):
        done = run("embed", h5mu, tmp_path / "other.h5mu", *words)
        assert done.exit_code == 1
        assert message in done.output.replace("\n", " ")
    assert "expected OUT to end with .h5mu" in run("embed", h5mu, tmp_path / "o.h5ad", "--mod", "rna").output
    assert not (tmp_path / "other.h5mu").exists()


def test_stores_of_a_modality_and_files_of_other_formats(run, h5mu, tmp_path):
    done = run("sentences", h5mu, tmp_path / "s.zarr", "--mod", "rna", "--use-raw")
    assert done.exit_code == 0, done.output
    expected = mudata.read_h5mu(h5mu)["rna"]
    ch.pp.cell_sentences(expected, use_raw=True)
    assert ad.read_zarr(tmp_path / "s.zarr").obs["cell_sentence"].tolist() == expected.obs["cell_sentence"].tolist()
    (tmp_path / "matrix.mtx").write_text("%%MatrixMarket")
    for out in ("o.h5ad", "o.zarr"):
        done = run("embed", tmp_path / "matrix.mtx", tmp_path / out)
        assert done.exit_code == 1
        assert "Read it with `adata = scanpy.read_10x_mtx(" in done.output.replace("\n", " ")


def test_pairs_of_a_modality(run, adata, tmp_path):
    adata = adata[:20].copy()
    adata.var["sentence_gene"] = True
    ch.pp.cell_sentences(adata, modality="protein")
    mudata.MuData({"prot": adata}).write(tmp_path / "in.h5mu")
    words = ["pairs", tmp_path / "corpus.jsonl", "--cells", tmp_path / "in.h5mu"]
    done = run(*words, "--mod", "prot", "--modality", "protein")
    assert done.exit_code == 0, done.output
    assert "masked_genes/plain/protein" in done.output
    done = run(*words, "--overwrite")
    assert done.exit_code == 1
    assert "choose a modality with --mod, one of ['prot']" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}/c.jsonl"], "pass --cells, --graph or both"),
        (["{tmp}/c.jsonl", "--cells", "nowhere.h5ad"], "nowhere.h5ad is not a file"),
        (["{tmp}/no/c.jsonl", "--cells", "{in}"], "does not exist"),
        (["{tmp}/c.csv", "--graph", "{edges}"], "ends with .jsonl or .parquet"),
        (["{tmp}/c.jsonl", "--cells", "{in}", "--metadata", "tissue"], "obs['tissue']"),
        (["{tmp}/c.jsonl", "--cells", "{in}", "--mixture", "paper"], "masked_link"),
        (["{tmp}/c.jsonl", "--graph", "{edges}", "--graph-format", "sif"], "expected biogrid, string or edges"),
        (["{tmp}/c.jsonl", "--graph", "{edges}", "--graph-format", "biogrid"], "edges.tsv"),
        (["{tmp}/c.jsonl", "--graph", "{edges}", "--relation", "friendship"], "Known: interaction"),
        (["{tmp}/c.jsonl", "--graph", "{edges}", "--metadata", "x", "--use-raw"], "--use-raw, --metadata would change"),
        (["{tmp}/c.jsonl", "--cells", "{in}", "--links", "9"], "--links would change nothing without --graph"),
    ],
)
def test_errors_of_pairs_are_a_message_and_an_exit_code(run, source, edges, tmp_path, words, message):
    done = run("pairs", *[w.format(**{"in": source, "tmp": tmp_path, "edges": edges}) for w in words])
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "c.jsonl").exists()


@pytest.fixture
def questions(tmp_path):
    rows = [("BRCA1", "PARP1", "Yes"), ("CD4", "LYZ", "No"), ("TP53", "MDM2", "Yes")]
    frame = pd.DataFrame(rows, columns=["gene_a", "gene_b", "answer"])
    frame.to_csv(tmp_path / "pairs.csv", index=False)
    return frame


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_predict_answers_a_table(run, questions, tmp_path, ending):
    task, out = "genetic_interaction_synthetic", tmp_path / f"out.{ending}"
    options = ("--abstain-below", 0.5, "--calibration", 2, "--prior", "N/A")
    done = run("predict", tmp_path / "pairs.csv", out, "--task", task, *options)
    assert done.exit_code == 0, done.output
    found = pd.read_parquet(out) if ending == "parquet" else pd.read_csv(out, sep={"csv": ",", "tsv": "\t"}[ending])
    expected = ch.tl.answer(questions, "mini", ch.text.Question(task, abstain_below=0.5, calibration=2.0, prior="N/A"))
    pd.testing.assert_frame_equal(found[list(questions)], questions)
    assert found["predicted"].tolist() == expected["answer"].tolist()
    np.testing.assert_allclose(found["probability:Yes"], expected["probability:Yes"], rtol=1e-4)
    assert not (tmp_path / f"out.{ending}.parts").exists()


@pytest.mark.parametrize("name", ["questions.json", "questions.jsonl"])
def test_predict_answers_questions_as_they_are_released(run, tmp_path, name):
    records = [{"instruction": "Is it a gene?", "input": gene, "output": "Yes"} for gene in ("CD4", "XYZ")]
    lines = "\n".join(map(json.dumps, records))
    (tmp_path / name).write_text(json.dumps(records) if name.endswith(".json") else lines)
    done = run(
        "predict", tmp_path / name, tmp_path / "out.csv", "--task", "question", "--answer", "Yes", "--answer", "No"
    )
    assert done.exit_code == 0, done.output
    frame = pd.DataFrame({"question": ["Is it a gene?\nCD4", "Is it a gene?\nXYZ"]})
    expected = ch.tl.answer(frame, "mini", ch.text.Question("question", answers=["Yes", "No"]))
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["question"].tolist() == frame["question"].tolist()
    assert table["predicted"].tolist() == expected["answer"].tolist()
    np.testing.assert_allclose(table["probability:Yes"], expected["probability:Yes"], rtol=1e-4)


def test_predict_answers_for_cells(run, source, tmp_path):
    words = ["--task", "cell_type", "--answer", "B cell", "--answer", "NK cell", "--key-added", "type"]
    done = run("predict", source, tmp_path / "out.h5ad", *words)
    assert done.exit_code == 0, done.output
    expected = ad.read_h5ad(source)
    ch.pp.cell_sentences(expected)
    ch.tl.predict(expected, "mini", ch.text.Question("cell_type", answers=["B cell", "NK cell"]), key_added="type")
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    assert found.obs["type"].tolist() == expected.obs["type"].tolist()
    np.testing.assert_allclose(found.obsm["type"], expected.obsm["type"], rtol=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{pairs}", "{tmp}/o.csv", "--task", "synthetic"], "No task 'synthetic'. Known: "),
        (["{pairs}", "{tmp}/o.h5ad", "--task", "cell_type"], "questions as a table"),
        (["{pairs}", "{tmp}/o.xlsx", "--task", "cell_type"], "expected .h5ad, .h5mu, or .csv, .tsv, .parquet"),
        (["{pairs}", "{pairs}", "--task", "cell_type"], "which is read"),
        (["{pairs}", "{tmp}/o.csv", "--task", "cell_fitness"], "needs the column 'cell_line'"),
        (["{in}", "{tmp}/o.h5ad", "--task", "cell_type", "--key-added", "p"], "lists its answers, and has none yet"),
        (
            ["{pairs}", "{tmp}/o.csv", "--task", "genetic_interaction_dosage", "--key-added", "answer"],
            "has the columns ['answer'] already",
        ),
        (["{pairs}", "{tmp}/o.csv", "--task", "genetic_interaction_dosage", "--layer", "x"], "--layer would change"),
        (["{pairs}", "{tmp}/o.csv", "--task", "genetic_interaction_dosage", "--key-added", "text"], "another column"),
        (
            ["{pairs}", "{tmp}/o.csv", "--task", "genetic_interaction_dosage", "--calibration", "nan"],
            "--calibration nan",
        ),
    ],
)
def test_errors_of_predict_are_a_message_and_an_exit_code(run, source, questions, tmp_path, words, message):
    done = run(
        "predict", *[w.format(**{"in": source, "tmp": tmp_path, "pairs": tmp_path / "pairs.csv"}) for w in words]
    )
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output


def test_explain_writes_what_the_functions_write_and_shows_the_test(run, source, tmp_path):
    words = ["--task", "t_cell_reactivity", "--cells", 3, "--test"]
    done = run("explain", source, tmp_path / "out.h5ad", *words)
    assert done.exit_code == 0, done.output
    assert "equal rank" in done.output
    assert "3 cells explained" in done.output
    expected = ad.read_h5ad(source)
    ch.pp.cell_sentences(expected)
    ch.tl.explain(expected, "mini", "t_cell_reactivity", cells=3)
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    assert abs(found.layers["explain"] - expected.layers["explain"]).max() < 1e-4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.h5ad", "out.h5ad"]


def test_tasks_lists_what_is_known(run):
    done = run("tasks")
    assert done.exit_code == 0
    for name in ch.text.Task.names():
        assert name in done.output


def test_show_prints_a_card(run):
    done = run("cache", "show", "mini")
    assert done.exit_code == 0
    for part in ("## What it is not", "## Training data", "## Recipe", "## Evaluation", "CC BY 4.0"):
        assert part in done.output
    assert "EthanGao123" in run("cache", "show", "cellhermes").output
    wrong = run("cache", "show", "nothing")
    assert wrong.exit_code == 1
    assert "No model 'nothing'" in wrong.output


def test_no_words_show_the_help(run):
    assert "demo" in run("--help").output


def test_demo_embeds_real_cells(run, tmp_path):
    done = run("demo", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "nearest neighbours" in done.output
    assert (tmp_path / "umap.png").stat().st_size > 20_000
    assert {"X_cellhermes", "X_umap"} <= set(ad.read_h5ad(tmp_path / "pbmc.h5ad").obsm)


@pytest.fixture
def run_file(tmp_path):
    """A run of one step on two pairs."""
    records = [{"instruction": f"Is {gene} a T-cell gene?", "output": "Yes"} for gene in ("CD3E", "CD4")]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    path = tmp_path / "run.toml"
    path.write_text('out = "adapter"\n[train]\nmax_steps = 1\n[[pairs]]\npath = "corpus.jsonl"\n')
    return path


def test_train_writes_an_adapter(run, run_file, tmp_path):
    done = run("train", run_file)
    assert done.exit_code == 0, done.output
    assert f"Trained: {tmp_path / 'adapter'}" in done.output
    assert ch.CellHermes.from_pretrained(tmp_path / "adapter", device="cpu").embed(["Gene CD4"]).shape == (1, 224)
    run_file.write_text(run_file.read_text().replace("max_steps = 1", "max_steps = 2"))
    again = run("train", run_file)
    assert again.exit_code == 1
    assert "overwrite" in again.output


def test_only_the_first_process_of_a_training_talks(run, run_file, tmp_path, monkeypatch):
    monkeypatch.setattr(ch.train, "run", lambda path, *, out, overwrite: out)
    assert "Trained: " in run("train", run_file, "--out", tmp_path / "x").output
    monkeypatch.setenv("RANK", "1")
    done = run("train", run_file, "--out", tmp_path / "x")
    assert (done.exit_code, done.output) == (0, "")


def test_errors_of_train_name_the_place(run, run_file):
    run_file.write_text(run_file.read_text().replace("max_steps", "steps"))
    done = run("train", run_file)
    assert done.exit_code == 1
    assert "unknown fields ['steps']" in done.output
    assert f"This stands in [train] of {run_file}." in done.output
    assert "Traceback" not in done.output
    done = run("train", run_file.with_name("no.toml"))
    assert "no.toml is not a file" in done.output


# ---- data sets and models by name


@pytest.fixture
def hallmark(serve, cache):
    """One data set on a server of this machine."""
    serve("gene-sets-hallmark", {"hallmark.gmt": b"A\tx\tCD3E\tCD4\n"})
    return "gene-sets-hallmark"


def test_the_cache_lists_what_is_known_and_what_is_here(run, hallmark):
    for words in (["cache"], ["cache", "list"]):
        done = run(*words)
        assert done.exit_code == 0, done.output
        for name, row in ch.cache.list().iterrows():
            assert name in done.output
            assert row["license"] in done.output
    assert "2,064.7" in done.output


def test_names_are_fetched_verified_moved_and_removed(run, hallmark, tmp_path, monkeypatch):
    done = run("cache", "fetch", hallmark)
    assert done.exit_code == 0, done.output
    assert "Licence: CC BY 4.0" in done.output
    path = next((tmp_path / "cache").rglob("hallmark.gmt"))
    assert str(path) in done.output.replace("\n", "")
    assert run("cache", "verify").output.startswith("good: ")
    assert run("cache", "export", tmp_path / "b.tar", hallmark).exit_code == 0
    assert "MB freed" in run("cache", "remove", hallmark).output
    monkeypatch.setenv("CELLHERMES_OFFLINE", "1")
    missing = run("cache", "fetch", hallmark)
    assert missing.exit_code == 1
    assert "CELLHERMES_OFFLINE=1 forbids the network" in missing.output
    assert "2 files are there and checked" in run("cache", "import", tmp_path / "b.tar").output
    path.write_text("mine")
    bad = run("cache", "verify", hallmark)
    assert bad.exit_code == 1
    assert "changed: its sha256 is" in bad.output
    assert "1 files are not what they were" in bad.output


def test_an_export_and_the_demo_leave_files_that_are_there(run, hallmark, tmp_path):
    assert run("cache", "fetch", "gene-sets-hallmark").exit_code == 0
    beside = tmp_path / "unfinished.b.tar"
    beside.write_text("mine")
    assert run("cache", "export", tmp_path / "b.tar", "gene-sets-hallmark").exit_code == 0
    assert beside.read_text() == "mine"
    for path, words in (
        (tmp_path / "c.tar", ("cache", "export", tmp_path / "c.tar", "gene-sets-hallmark")),
        (tmp_path / "pbmc.h5ad", ("demo", "--out", tmp_path)),
    ):
        path.write_text("mine")
        done = run(*words)
        assert done.exit_code == 1
        assert path.name in done.output
        assert path.read_text() == "mine"
    assert not [*tmp_path.glob("*.part")]


@pytest.mark.parametrize("words", [["cache", "fetch", "imune"], ["cache", "verify", "minni"]])
def test_unknown_names_are_a_message_and_an_exit_code(run, words):
    done = run(*words)
    assert done.exit_code == 1
    assert "Known" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_a_table_of_questions_is_the_same_for_training_and_for_answers(run, tmp_path, monkeypatch, ending):
    """``NA`` may be a gene, ``1E5`` too; only an empty field is missing."""
    path = tmp_path / f"q{ending}"
    frame = pd.DataFrame({"question": ["NA", "1E5", "007", None], "answer": ["None", "nan", None, "x"]}, dtype=object)
    if ending == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep={".csv": ",", ".tsv": "\t"}[ending], index=False)
    (tmp_path / "run.toml").write_text(f'out = "a"\n[questions]\npath = "q{ending}"\ntask = "question"\n')
    seen = []

    def note(data, *_, **__):
        seen.append(data)
        raise ValueError("seen")

    monkeypatch.setattr("cellhermes.train._run_file.reinforce", note)
    monkeypatch.setattr(ch.tl, "answer", note)
    run("train", tmp_path / "run.toml")
    run("predict", path, tmp_path / f"out{ending}", "--task", "question", "--answer", "Yes", "--answer", "No")
    trained, answered = (data.where(data.notna(), None).to_dict("list") for data in seen)
    assert trained == answered == frame.to_dict("list")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_na_is_text_and_an_empty_cell_is_missing_in_training_as_in_prediction(run, tmp_path, monkeypatch, suffix):
    from cellhermes.train import _run_file

    seen = []

    def answer(frame, *_, **__):
        seen.append(frame)
        return pd.DataFrame({"answer": frame["gene"]})

    monkeypatch.setattr(ch.tl, "answer", answer)
    monkeypatch.setattr(_run_file, "reinforce", lambda frame, **options: seen.append(frame) or options["out"])
    frame = pd.DataFrame({"gene": ["NA", "TP53", ""], "answer": ["Yes", "", "NA"]})
    path = tmp_path / f"questions{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    (tmp_path / "run.toml").write_text(
        f'out = "adapter"\n[reinforce]\n[questions]\npath = "{path.name}"\ntask = "cell_fitness"\n'
    )
    for words in (
        ("predict", path, tmp_path / "answers.csv", "--task", "cell_fitness"),
        ("train", tmp_path / "run.toml"),
    ):
        done = run(*words)
        assert done.exit_code == 0, done.output
    assert len(seen) == 2
    for table in seen:
        assert table["gene"].tolist()[:2] == ["NA", "TP53"]
        assert table.isna().to_numpy().tolist() == [[False, False], [False, True], [True, False]]


@pytest.mark.parametrize("name", ["out.h5ad", "out.zarr"])
def test_mouse_cells_are_embedded_as_human_ones(run, adata, tmp_path, name):
    adata = adata[:8].copy()
    adata.var_names = adata.var_names.str.capitalize()
    adata.write_h5ad(tmp_path / "mouse.h5ad")
    done = run("embed", tmp_path / "mouse.h5ad", tmp_path / name, "--species", "mouse")
    assert done.exit_code == 0, done.output
    ch.pp.map_genes(adata, "mouse")
    ch.pp.cell_sentences(adata)
    ch.tl.embed_cells(adata)
    read = ad.read_h5ad if name.endswith("h5ad") else ad.read_zarr
    written = read(tmp_path / name)
    sentences = ad.read_zarr(tmp_path / "out.sentences.zarr") if name.endswith("zarr") else written
    assert sentences.obs["cell_sentence"].tolist() == adata.obs["cell_sentence"].tolist()
    np.testing.assert_allclose(written.obsm["X_cellhermes"], adata.obsm["X_cellhermes"], rtol=1e-3, atol=1e-5)


def test_species_are_said_once_and_known(run, adata, tmp_path):
    adata[:4].write_h5ad(tmp_path / "in.h5ad")
    done = run("sentences", tmp_path / "in.h5ad", tmp_path / "out.zarr", "--species", "yeast")
    assert (done.exit_code, "--species yeast" in done.output) == (1, True)
    done = run("sentences", tmp_path / "in.h5ad", tmp_path / "out.zarr", "--species", "human")
    assert done.exit_code == 0, done.output
    done = run("embed", tmp_path / "out.zarr", tmp_path / "vectors.zarr", "--species", "human")
    assert (done.exit_code, "--species would change nothing" in done.output) == (1, True)
