"""Figure 2c, S2 and S3, what the training data do: ``python -m benchmarks.paper.fig2_ablations --model mini``.

Models of the model's shape with random weights are trained in the same way, for the same number of steps, on different
questions: of cells, of the graph, or of both; with genes in their order or in a random one; with more or fewer
questions of cells. Then properties of genes are told from their vectors. The runs are far shorter than the paper's (and
than that of ``mini``), so questions of the graph are about the genes whose properties are asked, and sentences are
short: they compare data, and say little of what a long run reaches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import stats

import cellhermes as ch

from ..shared import untrained
from ._run import COLORS, EDGES, main, read_edges

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from ._run import Run

PANELS = {
    "2c": "0.05 to 6 million questions of cells beside those of the graph: few are enough, more cost a little",
    "S2": "genes in their order against a random order: the order helps",
    "S3": "cells and graph together above either alone",
}
CELLS = ("pbmc_donor_a_unlabelled.h5ad", "kang_ctrl_stim_unlabelled.h5ad")
LABELS = "gene_labels/gene_classification_labels.tsv"
# questions of cells, of the graph, whether genes stand in their order
TRAINED = {
    "cells": (4000, 0, True),
    "graph": (0, 4000, True),
    "both": (2000, 2000, True),
    "both, random order": (2000, 2000, False),
    "graph, 500 of cells": (500, 3500, True),
}
SHOWN = ("roc_auc", "low", "high")
N_STEPS, BATCH = 120, 32
N_GENES = 30  # of a sentence
N_SEEDS = 3  # of start values, questions and order, and of folds and forests


def make(run: Run) -> None:
    files = [run.file(name) for name in (*CELLS, EDGES, LABELS)]
    if None in files:
        return
    *cells, edges, labels = files
    edges = read_edges(edges)
    labels = ch.io.read_gene_labels(labels)
    genes = sorted({*labels["gene"]})
    edges = edges[edges.isin(genes).any(axis=1)]
    sentences = pd.concat([read(path) for path in cells], ignore_index=True)
    n_steps, n_seeds = (2, 1) if run.options.quick else (N_STEPS, N_SEEDS)
    parts = []
    for seed in range(run.options.seed, run.options.seed + n_seeds):
        base = untrained(run.model(), seed, run.out / "ablations" / f"untrained-{seed}")
        vectors = {"untrained": embedded(ch.CellHermes.from_pretrained(base), genes)}
        for k, (name, what) in enumerate(TRAINED.items()):
            folder = run.out / "ablations" / f"{k}-{n_steps}-{seed}"
            vectors[name] = embedded(trained(base, sentences, edges, what, folder, n_steps, seed), genes)
        parts.append(ch.metrics.gene_property(vectors, labels, rng=seed).assign(seed=seed))
    values = pd.concat(parts, ignore_index=True)
    run.table("2c, S2, S3, all values", values)
    table = summary(values)
    table["n_cell_questions"] = [TRAINED.get(name, (0,))[0] for name in table["embedding"]]
    run.table("2c, S2, S3", table)
    run.figure("2c, S2, S3", bars(table))
    run.notes.append(
        f"{n_steps} steps of {BATCH} questions each; {n_seeds} training runs for each model. low and high: 95% "
        "interval of the mean by Student's t over runs. All models of one seed begin with the same weights."
    )


def summary(values: pd.DataFrame) -> pd.DataFrame:
    """Mean area over training runs, with an interval, and how far it is from that of `both` of the same run."""
    areas = values.groupby(["seed", "task", "embedding"], sort=False)["roc_auc"].mean().unstack()
    rows = []
    for name in values["embedding"].unique():
        for task, found in areas.groupby(level="task", sort=False):
            value, gap = found[name], found[name] - found["both"]
            row = {"embedding": name, "task": task, "roc_auc": value.mean(), "less_both": gap.mean()}
            row["low"], row["high"] = interval(value.to_numpy())
            row["less_both_low"], row["less_both_high"] = interval(gap.to_numpy())
            rows.append(row)
    return pd.DataFrame(rows)


def interval(found: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Of the mean, by Student's t; unknown from one value."""
    if len(found) < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + level) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return found.mean() - half, found.mean() + half


def read(path: Path) -> pd.Series:
    """Sentences of the cells of a file."""
    adata = sc.read_h5ad(path)
    ch.pp.cell_sentences(adata, n_genes=N_GENES)
    return adata.obs["cell_sentence"]


def trained(
    base: Path,
    sentences: pd.Series,
    edges: pd.DataFrame,
    what: tuple[int, int, bool],
    out: Path,
    n_steps: int,
    seed: int,
) -> ch.CellHermes:
    """A model that was trained on so many questions of each kind."""
    n_cells, n_graph, in_order = what
    rng = np.random.default_rng(seed)
    if not in_order:
        sentences = sentences.map(lambda sentence: " ".join(rng.permutation(sentence.split())))
    frame = pd.DataFrame({"cell_sentence": sentences.to_numpy()}, index=[f"cell {i}" for i in range(len(sentences))])
    cells = sc.AnnData(obs=frame)
    few = {"n_neighbors": (8, 4, 2), "seed": seed}
    parts, counts = [], {}
    if n_cells:
        parts += [ch.train.corpus.mlm_pairs(cells, seed=seed), ch.train.corpus.ar_pairs(cells, seed=seed)]
        counts |= dict.fromkeys(["masked_genes", "next_genes"], n_cells // 2)
    if n_graph:
        parts += [ch.train.corpus.node_pairs(edges, **few), ch.train.corpus.link_pairs(edges, n_pairs=n_graph, **few)]
        counts |= dict.fromkeys(["masked_node", "masked_link"], n_graph // 2)
    pairs = ch.train.corpus.mixture(parts, counts, seed=seed)
    config = ch.train.TrainConfig.preset(
        "from_scratch", learning_rate=2e-3, max_steps=n_steps, batch_size=BATCH, packing=False, max_tokens=256,
        sampled_softmax=3000, attention="eager", seed=seed, save_every=50,
    )  # fmt: skip
    return ch.CellHermes.from_pretrained(ch.train.fit(pairs, config, base=base, out=out))


def embedded(model: ch.CellHermes, genes: list[str]) -> pd.DataFrame:
    template = ch.text.Template.load("gene")
    return pd.DataFrame(model.embed([template.fill(gene=gene) for gene in genes]), index=genes)


def bars(table: pd.DataFrame) -> Axes:
    """A bar for each model and task."""
    order = table["embedding"].unique()
    wide = {name: table.pivot(index="embedding", columns="task", values=name).loc[order] for name in SHOWN}
    mean, low, high = wide.values()
    error = np.stack([mean - low, high - mean]).transpose(2, 0, 1)  # task, side, model
    _, ax = plt.subplots(figsize=(7, 5))
    mean.plot.barh(ax=ax, xerr=np.nan_to_num(error), width=0.8, color=COLORS, error_kw={"linewidth": 0.8})
    ax.axvline(0.5, color="0.4", linewidth=0.8)
    ax.invert_yaxis()
    ax.set(xlabel="ROC-AUC", ylabel="")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


if __name__ == "__main__":
    main("fig2_ablations")
