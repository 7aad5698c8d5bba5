"""Tables and figures: models beside what trivial methods reach, stand-ins apart from real questions."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd
from ask import BASELINES, LINEAR
from tune import task_of

import cellhermes as ch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

METRIC = "balanced_accuracy"
MADE = [*BASELINES, LINEAR]  # in the order of the tables
TRIVIAL = ["majority", "frequency", "zero-shot"]  # what the joint model has to beat
DRAWN = ["zero-shot", "instruct", "mtl", "majority", "profile", "logistic", "logistic, vectors", "trees, vectors"]
PERTURBATION = {
    "untuned language model": "base",
    "linear, in the manner of STAMP": LINEAR,
    "w/o GE, untuned": "zero-shot",
    "w/o GE, instruct": "instruct",
    "w/o GE, MTL": "mtl",
    "w/ GE, untuned": "zero-shot w/ GE",
    "w/ GE, instruct": "instruct w/ GE",
    "w/ GE, MTL": "mtl w/ GE",
}  # the eight rows of the paper
NO_CLAIM = (
    "Their answers follow a rule that was made up. They show that the code runs, and say nothing of any model; no "
    "stand-in is trained on together with real questions."
)


def write(
    out: Path,
    frames: Mapping[str, pd.DataFrame],
    table: pd.DataFrame,
    curves: pd.DataFrame,
    options: Mapping[str, object],
) -> None:
    """``table.csv``, ``scaling.csv``, ``README.md`` and the figures."""
    table.to_csv(out / "table.csv", index=False)
    curves.to_csv(out / "scaling.csv", index=False)
    parts = [
        f"# BioUniBench with `{options['model']}`",
        ", ".join(f"{name} {value}" for name, value in options.items()) + f"; cellhermes {version('cellhermes')}.",
        "## Questions",
        markdown(questions(frames)),
        "`known edges`: of the test pairs that interact, how many are edges of the BioGRID extract. It mixes kinds of "
        "evidence, and a model that was pretrained on that graph has read them as physical interactions.",
    ]
    for is_synthetic, title in ((False, "Real data"), (True, "Stand-ins: synthetic, no claim")):
        mine = table[table["synthetic"] == is_synthetic]
        if not len(mine):
            continue
        parts += [f"## {title}", *([NO_CLAIM] if is_synthetic else [])]
        for metric in (METRIC, "roc_auc"):
            parts += [f"### {metric.replace('_', ' ')}", markdown(wide(mine, metric))]
        if not is_synthetic and "mtl" in {*mine["method"]}:
            parts += ["### Is the joint model better than that?", ABOUT_VERDICTS, markdown(verdicts(mine))]
        file = "bars_stand_ins.png" if is_synthetic else "bars_real.png"
        _bars(mine, out / file)
        parts.append(f"![{title}: {METRIC}]({file})")
    if table["task"].str.startswith("perturbation").any():
        parts += ["## The paper's table of perturbations", ABOUT_PERTURBATION, markdown(perturbation(table))]
    if len(curves):
        _scaling(curves, out / "scaling.png")
        parts += ["## Fewer training perturbations", ABOUT_SCALING, "![scaling](scaling.png)"]
    (out / "README.md").write_text("\n\n".join(parts) + "\n", "utf-8")


ABOUT_VERDICTS = (
    "`yes`: the lower end of its interval is above the other's value; `perhaps`: its value is; `no`: it is not. The "
    "last column is the best of all baselines, in bold where it is better than the joint model."
)
ABOUT_PERTURBATION = (
    "Balanced accuracy. First whether a gene changes (deg), then up or down among those that do. Columns that are "
    "marked as synthetic make no claim. A model that was trained from scratch has no language model below it."
)
ABOUT_SCALING = (
    "Balanced accuracy on the same test questions, with as many steps of tuning for each point. Perturbations are "
    "perturbed genes, or pairs of genes that were perturbed together."
)


def questions(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What is asked, and what it is from."""
    rows = []
    for name, frame in frames.items():
        n_of = frame["split"].value_counts()
        rows.append(
            {
                "setting": name,
                "questions from": "**synthetic**" if frame.attrs["synthetic"] else ", ".join(frame.attrs["source"]),
                **{part: f"{n_of.get(part, 0):,}" for part in ("train", "valid", "test")},
                "answers": len(task_of(frame).answers),
                "known edges": frame.attrs.get("known_edges", ""),
            }
        )
    return pd.DataFrame(rows)


