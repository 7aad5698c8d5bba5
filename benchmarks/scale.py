"""Cells that do not fit into memory: ``python benchmarks/scale.py [--cells 10000 30000 100000 1000000]``.

Real cells (PBMC 3k of $CELLHERMES_TEST_DATA, or any h5ad with counts) are drawn again and again and written, block by
block, to an uncompressed h5ad file of 20,000 genes. Each step runs in a process of its own.

sentences  file to sentences on disk, against merely reading the file in the same blocks, in turns, best of some rounds;
           warm: the file is in the cache of the system; cold: its pages are dropped before. Limits: 3 x, 1 GB
growth     slope of log processor seconds (and seconds) over log cells: of all sizes, and of the last two, where what
           each call takes whatever the number of cells (to open, to choose genes) counts little. Limit: 1.0 +- 0.05
resumable  embedding with out= against embedding in memory: what both take beside the model. Limit: 1%
processes  embedding by two processes of one thread each against one. Limit: 1.7 x the cells per second

A million cells make a file of 7 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from shared import human_symbols

import cellhermes as ch

BLOCK = 2048
LIMITS = {"ratio": 3.0, "memory": 1000.0, "slope": 0.05, "overhead": 0.01, "processes": 1.7}


def resampled(source: Path, path: Path, n_cells: int, n_genes: int, seed: int = 0) -> None:
    """Write cells of a file, drawn with replacement; genes that it lacks are there and not expressed."""
    real = ad.read_h5ad(source)
    known = human_symbols()
    others = sorted({*known.loc[known["protein_coding"] == 1, "symbol"]} - {*real.var_names})
    names = [*real.var_names, *others][:n_genes]
    x = real.X.tocsr()[:, :n_genes]
    drawn = np.random.default_rng(seed).integers(real.n_obs, size=n_cells)
    indptr = np.concatenate([[0], np.cumsum(np.diff(x.indptr)[drawn], dtype=np.int64)])
    labels = pd.Categorical(real.obs["cell_type"].astype(str).to_numpy()[drawn]) if "cell_type" in real.obs else "cell"
    obs = pd.DataFrame({"cell_type": labels}, index=[f"cell{i}" for i in range(n_cells)])
    ad.AnnData(obs=obs, var=pd.DataFrame(index=names)).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        if "X" in file:
            del file["X"]
        group = file.create_group("X")
        about = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array([n_cells, len(names)])}
        group.attrs.update(about)
        group["indptr"] = indptr
        data = group.create_dataset("data", indptr[-1:], x.dtype)
        indices = group.create_dataset("indices", indptr[-1:], "int32")
        for start in range(0, n_cells, BLOCK):
            block = x[drawn[start : start + BLOCK]]
            part = slice(indptr[start], indptr[min(start + BLOCK, n_cells)])
            data[part], indices[part] = block.data, block.indices


def peak() -> float:
    """Largest resident size of this process in MB; what getrusage tells begins with that of the parent."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1e3


def drop(path: Path) -> None:
    """Drop the pages of a file from the cache of the system."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(function, *args, **options) -> np.ndarray:
    """Wall and processor seconds."""
    start = time.perf_counter(), time.process_time()
    function(*args, **options)
    return np.array([time.perf_counter() - start[0], time.process_time() - start[1]])


def read(path: Path) -> None:
    """Merely read the matrix in blocks, as anndata does."""
    backed = ad.read_h5ad(path, backed="r")
    for start in range(0, backed.n_obs, BLOCK):
        backed.X[start : start + BLOCK]
    backed.file.close()


def sentences(path: Path, rounds: int) -> dict:
    """Seconds of reading and of writing sentences, in turns."""
    out = path.with_suffix(".zarr")
    small = ch.datasets.toy()
    ch.pp.cell_sentences(small, out=out)  # compile
    shutil.rmtree(out)
    found: dict[str, list] = {}
    for state in ("warm", "cold"):
        for _ in range(rounds + (state == "warm")):  # the first one warms
            for name, step in {
                "read": lambda: read(path),
                "write": lambda: ch.pp.cell_sentences(path, out=out, chunk_size=BLOCK),
            }.items():
                if state == "cold":
                    drop(path)
                found.setdefault(f"{name} {state}", []).append(timed(step).tolist())
                shutil.rmtree(out, ignore_errors=True)
    best = {name: np.min(times[name.endswith("warm") :], axis=0).tolist() for name, times in found.items()}
    return {**best, "peak": peak()}


def resumable(path: Path, n_cells: int, rounds: int) -> dict:
    """Seconds that embedding takes beside the model, in memory and with out=."""
    backed = ad.read_h5ad(path, backed="r")
    cells = backed[:n_cells].to_memory()
    ch.pp.cell_sentences(cells)
    model = ch.CellHermes.from_pretrained("mini", device="cpu")
    spent, embed = [0.0], type(model).embed

    def clocked(*args, **options):
        start = time.perf_counter()
        found = embed(*args, **options)
        spent[0] += time.perf_counter() - start
        return found

    type(model).embed = clocked
    beside: dict[str, list[float]] = {"memory": [], "out": []}
    total = []
    for _ in range(rounds):
        for name, options in {"memory": {}, "out": {"out": path.with_suffix(".zarr")}}.items():
            spent[0] = 0.0
            wall, _ = timed(ch.tl.embed_cells, cells, model, **options)
            beside[name].append(wall - spent[0])
            total.append(wall)
            shutil.rmtree(path.with_suffix(".zarr"), ignore_errors=True)
    return {name: min(times) for name, times in beside.items()} | {"total": min(total)}


def share(path: Path, out: Path, go: Path) -> dict:
    """Embed a share of the cells, as soon as all processes are ready; when it began and ended."""
    cells = ad.read_h5ad(path)
    model = ch.CellHermes.from_pretrained("mini", device="cpu")
    model.embed(["a text"])
    (go / str(os.getpid())).touch()
    while len(list(go.iterdir())) < int(os.environ["N_PROCESSES"]):
        time.sleep(0.01)
    start = time.time()
    ch.tl.embed_cells(cells, model, out=out)
    return {"start": start, "end": time.time()}


def together(path: Path, n: int) -> float:
    """Seconds that ``n`` processes of one thread take."""
    out, go = path.with_name(f"{n}.zarr"), path.with_name(f"go{n}")
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(go, ignore_errors=True)
    go.mkdir()
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "N_PROCESSES": str(n)}
    command = [sys.executable, __file__, "--step", "share", str(path), str(out), str(go)]
    processes = [
        subprocess.Popen(command, env=env | {"CELLHERMES_SHARD": f"{k}/{n}"}, stdout=subprocess.PIPE, text=True)
        for k in range(n)
    ]
    found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    return max(one["end"] for one in found) - min(one["start"] for one in found)


def alone(step: str, *args: object) -> dict:
    """Run a step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, *map(str, args)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def source_of(given: Path | None) -> Path:
    if given is not None:
        return given
    folder = os.environ.get("CELLHERMES_TEST_DATA")
    if not folder:
        sys.exit("Set CELLHERMES_TEST_DATA to the folder with pbmc3k_labelled.h5ad, or pass --source a file of counts.")
    return Path(folder) / "pbmc3k_labelled.h5ad"


