"""Interrupted runs: nothing since the last checkpoint is lost, and nothing half-written is trusted."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cellhermes.text import Prompt, QAPair
from cellhermes.train import TrainConfig, _checkpoints, _folder, fit
from cellhermes.train._trainer import HermesTrainer

PAIRS = [QAPair(Prompt(f"Gene {'CD4 ' * (i % 5)}{i} is"), f"answer {i % 7}", "demo") for i in range(50)]
CONFIG = TrainConfig(
    n_epochs=2, save_every=3, eval_every=3, learning_rate=1e-3, batch_size=2, accumulation=2, dropout=0.1
)


@pytest.fixture
def base(folders):
    return folders("llama")


@pytest.fixture(scope="module", params=["lora", "full"])
def uninterrupted(request, folders, tmp_path_factory):
    config = CONFIG.replace(method=request.param)
    out = tmp_path_factory.mktemp("run") / "a"
    fit(PAIRS, config, base=folders("llama"), out=out, device="cpu", evaluation=PAIRS[:6])
    return config, out


def losses(out):
    """Step to whatever the log says of it but the time."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def check_equal(out, reference):
    assert len(losses(out)) == len(losses(reference)), "no step is missing and none is there twice"
    for found, expected in zip(losses(out), losses(reference), strict=True):
        assert found == pytest.approx(expected, abs=1e-6)
    (name,) = [path.name for path in reference.glob("*model.safetensors")]
    weights, expected = load_file(out / name), load_file(reference / name)
    assert weights.keys() == expected.keys()
    for key, value in weights.items():
        torch.testing.assert_close(value, expected[key], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("number", "step"), [(signal.SIGTERM, 1), (signal.SIGINT, 14), (signal.SIGTERM, 20), (signal.SIGINT, 20)]
)
def test_a_signal_leaves_a_checkpoint_of_its_step(base, tmp_path, uninterrupted, monkeypatch, number, step):
    config, reference = uninterrupted
    plain = HermesTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == step - 1 and not self.stop.received:
            signal.raise_signal(number)
        return plain(self, *args, **kwargs)

    out, handlers = tmp_path / "a", [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr(HermesTrainer, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as error:
        fit(PAIRS, config, base=base, out=out, device="cpu", evaluation=PAIRS[:6])
    assert number == signal.SIGINT or error.value.code == 128 + signal.SIGTERM
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert _checkpoints.latest(out / "checkpoints").name == f"checkpoint-{step}"
    monkeypatch.setattr(HermesTrainer, "training_step", plain)
    fit(PAIRS, config, base=base, out=out, device="cpu", evaluation=PAIRS[:6])
    check_equal(out, reference)


def test_tokens_are_counted_on_from_the_checkpoint(base, tmp_path, monkeypatch):
    """Also those of the steps between the last line of the log and the checkpoint."""
    config, whole, out = CONFIG.replace(max_steps=6, log_every=3), tmp_path / "whole", tmp_path / "a"
    fit(PAIRS, config, base=base, out=whole, device="cpu")
    plain = HermesTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 4 and not self.stop.received:
            signal.raise_signal(signal.SIGTERM)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(HermesTrainer, "training_step", interrupted)
    with pytest.raises(SystemExit):
        fit(PAIRS, config, base=base, out=out, device="cpu")
    monkeypatch.setattr(HermesTrainer, "training_step", plain)
    fit(PAIRS, config, base=base, out=out, device="cpu")
    assert [line["tokens"] for line in losses(out)] == [line["tokens"] for line in losses(whole)]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_run_in_the_same_folder_is_refused(base, tmp_path, monkeypatch, overwrite):
    monkeypatch.setattr(_folder, "PATIENCE", 0)
    config, out = CONFIG.replace(max_steps=1), tmp_path / "a"
    out.mkdir()
    with _folder.held(out, is_first=True), pytest.raises(BlockingIOError, match="Another run is writing to"):
        fit(PAIRS, config, base=base, out=out, device="cpu", overwrite=overwrite)
    assert not (out / "training.json").exists()
    fit(PAIRS, config, base=base, out=out, device="cpu", overwrite=overwrite)
    assert not (out / ".lock").exists()


def flip(path):
    """Change one bit in the middle of a file, and change it back."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
from test_resume import CONFIG, PAIRS
from cellhermes.train import _checkpoints, fit
from cellhermes.train._trainer import HermesTrainer

plain = {owner}.{name}

def dying(*args, **kwargs):
    if {when}:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(*args, **kwargs)

{owner}.{name} = dying
fit(PAIRS, CONFIG.replace(method={method!r}), base={base!r}, out={out!r}, device="cpu", evaluation=PAIRS[:6])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    ("owner", "name", "when"),
    [
        ("HermesTrainer", "training_step", "args[0].state.global_step == 8"),  # between two checkpoints
        ("HermesTrainer", "_save_rng_state", "args[0].state.global_step == 9"),  # in the middle of one
        ("_checkpoints", "seal", "args[0].name == 'checkpoint-9'"),  # all is written but the list of what there is
    ],
)
def test_a_kill_loses_no_more_than_the_steps_since_the_last_checkpoint(
    base, tmp_path, uninterrupted, owner, name, when
):
    config, reference = uninterrupted
    if (config.method == "full") != (name == "_save_rng_state"):
        pytest.skip("the same code with an adapter and without; each case starts a process")
    out = tmp_path / "a"
    script = KILLED.format(
        here=str(Path(__file__).parent), owner=owner, name=name, when=when, method=config.method, base=str(base),
        out=str(out),
    )  # fmt: skip
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    assert _checkpoints.latest(out / "checkpoints").name == "checkpoint-6"
    fit(PAIRS, config, base=base, out=out, device="cpu", evaluation=PAIRS[:6])
    check_equal(out, reference)


def test_damaged_checkpoints_are_skipped(base, tmp_path, uninterrupted, caplog):
    """A file cut short, changed or gone, and a folder without its list do not count."""
    config, reference = uninterrupted
    out = tmp_path / "a"
    shutil.copytree(reference, out)
    record = json.loads((out / "training.json").read_text())
    (out / "training.json").write_text(json.dumps({"run": record["run"], "files": record["files"]}))
    whole, last = _checkpoints.checkpoints(out / "checkpoints")
    with (last / "optimizer.pt").open("r+b") as file:
        file.truncate(100)
    assert _checkpoints.latest(out / "checkpoints") == whole
    assert f"{last} is half-written or was changed, and is skipped" in caplog.text
    flip(whole / "optimizer.pt")
    assert not _checkpoints.is_whole(whole)
    flip(whole / "optimizer.pt")
    (whole / "scheduler.pt").rename(whole / "elsewhere.pt")
    assert not _checkpoints.is_whole(whole)
    (whole / "elsewhere.pt").rename(whole / "scheduler.pt")
    assert _checkpoints.is_whole(whole)
    shutil.copytree(whole, out / "checkpoints" / "checkpoint-999")
    (out / "checkpoints" / "checkpoint-999" / "complete.json").rename(
        out / "checkpoints" / "checkpoint-999" / "begun.json"
    )
    for name in [path.name for path in out.glob("*model.safetensors")]:
        (out / name).unlink()
    fit(PAIRS, config, base=base, out=out, device="cpu", evaluation=PAIRS[:6])
    check_equal(out, reference)


def test_old_checkpoints_are_removed_by_their_steps(base, tmp_path):
    """A clock that was put back, or a folder that was copied, makes the newest checkpoint look like the oldest."""
    config = CONFIG.replace(n_epochs=1, save_every=2, max_steps=6, keep=2)
    seal, kept = _checkpoints.seal, []

    def seal_in_the_future(folder):
        seal(folder)
        os.utime(folder, (2**32 - len(kept) * 10**6,) * 2)
        kept.append(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_checkpoints, "seal", seal_in_the_future)
        fit(PAIRS, config, base=base, out=tmp_path, device="cpu")
    assert len(kept) == 3
    assert _checkpoints.checkpoints(tmp_path / "checkpoints") == kept[1:]


@pytest.mark.parametrize(
    ("best", "left"), [(None, [20, 100]), (20, [20, 100]), (100, [20, 100]), (3, [3, 100]), (5, [20, 100])]
)
def test_the_best_checkpoint_is_among_those_that_are_kept(tmp_path, best, left):
    for step in (100, 3, 20):
        _checkpoints.begin(tmp_path / f"checkpoint-{step}")
    for name in ("checkpoint-²", "checkpoint-4", "checkpoint-best-5"):
        (tmp_path / name).mkdir()  # nobody's step, and somebody else's
    _checkpoints.rotate(tmp_path, keep=2, best=best and f"elsewhere/checkpoint-{best}")
    assert [_checkpoints.step_of(path) for path in _checkpoints.checkpoints(tmp_path)] == left


@pytest.mark.parametrize("writer", ["torch", "safetensors"])
def test_a_full_disk_says_so_and_keeps_the_last_checkpoint(base, tmp_path, uninterrupted, monkeypatch, writer):
    config, reference = uninterrupted
    out, plain = tmp_path / "a", HermesTrainer._save_rng_state

    def full(self, folder):
        if self.state.global_step == 6:
            if writer == "torch":
                raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(self, folder)

    monkeypatch.setattr(HermesTrainer, "_save_rng_state", full)
    with pytest.raises(OSError, match="is full: checkpoint 6 was not written.*goes on from .*checkpoint-3"):
        fit(PAIRS, config, base=base, out=out, device="cpu", evaluation=PAIRS[:6])
    assert [path.name for path in _checkpoints.checkpoints(out / "checkpoints")] == ["checkpoint-3"]
    monkeypatch.setattr(HermesTrainer, "_save_rng_state", plain)
    fit(PAIRS, config, base=base, out=out, device="cpu", evaluation=PAIRS[:6])
    check_equal(out, reference)


def test_a_disk_without_room_for_a_checkpoint_is_found_before_the_first_step(base, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    monkeypatch.setattr(HermesTrainer, "training_step", None)
    with pytest.raises(OSError, match="to be written, but .* left"):
        fit(PAIRS, CONFIG, base=base, out=tmp_path / "a", device="cpu")


def test_checkpoints_are_read_without_unpickling(base, tmp_path, monkeypatch):
    loaded, plain = [], torch.load

    def load(*args, **kwargs):
        loaded.append(kwargs.get("weights_only"))
        return plain(*args, **kwargs)

    step = HermesTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 4 and not self.stop.received:
            raise RuntimeError("power cut")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(HermesTrainer, "training_step", interrupted)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(PAIRS, CONFIG, base=base, out=tmp_path / "a", device="cpu")
    monkeypatch.setattr(HermesTrainer, "training_step", step)
    monkeypatch.setattr(torch, "load", load)
    fit(PAIRS, CONFIG, base=base, out=tmp_path / "a", device="cpu")
    assert loaded
    assert all(loaded)


# What is gone or was changed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weights", "config"])
def test_a_finished_run_whose_files_are_gone_is_trained_to_its_end_again(base, tmp_path, uninterrupted, caplog, name):
    config, reference = uninterrupted
    out = shutil.copytree(reference, tmp_path / "a")
    names = {"weights": out.glob("*model.safetensors"), "config": out.glob("*config.json")}[name]
    for path in list(names):
        path.unlink()
    fit(PAIRS, config, base=base, out=out, device="cpu", evaluation=PAIRS[:6])
    assert "of this run are gone. It goes on from its last checkpoint" in caplog.text
    check_equal(out, reference)


def test_a_finished_run_whose_weights_were_changed_is_refused_and_kept(base, tmp_path, uninterrupted):
    config, reference = uninterrupted
    out = shutil.copytree(reference, tmp_path / "a")
    (weights,) = out.glob("*model.safetensors")
    flip(weights)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match=f"{weights.name} is not what the run wrote"):
        fit(PAIRS, config, base=base, out=out, device="cpu", evaluation=PAIRS[:6])
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (out / "README.md").write_text("my own words about it")
    flip(weights)
    fit(PAIRS, config, base=base, out=out, device="cpu", evaluation=PAIRS[:6])
    assert (out / "README.md").read_text() == "my own words about it"


def test_a_finished_run_says_that_nothing_is_computed(base, tmp_path, uninterrupted, caplog):
    config, reference = uninterrupted
    fit(PAIRS, config, base=base, out=reference, device="cpu", evaluation=PAIRS[:6])
    assert f"{reference} holds this run already, finished: nothing is computed" in caplog.text
