"""The examples of docs/scale.md, with two processes on this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import cellhermes as ch

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
KEY = "X_cellhermes"


def example(name):
    """The code block behind a mark."""
    found = re.search(rf"^<!-- scale:{name} -->\n\n```\w+\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    assert found, name
    return found[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with ``sentences.zarr`` (three blocks) and ``big.zarr``, and the command line on the path."""
    cells = ch.datasets.toy(n_obs=2_100)
    cells.write_zarr(tmp_path / "big.zarr", chunks=None)
    ch.pp.cell_sentences(cells, n_genes=3, out=tmp_path / "sentences.zarr")
    command = tmp_path / "bin" / "cellhermes"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cellhermes "$@"\n')
    command.chmod(0o755)
    (tmp_path / "bin" / "torchrun").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n')
    (tmp_path / "bin" / "torchrun").chmod(0o755)
    for name in ("RANK", "WORLD_SIZE", "CELLHERMES_SHARD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_vectors(folder):
    found = ad.read_zarr(folder / "vectors.zarr").obsm[KEY]
    cells = ad.read_zarr(folder / "sentences.zarr")
    ch.tl.embed_cells(cells)
    np.testing.assert_allclose(found, cells.obsm[KEY], rtol=0, atol=1e-5 * np.abs(cells.obsm[KEY]).max())
    assert not (folder / "vectors.zarr.parts").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="bash")
def test_two_jobs_of_the_slurm_array(folder):
    script = folder / "job.sh"
    script.write_text(example("slurm"))
    jobs = [
        subprocess.Popen(["bash", script], env=os.environ | {"SLURM_ARRAY_TASK_ID": k, "SLURM_ARRAY_TASK_COUNT": "2"})
        for k in "01"
    ]
    assert [job.wait() for job in jobs] == [0, 0]
    check_vectors(folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="bash")
def test_two_processes_of_torchrun(folder):
    assert "--nproc-per-node 2" in example("torchrun")
    subprocess.run(["bash", "-c", example("torchrun")], check=True)
    check_vectors(folder)


@pytest.mark.slow
def test_two_workers_of_dask(folder):
    expected = ad.read_zarr(folder / "big.zarr")
    ch.pp.cell_sentences(expected)
    (folder / "sentences.zarr").rename(folder / "others.zarr")
    (folder / "run.py").write_text(example("dask"))
    done = subprocess.run([sys.executable, "run.py"], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.split() == ["4200", "pairs"]
    found = ad.read_zarr(folder / "sentences.zarr")
    assert found.obs["cell_sentence"].astype(str).tolist() == expected.obs["cell_sentence"].tolist()
    pairs = [pair for k in range(4) for pair in ch.train.corpus.Pairs.read(folder / f"corpus-{k}.jsonl")]
    whole = list(ch.train.corpus.mlm_pairs(expected))
    assert sorted(pair.prompt.text for pair in pairs) == sorted(pair.prompt.text for pair in whole)
