"""A run is one TOML file, which is checked as a whole before anything else happens."""

import json
import logging
import shutil
import subprocess
import sys

import pytest

from cellhermes.train import TrainConfig, __main__, _run_file, run


def pair(i, task="t"):
    return {"instruction": f"Is CD{i} a gene?", "output": "Yes" if i % 2 else "No", "task": task}


@pytest.fixture
def folder(tmp_path):
    """Two corpora of 20 and 10 pairs."""
    (tmp_path / "data").mkdir()
    for name, numbers in {"one": range(20), "two": range(100, 110)}.items():
        lines = [json.dumps(pair(i, name)) + "\n" for i in numbers]
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(lines))
    return tmp_path


@pytest.fixture
def write(folder):
    def write(text, name="run.toml"):
        (folder / name).write_text(text)
        return folder / name

    return write


@pytest.fixture
def fitted(monkeypatch):
    """Arguments that ``fit`` was called with."""
    seen = {}

    def fit(pairs, config, **options):
        seen.update(pairs=pairs, config=config, **options)
        return options["out"]

    monkeypatch.setattr(_run_file, "fit", fit)
    return seen


ONE = '[[pairs]]\npath = "data/one.jsonl"\n'


def test_smallest_file_is_fit_with_its_defaults(write, folder, fitted):
    assert run(write('out = "adapter"\n' + ONE)) == folder / "adapter"
    assert fitted == {
        "pairs": {"one": folder / "data/one.jsonl"}, "config": TrainConfig(), "out": folder / "adapter", "base": "mini",
        "evaluation": None, "weights": None, "caps": None, "wrap": None, "device": None, "overwrite": False,
    }  # fmt: skip


def test_every_key_reaches_fit(write, folder, fitted, tmp_path):
    path = write("""
        base = "Qwen/Qwen2.5-0.5B"
        out = "adapter"
        wrap = "plain"
        device = "cpu"
        [train]
        preset = "multitask"
        rank = 4
        [[pairs]]
        name = "sequence"
        path = "data/one.jsonl"
        weight = 2
        cap = 10
        [[pairs]]
        path = "data/two.jsonl"
        weight = 0.5
        [evaluation]
        path = "data/two.jsonl"
    """)
    run(path, out=tmp_path / "other", overwrite=True)
    assert fitted == {
        "pairs": {"sequence": folder / "data/one.jsonl", "two": folder / "data/two.jsonl"},
        "config": TrainConfig.preset("multitask", rank=4), "out": tmp_path / "other", "base": "Qwen/Qwen2.5-0.5B",
        "evaluation": folder / "data/two.jsonl", "weights": {"sequence": 2, "two": 0.5}, "caps": {"sequence": 10},
        "wrap": "plain", "device": "cpu", "overwrite": True,
    }  # fmt: skip


def test_paths_count_from_the_folder_of_the_file(write, folder, fitted, folders, monkeypatch):
    shutil.copytree(folders("llama"), folder / "model")
    monkeypatch.chdir("/")
    run(write('out = "adapter"\nbase = "model"\n' + ONE))
    assert fitted["base"] == str(folder / "model")
    assert fitted["pairs"]["one"] == folder / "data/one.jsonl"