def growth(source: Path, folder: Path, sizes: list[int], n_genes: int, rounds: int) -> bool:
    rows = []
    print("| cells | file, GB | reading, s | sentences, s | ratio | ratio, cold | processor s of both | peak, MB |")
    print("|---|---|---|---|---|---|---|---|")
    for n in sizes:
        path = folder / f"{n}.h5ad"
        needed = 9_000 * n
        if shutil.disk_usage(folder).free < needed:
            sys.exit(f"{n:,} cells need {needed / 1e9:.0f} GB in {folder}; pass another --folder.")
        resampled(source, path, n, n_genes)
        row = alone("sentences", path, rounds)
        size = path.stat().st_size / 1e9
        path.unlink()
        rows.append(row)
        ratio, cold = (row[f"write {state}"][0] / row[f"read {state}"][0] for state in ("warm", "cold"))
        print(
            f"| {n:,} | {size:.2f} | {row['read warm'][0]:.2f} | {row['write warm'][0]:.2f} | {ratio:.2f} | {cold:.2f} "
            f"| {row['read warm'][1]:.2f}, {row['write warm'][1]:.2f} | {row['peak']:,.0f} |",
            flush=True,
        )
    missed = ratio > LIMITS["ratio"] or rows[-1]["peak"] > LIMITS["memory"]
    for among, text in ((sizes, "all"), (sizes[-2:], "the last two")) if len(sizes) > 1 else ():
        times = np.array([row["write warm"] for row in rows[-len(among) :]])
        wall, slope = np.polyfit(np.log(among), np.log(times), 1)[0]
        print(f"\nslope over log cells, {text}: {slope:.3f} of log processor seconds, {wall:.3f} of log seconds")
    missed |= len(sizes) > 1 and abs(slope - 1) > LIMITS["slope"]
    return missed


def embedding(source: Path, folder: Path, n_cells: int, n_genes: int, rounds: int) -> bool:
    path = folder / "embed.h5ad"
    resampled(source, path, n_cells, n_genes)
    found = alone("resumable", path, n_cells, rounds)
    overhead = (found["out"] - found["memory"]) / found["total"]
    print(
        f"\nresumable embedding: {overhead:.2%} overhead ({found['out']:.3f} s beside the model with out=, "
        f"{found['memory']:.3f} s in memory, {found['total']:.1f} s in all; limit {LIMITS['overhead']:.0%})"
    )
    cells = ad.read_h5ad(path)
    ch.pp.cell_sentences(cells)
    cells = ad.AnnData(obs=cells.obs)
    cells.write_h5ad(path)
    one, two = (min(times) for times in zip(*([together(path, n) for n in (1, 2)] for _ in range(rounds)), strict=True))
    print(f"two processes: {one / two:.2f} x one ({one:.1f} s and {two:.1f} s; limit {LIMITS['processes']} x)")
    return overhead > LIMITS["overhead"] or one / two < LIMITS["processes"]


STEPS = {
    "sentences": lambda path, rounds: sentences(Path(path), int(rounds)),
    "resumable": lambda path, n, rounds: resumable(Path(path), int(n), int(rounds)),
    "share": lambda path, out, go: share(Path(path), Path(out), Path(go)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 30_000, 100_000], help="numbers of cells")
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--source", type=Path, help="h5ad with counts to draw cells from")
    parser.add_argument("--folder", type=Path, help="where files are written; default a temporary one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--embed-cells", type=int, default=4_000, help="cells of the embedding steps; 0 leaves them out"
    )
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.step:
        warnings.simplefilter("ignore")
        name, *args = options.step
        print(json.dumps(STEPS[name](*args)))
        return 0
    source = source_of(options.source)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, missed = Path(name), False
        if options.cells[0]:
            missed = growth(source, folder, options.cells, options.genes, options.rounds)
        if options.embed_cells:
            missed |= embedding(source, folder, options.embed_cells, options.genes, options.rounds)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
