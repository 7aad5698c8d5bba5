"""Cells per second of cell sentences, against cell2sentence 1.2.0 on the same data.

20,000 cells x 20,000 genes with about 1,500 expressed genes a cell, counts. Every gene may stand in a sentence on both
sides. cell2sentence writes all expressed genes, cellhermes the first 100; a row with all genes is given as well.
cell2sentence may live in another environment, because it asks for other versions of shared packages:

    python benchmarks/sentences.py --peer-python path/to/other/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from heapq import nsmallest
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # which is how many threads sentences take

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import cellhermes as ch

PEER = """
import json, sys, time, warnings
import anndata, cell2sentence
warnings.simplefilter("ignore")
adata = anndata.read_h5ad(sys.argv[1])
times = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter(), time.process_time()
    arrow, _ = cell2sentence.CSData.adata_to_arrow(adata, label_col_names=["cell_type"])
    times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
print(json.dumps({"times": times, "sentences": arrow["cell_sentence"][:200]}))
"""


def counts(n_cells: int, n_genes: int, seed: int = 0) -> ad.AnnData:
    """Negative binomial counts around log-normal means, which give about 1,500 expressed genes of 20,000."""
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(-4.2, 2.2, n_genes).astype("float32")
    blocks = []
    for start in range(0, n_cells, 1000):
        size = (min(1000, n_cells - start), n_genes)
        depth = rng.lognormal(0, 0.3, (size[0], 1)).astype("float32")
        drawn = rng.poisson(mean * depth * rng.standard_gamma(2, size, dtype="float32") / 2)
        blocks.append(sparse.csr_matrix(drawn.astype("float32")))
    obs = pd.DataFrame({"cell_type": "cell"}, index=[f"C{i}" for i in range(n_cells)])
    var = pd.DataFrame({"sentence_gene": True}, index=[f"GENE{i}" for i in range(n_genes)])
    return ad.AnnData(sparse.vstack(blocks).tocsr(), obs=obs, var=var)


def naive(adata: ad.AnnData, n_genes: int = 100) -> None:
    """Plain Python: a heap and a join for each row."""
    names, x = adata.var_names.to_numpy(), adata.X
    for start, stop in zip(x.indptr[:-1], x.indptr[1:], strict=True):
        row = zip(-x.data[start:stop], x.indices[start:stop], strict=True)
        " ".join(names[column] for _, column in nsmallest(n_genes, row))


def timed(n: int, function, *args, **options) -> np.ndarray:
    """Medians of wall and processor seconds."""
    times = []
    for _ in range(n):
        start = time.perf_counter(), time.process_time()
        function(*args, **options)
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return np.median(times, axis=0)


def elsewhere(adata: ad.AnnData, command: list[str], repeats: int, **environment: str) -> dict:
    """What a process of its own prints of the same cells."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts.h5ad"
        adata.write_h5ad(path)
        command = [*command, str(path), str(repeats)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    return json.loads(done.stdout.splitlines()[-1])


def ours(path: str, repeats: str) -> None:
    """Print the seconds of sentences in as many threads as this process has."""
    adata = ad.read_h5ad(path)
    ch.pp.cell_sentences(adata[:100].copy())  # compile
    print(json.dumps({"median": timed(int(repeats), ch.pp.cell_sentences, adata).tolist()}))


def check_agreement(adata: ad.AnnData, theirs: list[str], n_genes: int = 100) -> None:
    """Where values differ, the order is the same; ties are free, so the values of the words are compared."""
    place = pd.Series(range(adata.n_vars), adata.var_names)
    for i, (mine, other) in enumerate(zip(adata.obs["cell_sentence"], theirs, strict=False)):
        row = adata.X[i].toarray().ravel()
        expected = row[place[other.upper().split()[:n_genes]]]
        np.testing.assert_array_equal(row[place[mine.split()]], expected, err_msg=f"cell {i}")
        above = expected > expected[-1]  # genes above the last value are the same ones
        assert set(np.array(mine.split())[above]) == set(np.array(other.upper().split()[:n_genes])[above])
    print(f"values and genes agree in {len(theirs)} cells")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", default=sys.executable if find_spec("cell2sentence") else None)
    parser.add_argument("--ours", nargs=2, help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args()
    if args.ours:
        ours(*args.ours)
        return

    adata = counts(args.cells, args.genes)
    print(f"{args.cells:,} cells x {args.genes:,} genes, {adata.X.nnz / args.cells:,.0f} expressed genes a cell")
    theirs = None
    if args.peer_python:
        theirs = elsewhere(adata, [args.peer_python, "-c", PEER], args.repeats, OMP_NUM_THREADS="1")
    threads = str(os.cpu_count())
    in_all = elsewhere(adata, [sys.executable, __file__, "--ours"], args.repeats, NUMBA_NUM_THREADS=threads)
    ch.pp.cell_sentences(adata[:100].copy())  # compile
    adata.layers["float64"] = adata.X.astype("float64")
    adata.layers["float64"].data = np.log1p(adata.layers["float64"].data / 3)
    ch.pp.cell_sentences(adata[:100].copy(), layer="float64")

    rows = {}
    if theirs:
        rows["cell2sentence 1.2.0, all genes"] = np.median(theirs["times"], axis=0)
    rows["plain Python: heap and join, 100 genes"] = timed(1, naive, adata)
    rows["cellhermes, 1 thread, all genes"] = timed(args.repeats, ch.pp.cell_sentences, adata, n_genes=args.genes)
    logs = timed(args.repeats, ch.pp.cell_sentences, adata, layer="float64")
    rows["cellhermes, 1 thread, 100 genes, float64 logs"] = logs
    rows[f"cellhermes, {threads} threads, 100 genes"] = np.array(in_all["median"])
    rows["cellhermes, 1 thread, 100 genes"] = timed(args.repeats, ch.pp.cell_sentences, adata)
    first = next(iter(rows.values()))
    head = f"medians of {args.repeats}"
    print(f"\n{head:<48}{'wall s':>8}{'cpu s':>8}{'cells/s':>10}{'wall ratio':>12}{'cpu ratio':>12}")
    for name, (wall, cpu) in rows.items():
        ratios = first / (wall, cpu)
        print(f"{name:<48}{wall:>8.3f}{cpu:>8.3f}{args.cells / wall:>10,.0f}{ratios[0]:>12.1f}{ratios[1]:>12.1f}")
    if theirs:
        check_agreement(adata, theirs["sentences"])


if __name__ == "__main__":
    main()
