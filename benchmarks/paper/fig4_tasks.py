"""Figure 4c to f, one model for many kinds of questions: ``python -m benchmarks.paper.fig4_tasks --model mini``.

A short BioUniBench run (``benchmarks/biounibench/run.py``, which has the long one), its table dealt out to the panels.
Settings without an extract of real data are left out.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ._run import COLORS, main

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ._run import Run

PANELS = {
    "4c": "perturbation: the untuned model above the baselines in all three settings; tuning helps within a cell line "
    "and costs across lines, most with the expression sentence",
    "4d": "more training perturbations, better answers",
    "4e": "cell fitness: tuning on the task best in both settings, joint tuning costs little",
    "4f": "gene sets: tuning helps much, joint tuning more",
    "S13b": "genetic interactions: tuning helps, joint tuning costs nothing",
}
TASKS = {"4c": "perturbation", "4e": "cell_fitness", "4f": "gene_set", "S13b": "genetic_interaction"}
METRIC = "balanced_accuracy"
SETTINGS = (
    "perturbation_deg/unseen_cell_line", "perturbation_direction/unseen_cell_line", "cell_fitness/unseen_gene",
    "genetic_interaction_synthetic", "genetic_interaction_general", "gene_set_cell_type",
)  # fmt: skip
# Fewer steps, and adapters say the same to every question.
SHORT = ["--steps", "250", "--max-valid", "40", "--max-test", "150", "--max-answers", "40", "--no-expression"]
QUICK = ["--steps", "2", "--max-train", "100", "--max-valid", "10", "--max-test", "20", "--max-answers", "5"]


def make(run: Run) -> None:
    options, out = run.options, run.out / "biounibench"
    script = Path(__file__).parents[1] / "biounibench" / "run.py"
    given = [str(options.data), "--out", str(out), "--model", options.model, "--seed", str(options.seed), "--real-only"]
    how = QUICK if options.quick else SHORT
    given += [text for name in SETTINGS for text in ("--only", name)]
    subprocess.run([sys.executable, str(script), *given, *how], check=True)
    run.notes.append(
        f"Options of this run: `{' '.join(how)}`. Settings without real data here are left out, "
        "and so are diseases and phenotypes, and questions with the expression sentence (w/ GE), for time."
    )
    table = pd.read_csv(out / "table.csv")
    table = table[(table["metric"] == METRIC) & (table["over"] == "rows")]
    for panel, task in TASKS.items():
        mine = table[table["task"].str.startswith(task)]
        if len(mine):
            run.table(panel, mine[["task", "method", "value", "low", "high", "n"]].reset_index(drop=True))
            run.figure(panel, bars(mine))
    curves = pd.read_csv(out / "scaling.csv")
    curves = curves[(curves["metric"] == METRIC) & (curves["over"] == "rows")]
    if len(curves):
        run.table("4d", curves[["task", "method", "n_perturbations", "value", "low", "high"]].reset_index(drop=True))
        run.figure("4d", lines(curves))


def bars(table: pd.DataFrame) -> Axes:
    """Methods of each setting, with intervals."""
    wide = table.pivot(index="method", columns="task", values="value").loc[table["method"].unique()]
    _, ax = plt.subplots(figsize=(2 + 1.6 * wide.shape[1], 0.28 * len(wide) + 1))
    height = 0.8 / wide.shape[1]
    for k, name in enumerate(wide):
        mine = table[table["task"] == name].set_index("method").reindex(wide.index)
        at = [i + k * height for i in range(len(wide))]
        error = np.maximum([mine["value"] - mine["low"], mine["high"] - mine["value"]], 0)
        ax.barh(at, mine["value"], height, xerr=error, label=name, color=COLORS[k], error_kw={"linewidth": 0.8})
    ax.set_yticks([i + 0.4 - height / 2 for i in range(len(wide))], wide.index, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel(METRIC.replace("_", " "))
    ax.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=1, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def lines(curves: pd.DataFrame) -> Axes:
    """Measure over the number of training perturbations."""
    _, ax = plt.subplots(figsize=(5, 3.2))
    for color, ((task, method), mine) in zip(COLORS, curves.groupby(["task", "method"]), strict=False):
        mine = mine.sort_values("n_perturbations")
        ax.plot(mine["n_perturbations"], mine["value"], marker="o", color=color, label=f"{task}, {method}")
        ax.fill_between(mine["n_perturbations"], mine["low"], mine["high"], color=color, alpha=0.15, linewidth=0)
    ax.set(xscale="log", xlabel="training perturbations", ylabel=METRIC.replace("_", " "))
    sizes = sorted(curves["n_perturbations"].unique())
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    ax.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


if __name__ == "__main__":
    main("fig4_tasks")
