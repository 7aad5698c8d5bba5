"""The paper's whole corpus: time and memory of 6.1 million pairs, and prompts per second against cell2sentence 1.2.0.

The cells are resampled from a small data set until there are as many as in the paper, each with a few neighbouring
genes of its sentence swapped, so that no two share memory. The graph is BioGRID 4.4.232. Memory is the proportional
share (PSS) of this process and of its workers, above what cells and graph take. The file goes to a temporary folder and
takes about 6 GB there.

cell2sentence formats one prompt a cell, with its own templates; it may live in another environment:

    python benchmarks/corpus.py --data path/to/data --peer-python path/to/other/bin/python
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import cellhermes as ch

CELLS, LINKS = 1_136_218, 1_455_846  # of the paper
METADATA = ["cell_type", "batch"]

PEER = """
import json, sys, time
from cell2sentence.prompt_formatter import C2SPromptFormatter
from datasets import Dataset, disable_progress_bars
disable_progress_bars()
cells = Dataset.from_json(sys.argv[1], cache_dir=sys.argv[2] + "/cache")
formatter = C2SPromptFormatter("cell_type_generation", top_k_genes=100)
made, written = [], []
for _ in range(int(sys.argv[3])):
    start = time.perf_counter()
    prompts = formatter.format_hf_ds(cells)
    made.append(time.perf_counter() - start)
    prompts.to_json(sys.argv[2] + "/prompts.jsonl")
    written.append(time.perf_counter() - start)