def test_held_out_pairs_are_drawn_from_all_and_not_trained_on(write, fitted):
    text = 'out = "a"\n[train]\nseed = {}\n' + ONE + '[[pairs]]\npath = "data/two.jsonl"\n[evaluation]\nheld_out = 12\n'
    path = write(text.format(0))
    run(path)
    kept, out = fitted["pairs"], fitted["evaluation"]
    texts = [p.prompt.text for p in out]
    assert len(texts) == len(set(texts)) == 12
    rest = [p.prompt.text for name in ("one", "two") for p in kept[name]]
    assert sorted(rest + texts) == sorted(
        p["instruction"] for p in [*map(pair, range(20)), *map(pair, range(100, 110))]
    )
    assert {p.task for p in out} == {"one", "two"}
    assert all(p.task == name for name, pairs in kept.items() for p in pairs)
    run(path)
    assert fitted["evaluation"] == out
    run(write(text.format(1)))
    assert fitted["evaluation"] != out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("out = ", "run.toml is not TOML"),
        (
            'out = "a"\nlearning_rate = 1\n' + ONE,
            r"unknown keys \['learning_rate'\]. Known: base, out, wrap, device, t",
        ),
        (
            'out = "a"\n[[pairs]]\nfile = "x"\n',
            r"\[\[pairs\]\] 1 of .* unknown keys \['file'\]. Known: name, path, weig",
        ),
        ('out = "a"\n[evaluation]\nshare = 0.1\n' + ONE, r"\[evaluation\] of .* unknown keys \['share'\]"),
        ('out = "a"\n[train]\nlr = 1\n' + ONE, r"unknown fields \['lr'\]. Known: preset, method, rank"),
        ('out = "a"\n[train]\nrank = 0\n' + ONE, "rank is 0; expected a whole number of at least 1"),
        ('out = "a"\ntrain = 3\n' + ONE, r"\[train\] of .* is 3; expected a table"),
        ('out = "a"\n', r"has no \[\[pairs\]\]"),
        ('out = "a"\npairs = "data/one.jsonl"\n', r"has no \[\[pairs\]\]; expected one such block"),
        ('out = "a"\npairs = ["data/one.jsonl"]\n', r"\[\[pairs\]\] 1 of .* is 'data/one.jsonl'; expected a table"),
        ('out = "a"\n[[pairs]]\nname = "x"\n', "has no path; expected that of a corpus"),
        ('out = "a"\n' + ONE + ONE, r"\[\[pairs\]\] 2 of .* is called 'one', as one before"),
        ('out = "a"\n' + ONE + "weight = -1\n", "weight is -1; expected at least 0"),
        ('out = "a"\n' + ONE + "weight = true\n", "weight is True; expected a number"),
        ('out = "a"\n' + ONE + "cap = 1.5\n", "cap is 1.5; expected a whole number"),
        ('out = "a"\n' + ONE + "cap = 0\n", "cap is 0; expected at least 1"),
        (
            'out = "a"\n' + ONE + 'weight = 1\n[[pairs]]\npath = "data/two.jsonl"\n',
            r"\['two'\] have no weight, but oth",
        ),
        ('out = "a"\n' + ONE + "[evaluation]\nheld_out = 20\n", "held_out is 20, and there are 20 pairs"),
        ('out = "a"\n' + ONE + '[evaluation]\nheld_out = 2\npath = "data/two.jsonl"\n', "both path and held_out"),
        ('out = "a"\nbase = "minni"\n' + ONE, r"base of .*run.toml: No model 'minni'"),
        ('out = "a"\nbase = 3\n' + ONE, "base is 3; expected text"),
        ('out = "a"\n[[pairs]]\npath = "data/one.csv"\n', "ends with '.csv'; expected one of .jsonl"),
        (ONE, "names no folder for the result"),
    ],
)
def test_bad_file_is_refused_before_anything_happens(write, folder, fitted, text, message):
    with pytest.raises(ValueError, match=message):
        run(write(text))
    assert not fitted
    assert sorted(path.name for path in folder.iterdir()) == ["data", "run.toml"]


def test_missing_files_and_presets_are_named(write, folder, fitted):
    with pytest.raises(FileNotFoundError, match="nowhere.toml is not a file"):
        run(folder / "nowhere.toml")
    with pytest.raises(FileNotFoundError, match="data/three.jsonl is not a file"):
        run(write('out = "a"\n[[pairs]]\npath = "data/three.jsonl"\n'))
    with pytest.raises(KeyError, match="No preset 'paper'") as error:
        run(write('out = "a"\n[train]\npreset = "paper"\n' + ONE))
    assert "[train] of" in error.value.__notes__[0]
    assert not fitted


def test_run_trains_and_evaluates(write):
    adapter = run(
        write('out = "adapter"\n[train]\nmax_steps = 1\neval_every = 1\n' + ONE + "[evaluation]\nheld_out = 4\n")
    )
    record = json.loads((adapter / "training.json").read_text())
    assert record["data"]["train"]["pairs"] == 16
    assert record["data"]["evaluation"]["tasks"] == {"one": 4}
    assert '"eval_loss"' in (adapter / "log.jsonl").read_text()
    assert (adapter / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(("rank", "level"), [("0", "INFO"), ("1", "ERROR")])
def test_module_calls_run_and_only_the_first_process_talks(write, folder, monkeypatch, fitted, rank, level):
    logger = logging.getLogger("cellhermes")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    monkeypatch.setenv("RANK", rank)
    __main__.main([str(write('out = "a"\n' + ONE)), "--out", str(folder / "b"), "--overwrite"])
    assert (fitted["out"], fitted["overwrite"]) == (folder / "b", True)
    assert logging.getLevelName(logger.level) == level


@pytest.mark.slow
def test_python_m_trains(write, folder):
    path = write('out = "a"\n[train]\nmax_steps = 1\n' + ONE)
    done = subprocess.run([sys.executable, "-m", "cellhermes.train", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "trained: " in done.stderr
    assert (folder / "a" / "adapter_model.safetensors").is_file()
