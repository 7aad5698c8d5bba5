"""Users' files are theirs: a folder that no run has begun is neither written to nor cleared, whatever it holds."""

import json
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

import cellhermes as ch
from cellhermes.cli import app
from cellhermes.text import Prompt, QAPair
from cellhermes.train import ReinforceConfig, TrainConfig, _folder, fit, reinforce, run

PAIRS = [QAPair(Prompt(f"Gene {i} is"), "Yes", "demo") for i in range(4)]
CONFIG = TrainConfig(max_steps=2, save_every=1)


@pytest.fixture
def base(folders):
    return folders("llama")


def held(folder):
    """Everything below a folder: contents of files, targets of links, and that there are folders."""
    return {
        str(path.relative_to(folder)): path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


THEIRS = {
    "a card": {"README.md": "mine"},
    "tokens": {"tokens/x.txt": "mine"},
    "tokens as ours": {"tokens/train/ids.bin": "mine"},
    "checkpoints": {"checkpoints/checkpoint-1/model.safetensors": "mine"},
    "a checkpoint": {"checkpoint-500/optimizer.pt": "mine"},
    "a log": {"log.jsonl": "mine"},
    "an adapter": {"adapter_config.json": "{}", "adapter_model.safetensors": "mine"},
    "a model": {"config.json": "{}", "model.safetensors": "mine", "cellhermes.json": "{}"},
    "a record of something else": {"training.json": '{"epochs": 3}', "model.pt": "mine"},
    "a damaged record": {"training.json": '{"run": {"conf', "README.md": "mine"},
    "a list as record": {"training.json": "[1]"},
    "a record with other files": {"training.json": '{"run": {"config": {}, "base": ""}, "files": ["x"]}', "x": "mine"},
    "a record of other places": {"training.json": '{"run": {"config": {}, "base": ""}, "files": {"../x": ""}}'},
    "an empty folder": {"figures/": ""},
    "a hidden file": {".git/HEAD": "mine"},
    "a lock with something": {".lock": "", "x": "mine"},
    "unfinished": {"unfinished/x": "mine", "unfinished.12345678/x": "mine"},
}


def fill(folder, files):
    for name, text in files.items():
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(text)


def by_fit(out, overwrite, tmp_path):
    fit(PAIRS, CONFIG, out=out, device="cpu", overwrite=overwrite)


def by_reinforce(out, overwrite, tmp_path):
    frame = pd.DataFrame({"gene": ["CD3E", "LYZ"], "cell_line": "K562", "answer": [1, 0]})
    reinforce(
        frame,
        "cell_fitness",
        ReinforceConfig(train=TrainConfig.preset("reinforce", max_steps=1)),
        out=out,
        device="cpu",
        overwrite=overwrite,
    )


def by_run(out, overwrite, tmp_path):
    run(run_file(tmp_path), out=out, overwrite=overwrite)


def by_command(out, overwrite, tmp_path):
    words = ["train", str(run_file(tmp_path)), "--out", str(out), *(["--overwrite"] if overwrite else [])]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    raise FileExistsError(done.output)


def run_file(tmp_path):
    beside = tmp_path / "run"
    beside.mkdir(exist_ok=True)
    (beside / "c.jsonl").write_text('{"instruction": "Is CD3E a gene?", "output": "Yes"}\n' * 4)
    (beside / "run.toml").write_text('device = "cpu"\n[train]\nmax_steps = 1\n[[pairs]]\npath = "c.jsonl"\n')
    return beside / "run.toml"


CALLS = [by_fit, by_reinforce, by_run, by_command]


@pytest.fixture
def no_model(monkeypatch):
    """Nothing is loaded before it is known whether the result has a place."""
    monkeypatch.setattr(ch.train._loop, "opened", lambda *_: pytest.fail("a model was opened"))


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("call", CALLS)
def test_a_folder_of_the_users_is_refused_and_untouched(tmp_path, call, kind, overwrite):
    out = tmp_path / "mine"
    fill(out, THEIRS[kind])
    before = held(out)
    with pytest.raises(FileExistsError, match="no record of a run"):
        call(out, overwrite, tmp_path)
    assert held(out) == before


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "link to a folder", "link to nothing", "link to a file"])
@pytest.mark.parametrize("call", CALLS)
def test_a_file_or_a_link_as_folder_is_refused_and_untouched(tmp_path, call, kind, overwrite):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    if kind == "link to a folder":
        elsewhere.mkdir()
    if kind == "link to a file":
        elsewhere.write_text("mine")
    out.write_text("mine") if kind == "file" else out.symlink_to(elsewhere)
    before = held(tmp_path)
    with pytest.raises(FileExistsError, match="is a file" if kind == "file" else "is a link"):
        call(out, overwrite, tmp_path)
    assert {name: what for name, what in held(tmp_path).items() if not name.startswith("run")} == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("out", ["base", "base/out", ".", "adapter", "adapter/checkpoints/out"])
