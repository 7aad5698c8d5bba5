"""Benchmarks that others build on: the curves of growth, the report, and the soak's comparison."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


def test_exponents_are_those_of_a_power_law(benchmarks):
    params = np.array([10, 100, 1000])
    mine = pd.DataFrame({"param": params, "value": 3 * params**1.5})
    assert benchmarks("report").slope(mine.sample(frac=1, random_state=0)) == pytest.approx(1.5)


@pytest.mark.filterwarnings("ignore:Sentences are of a selection")  # generated cells, of any symbols
@pytest.mark.parametrize(
    "name", ["Sentences", "Embedding", "SentenceLength", "Context", "Network", "ModelSize", "Corpus"]
)
def test_every_curve_can_be_measured(benchmarks, name):
    classes = benchmarks("report").classes()
    assert name in classes
    one = classes[name]()
    small = {"SentenceLength": 5, "ModelSize": 1}.get(name, 20)
    one.setup(small)
    methods = [method for method in vars(classes[name]) if method.startswith(("time_", "peakmem_"))]
    assert methods
    for method in methods:
        getattr(one, method)(small)


def test_no_curve_is_left_out_of_the_test_above(benchmarks):
    assert {*benchmarks("report").classes()} == {
        "Sentences", "Embedding", "SentenceLength", "Context", "Network", "ModelSize", "Corpus",
    }  # fmt: skip


def test_a_report_keeps_what_a_script_printed_and_tells_of_one_that_fails(benchmarks, tmp_path, monkeypatch):
    report = benchmarks("report")
    (tmp_path / "good.py").write_text("import sys\nprint('| figure |', sys.argv[1:])")
    (tmp_path / "bad.py").write_text("raise SystemExit('no data')")
    monkeypatch.setattr(report, "HERE", tmp_path)
    (tmp_path / "slow.py").write_text("print('| 2 s, limit 1 s |')\nraise SystemExit(1)")
    (tmp_path / "half.py").write_text("print('| figure |')\n1 / 0")
    monkeypatch.setattr(report, "SCRIPTS", {"good": ["--data", "DATA"], "bad": [], "slow": [], "half": []})
    lines = report.script("good", Path("some/data"), tmp_path)
    assert "| figure | ['--data', 'some/data']" in lines[-1]
    assert json.loads((tmp_path / "good.json").read_text())["text"].strip() == lines[-1]
    (tmp_path / "good.py").unlink()
    assert report.script("good", Path("some/data"), tmp_path) == lines, "it is not run again"
    assert "no data" in "\n".join(report.script("bad", Path(), tmp_path))
    missed = report.script("slow", Path(), tmp_path)
    assert "ended with 1" in missed[0]
    assert missed[-1] == "| 2 s, limit 1 s |", "figures that miss a limit are figures"
    assert "ZeroDivisionError" in "\n".join(report.script("half", Path(), tmp_path))
    assert not (tmp_path / "half.json").exists(), "it is run again"


def test_the_soak_sees_another_byte_and_another_file(benchmarks, tmp_path):
    same = benchmarks("soak").same_bytes
    for name in ("a", "b"):
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / "in" / "0.0").write_bytes(b"12")
    assert same(tmp_path / "a", tmp_path / "b") == ""
    (tmp_path / "b" / "in" / "0.0").write_bytes(b"13")
    assert "0.0" in same(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "in" / "left.part").write_bytes(b"")
    assert "left.part" in same(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_short_soak_finds_nothing(benchmarks, tmp_path, monkeypatch):
    soak = benchmarks("soak")
    for module in ("_answer", "_embed_cells"):
        monkeypatch.setattr(f"cellhermes.tl.{module}.BLOCK", soak.BLOCK)
    for work in soak.works(tmp_path):
        row = soak.soak(work, tmp_path / "soaked", 1, np.random.default_rng(0))
        assert row["wrong"] == 0
    assert soak.memory(tmp_path, 3, np.random.default_rng(0))["wrong"] == 0


@pytest.mark.slow
def test_two_builds_are_compared_in_turns(benchmarks, capfd, monkeypatch):
    builds = benchmarks("builds")
    monkeypatch.setattr(
        sys, "argv", ["builds.py", str(ROOT), "--rounds", "1", "--only", "loading mini", "--limit", "1000"]
    )
    assert builds.main() == 0
    row = capfd.readouterr().out.splitlines()[-1]
    task, before, now, ratio = (cell.strip() for cell in row.strip("|").split("|"))
    assert task == "loading mini"
    assert float(ratio) == pytest.approx(float(now) / float(before), abs=0.05)
    monkeypatch.setattr(sys, "argv", ["builds.py", str(ROOT / "tests"), "--only", "loading mini"])
    with pytest.raises(SystemExit, match="expected the build in"):
        builds.main()
