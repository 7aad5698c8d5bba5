"""The command line, as a user calls it."""

import json

import anndata as ad
import mudata
import numpy as np
import pytest
from typer.testing import CliRunner

import cellhermes as ch
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
    assert run("embed", source, tmp_path / "out.h5ad", "--resume").exit_code == 0
    assert "X_cellhermes" in ad.read_h5ad(tmp_path / "out.h5ad").obsm
    assert not (tmp_path / "out.h5ad.parts").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.h5ad", "{tmp}/out.h5ad"], "nowhere.h5ad is not a file"),
        (["{in}", "{in}"], "the input is left as it is"),
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
    sets = [ch.train.mlm_pairs(adata, **options), ch.train.ar_pairs(adata, **options)]
    sets += [ch.train.node_pairs(graph, seed=3), ch.train.link_pairs(graph, n_pairs=60, seed=3)]
    expected = ch.train.mixture(sets, "paper", seed=3)
    assert list(ch.train.read_pairs(out)) == list(expected)
    for words in ("masked_genes/metadata", "masked_link/both_hop1_2", f"{len(expected):,}", "-> ", "Tokens", "Card:"):
        assert words in done.output
    card = json.loads((tmp_path / "corpus.jsonl.card.json").read_text())
    assert [entry["name"] for entry in card["inputs"]] == ["in.h5ad", "edges.tsv"]
    again = run("pairs", out, "--graph", edges)
    assert again.exit_code == 1
    assert "--overwrite" in again.output


def test_pairs_of_a_modality(run, adata, tmp_path):
    adata = adata[:20].copy()
    adata.var["sentence_gene"] = True
    ch.pp.cell_sentences(adata)
    mudata.MuData({"prot": adata}).write(tmp_path / "in.h5mu")
    words = ["pairs", tmp_path / "corpus.jsonl", "--cells", tmp_path / "in.h5mu"]
    done = run(*words, "--mod", "prot", "--modality", "protein")
    assert done.exit_code == 0, done.output
    assert "masked_genes/plain/protein" in done.output
    done = run(*words, "--overwrite")
    assert done.exit_code == 1
    assert "has the modalities ['prot']" in done.output


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
    ],
)
def test_errors_of_pairs_are_a_message_and_an_exit_code(run, source, edges, tmp_path, words, message):
    done = run("pairs", *[w.format(**{"in": source, "tmp": tmp_path, "edges": edges}) for w in words])
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "c.jsonl").exists()


def test_models_lists_what_is_known(run):
    done = run("models")
    assert done.exit_code == 0
    for name in ch.model.list_models().index:
        assert name in done.output


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
