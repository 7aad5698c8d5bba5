"""What the scripts share: options, files of a panel, and the data sets that stand in for those not in the cache.

A panel leaves ``<name>.parquet`` for each table, ``<name>.png`` for each figure, and ``<script>.json``, which says what
it was made of; with the same options it is not made again.
"""

from __future__ import annotations

import importlib
import json
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc

import cellhermes as ch

if TYPE_CHECKING:
    from argparse import Namespace
    from types import ModuleType

    import anndata as ad
    from matplotlib.artist import Artist

SCRIPTS = ("fig2_genes", "fig2_ablations", "fig2_networks", "fig3_cells", "fig4_tasks", "fig5_t_cells")
# Okabe and Ito's, which stay apart for colour-blind readers
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
EDGES = "biogrid_4.4.232_human_edges.tsv.gz"
SETS = {
    "GO BP": "go_bp_enrichr2021.gmt.gz",
    "GO CC": "go_cc_msigdb2025.gmt.gz",
    "GO MF": "go_mf_msigdb2025.gmt.gz",
    "KEGG": "kegg_legacy_msigdb2025.gmt.gz",
}
ENTRIES = {"aorta": "cell-tasks"}  # of the registry, where a data set is part of another one


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

    options: Namespace
    out: Path
    notes: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        frame.to_parquet(self.out / f"{name}.parquet")
        self.tables.append(name)

    def figure(self, name: str, ax: Artist) -> None:
        """Save the figure of some axes, or a figure."""
        ax.figure.savefig(self.out / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close(ax.figure)
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
            return counts_in_x(ch.datasets.cells(name))
        path = None if stand_in is None else self.options.data / stand_in
        if path is None or not path.is_file():
            self.notes.append(f"{name} is not in the cache (`cellhermes cache fetch {entry}`): left out.")
            return None
        self.notes.append(f"{name} is not in the cache (`cellhermes cache fetch {entry}`). In its place: {about}.")
        return counts_in_x(sc.read_h5ad(path))


def counts_in_x(adata: ad.AnnData) -> ad.AnnData:
    if "counts" in adata.layers:
        adata.X = adata.layers["counts"].copy()
    return adata


def normalise(adata: ad.AnnData) -> None:
    """Log-normalise counts; leave what is normalised already."""
    sample = adata.X[:100]
    values = sample.data if hasattr(sample, "indptr") else np.asarray(sample)
    if np.array_equal(values, np.round(values)):
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)


def read_edges(path: Path) -> pd.DataFrame:
    """Edges of BioGRID between known symbols."""
    edges = pd.read_csv(path, sep="\t")
    return edges.loc[edges["both_known_symbols"] == 1, ["symbol_a", "symbol_b"]]


def module_of(script: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{script}")


def run(script: str, options: Namespace, out: Path) -> dict:
    """Make the panels of a script, or read what it left, if that was of the same options."""
    path = out / f"{script}.json"
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    if path.is_file() and (before := json.loads(path.read_text("utf-8")))["options"] == plain:
        return before
    plt.switch_backend("Agg")
    out.mkdir(parents=True, exist_ok=True)
    module = module_of(script)
    results, start = Run(options, out), time.monotonic()
    module.make(results)
    about = {
        "script": script, "title": module.__doc__.splitlines()[0].split(":")[0], "panels": module.PANELS,
        "options": plain, "minutes": round((time.monotonic() - start) / 60, 1), "version": ch.__version__,
        "notes": results.notes, "tables": results.tables, "figures": results.figures,
    }  # fmt: skip
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(about, indent=1), "utf-8")
    part.replace(path)
    return about


def parser_of(script: str | None) -> ArgumentParser:
    """Options of all scripts, and those that one has alone."""
    module = module_of(script) if script else None
    parser = ArgumentParser(description=module and module.__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="name, folder or hub id")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with extracts")
    parser.add_argument("--out", type=Path, default=Path("build/paper"))
    parser.add_argument("--quick", action="store_true", help="smaller: to see that it runs, not to be read")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    if hasattr(module, "add_options"):
        module.add_options(parser)
    return parser


def options_of(script: str, **given: object) -> Namespace:
    """What decides a script's results: what was given, and defaults."""
    parser = parser_of(script)
    parser.set_defaults(**given)
    options = parser.parse_args([])
    del options.out
    return options


def main(script: str | None = None, arguments: list[str] | None = None) -> None:
    """Command line of one script, or of all."""
    parser = parser_of(script)
    if script is None:
        parser.add_argument("what", nargs="+", choices=["all", *SCRIPTS], help="which scripts")
    given = vars(parser.parse_args(arguments))
    what, out = given.pop("what", [script]), given.pop("out")
    made = []
    for name in SCRIPTS if "all" in what else what:
        made.append(run(name, options_of(name, **given), out))
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
