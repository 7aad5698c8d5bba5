"""All figures in one report: ``python -m benchmarks.report --data ../shared/data --out build/report``.

Runs the curves of :mod:`benchmarks.growth`, then every script whose peers are installed, one after another in processes
of their own, and writes ``report.md`` with their tables, a picture of the curves, and the machine. A script that is
finished is not run again (delete its file in the folder for that). ``--only growth`` takes minutes, all of it hours.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

import cellhermes as ch

HERE = Path(__file__).parent
# script: arguments, in which DATA is the folder of extracts
SCRIPTS = {
    "import_time": [],
    "sentences": [],
    "scale": ["--source", "DATA/pbmc3k_labelled.h5ad"],
    "model": [],
    "answers": [],
    "explain": [],
    "network": [],
    "metrics": ["--data", "DATA"],
    "graph_corpus": ["DATA/biogrid_4.4.232_human_edges.tsv.gz"],
    "corpus": ["--data", "DATA"],
    "train": [],
    "peers": [],
    "mini_speed": [],
    "precision": ["--data", "DATA"],
    "ties": ["--data", "DATA"],
}
REPEATS = 3


def classes() -> dict[str, type]:
    """Benchmarks of growth, by name."""
    from . import growth

    return {name: one for name, one in inspect.getmembers(growth, inspect.isclass) if hasattr(one, "params")}


def measure(name: str, method: str, param: int) -> float:
    """Seconds (the best of some) or megabytes, in this process."""
    one = classes()[name]()
    one.setup(param)
    if method.startswith("peakmem"):
        getattr(one, method)(param)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        getattr(one, method)(param)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def curves(out: Path) -> pd.DataFrame:
    """All curves: ``what``, ``over``, ``param``, ``unit``, ``value``."""
    rows = []
    for name, one in classes().items():
        for method in [method for method in vars(one) if method.startswith(("time_", "peakmem_"))]:
            for param in one.params:
                command = [sys.executable, "-m", "benchmarks.report", "--measure", name, method, str(param)]
                done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parent)
                if done.returncode:
                    msg = f"{name}.{method}({param}) failed:\n{done.stderr[-2000:]}"
                    raise RuntimeError(msg)
                value = float(done.stdout.split()[-1])
                unit = "MB" if method.startswith("peakmem") else "s"
                rows.append(
                    {"what": one.__doc__, "over": one.param_names[0], "param": param, "unit": unit, "value": value}
                )
                print(f"{name}.{method}({param}): {value:.3g} {unit}", flush=True)
    table = pd.DataFrame(rows)
    table.to_parquet(out / "growth.parquet")
    return table


def slope(mine: pd.DataFrame) -> float:
    """Exponent of growth between the two largest parameters; small ones have a constant part."""
    last = mine.sort_values("param").tail(2)
    return float(np.diff(np.log(last["value"]))[0] / np.diff(np.log(last["param"]))[0])


def draw(table: pd.DataFrame, file: Path) -> None:
    """A panel for each curve of seconds."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    seconds = [(what, mine) for what, mine in table[table["unit"] == "s"].groupby("what", sort=False)]
    n_columns = 4
    n_rows = -(-len(seconds) // n_columns)
    _, axes = plt.subplots(n_rows, n_columns, figsize=(3 * n_columns, 2.6 * n_rows), layout="constrained")
    for ax, (what, mine) in zip(axes.flat, seconds, strict=False):
        ax.loglog(mine["param"], mine["value"], "o-", color="#0072B2")
        ax.set(xlabel=mine["over"].iloc[0], ylabel="seconds")
        ax.set_title(f"{what.split(' over ')[0].rstrip('.,')}\nslope {slope(mine):.2f}", fontsize=9)
        ax.set_xticks(mine["param"], [f"{param:,}" for param in mine["param"]], fontsize=8)
        ends = mine["value"].iloc[[0, -1]]  # less than a factor of ten apart, powers of ten may both be outside
        ax.set_yticks(ends, [f"{value:.2g}" for value in ends], fontsize=8)
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes.flat[len(seconds) :]:
        ax.set_visible(False)
    axes.flat[0].figure.savefig(file, dpi=110)


def growth(out: Path) -> list[str]:
    """Section with the curves."""
    file = out / "growth.parquet"
    table = pd.read_parquet(file) if file.is_file() else curves(out)
    draw(table, out / "growth.png")
    lines = ["| what | unit | values | exponent at the end |", "|---|---|---|---|"]
    for (what, unit), mine in table.groupby(["what", "unit"], sort=False):
        values = ", ".join(f"{row.param:,}: {row.value:.3g}" for row in mine.itertuples())
        lines.append(f"| {what} | {unit} | {values} | {slope(mine):.2f} |")
    return [*lines, "", "![growth](growth.png)"]


def script(name: str, data: Path, out: Path) -> list[str]:
    """Section with what a script printed."""
    kept = out / f"{name}.json"
    if not kept.is_file():
        arguments = [text.replace("DATA", str(data)) for text in SCRIPTS[name]]
        start = time.monotonic()
        command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        minutes = (time.monotonic() - start) / 60
        if done.returncode and (not done.stdout.strip() or "Traceback" in done.stderr):
            return [f"Ended with {done.returncode}:", "", "```text", done.stderr[-1500:], "```"]
        found = {"command": f"python benchmarks/{name}.py {' '.join(SCRIPTS[name])}", "minutes": minutes}
        if done.returncode:  # of a script that says so if it misses a limit
            found["command"] += f", ended with {done.returncode}"
        kept.write_text(json.dumps({**found, "text": done.stdout}), "utf-8")
    found = json.loads(kept.read_text("utf-8"))
    return [f"`{found['command'].strip()}`, {found['minutes']:.1f} min", "", found["text"].strip()]


def machine() -> str:
    """What it ran on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "anndata", "numpy"))
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}; {packages}."


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with extracts")
    parser.add_argument("--out", type=Path, default=Path("build/report"))
    known = [name for name in SCRIPTS if (HERE / f"{name}.py").is_file()]
    parser.add_argument("--only", action="append", choices=["growth", *known], help="repeat for more")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(measure(given.measure[0], given.measure[1], int(given.measure[2])))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    lines = ["# Benchmarks", "", f"cellhermes {ch.__version__} on {machine()}", ""]
    for name in given.only or ["growth", *known]:
        lines += [
            f"## {name}",
            "",
            *(growth(given.out) if name == "growth" else script(name, given.data, given.out)),
            "",
        ]
        (given.out / "report.md").write_text("\n".join(lines), "utf-8")
        print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
