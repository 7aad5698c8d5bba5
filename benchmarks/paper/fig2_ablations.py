"""Figure 2c, S2 and S3, what the training data do: ``python -m benchmarks.paper.fig2_ablations --model mini``.

Models of the model's shape with random weights are trained in the same way, for the same number of steps, on different
questions: of cells, of the graph, or of both; with genes in their order or in a random one; with more or fewer
questions of cells. Then properties of genes are told from their vectors. The runs are far shorter than the paper's (and
than that of ``mini``): they compare data, and say little of what a long run reaches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc

import cellhermes as ch

from ._run import main, untrained

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
EDGES = "biogrid_4.4.232_human_edges.tsv.gz"
LABELS = "gene_labels/gene_classification_labels.tsv"
# questions of cells, of the graph, whether genes stand in their order
TRAINED = {
    "cells": (8000, 0, True),
    "graph": (0, 8000, True),
    "both": (4000, 4000, True),
    "both, random order": (4000, 4000, False),
    "graph, 1,000 of cells": (1000, 7000, True),
    "graph, 2,000 of cells": (2000, 6000, True),
}
N_STEPS, BATCH = 120, 24
N_SEEDS = 3  # of folds and forests


def make(run: Run) -> None:
    files = [run.file(name) for name in (*CELLS, EDGES, LABELS)]
    if None in files:
        return
    *cells, edges, labels = files
    edges = pd.read_csv(edges, sep="\t")
    edges = edges.loc[edges["both_known_symbols"] == 1, ["symbol_a", "symbol_b"]]
    labels = ch.io.read_gene_labels(labels)
    genes = sorted({*labels["gene"]})
    sentences = pd.concat([read(path) for path in cells], ignore_index=True)
    n_steps = 2 if run.options.quick else N_STEPS
    base = untrained(run.model(), run.options.seed, run.out / "untrained")
    vectors = {"untrained": embedded(ch.CellHermes.from_pretrained(base), genes)}
    for name, what in TRAINED.items():
        folder = run.out / f"trained-{name.replace(', ', '-').replace(' ', '-').replace('1,', '1')}-{n_steps}"
        vectors[name] = embedded(trained(base, sentences, edges, what, folder, n_steps, run.options.seed), genes)
    parts = [
        ch.metrics.gene_property(vectors, labels, seed=seed).assign(seed=seed)
        for seed in range(1 if run.options.quick else N_SEEDS)
    ]
    values = pd.concat(parts, ignore_index=True)
    means = values.groupby(["embedding", "task", "seed"], sort=False)["roc_auc"].mean()
    table = means.groupby(level=["embedding", "task"], sort=False).agg(["mean", "std"]).reset_index()
    table["n_cell_questions"] = [TRAINED.get(name, (0,))[0] for name in table["embedding"]]
    run.table("2c, S2, S3", table)
    run.figure("2c, S2, S3", bars(table))
    run.notes.append(
        f"{n_steps} steps of {BATCH} questions each, one training run for each model: std is that of folds and "
        "forests, and another training seed may change more than it says."
    )


def read(path: Path) -> pd.Series:
    """Sentences of the cells of a file."""
    adata = sc.read_h5ad(path)
    ch.pp.cell_sentences(adata)
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
    few = {"n_neighbors": (16, 10, 6), "seed": seed}
    parts, counts = [], {}
    if n_cells:
        parts += [ch.train.mlm_pairs(cells, seed=seed), ch.train.ar_pairs(cells, seed=seed)]
        counts |= dict.fromkeys(["masked_genes", "next_genes"], n_cells // 2)
    if n_graph:
        parts += [ch.train.node_pairs(edges, **few), ch.train.link_pairs(edges, n_pairs=n_graph, **few)]
        counts |= dict.fromkeys(["masked_node", "masked_link"], n_graph // 2)
    pairs = ch.train.mixture(parts, counts, seed=seed)
    config = ch.train.TrainConfig.preset(
        "from_scratch", max_steps=n_steps, batch_size=BATCH, packing=False, max_tokens=256, sampled_softmax=3000,
        attention="eager", seed=seed, save_every=50,
    )  # fmt: skip
    return ch.CellHermes.from_pretrained(ch.train.fit(pairs, config, base=base, out=out))


def embedded(model: ch.CellHermes, genes: list[str]) -> pd.DataFrame:
    template = ch.text.template("gene")
    return pd.DataFrame(model.embed([template.fill(gene=gene) for gene in genes]), index=genes)


def bars(table: pd.DataFrame) -> Axes:
    """A bar for each model and task."""
    wide, error = (table.pivot(index="embedding", columns="task", values=name) for name in ("mean", "std"))
    order = table["embedding"].unique()
    _, ax = plt.subplots(figsize=(7, 4))
    wide.loc[order].plot.barh(ax=ax, xerr=error.loc[order], width=0.8, error_kw={"linewidth": 0.8})
    ax.axvline(0.5, color="0.4", linewidth=0.8)
    ax.invert_yaxis()
    ax.set(xlabel="ROC-AUC", ylabel="")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


if __name__ == "__main__":
    main("fig2_ablations")