print(json.dumps({"made": made, "written": written, "n": len(prompts)}))
"""


def resampled(path: Path, n_cells: int, seed: int = 0) -> ad.AnnData:
    """Cells drawn with replacement; ten genes of each sentence change places with their neighbour."""
    base = ad.read_h5ad(path)
    ch.pp.cell_sentences(base)
    rng = np.random.default_rng(seed)
    genes = [sentence.split() for sentence in base.obs["cell_sentence"]]
    drawn = rng.integers(base.n_obs, size=n_cells)
    swaps = rng.random((n_cells, 10), dtype=np.float32)
    sentences = []
    for cell, places in zip(drawn, swaps, strict=True):
        words = genes[cell].copy()
        for i in (places * (len(words) - 1)).astype(int):
            words[i], words[i + 1] = words[i + 1], words[i]
        sentences.append(" ".join(words))
    obs = base.obs[METADATA].iloc[drawn].reset_index(drop=True)
    obs.index = [f"cell_{i}" for i in range(n_cells)]
    obs["cell_sentence"] = pd.Series(sentences, index=obs.index, dtype=object)
    return ad.AnnData(obs=obs)


def memory() -> float:
    """Megabytes of this process and its children; pages that they share count once."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    total = 0
    for pid in pids:
        try:
            rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # ended meanwhile, or not Linux
            continue
        total += sum(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
    return total / 1024


@contextmanager
def peak():
    """Largest memory while the block runs, above that at its beginning, in megabytes."""
    gc.collect()
    begin, seen, over = memory(), [0.0], threading.Event()

    def watch():
        while not over.wait(0.25):
            seen[0] = max(seen[0], memory() - begin)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        seen[0] = max(seen[0], memory() - begin)
        over.set()
        watcher.join()


def corpus(adata: ad.AnnData, graph: object, n_links: int) -> ch.train.corpus.Pairs:
    sets = [
        ch.train.corpus.mlm_pairs(adata, metadata=METADATA),
        ch.train.corpus.ar_pairs(adata, metadata=METADATA),
        ch.train.corpus.node_pairs(graph),
        ch.train.corpus.link_pairs(graph, n_pairs=n_links),
    ]
    for pairs in sets:
        print(f"  {pairs.task:<14}{len(pairs):>12,}   dropped {dict(pairs.dropped) or 'none'}")
    return ch.train.corpus.mixture(sets, None)


def full(data: Path, n_cells: int, n_links: int, n_workers: int, suffix: str) -> None:
    adata = resampled(data / "pbmc_two_batches.h5ad", n_cells)
    start = time.perf_counter()
    graph = ch.io.read_edges(data / "biogrid_4.4.232_human_edges.tsv.gz")
    print(f"read {graph.number_of_edges():,} edges of {len(graph):,} genes in {time.perf_counter() - start:.1f} s")
    with tempfile.TemporaryDirectory() as folder, peak() as most:
        start = time.perf_counter()
        pairs = corpus(adata, graph, n_links)
        built = time.perf_counter() - start
        card = pairs.write(Path(folder) / f"corpus{suffix}", n_workers=n_workers)
        total = time.perf_counter() - start
    print(
        f"{len(pairs):,} pairs of {n_cells:,} cells and the graph, {n_workers} processes, {card['bytes'] / 1e9:.2f} GB"
    )
    print(
        f"  builders {built:.1f} s, all {total:.1f} s ({total / 60:.1f} min), {len(pairs) / total:,.0f} pairs a second"
    )
    print(f"  peak above the input: {most[0]:,.0f} MB; longest: ", end="")
    print(max(seen["tokens_longest"] for seen in card["templates"].values()), "tokens of mini")


def seconds(n: int, function, *args) -> float:
    """Median of several runs."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        function(*args)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def made(adata: ad.AnnData) -> None:
    deque(ch.train.corpus.mlm_pairs(adata, metadata=["cell_type"]), maxlen=0)


def written(adata: ad.AnnData, path: str) -> None:
    ch.train.corpus.mlm_pairs(adata, metadata=["cell_type"]).write(path, overwrite=True)


def against_peer(python: str, data: Path, n_cells: int, repeats: int) -> None:
    """Prompts a second of both, one process each, on the same cells: made one by one, and as JSON lines.

    The peer cuts its prompts from sentences of all expressed genes, which is what it stores; a second column gives it
    sentences of 100 genes, as ours are. It gives one prompt a cell, ours are two.
    """
    base = ad.read_h5ad(data / "pbmc_two_batches.h5ad")
    drawn = np.random.default_rng(0).integers(base.n_obs, size=n_cells)
    obs = base.obs[METADATA].iloc[drawn].set_axis([f"cell_{i}" for i in range(n_cells)])
    base = ad.AnnData(base.X[drawn], obs=obs, var=base.var)
    theirs = []
    with tempfile.TemporaryDirectory() as folder:
        for n_genes in (base.n_vars, 100):
            ch.pp.cell_sentences(base, n_genes=n_genes)
            table = base.obs[["cell_sentence", "cell_type"]].assign(organism="Homo sapiens")
            table.to_json(f"{folder}/cells{n_genes}.jsonl", orient="records", lines=True)
            command = [python, "-c", PEER, f"{folder}/cells{n_genes}.jsonl", folder, str(repeats)]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            theirs.append(json.loads(out.splitlines()[-1]))
        ours = {
            "made": seconds(repeats, made, base),
            "written": seconds(repeats, written, base, f"{folder}/corpus.jsonl"),
        }
    head = f"{n_cells:,} cells, prompts a second, medians of {repeats}"
    print(f"\n{head:<50}{'peer, all genes':>18}{'peer, 100':>12}{'ours':>12}{'ratios':>16}")
    for name, mine in ours.items():
        rates = [n_cells / np.median(peer[name]) for peer in theirs] + [2 * n_cells / mine]
        ratios = f"{rates[2] / rates[0]:.1f}, {rates[2] / rates[1]:.1f}"
        print(f"  {name:<48}{rates[0]:>18,.0f}{rates[1]:>12,.0f}{rates[2]:>12,.0f}{ratios:>16}")


def main() -> None:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CELLHERMES_TEST_DATA") or beside))
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--links", type=int, default=LINKS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--format", choices=["jsonl", "parquet"], default="jsonl")
    parser.add_argument("--peer-cells", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", default=sys.executable if find_spec("cell2sentence") else None)
    args = parser.parse_args()
    full(args.data, args.cells, args.links, args.workers, f".{args.format}")
    if args.peer_python:
        against_peer(args.peer_python, args.data, args.peer_cells, args.repeats)


if __name__ == "__main__":
    main()
