"""Figure 2b and d, what vectors of genes know of genes: ``python -m benchmarks.paper.fig2_genes --model mini``.

Properties and pairs of genes (2b), similarity of annotations (2d) and enriched clusters (Supplementary Figure 5),
beside vectors that are made without a language model or without training. Two tests for leakage: how many of the tested
pairs stand in the training graph, and what the model says when it is asked the same outright (Supplementary Note 2).
"""

from __future__ import annotations

import itertools
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd
import scanpy as sc

import cellhermes as ch
from cellhermes.io import read_gmt

from ..shared import untrained
from ._run import COLORS, EDGES, SETS, main, normalise, read_edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ._run import Run

PANELS = {
    "2b": "five properties and pairs of genes, random forest and XGBoost: above nine foundation models",
    "2d": "correlation of cosine with semantic similarity (GO BP, CC, MF, KEGG), improvement over random: the highest",
    "S5": "share of k-means clusters (K = 20 to 80) that are enriched: the highest",
    "zero-shot": "the same questions asked outright: the model cannot answer them, so they did not leak",
}
LABELS = ("gene_labels/gene_classification_labels.tsv", "gene_labels/notch1_labels.tsv")
CELLS = "pbmc_donor_a_unlabelled.h5ad"
NEEDED = (*LABELS, *SETS.values(), EDGES, CELLS, "ggi_train.tsv.gz", "ggi_valid.tsv.gz", "human_genes_grch38.tsv.gz")
CLASSES = {  # as a question names them
    "dosage_sensitive": "transcription factor that is sensitive to dosage",
    "dosage_insensitive": "transcription factor that is not sensitive to dosage",
    "bivalent": "bivalent chromatin",
    "lys4_only": "chromatin with Lys4 methylation only",
    "non_methylated": "chromatin without methylation",
    "n1_central": "central in the NOTCH1 network",
    "n1_peripheral": "peripheral in the NOTCH1 network",
    "n1_activated": "activated by NOTCH1",
    "n1_nontarget": "not a target of NOTCH1",
}
N_PAIRS = 20_000  # of the 263,016 training pairs, for time
N_SEEDS = 3


def embeddings(
    model: ch.CellHermes, data: Path, seed: int, max_genes: int | None, folder: Path
) -> dict[str, pd.DataFrame]:
    """Vectors of the model and of the baselines, for the same genes: protein-coding ones, or a sample of them."""
    table = pd.read_csv(data / "human_genes_grch38.tsv.gz", sep="\t", usecols=["symbol", "biotype"])
    genes = sorted({*table.loc[table["biotype"] == "protein_coding", "symbol"].dropna()})
    labelled = {*pd.concat([ch.io.read_gene_labels(data / file) for file in LABELS])["gene"]}
    drawn = pd.Series(genes).sample(min(max_genes or len(genes), len(genes)), random_state=seed)
    chosen = sorted({*drawn} | (labelled & {*genes}))  # few genes have labels: they stay
    prompts = [ch.text.Template.load("gene").fill(gene=gene) for gene in chosen]
    vectors = model.embed(prompts)
    width = vectors.shape[1]
    without = ch.CellHermes.from_pretrained(untrained(model, seed, folder)).embed(prompts)
    adata = sc.read_h5ad(data / CELLS)
    normalise(adata)
    adata = adata[:, adata.var_names.isin(genes)]
    expressed = ch.baselines.embed_genes(adata.var_names, "pca", expression=adata.X, n_components=50, rng=seed)
    graph = read_edges(data / EDGES)
    found = {
        model.card.name: pd.DataFrame(vectors, index=chosen),
        "SVD of BioGRID": ch.baselines.embed_genes(genes, "ppmi", graph=graph, n_components=width, rng=seed),
        "PCA of expression": expressed.reindex(genes, fill_value=0),  # 0 is the mean: nothing is known
        "character n-grams": ch.baselines.embed_genes(genes, "ngrams", rng=seed),
        "untrained": pd.DataFrame(without, index=chosen),
        "random": ch.baselines.embed_genes(genes, "random", n_components=width, rng=seed),
    }
    return {name: table.loc[chosen] for name, table in found.items()}


