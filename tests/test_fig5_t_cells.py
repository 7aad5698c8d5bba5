"""The script of figure 5: splits keep groups apart, training cells alone choose genes, and it runs as a whole."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import cellhermes as ch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "paper" / "fig5_t_cells.py"


@pytest.fixture(scope="module")
def fig5():
    spec = importlib.util.spec_from_file_location("fig5_t_cells", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.modules.pop(spec.name)


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


def options_of(fig5, cells, *more):
    return fig5.parsed(["--cells", str(cells), "--out", str(cells.parent), "--drop", "0", "1", "--tune", "1", *more])


def test_cells_of_a_clone_are_on_one_side_and_cells_without_one_are_left_out(fig5, cells):
    source = fig5.source_of(options_of(fig5, cells))
    assert source.adata.n_obs == 59
    assert "59 of 60 cells" in source.about
    splits = fig5.splits_of(source, seed=0)
    assert [*splits] == ["by cell", "by clone_id"]
    sides = splits["by clone_id"].groupby(source.adata.obs["clone_id"].astype(str)).nunique()
    assert sides.max() == 1
    assert splits["by cell"].groupby(source.adata.obs["clone_id"].astype(str)).nunique().max() == 2
    for split in splits.values():
        assert {*split} == {"train", "test"}


def test_genes_are_left_out_by_training_cells_alone(fig5, cells):
    source = fig5.source_of(options_of(fig5, cells))
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


def test_baselines_are_as_good_as_the_genes_that_are_left(fig5, cells):
    source = fig5.source_of(options_of(fig5, cells))
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
def test_one_command_makes_tables_and_figures_and_goes_on_from_its_adapters(fig5, cells, folders, monkeypatch):
    sc.settings.verbosity = 0
    more = ["--model", str(folders("llama")), "--steps", "1", "--genes", "8", "--occluded", "4"]
    options = options_of(fig5, cells, *more)
    out = cells.parent / "fig5"
    parts = fig5.run(fig5.source_of(options), out, options)
    assert {*parts["scores"]["method"]} == {*fig5.METHODS}
    assert {*parts["quality"]["explanation"]} == {"attention", "occlusion"}
    report = (out / "README.md").read_text()
    assert "by clone_id" in report
    assert "| instruct |" in report
    for name in ("scores", "roc", "faithfulness-without-1", "recurrence-without-1", "importance-without-1"):
        assert (out / f"{name}.png").stat().st_size > 1000
    adapters = sorted(out.glob("adapters/*/adapter_model.safetensors"))
    before = [path.stat().st_mtime_ns for path in adapters]
    again = fig5.run(fig5.source_of(options), out, options)
    pd.testing.assert_frame_equal(again["scores"], parts["scores"])
    assert [path.stat().st_mtime_ns for path in adapters] == before