def test_what_a_model_is_read_from_is_no_folder_for_results(base, tmp_path, out, overwrite):
    shutil.copytree(base, tmp_path / "base")
    adapter = fit(PAIRS, CONFIG, base=tmp_path / "base", out=tmp_path / "adapter", device="cpu")
    before = held(tmp_path)
    with pytest.raises(FileExistsError, match="which is read|no record of a run"):
        fit(PAIRS, CONFIG, base=adapter, out=tmp_path / out, device="cpu", overwrite=overwrite)
    assert held(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_folder_of_a_corpus_is_no_folder_for_results(base, tmp_path, overwrite):
    corpus = tmp_path / "data" / "log.jsonl"
    corpus.parent.mkdir()
    corpus.write_text('{"instruction": "Is CD3E a gene?", "output": "Yes"}\n' * 4)
    before = held(tmp_path)
    for sources in (corpus, {"a": corpus}):
        with pytest.raises(FileExistsError, match="log.jsonl', which is read"):
            fit(sources, CONFIG, base=base, out=corpus.parent, device="cpu", overwrite=overwrite)
    with pytest.raises(FileExistsError, match="log.jsonl', which is read"):
        fit(PAIRS, CONFIG, base=base, evaluation=corpus, out=corpus.parent, device="cpu", overwrite=overwrite)
    assert held(tmp_path) == before


def test_what_a_user_adds_to_the_folder_of_a_run_stays(base, tmp_path):
    """Also under names that a run takes, also when the run is replaced."""
    out = fit(PAIRS, CONFIG, base=base, out=tmp_path / "a", device="cpu")
    mine = {
        "notes.txt": "mine", "tokens/x.txt": "mine", "unfinished/x": "mine", "checkpoints/checkpoint-best-1/x": "mine",
        "checkpoints/x": "mine", "unfinished.12345678/x": "mine",
    }  # fmt: skip
    fill(out, {**mine, "checkpoints/checkpoint-1/notes.txt": "mine, too"})
    fit(PAIRS, CONFIG.replace(rank=4), base=base, out=out, device="cpu", overwrite=True)
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 4
    assert {name: (out / name).read_text() for name in mine} == mine
    (kept,) = (out / "checkpoints").glob("checkpoint-1.*.kept/notes.txt")
    assert kept.read_text() == "mine, too"


@pytest.mark.parametrize("what", ["file", "folder", "dangling link"])
def test_what_the_user_puts_in_the_place_of_a_card_is_kept_when_the_run_is_replaced(base, tmp_path, what):
    out = fit(PAIRS, CONFIG, base=base, out=tmp_path / "a", device="cpu")
    card = out / "README.md"
    card.unlink()
    if what == "file":
        card.write_text("mine")
    elif what == "folder":
        card.mkdir()
    else:
        card.symlink_to(tmp_path / "nowhere")
    fit(PAIRS, CONFIG.replace(rank=4), base=base, out=out, device="cpu", overwrite=True)
    (kept,) = out.glob("README.md.*.kept")
    assert (kept.is_file(), kept.is_dir(), kept.is_symlink()) == (what == "file", what == "folder", "link" in what)
    assert "LoRA adapter" in card.read_text()


def test_a_card_of_the_users_in_the_folder_of_a_run_is_kept_under_another_name(base, tmp_path, monkeypatch, caplog):
    out, settle = tmp_path / "a", _folder.settle

    def late(folder, where):
        (out / "README.md").write_text("mine")
        return settle(folder, where)

    monkeypatch.setattr(_folder, "settle", late)
    fit(PAIRS, CONFIG, base=base, out=out, device="cpu")
    (kept,) = out.glob("README.md.*.kept")
    assert kept.read_text() == "mine"
    assert kept.name in caplog.text
    assert "Written by cellhermes" in (out / "README.md").read_text()


@pytest.mark.parametrize("place", ["checkpoints/checkpoint-1", "checkpoints/checkpoint-9"])
def test_a_checkpoint_that_no_run_has_written_is_told_at_the_start(base, tmp_path, place):
    out = tmp_path / "a"
    fit(PAIRS, CONFIG, base=base, out=out, device="cpu")
    shutil.rmtree(out / "checkpoints")
    fill(out, {f"{place}/optimizer.pt": "mine"})
    with pytest.raises(FileExistsError, match="is no checkpoint of this run, so it stays"):
        fit(PAIRS, CONFIG, base=base, out=out, device="cpu", overwrite=True)
    assert (out / place / "optimizer.pt").read_text() == "mine"


def test_a_run_that_was_killed_before_its_record_can_begin_again(base, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".lock").touch()
    (tmp_path / "a" / "training.json.0123abcd.part").write_text("{")
    assert (fit(PAIRS, CONFIG, base=base, out=tmp_path / "a", device="cpu") / "adapter_config.json").is_file()


def test_a_base_that_was_changed_under_its_name_is_another_run(base, tmp_path):
    copy = shutil.copytree(base, tmp_path / "base")
    out = fit(PAIRS, CONFIG, base=copy, out=tmp_path / "a", device="cpu")
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-100] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(FileExistsError, match="differs in base_sha256"):
        fit(PAIRS, CONFIG, base=copy, out=out, device="cpu")


