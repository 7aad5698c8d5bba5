"""Kill long work at random moments, again and again: ``python -m benchmarks.soak --times 50``.

Each round starts one kind of work in a process of its own, kills that process (SIGKILL, as the system does when memory
is out) after a random time, and starts it again, until one is let through. What stands on the disk then has to be what
an undisturbed run writes, byte for byte (training: every step's loss and every weight), and at no moment may something
unfinished stand under the final name. Work of two processes loses one of them; the other is killed too, as torchrun
does, or goes on, as another job of a SLURM array does. ``memory`` instead limits the memory that a process may take, to
a random number of megabytes more than it has: each verb has to give what it gives without a limit, from smaller
batches. Needs a system with fork. Fifty rounds of each kind took about half an hour on two cores that did other work.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import resource
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes are forked, which threads do not survive
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file

import cellhermes as ch
from cellhermes.tl import _answer, _embed_cells

if TYPE_CHECKING:
    from collections.abc import Callable

N_CELLS, BLOCK = 240, 20
N = 2  # processes of a group
MAX_KILLS = 8  # of one round


@dataclass(frozen=True, slots=True)
class Work:
    """Something that takes a while and leaves a result.

    Parameters
    ----------
    name
        What it is.
    result
        Name of the file or folder that it leaves.
    run
        Does it, into a folder.
    same
        Says how two results differ; empty if they don't.
    group
        What says to process k of n which it is, where several work together.
    """

    name: str
    result: str
    run: Callable[[Path], None]
    same: Callable[[Path, Path], str]
    group: Callable[[int], dict[str, str]] | None = None


def same_bytes(found: Path, expected: Path) -> str:
    """Whether two files, or two folders with all that is in them, are equal."""
    names = [{path.relative_to(top) for path in top.rglob("*") if path.is_file()} for top in (found, expected)]
    if names[0] != names[1]:
        return f"other files: {sorted(map(str, names[0] ^ names[1]))[:5]}"
    files = sorted(names[0]) or [Path()]
    return ", ".join(str(name) for name in files if (found / name).read_bytes() != (expected / name).read_bytes())


def same_training(found: Path, expected: Path) -> str:
    """Whether two runs logged the same losses, each step once, and have the same weights."""
    logs = [
        [json.loads(line) for line in (top / "log.jsonl").read_text("utf-8").splitlines()] for top in (found, expected)
    ]
    logs = [[{key: value for key, value in line.items() if key != "seconds"} for line in log] for log in logs]
    if logs[0] != logs[1]:
        return f"logs of {len(logs[0])} and {len(logs[1])} lines differ"
    weights = [load_file(top / "adapter_model.safetensors") for top in (found, expected)]
    return ", ".join(key for key in weights[1] if not np.array_equal(weights[0][key], weights[1][key]))


def works(folder: Path) -> list[Work]:
    """Kinds of work, small enough for a few hundred repetitions."""
    _embed_cells.BLOCK = _answer.BLOCK = BLOCK
    adata = ch.datasets.toy(n_obs=N_CELLS)
    adata.write_h5ad(folder / "cells.h5ad")
    cells = ch.datasets.toy(n_obs=N_CELLS)
    ch.pp.cell_sentences(cells, n_genes=30)
    cells.write_h5ad(folder / "sentences.h5ad")
    pairs = ch.train.corpus.mlm_pairs(cells)
    config = ch.train.TrainConfig(max_steps=10, batch_size=4, accumulation=1, save_every=2, max_tokens=128)
    types = ["B cell", "T cell", "monocyte"]

    def model() -> ch.CellHermes:  # in each process: what torch starts in one that used a model is lost in a fork of it
        return ch.CellHermes.from_pretrained("mini", device="cpu")

    def sentences(out: Path) -> None:
        ch.pp.cell_sentences(folder / "cells.h5ad", chunk_size=8, out=out / "sentences.zarr")

    def vectors(out: Path) -> None:
        ch.tl.embed_cells(folder / "sentences.h5ad", model(), out=out / "vectors.zarr")

    def answers(out: Path) -> None:
        ch.tl.predict(
            folder / "sentences.h5ad",
            model(),
            ch.text.Question("cell_type", answers=types),
            key_added="said",
            out=out / "said.zarr",
        )

    def corpus(out: Path) -> None:
        if not (out / "corpus.jsonl").exists():  # a finished corpus is not written again without being asked to
            pairs.write(out / "corpus.jsonl")

    def training(out: Path) -> None:
        ch.train.fit(pairs, config, base="mini", out=out / "adapter", device="cpu")

    return [
        Work("sentences", "sentences.zarr", sentences, same_bytes),
        Work("vectors", "vectors.zarr", vectors, same_bytes),
        Work("answers", "said.zarr", answers, same_bytes),
        Work(
            "vectors, launched", "vectors.zarr", vectors, same_bytes, lambda k: {"RANK": f"{k}", "WORLD_SIZE": f"{N}"}
        ),
        Work("vectors, array", "vectors.zarr", vectors, same_bytes, lambda k: {"CELLHERMES_SHARD": f"{k}/{N}"}),
        Work("corpus", "corpus.jsonl", corpus, same_bytes),
        Work("training", "adapter", training, same_training),
    ]


def started(work: Work, out: Path) -> list[multiprocessing.Process]:
    """The processes of one run."""

    def run(environment: dict[str, str]) -> None:
        os.environ.update(environment)
        work.run(out)

    environments = [{}] if work.group is None else [work.group(k) for k in range(N)]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=run, args=(environment,)) for environment in environments]
    for process in processes:
        process.start()
    return processes


def ended(work: Work, processes: list[multiprocessing.Process]) -> None:
    """Wait for processes, which have to succeed."""
    for process in processes:
        process.join()
        if process.exitcode:
            msg = f"{work.name} ended with {process.exitcode}."
            raise RuntimeError(msg)


def undisturbed(work: Work, out: Path) -> float:
    """Run to the end, in processes of its own; return the seconds."""
    start = time.monotonic()
    ended(work, started(work, out))
    return time.monotonic() - start


def kill_once(work: Work, out: Path, seconds: float, rng: np.random.Generator) -> bool:
    """Run, and kill (one of) it after some seconds; return whether that was still running."""
    processes = started(work, out)
    time.sleep(seconds)
    victim = processes.pop(rng.integers(len(processes)))
    running = victim.is_alive()
    victim.kill()
    victim.join()
    if not running:
        processes.append(victim)
    elif work.group is not None and "RANK" in work.group(0):  # a launcher stops the others
        for process in processes:
            process.kill()
            process.join()
        return True
    ended(work, processes)
    return running


def memory(folder: Path, times: int, rng: np.random.Generator) -> dict[str, object]:
    """Each verb with less and less memory, and with all it wants."""
    model = ch.CellHermes.from_pretrained("mini", device="cpu")
    cells = ch.datasets.toy(n_obs=N_CELLS)
    ch.pp.cell_sentences(cells)
    cell = ch.text.Template.load("cell")
    prompts = [cell.fill(genes=sentence.split()) for sentence in cells.obs["cell_sentence"]]
    verbs = {
        "embed": lambda: model.embed(prompts, batch_size=N_CELLS),
        "score": lambda: model.score(prompts, ["Yes", "No"], batch_size=N_CELLS),
        "attend": lambda: np.array([a.weights.max() for a in model.attend(prompts, batch_size=N_CELLS)]),
    }
    expected = {name: verb() for name, verb in verbs.items()}

    def run(name: str, allowed: float, file: Path) -> None:
        size = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (size + int(allowed * 1e6),) * 2)
        found = verbs[name]()
        file.write_text(str(np.abs(found - expected[name]).max() / np.abs(expected[name]).max()))

    wrong, seconds = [], 0.0
    for k in range(times):
        name, allowed = [*verbs][k % len(verbs)], 10 ** rng.uniform(0.5, 2.5)
        file = folder / f"memory{k}"
        start = time.monotonic()
        process = multiprocessing.get_context("fork").Process(target=run, args=(name, allowed, file))
        process.start()
        process.join()
        seconds = max(seconds, time.monotonic() - start)
        if process.exitcode or float(file.read_text()) > 1e-5:
            wrong.append(f"{name} with {allowed:.0f} MB: ended with {process.exitcode}")
    row = {"work": "memory", "seconds": round(seconds, 2), "rounds": times, "kills": 0, "wrong": len(wrong)}
    print(row, *wrong[:3], sep="\n  ", flush=True)
    return row


def soak(work: Work, folder: Path, times: int, rng: np.random.Generator) -> dict[str, object]:
    """Kill one kind of work in so many rounds, and compare."""
    expected = folder / work.name / "expected"
    expected.mkdir(parents=True)
    undisturbed(work, expected)
    again = folder / work.name / "again"
    again.mkdir()
    seconds = undisturbed(work, again)  # without what the first one has to warm up
    if how := work.same(again / work.result, expected / work.result):
        msg = f"{work.name} gives another result when it is run again: {how}"
        raise RuntimeError(msg)
    kills, wrong = 0, []
    for k in range(times):
        out = folder / work.name / str(k)
        out.mkdir()
        for _ in range(1 + rng.integers(MAX_KILLS)):
            running = kill_once(work, out, rng.uniform(0, seconds), rng)
            kills += running
            finished = work.name != "training" and (out / work.result).exists()
            if finished and (how := work.same(out / work.result, expected / work.result)):
                wrong.append(f"round {k}, unfinished under its final name: {how}")
            if not running:
                break
        undisturbed(work, out)
        if how := work.same(out / work.result, expected / work.result):
            wrong.append(f"round {k}: {how}")
        left = sorted({path.name for path in out.iterdir()} - {path.name for path in expected.iterdir()})
        if left:
            wrong.append(f"round {k}: left behind: {left}")
        shutil.rmtree(out)
    row = {"work": work.name, "seconds": round(seconds, 2), "rounds": times, "kills": int(kills), "wrong": len(wrong)}
    print(row, *wrong[:3], sep="\n  ", flush=True)
    return row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="rounds of each kind")
    parser.add_argument("--only", action="append", help="a kind of work; repeat for more")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        kinds = [work for work in works(Path(folder)) if not given.only or work.name in given.only]
        rows = [soak(work, Path(folder), given.times, rng) for work in kinds]
        if not given.only or "memory" in given.only:
            rows.append(memory(Path(folder), given.times, rng))
    print(pd.DataFrame(rows).to_string(index=False))
    if any(row["wrong"] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
