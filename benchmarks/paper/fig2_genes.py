"""Figure 2b and d, what vectors of genes know of genes: ``python -m benchmarks.paper.fig2_genes --model mini``.

Properties and pairs of genes (2b), similarity of annotations (2d) and enriched clusters (Supplementary Figure 5),
beside vectors that are made without a language model; and how many of the tested pairs stand in the training graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd
import scanpy as sc

import cellhermes as ch
from cellhermes.tl._gene_sets import read_gmt

from ._run import main

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from ._run import Run

PANELS = {
    "2b": "five properties and pairs of genes, random forest and XGBoost: above nine foundation models",
    "2d": "correlation of cosine with semantic similarity (GO BP, CC, MF, KEGG), improvement over random: the highest",
    "S5": "share of k-means clusters (K = 20 to 80) that are enriched: the highest",
}
LABELS = ("gene_labels/gene_classification_labels.tsv", "gene_labels/notch1_labels.tsv")
SETS = {
    "GO BP": "go_bp_enrichr2021.gmt.gz",
    "GO CC": "go_cc_msigdb2025.gmt.gz",
    "GO MF": "go_mf_msigdb2025.gmt.gz",
    "KEGG": "kegg_legacy_msigdb2025.gmt.gz",
}
EDGES = "biogrid_4.4.232_human_edges.tsv.gz"
CELLS = "pbmc_donor_a_unlabelled.h5ad"
NEEDED = (*LABELS, *SETS.values(), EDGES, CELLS, "ggi_train.tsv.gz", "ggi_valid.tsv.gz", "human_genes_grch38.tsv.gz")
N_PAIRS = 20_000  # of the 263,016 training pairs, for time
N_SEEDS = 3


def embeddings(name: str, data: Path, seed: int, max_genes: int | None) -> dict[str, pd.DataFrame]:
    """Vectors of the model and of the baselines, for the same genes: protein-coding ones, or a sample of them."""
    table = pd.read_csv(data / "human_genes_grch38.tsv.gz", sep="\t", usecols=["symbol", "biotype"])
    genes = sorted({*table.loc[table["biotype"] == "protein_coding", "symbol"].dropna()})
    model = ch.CellHermes.from_pretrained(name, device="cpu" if name == "mini" else None)
    labelled = {*pd.concat([ch.io.read_gene_labels(data / file) for file in LABELS])["gene"]}
    drawn = pd.Series(genes).sample(min(max_genes or len(genes), len(genes)), random_state=seed)
    chosen = sorted({*drawn} | (labelled & {*genes}))  # few genes have labels: they stay
    vectors = model.embed([ch.text.template("gene").fill(gene=gene) for gene in chosen])
    width = vectors.shape[1]
    edges = pd.read_csv(data / EDGES, sep="\t")
    edges = edges.loc[edges["both_known_symbols"] == 1, ["symbol_a", "symbol_b"]]
    adata = sc.read_h5ad(data / CELLS)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata = adata[:, adata.var_names.isin(genes)]
    expressed = ch.metrics.expression_embedding(adata.X, adata.var_names, seed=seed)
    found = {
        name: pd.DataFrame(vectors, index=chosen),
        "SVD of BioGRID": ch.metrics.graph_embedding(edges, genes=genes, n_components=width, seed=seed),
        "PCA of expression": expressed.reindex(genes, fill_value=0),  # 0 is the mean: nothing is known
        "character n-grams": ch.metrics.ngram_embedding(genes, seed=seed),
        "random": ch.metrics.random_embedding(genes, n_components=width, seed=seed),
    }
    return {name: table.loc[chosen] for name, table in found.items()}


def measure(vectors: dict[str, pd.DataFrame], data: Path, seeds: range) -> pd.DataFrame:
    """All values: ``panel``, ``task``, ``metric``, ``embedding``, ``seed``, ``value``."""
    labels = pd.concat([ch.io.read_gene_labels(data / file) for file in LABELS])
    train, test = (pd.read_csv(data / f"ggi_{part}.tsv.gz", sep="\t") for part in ("train", "valid"))
    parts = []

    def add(panel: str, table: pd.DataFrame, metrics: list[str], task: str | None = None, seed: int = 0) -> None:
        table = table if task is None else table.assign(task=task)
        table = table.melt(["embedding", "task"], metrics, "metric")
        parts.append(table.groupby(["embedding", "task", "metric"], sort=False, as_index=False)["value"].mean())
        parts[-1] = parts[-1].assign(panel=panel, seed=seed)

    areas = ["roc_auc", "pr_auc"]
    for seed in seeds:
        add("2b", ch.metrics.gene_property(vectors, labels, seed=seed), areas, seed=seed)
        pairs = ch.metrics.gene_pairs(vectors, train, test, label="label", max_pairs=N_PAIRS, seed=seed)
        add("2b", pairs, areas, "gene pairs", seed)
    for name, file in SETS.items():
        found = ch.metrics.semantic_correlation(vectors, read_gmt(data / file))
        add("2d", found, ["correlation", "improvement"], name)
    known = {name: with_direction(table) for name, table in vectors.items() if name != "PCA of expression"}
    found = ch.metrics.cluster_enrichment(known, read_gmt(data / SETS["GO BP"]))
    add("S5", found, ["share", "share_random"], "GO BP, mean over K")
    return pd.concat(parts, ignore_index=True)


def with_direction(table: pd.DataFrame) -> pd.DataFrame:
    """Genes of which something is known."""
    return table[(table != 0).any(axis=1)]


def leakage(data: Path) -> pd.DataFrame:
    """How many of the tested pairs stand in the graph that mini and the paper's model were trained on."""
    test = pd.read_csv(data / "ggi_valid.tsv.gz", sep="\t")
    edges = pd.read_csv(data / EDGES, sep="\t", usecols=["symbol_a", "symbol_b"])
    return ch.metrics.overlap(test, edges, label="label").astype({"answer": str})  # of text and numbers


