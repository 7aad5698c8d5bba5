"""Two processes take the steps of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cellhermes.text import Prompt, QAPair
from cellhermes.train import TrainConfig, fit

# 37 is no multiple of anything, so the last step has rows without examples
PAIRS = [QAPair(Prompt(f"Gene {'CD4 ' * (i % 6)}{i} is"), f"answer {i % 7} " * (1 + i % 3), "demo") for i in range(37)]
CONFIG = TrainConfig(n_epochs=2, learning_rate=1e-3, batch_size=2, accumulation=4, eval_every=3, save_every=3)

SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from test_distributed import CONFIG, PAIRS
from cellhermes.train import fit
fit(PAIRS, CONFIG.replace(accumulation=2), base={base!r}, out={out!r}, device="cpu", evaluation=PAIRS[:7])
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
@pytest.mark.usefixtures("all_cores")
def test_two_processes_reproduce_the_loss_curve_of_one(folders, tmp_path):
    base = str(folders("llama"))
    one = fit(PAIRS, CONFIG, base=base, out=tmp_path / "one", device="cpu", evaluation=PAIRS[:7])
    script = tmp_path / "run.py"
    two = tmp_path / "two"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent), base=base, out=str(two)))
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    ended = subprocess.run(launcher, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    logs = [[json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()] for out in (one, two)]
    assert len(logs[0]) == len(logs[1]) == 10 + 4
    for found, expected in zip(logs[1], logs[0], strict=True):
        for name in ("seconds", "epoch"):  # rows without examples count towards an epoch
            del found[name], expected[name]
        assert found == pytest.approx(expected, abs=1e-4)
    assert json.loads((two / "training.json").read_text())["results"]["processes"] == 2
    weights, expected = (load_file(out / "adapter_model.safetensors") for out in (two, one))
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=0)
