"""The benchmark as one command, on small tables and a tiny model with random weights."""

import importlib
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cellhermes as ch

FOLDER = Path(__file__).parents[1] / "benchmarks" / "biounibench"
GENES = ["CD4", "CD8A", "LYZ", "B2M", "IL7R", "NKG7", "GNLY", "MS4A1", "CD79A", "CST3"]
TINY = ["--steps", "1", "--stand-in-steps", "1", "--rate", "0.05", "--bootstrap", "20", "--device", "cpu"]
EFFECTS, DIRECTIONS = "perturbation_deg/unseen_gene", "perturbation_direction/unseen_gene"
PAIRS = "genetic_interaction_general"
FITNESS = ["cell_fitness/unseen_gene", "cell_fitness/unseen_cell_line"]
MODELS = {"zero-shot", "zero-shot, less prior", "instruct", "mtl"}
BASELINES = {"majority", "frequency", "profile", "logistic", "trees", "logistic, vectors", "trees, vectors"}


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmark, which stand in a folder of scripts."""
    sys.path.insert(0, str(FOLDER))
    names = ("data", "tune", "ask", "report", "run")
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


def about(frame, name, *, synthetic):
    task, _, unseen = name.partition("/")
    setting = f"perturbation/{unseen}" if task.startswith("perturbation") else name
    frame.attrs = {"task": task, "setting": setting, "source": [] if synthetic else ["toy.csv"], "synthetic": synthetic}
    return frame


@pytest.fixture(scope="module")
def frames():
    rows = [
        (p, "T cell", g, "No" if (i + j) % 2 else "Yes") for i, p in enumerate(GENES) for j, g in enumerate(GENES[:6])
    ]
    effects = pd.DataFrame(rows, columns=["perturbation", "cell_line", "gene", "answer"])
    effects["direction"] = [("Up", "Down")[i // 2 % 2] if rows[i][-1] == "Yes" else None for i in range(len(rows))]
    effects = ch.train.questions.split(
        effects.assign(cell_sentence="B2M CD4"), "perturbation/unseen_gene", fractions=(0.5, 0.2, 0.3)
    )
    pairs = pd.DataFrame(itertools.combinations(GENES, 2), columns=["gene_a", "gene_b"])
    pairs["answer"] = ["Yes", "No", "No"] * 15
    lines = pd.DataFrame(itertools.product(["A", "B", "C", "D"], GENES), columns=["cell_line", "gene"])
    lines["answer"] = ["Yes", "No", "No", "Yes"] * 10
    made = {
        EFFECTS: about(effects, EFFECTS, synthetic=False),
        DIRECTIONS: about(effects[effects["answer"] == "Yes"].reset_index(drop=True), DIRECTIONS, synthetic=False),
        PAIRS: about(ch.train.questions.split(pairs, PAIRS, fractions=(0.5, 0.2, 0.3)), PAIRS, synthetic=False),
    }
    for name in FITNESS:
        made[name] = about(ch.train.questions.split(lines, name, fractions=(0.5, 0.25, 0.25)), name, synthetic=True)
    return made


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("bench") / "out"


@pytest.fixture(scope="module")
def command(bench, frames, folders, out):
    """What a user types, with the small tables in place of the extracts; returns the table."""
    given = [str(FOLDER), "--out", str(out), "--model", str(folders("llama")), *TINY]

    def call(*more):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench["data"], "settings", lambda folder, max_answers, seed: frames)
            patch.setattr(bench["tune"], "SHARES", (0.5, 1.0))
            bench["run"].main([*given, *more])
        return pd.read_csv(out / "table.csv")

    return call


@pytest.fixture(scope="module")
def table(command):
    return command()


def test_every_setting_has_all_models_and_baselines(table):
    methods = table.groupby("task")["method"].agg(set)
    with_genes = (
        MODELS | {f"{name} w/ GE" for name in ("zero-shot", "instruct", "mtl")} | {"zero-shot w/ GE, less prior"}
    )
    assert methods[PAIRS] == MODELS | BASELINES
    assert methods[FITNESS[0]] == methods[FITNESS[1]] == MODELS | BASELINES
    assert methods[EFFECTS] == with_genes | BASELINES | {"no change", "linear, DEG then direction"}
    assert methods[DIRECTIONS] == with_genes | BASELINES | {"linear, DEG then direction"}


def test_scores_are_those_of_the_answers(table, frames, tiny):
    test = frames[PAIRS].query("split == 'test'").reset_index(drop=True)
    for method, prior in (("zero-shot", None), ("zero-shot, less prior", "N/A")):
        found = ch.metrics.classification(
            test["answer"], ch.tl.answer(test, tiny, ch.text.Question(PAIRS, prior=prior)), n_bootstrap=0
        )
        mine = table[(table["task"] == PAIRS) & (table["method"] == method)].set_index("metric")["value"]
        expected = found.set_index("metric")["value"]
        pd.testing.assert_series_equal(mine[expected.index], expected, rtol=1e-4)
    logistic = ch.baselines.answer(frames[PAIRS], "logistic", genes=["gene_a", "gene_b"], unordered=True)
    found = ch.metrics.classification(test["answer"], logistic, n_bootstrap=0).set_index("metric")["value"]
    mine = table.query("task == @PAIRS and method == 'logistic'").set_index("metric")["value"]
    pd.testing.assert_series_equal(mine[found.index], found)
    assert set(table.query("method == 'majority' and metric == 'balanced_accuracy'")["value"]) == {0.5}


def test_adapters_are_the_ones_that_answer(table, frames, out, tiny):
    test = frames[PAIRS].query("split == 'test'").reset_index(drop=True)
    plain = ch.tl.answer(test, tiny, PAIRS)
    for method, adapter in (("instruct", "instruct-genetic-interaction-general"), ("mtl", "mtl-real")):
        found = ch.tl.answer(test, ch.CellHermes.from_pretrained(out / "adapters" / adapter, device="cpu"), PAIRS)
        assert not np.allclose(found["log_probability:Yes"], plain["log_probability:Yes"], rtol=1e-2)
        expected = ch.metrics.classification(test["answer"], found, n_bootstrap=0).set_index("metric")["value"]
        mine = table[(table["task"] == PAIRS) & (table["method"] == method)].set_index("metric")["value"]
        pd.testing.assert_series_equal(mine[expected.index], expected, rtol=1e-4)
        assert "calibration_error, calibrated" in mine


@pytest.mark.parametrize("suffix", ["", "-w-ge"])
def test_the_joint_adapter_is_tuned_on_all_real_questions_and_on_no_others(table, out, suffix):
    run = json.loads((out / "adapters" / f"mtl-real{suffix}" / "training.json").read_text("utf-8"))["run"]
    shown = {name: pairs["about"]["expression"] for name, pairs in run["pairs"].items()}
    assert shown == {EFFECTS: bool(suffix), DIRECTIONS: bool(suffix), PAIRS: False}
    assert (run["config"]["max_steps"], run["weights"]) == (3, dict.fromkeys(shown, 1.0))


def test_the_report_marks_what_is_synthetic_and_has_the_papers_rows(table, out, bench):
    text = (out / "README.md").read_text("utf-8")
    assert [text.index(f"## {title}") for title in ("Questions", "Real data", "Stand-ins: synthetic, no claim")]
    real = text[text.index("## Real data") : text.index("## Stand-ins")]
    assert PAIRS in real
    assert "cell_fitness" not in real
    paper = text[text.index("## The paper's table") :]
    assert [line.split(" | ")[0].strip("| ") for line in paper.splitlines() if line.startswith("|")][2:] == list(
        bench["report"].PERTURBATION
    )
    for name in ("bars_real.png", "bars_stand_ins.png", "scaling.png"):
        assert (out / name).stat().st_size > 5000
        assert f"({name})" in text
    curves = pd.read_csv(out / "scaling.csv")
    assert set(curves.query("task == @PAIRS")["n_perturbations"]) == {11, 22}
    assert set(curves.query("task == @EFFECTS")["n_perturbations"]) == {2, 5}


def test_what_is_there_is_not_done_again(table, command, bench, monkeypatch):
    monkeypatch.setattr(bench["tune"], "fit", lambda *_, **__: pytest.fail("tuned again"))
    monkeypatch.setattr(bench["ask"], "answered", lambda *_, **__: pytest.fail("asked again"))
    monkeypatch.setattr(bench["ask"], "baseline", lambda *_, **__: pytest.fail("fitted again"))
    pd.testing.assert_frame_equal(command(), table)


def test_a_folder_of_another_run_is_refused(table, command):
    with pytest.raises(SystemExit, match="holds a run with other options and questions; pass another --out"):
        command("--max-train", "5")


def test_unknown_settings_and_folders_are_named(command, capsys):
    for given, message in (
        (["--only", "fitness"], "unknown settings ['fitness']"),
        (["--only", PAIRS, "--steps", "x"], "--steps"),
    ):
        with pytest.raises(SystemExit):
            command(*given)
        assert message in capsys.readouterr().err


def test_the_joint_model_sees_nothing_that_a_setting_tests(bench, frames):
    fitness = {name: frames[name] for name in FITNESS}
    found = bench["tune"].without_leaks(fitness)
    train = pd.concat([frame[frame["split"] == "train"] for frame in found.values()])
    assert len(train) > 0
    for name, column in zip(FITNESS, ("gene", "cell_line"), strict=True):
        asked = set(frames[name].query("split != 'train'")[column])
        assert asked & set(frames[FITNESS[0]].query("split == 'train'")[column]) or name == FITNESS[0]  # it could leak
        assert not asked & set(train[column])
        pd.testing.assert_frame_equal(
            found[name].query("split != 'train'").reset_index(drop=True),
            frames[name].query("split != 'train'").reset_index(drop=True),
        )


def test_genes_of_an_unseen_combination_are_unseen_in_the_joint_model_too(bench):
    def made(rows, setting):
        frame = pd.DataFrame(rows, columns=["perturbation", "split"]).assign(cell_line="K562", gene="LYZ", answer="Yes")
        return about(frame, f"perturbation_deg/{setting}", synthetic=False)

    combination = made(
        [("CD4", "train"), ("LYZ", "train"), ("CD4+LYZ", "test"), ("CD4+NKG7", "test")], "unseen_combination"
    )
    line = made([(p, "train") for p in ("CD4", "LYZ", "NKG7", "CD4+LYZ", "B2M")], "unseen_cell_line")
    line.loc[5] = ["CD4", "test", "THP1", "LYZ", "Yes"]
    found = bench["tune"].without_leaks({"a": combination, "b": line})
    assert found["b"].query("split == 'train'")["perturbation"].tolist() == ["CD4", "LYZ", "B2M"]
    assert found["a"].query("split == 'train'")["perturbation"].tolist() == ["CD4", "LYZ"]


def test_capped_frames_keep_their_attributes_and_parts(bench, frames):
    limits = {"train": 4, "valid": 0, "test": 2}
    found = bench["run"].capped(frames[PAIRS], limits, seed=0)
    counts = frames[PAIRS]["split"].value_counts()
    assert found["split"].value_counts().to_dict() == {"train": 4, "valid": counts["valid"], "test": 2}
    assert found.attrs == frames[PAIRS].attrs


def test_fewer_answers_are_those_with_most_genes(bench, tmp_path):
    rows = [(f"G{i}", size) for size in (30, 40, 50, 29) for i in range(size)]
    table = pd.DataFrame(rows, columns=["gene", "size"]).assign(hpo_term=lambda f: "of " + f["size"].astype(str))
    table.assign(entrez=1, hpo_id="HP:1")[["entrez", "gene", "hpo_term", "hpo_id"]].to_csv(
        tmp_path / "hpo.tsv", sep="\t", index=False
    )
    all_of_them, two = (bench["data"]._categories([tmp_path / "hpo.tsv"], max_answers=n) for n in (0, 2))
    assert sorted(all_of_them["category"].unique()) == ["of 30", "of 40", "of 50"]  # 29 genes are too few
    assert sorted(two["category"].unique()) == ["of 40", "of 50"]