def wide(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Methods x settings, models first; the best of a setting in bold."""
    rows = _of(table, metric)
    cells = rows.pivot(index="method", columns="task", values="value")
    best = cells.max()
    ends = {end: rows.pivot(index="method", columns="task", values=end) for end in ("low", "high")}
    models = [method for method in rows["method"].unique() if method not in MADE]
    order = models + [method for method in MADE if method in cells.index]
    found = pd.DataFrame({"method": order})
    for task in rows["task"].unique():
        found[task] = [
            _cell(cells.loc[m, task], ends["low"].loc[m, task], ends["high"].loc[m, task], best[task]) for m in order
        ]
    return found


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Where the joint model is better than what knows next to nothing, and where a baseline is better than it."""
    rows = _of(table, METRIC)
    found = []
    for task, mine in rows.groupby("task", sort=False):
        of = mine.set_index("method")
        if "mtl" not in of.index:
            continue
        joint, value = of.loc["mtl"], of["value"]
        than = {f"than {other}": _verdict(joint, value[other]) for other in (*TRIVIAL, "instruct") if other in value}
        best = value[[method for method in MADE if method in value]].idxmax()
        text = f"{best} {value[best]:.3f}"
        found.append(
            {
                "setting": task,
                "mtl": _cell(joint["value"], joint["low"], joint["high"], None),
                **than,
                "best baseline": f"**{text}**" if value[best] > joint["value"] else text,
            }
        )
    return pd.DataFrame(found)


def perturbation(table: pd.DataFrame) -> pd.DataFrame:
    """The eight rows of the paper."""
    rows = _of(table[table["task"].str.startswith("perturbation")], METRIC)
    found = pd.DataFrame({"model": list(PERTURBATION)})
    for (task, is_synthetic), mine in rows.groupby(["task", "synthetic"], sort=False):
        of = mine.set_index("method")
        name = task.removeprefix("perturbation_") + (" (synthetic)" if is_synthetic else "")
        found[name] = [
            _cell(*of.loc[method, ["value", "low", "high"]], None) if method in of.index else "-"
            for method in PERTURBATION.values()
        ]
    return found


def markdown(table: pd.DataFrame) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.to_numpy()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _of(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    return table[(table["metric"] == metric) & (table["over"] == "rows")]


def _cell(value: float, low: float, high: float, best: float | None) -> str:
    if pd.isna(value):
        return "-"
    text = f"{value:.3f}" if pd.isna(low) or low == high else f"{value:.3f} ({low:.3f} to {high:.3f})"
    return f"**{text}**" if value == best else text


def _verdict(joint: pd.Series, other: float) -> str:
    return "yes" if joint["low"] > other else "perhaps" if joint["value"] > other else "no"


def _bars(table: pd.DataFrame, file: Path) -> None:
    there = [method for method in (*DRAWN, LINEAR) if method in {*table["method"]}]
    rows = pd.concat([table[table["method"] == method] for method in there])
    order = pd.Categorical(rows["task"], categories=table["task"].unique())
    rows = rows.iloc[order.codes.argsort(kind="stable")]
    ax = ch.pl.scores(rows, metric=METRIC, baselines=[method for method in there if method in MADE])
    ax.figure.savefig(file, dpi=150, bbox_inches="tight")
    plt.close(ax.figure)


def _scaling(curves: pd.DataFrame, file: Path) -> None:
    from matplotlib.figure import Figure

    rows = _of(curves, METRIC)
    tasks = rows["task"].unique()
    figure = Figure(figsize=(4.2 * len(tasks), 3.2), layout="constrained")
    for ax, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        mine = rows[rows["task"] == task]
        for (method, of), colour in zip(mine.groupby("method", sort=False), ("#0072B2", "#777777"), strict=False):
            of = of.sort_values("n_perturbations")
            ax.fill_between(of["n_perturbations"], of["low"], of["high"], color=colour, alpha=0.15, linewidth=0)
            ax.plot(of["n_perturbations"], of["value"], color=colour, marker="o", markersize=4, label=method)
        ax.set_xscale("log")
        ticks = sorted(mine["n_perturbations"].unique())
        ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
        ax.minorticks_off()
        ax.set_xlabel("training perturbations")
        ax.set_ylabel(METRIC.replace("_", " "))
        ax.set_title(task.replace("_", " ") + (" (synthetic)" if mine["synthetic"].any() else ""), fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=150)
