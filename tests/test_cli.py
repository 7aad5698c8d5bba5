"""The command line, as a user calls it."""

import anndata as ad
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


def test_models_lists_what_is_known(run):
    done = run("models")
    assert done.exit_code == 0
    for name in ch.model.list_models().index:
        assert name in done.output


def test_no_words_show_the_help(run):
    assert "demo" in run("--help").output


@pytest.mark.slow
def test_demo_embeds_real_cells(run, tmp_path):
    done = run("demo", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "nearest neighbours" in done.output
    assert (tmp_path / "umap.png").stat().st_size > 20_000
    assert {"X_cellhermes", "X_umap"} <= set(ad.read_h5ad(tmp_path / "pbmc.h5ad").obsm)
