"""The scripts of the paper's figures: what they share, and (slowly) that all of them run."""

import importlib
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def paper(benchmarks):
    """The module that the scripts share."""
    return benchmarks("paper._run")


def test_every_script_is_known_and_says_what_it_makes(paper):
    files = {path.stem for path in (ROOT / "benchmarks" / "paper").glob("fig*.py")}
    assert files == {*paper.SCRIPTS}
    for name in paper.SCRIPTS:
        module = importlib.import_module(f"benchmarks.paper.{name}")
        assert module.PANELS
        assert callable(module.make)
        assert f"python -m benchmarks.paper.{name}" in module.__doc__.splitlines()[0]


@pytest.fixture
def one(paper, monkeypatch):
    """A script that is made up; counts how often it is run."""
    calls = []

    def make(run):
        calls.append(run.options)
        run.table("1a", pd.DataFrame({"gene": ["CD4"], "value": [0.12345]}))
        run.notes.append("A note.")

    module = type(sys)("benchmarks.paper.fig2_genes")
    module.__doc__, module.PANELS, module.make = "Figure 1a, a test: ``command``.", {"1a": "what it says"}, make
    monkeypatch.setitem(sys.modules, "benchmarks.paper.fig2_genes", module)
    return calls


def test_a_script_is_run_once_for_the_same_options(paper, one, tmp_path):
    arguments = ["--out", str(tmp_path), "--data", str(tmp_path)]
    paper.main("fig2_genes", arguments)
    paper.main("fig2_genes", arguments)
    assert len(one) == 1
    paper.main("fig2_genes", [*arguments, "--seed", "1"])
    assert [options.seed for options in one] == [0, 1]
    left = json.loads((tmp_path / "fig2_genes.json").read_text())
    assert left["tables"] == ["1a"]
    report = (tmp_path / "report.md").read_text()
    for text in ("Figure 1a, a test", "what it says", "- A note.", "| CD4 | 0.123 |"):
        assert text in report


def test_data_that_are_not_there_are_named(paper, tmp_path):
    run = paper.Run(paper.options_of("fig2_genes", data=tmp_path), tmp_path)
    assert run.file("missing.gmt") is None
    assert run.cells("immune", "missing.h5ad", "") is None
    assert "missing.gmt" in run.notes[0]
    assert "cellhermes cache fetch immune" in run.notes[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Group .* genes are expressed by none")  # true: the paper leaves none out
def test_all_scripts_run(paper, data_dir, tmp_path):
    pytest.importorskip("scib_metrics", reason="fig3_cells measures with it (extra metrics)")
    paper.main(None, ["all", "--quick", "--out", str(tmp_path), "--data", str(data_dir)])
    report = (tmp_path / "report.md").read_text()
    for name in paper.SCRIPTS:
        left = json.loads((tmp_path / f"{name}.json").read_text())
        assert left["tables"]
        assert f"benchmarks.paper.{name}" in report
        for figure in left["figures"]:
            assert (tmp_path / f"{figure}.png").stat().st_size > 3_000