def test_pairs_made_by_other_means_are_another_run(base, tmp_path):
    def made(answer):
        questions = [QAPair(Prompt(f"Gene {i}"), answer, "demo") for i in range(5)]
        return ch.train.corpus.Pairs(lambda numbers: [questions[i] for i in numbers], 5, task="x")

    out = fit(made("Yes"), CONFIG, base=base, out=tmp_path / "a", device="cpu")
    with pytest.raises(FileExistsError, match="differs in pairs"):
        fit(made("No"), CONFIG, base=base, out=out, device="cpu")
    stream = fit(iter(made("Yes")), CONFIG, base=base, out=tmp_path / "b", device="cpu")
    with pytest.raises(FileExistsError, match="differs in pairs"):
        fit(iter(made("No")), CONFIG, base=base, out=stream, device="cpu")


def test_a_run_that_never_took_a_step_gives_way_to_the_one_that_is_put_right(base, tmp_path):
    corpus, out = tmp_path / "c.jsonl", tmp_path / "a"
    corpus.write_text('{"instruction": "Is CD3E a gene?", "output": "Yes"}\n{"instr')
    with pytest.raises(ValueError, match="line 2.*not JSON"):
        fit(corpus, CONFIG, base=base, out=out, device="cpu")
    corpus.write_text('{"instruction": "Is CD3E a gene?", "output": "Yes"}\n')
    fit(corpus, CONFIG, base=base, out=out, device="cpu")
    assert json.loads((out / "training.json").read_text())["data"]["train"]["pairs"] == 1
    assert not (out / "tokens").exists()


def test_what_the_user_has_changed_in_a_checkpoint_is_kept_when_it_is_removed(base, tmp_path, caplog):
    out = fit(PAIRS, CONFIG, base=base, out=tmp_path / "a", device="cpu")
    changed = out / "checkpoints" / "checkpoint-2" / "adapter_config.json"
    changed.write_text("mine")
    fit(PAIRS, CONFIG, base=base, out=out, device="cpu", overwrite=True)
    kept = [path for path in (out / "checkpoints").rglob("*") if path.is_file() and ".kept" in path.parent.name]
    assert [(path.name, path.read_text()) for path in kept] == [("adapter_config.json", "mine")]
    assert "no run has written like this" in caplog.text


@pytest.mark.parametrize("device", ["abacus", "cuda:7", ""])
def test_a_device_that_is_not_there_is_refused(base, tmp_path, device):
    with pytest.raises(ValueError, match="expected 'cpu', or None for what is there"):
        fit(PAIRS, CONFIG, base=base, out=tmp_path / "a", device=device)
