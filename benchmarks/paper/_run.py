"""What the scripts share: options, files of a panel, and the data sets that stand in for those not in the cache.

A panel leaves ``<name>.parquet`` for each table, ``<name>.png`` for each figure, and ``<script>.json``, which says what
it was made of; with the same options it is not made again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import pandas as pd
import scanpy as sc

import cellhermes as ch

if TYPE_CHECKING:
    import anndata as ad
    from matplotlib.axes import Axes

SCRIPTS = ("fig2_genes", "fig2_ablations", "fig2_networks", "fig3_cells", "fig4_tasks", "fig5_t_cells")
# Okabe and Ito's, which stay apart for colour-blind readers
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
ENTRIES = {"aorta": "cell-tasks"}  # of the registry, where a data set is part of another one


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What decides a result.

    Parameters
    ----------
    model
        Name, folder or hub id.
    data
        Folder with extracts, for what is not in the cache.
    quick
        Smaller: to see that all runs, not to be read.
    seed
        Of all that is drawn.
    """

    model: str = "mini"
    data: Path = Path("../shared/data")
    quick: bool = False
    seed: int = 0


@dataclass(slots=True)
class Run:
    """One script's results on their way to a folder.

    Parameters
    ----------
    options
        What decides them.
    out
        Folder of tables and figures.
    notes
        What a reader has to know: stand-ins, what is missing.
    tables, figures
        Names, in their order.
    """

    options: Options
    out: Path
    notes: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        frame.to_parquet(self.out / f"{name}.parquet")
        self.tables.append(name)

    def figure(self, name: str, ax: Axes) -> None:
        ax.figure.savefig(self.out / f"{name}.png", dpi=110, bbox_inches="tight")
        self.figures.append(name)

    def model(self) -> ch.CellHermes:
        return ch.CellHermes.from_pretrained(self.options.model)

    def file(self, name: str) -> Path | None:
        """An extract, or None with a note."""
        path = self.options.data / name
        if path.is_file():
            return path
        self.notes.append(f"{name} is not in {self.options.data}.")
        return None

    def cells(self, name: str, stand_in: str | None, about: str) -> ad.AnnData | None:
        """A data set by name if it is in the cache, else an extract that stands in for it, else None; says which."""
        entry = ENTRIES.get(name, name)
        if ch.cache.list().loc[entry, "cached"]:
            return ch.datasets.cells(name)
        path = None if stand_in is None else self.options.data / stand_in
        if path is None or not path.is_file():
            self.notes.append(f"{name} is not in the cache (`cellhermes cache fetch {entry}`): left out.")
            return None
        self.notes.append(f"{name} is not in the cache (`cellhermes cache fetch {entry}`). In its place: {about}.")
        return sc.read_h5ad(path)


def done(script: str, options: Options, out: Path) -> dict | None:
    """What a finished script left, if it was of the same options."""
    path = out / f"{script}.json"
    found = json.loads(path.read_text("utf-8")) if path.is_file() else None
    return found if found and found["options"] == _plain(options) else None


def run(script: str, options: Options, out: Path) -> dict:
    """Make the panels of a script, or read what it left."""
    if found := done(script, options, out):
        return found
    mpl.use("Agg")
    out.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"{__package__}.{script}")
    one, start = Run(options, out), time.monotonic()
    module.make(one)
    left = {
        "script": script, "title": module.__doc__.splitlines()[0].split(":")[0], "panels": module.PANELS,
        "options": _plain(options), "minutes": round((time.monotonic() - start) / 60, 1), "version": ch.__version__,
        "notes": one.notes, "tables": one.tables, "figures": one.figures,
    }  # fmt: skip
    part = out / f"{script}.json.part"
    part.write_text(json.dumps(left, indent=1), "utf-8")
    part.replace(out / f"{script}.json")
    return left


def _plain(options: Options) -> dict:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}


def main(script: str | None = None, arguments: list[str] | None = None) -> None:
    """Command line of one script, or of all."""
    default = Options()
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    if script is None:
        parser.add_argument("what", nargs="+", choices=["all", *SCRIPTS], help="which scripts")
    parser.add_argument("--model", default=default.model, help="name, folder or hub id")
    parser.add_argument("--data", type=Path, default=default.data, help="folder with extracts")
    parser.add_argument("--out", type=Path, default=Path("build/paper"))
    parser.add_argument("--quick", action="store_true", help="smaller: to see that it runs, not to be read")
    parser.add_argument("--seed", type=int, default=default.seed)
    given = vars(parser.parse_args(arguments))
    what, out = given.pop("what", [script]), given.pop("out")
    made = []
    for name in SCRIPTS if "all" in what else what:
        made.append(run(name, Options(**given), out))
        print(f"{name}: {made[-1]['minutes']} min", flush=True)
    (out / "report.md").write_text(report(made, out), "utf-8")
    print(f"{out / 'report.md'} has the tables and figures.")


def report(made: list[dict], out: Path) -> str:
    """Markdown of what scripts left."""
    lines = ["# The paper's figures, made again", ""]
    for one in made:
        lines += [f"## {one['title']}", ""]
        lines += [f"`python -m benchmarks.paper.{one['script']} --model {one['options']['model']}`"]
        lines += [f"({one['minutes']} min, cellhermes {one['version']}, seed {one['options']['seed']})", ""]
        lines += ["| panel | what the paper shows |", "|---|---|"]
        lines += [f"| {panel} | {said} |" for panel, said in one["panels"].items()]
        lines += ["", *(f"- {note}" for note in one["notes"]), ""]
        for name in one["tables"]:
            lines += [f"### {name}", "", _markdown(pd.read_parquet(out / f"{name}.parquet")), ""]
        lines += [f"![{name}]({name}.png)" for name in one["figures"]] + [""]
    return "\n".join(lines)


def _markdown(frame: pd.DataFrame, n_rows: int = 40) -> str:
    """A table as text; long ones are cut, with a word."""
    shown = frame.head(n_rows)
    text = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in shown.to_numpy()]
    lines = ["| " + " | ".join(map(str, shown.columns)) + " |", "|" + "---|" * shown.shape[1]]
    lines += ["| " + " | ".join(row) + " |" for row in text]
    if len(frame) > n_rows:
        lines.append(f"\n{len(frame) - n_rows:,} more rows are in the file.")
    return "\n".join(lines)