def draw(means: pd.DataFrame) -> Axes:
    """One panel a measure, a bar for each embedding."""
    shown = {"2b": "roc_auc", "2d": "improvement", "S5": "share"}
    names = means["embedding"].unique()
    _, axes = plt.subplots(1, len(shown), figsize=(15, 4.5), layout="constrained", width_ratios=[6, 4, 1.6])
    for ax, (panel, metric) in zip(axes, shown.items(), strict=True):
        rows = means[(means["panel"] == panel) & (means["metric"] == metric)]
        table = rows.pivot_table(index="task", columns="embedding", values="value", sort=False).reindex(columns=names)
        table.rename(index=lambda task: task.replace("_", " ")).plot.bar(ax=ax, legend=panel == "2d", width=0.8)
        ax.set(xlabel="", ylabel={"roc_auc": "ROC-AUC"}.get(metric, metric))
        ax.set_title(panel, loc="left")
        plt.setp(ax.get_xticklabels(), rotation=30, ha="right")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].axhline(0.5, color="0.4", linewidth=0.8)
    return axes[0]


def make(run: Run) -> None:
    options = run.options
    if missing := [name for name in NEEDED if run.file(name) is None]:
        run.notes.append(f"Left out: {len(missing)} files are missing.")
        return
    n_seeds, max_genes = (1, 2000) if options.quick else (N_SEEDS, None)
    vectors = embeddings(options.model, options.data, options.seed, max_genes)
    values = measure(vectors, options.data, range(options.seed, options.seed + n_seeds))
    keys = ["panel", "task", "metric", "embedding"]
    means = values.groupby(keys, sort=False)["value"].agg(["mean", "std"]).reset_index()
    means = means.rename(columns={"mean": "value"})
    for panel in PANELS:
        mine = means[means["panel"] == panel]
        run.table(panel, mine.pivot(index=["task", "metric"], columns="embedding", values="value").reset_index())
    run.table("2b-2d, all values", values)
    run.table("leakage", leakage(options.data))
    run.figure("fig2_genes", draw(means))
    run.notes.append(f"{len(next(iter(vectors.values()))):,} protein-coding genes; means of {n_seeds} seeds in 2b.")
    run.notes.append(
        "leakage: tested pairs that are edges of BioGRID, on which mini and the paper's model were trained."
    )


if __name__ == "__main__":
    main("fig2_genes")
