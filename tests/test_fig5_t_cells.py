"""The script of figure 5: splits keep groups apart, training cells alone choose genes, and it runs as a whole."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import cellhermes as ch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def paper(benchmarks):
    """The module that the scripts share."""
    return benchmarks("paper._run")


@pytest.fixture(scope="module")
def fig5(paper):
    return paper.module_of("fig5_t_cells")


@pytest.fixture
def cells(tmp_path):
    """A file of counts in which CD3E tells whether a cell is reactive; five clonotypes, and a cell without one."""
    adata = ch.datasets.toy(n_obs=60)
    adata.X = adata.layers["counts"].copy()
    is_reactive = np.arange(60) % 2 == 0
    values = adata.X.toarray()
    values[:, adata.var_names == "CD3E"] = 40.0 * is_reactive[:, None]
    adata.X = values
    adata.obs["reactivity"] = np.where(is_reactive, "Reactive", "Non-Reactive")
    adata.obs["clone_id"] = pd.Series([f"clone {i // 2 % 5}" for i in range(59)] + [None], adata.obs_names)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


@pytest.fixture
def options(paper, cells):
    return paper.options_of("fig5_t_cells", cells=cells, drop=[0, 1], tune=[1])


def test_cells_of_a_clone_are_on_one_side_and_cells_without_one_are_left_out(fig5, options):
    source = fig5.source_of(options)
    assert source.adata.n_obs == 59
    assert "59 of 60 cells" in source.about
    splits = fig5.splits_of(source, seed=0)
    assert [*splits] == ["by cell", "by clone_id"]
    sides = splits["by clone_id"].groupby(source.adata.obs["clone_id"].astype(str)).nunique()
    assert sides.max() == 1
    assert splits["by cell"].groupby(source.adata.obs["clone_id"].astype(str)).nunique().max() == 2
    for split in splits.values():
        assert {*split} == {"train", "test"}


def test_genes_are_left_out_by_training_cells_alone(fig5, options):
    source = fig5.source_of(options)
    split = fig5.splits_of(source, seed=0)["by cell"]
    adata, markers = fig5.prepared(source, split, 1, 20)
    assert "CD3E" not in adata.var_names
    assert not any("CD3E" in sentence.split() for sentence in adata.obs["cell_sentence"])
    assert {*markers} == {*adata.var_names}
    other = source.adata.copy()  # what test cells say must not count
    is_test = (split == "test").to_numpy()
    values = other.X.copy()
    values[is_test, other.var_names.get_loc("LYZ")] = 1000 * (other.obs["reactivity"][is_test] == "Reactive")
    other.X = values
    changed = fig5.Source(other, source.task, source.group, source.positive, "")
    again, same = fig5.prepared(changed, split, 1, 20)
    assert same == markers
    total = np.expm1(again.X.toarray() if hasattr(again.X, "toarray") else again.X).sum(1)
    np.testing.assert_allclose(total, 1e4, rtol=1e-4)  # the genes that are gone are not in the total either


def test_baselines_are_as_good_as_the_genes_that_are_left(fig5, options):
    source = fig5.source_of(options)
    split = fig5.splits_of(source, seed=0)["by cell"]
    areas = {}
    for drop in (0, 1):
        adata, _ = fig5.prepared(source, split, drop, 20)
        test = adata[adata.obs["split"] == "test"]
        for name, found in fig5.baselines(adata).items():
            table = fig5.measured(found, test.obs, source.positive).set_index("metric")
            areas[name, drop] = table.loc["roc_auc", "value"]
    assert areas["majority", 0] == 0.5
    assert areas["logistic, sentence", 0] > areas["logistic, sentence", 1] + 0.1


def test_released_questions_become_cells_with_their_own_split(fig5, monkeypatch):
    def frame(name, part):
        assert name == "melanoma"
        genes = {"train": ["CD3E LYZ", "GZMB CD3E"], "test": ["LYZ CD8A"]}[part]
        rows = [(f"A cell with genes ranked by expression: {one}", "Reactive") for one in genes]
        return pd.DataFrame(rows, columns=["input", "answer"])

    monkeypatch.setattr(ch.datasets, "questions", frame)
    source = fig5.melanoma()
    assert source.adata.obs["cell_sentence"].tolist() == ["CD3E LYZ", "GZMB CD3E", "LYZ CD8A"]
    assert source.adata[:, "CD3E"].X.toarray().ravel().tolist() == [2, 1, 0]
    assert fig5.splits_of(source, seed=0)["the authors'"].tolist() == ["train", "train", "test"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what is drawn with few cells and a model that knows nothing
def test_one_command_makes_tables_and_figures_and_goes_on_from_its_adapters(paper, fig5, cells, folders):
    sc.settings.verbosity = 0
    out = cells.parent / "out"
    command = ["--cells", str(cells), "--out", str(out), "--drop", "0", "1", "--tune", "1"]
    command += ["--data", str(cells.parent), "--model", str(folders("llama"))]
    command += ["--steps", "1", "--genes", "8", "--occluded", "4"]
    paper.main("fig5_t_cells", command)
    scores = pd.read_parquet(out / "5d, all values.parquet")
    assert {*scores["method"]} == {*fig5.METHODS}
    assert {*pd.read_parquet(out / "5e, all values.parquet")["explanation"]} == {"attention", "occlusion"}
    report = (out / "report.md").read_text()
    assert "by clone_id" in report
    assert "| instruct |" in report
    for name in json.loads((out / "fig5_t_cells.json").read_text())["figures"]:
        assert (out / f"{name}.png").stat().st_size > 1000
    adapters = sorted(out.glob("fig5/adapters/*/adapter_model.safetensors"))
    assert len(adapters) == 2
    before = [path.stat().st_mtime_ns for path in adapters]
    (out / "fig5_t_cells.json").unlink()  # as if it had been stopped before its end
    paper.main("fig5_t_cells", command)
    pd.testing.assert_frame_equal(pd.read_parquet(out / "5d, all values.parquet"), scores)
    assert [path.stat().st_mtime_ns for path in adapters] == before