def measure(vectors: dict[str, pd.DataFrame], data: Path, seeds: range) -> pd.DataFrame:
    """All values: ``panel``, ``task``, ``metric``, ``embedding``, ``seed``, ``value``."""
    labels = pd.concat([ch.io.read_gene_labels(data / file) for file in LABELS])
    train, test = (pd.read_csv(data / f"ggi_{part}.tsv.gz", sep="\t") for part in ("train", "valid"))
    classifiers = {"rf": "2b", "xgb": "2b, XGBoost"} if find_spec("xgboost") else {"rf": "2b"}
    parts = []

    def add(panel: str, table: pd.DataFrame, metrics: list[str], task: str | None = None, seed: int = 0) -> None:
        table = table if task is None else table.assign(task=task)
        table = table.melt(["embedding", "task"], metrics, "metric")
        parts.append(table.groupby(["embedding", "task", "metric"], sort=False, as_index=False)["value"].mean())
        parts[-1] = parts[-1].assign(panel=panel, seed=seed)

    areas = ["roc_auc", "pr_auc"]
    for seed, (name, panel) in itertools.product(seeds, classifiers.items()):
        if name == "xgb" and seed > seeds[0]:  # once, for time
            continue
        add(panel, ch.metrics.gene_property(vectors, labels, classifier=name, rng=seed), areas, seed=seed)
        same = {"label": "label", "max_pairs": N_PAIRS, "rng": seed}
        pairs = ch.metrics.gene_pairs(vectors, train, test, classifier=name, **same)
        add(panel, pairs, areas, "gene pairs", seed)
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


def asked(model: ch.CellHermes, data: Path) -> pd.DataFrame:
    """What the model says to the tasks of 2b as questions, by its log-odds; 0.5 is chance for both measures."""
    here = Path(__file__).parent
    labels = pd.concat([ch.io.read_gene_labels(data / file) for file in LABELS])
    labels = labels.drop_duplicates(["task", "gene"], keep=False)  # in one class only
    pairs = pd.read_csv(data / "ggi_valid.tsv.gz", sep="\t").drop_duplicates(["gene_a", "gene_b"])
    labels["answer"] = labels["answer"].map(CLASSES)
    pairs["answer"] = pairs["label"].map({1: "Yes", 0: "No"})
    questions = [(task, "gene_property.toml", mine) for task, mine in labels.groupby("task")]
    parts = []
    for task, file, frame in [*questions, ("gene pairs", "gene_pair.toml", pairs)]:
        answers = sorted({*frame["answer"]})
        found = ch.tl.answer(frame, model, ch.text.Question(here / file, answers=answers, normalize="sum", prior="N/A"))
        parts.append(ch.metrics.classification(frame["answer"], found, positive=answers[-1]).assign(task=task))
    table = pd.concat(parts)
    table = table[table["metric"].isin(["balanced_accuracy", "roc_auc"])]
    return table[["task", "metric", "value", "low", "high", "n"]].reset_index(drop=True)


def draw(means: pd.DataFrame) -> Axes:
    """One panel a measure, a bar for each embedding."""
    shown = {"2b": "roc_auc", "2d": "improvement", "S5": "share"}
    names = means["embedding"].unique()
    _, axes = plt.subplots(1, len(shown), figsize=(15, 4.5), layout="constrained", width_ratios=[6, 4, 1.6])
    for ax, (panel, metric) in zip(axes, shown.items(), strict=True):
        rows = means[(means["panel"] == panel) & (means["metric"] == metric)]
        table = rows.pivot_table(index="task", columns="embedding", values="value", sort=False).reindex(columns=names)
        table.rename(index=lambda task: task.replace("_", " ")).plot.bar(ax=ax, legend=False, width=0.8, color=COLORS)
        ax.set(xlabel="", ylabel={"roc_auc": "ROC-AUC"}.get(metric, metric))
        ax.set_title(panel, loc="left")
        plt.setp(ax.get_xticklabels(), rotation=30, ha="right")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].axhline(0.5, color="0.4", linewidth=0.8)
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return axes[0]


def make(run: Run) -> None:
    options = run.options
    if missing := [name for name in NEEDED if run.file(name) is None]:
        run.notes.append(f"Left out: {len(missing)} files are missing.")
        return
    n_seeds, max_genes = (1, 2000) if options.quick else (N_SEEDS, None)
    model = run.model()
    vectors = embeddings(model, options.data, options.seed, max_genes, run.out / "untrained")
    values = measure(vectors, options.data, range(options.seed, options.seed + n_seeds))
    keys = ["panel", "task", "metric", "embedding"]
    means = values.groupby(keys, sort=False)["value"].agg(["mean", "std"]).reset_index()
    means = means.rename(columns={"mean": "value"})
    for panel in means["panel"].unique():
        mine = means[means["panel"] == panel]
        run.table(panel, mine.pivot(index=["task", "metric"], columns="embedding", values="value").reset_index())
    run.table("2b-2d, all values", values)
    run.table("leakage", leakage(options.data))
    run.table("zero-shot", asked(model, options.data))
    run.figure("fig2_genes", draw(means))
    run.notes.append(
        f"{len(next(iter(vectors.values()))):,} protein-coding genes; 2b: means of {n_seeds} seeds, of XGBoost one."
    )
    if "2b, XGBoost" not in run.tables:
        run.notes.append("XGBoost is not installed (`pip install 'cellhermes[metrics]'`): its half of 2b is left out.")
    run.notes.append(
        "leakage: tested pairs that are edges of BioGRID, on which mini and the paper's model were trained."
    )


if __name__ == "__main__":
    main("fig2_genes")
