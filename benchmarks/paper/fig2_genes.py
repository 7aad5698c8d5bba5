"""Run with ``python -m benchmarks.paper.fig2_genes --model mini --data ../shared/data --out build/paper``.

Figures 2b to 2d: what vectors of genes know of genes, beside vectors made without a language model. Properties of genes
(2b), pairs of genes (2b), similarity of annotations and enriched clusters (2c, 2d), and how much of the pairs stands in
the training graph. Writes fig2_genes.parquet (all values), fig2_genes.csv (means) and fig2_genes.png.

The text of the paper gives no numbers for these panels.
"""

import argparse
import logging
import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import scanpy as sc

import cellhermes as ch
from cellhermes.tl._gene_sets import read_gmt

log = logging.getLogger("cellhermes.paper")
LABELS = ("gene_labels/gene_classification_labels.tsv", "gene_labels/notch1_labels.tsv")
SETS = {
    "GO BP": "go_bp_enrichr2021.gmt.gz",
    "GO CC": "go_cc_msigdb2025.gmt.gz",
    "GO MF": "go_mf_msigdb2025.gmt.gz",
    "KEGG": "kegg_legacy_msigdb2025.gmt.gz",
}
EDGES = "biogrid_4.4.232_human_edges.tsv.gz"
CELLS = "pbmc_donor_a_unlabelled.h5ad"
N_PAIRS = 20_000  # of the 263,016 training pairs, for time


def embeddings(name: str, data: Path, seed: int, max_genes: int | None) -> dict[str, pd.DataFrame]:
    """Vectors of the model and of the baselines, for the same genes: protein-coding ones, or a sample of them."""
    table = pd.read_csv(data / "human_genes_grch38.tsv.gz", sep="\t", usecols=["symbol", "biotype"])
    genes = sorted({*table.loc[table["biotype"] == "protein_coding", "symbol"].dropna()})
    model = ch.CellHermes.from_pretrained(name, device="cpu" if name == "mini" else None)
    chosen = pd.Series(genes).sample(min(max_genes or len(genes), len(genes)), random_state=seed).tolist()
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


def measure(vectors: dict[str, pd.DataFrame], data: Path, seeds: range, panels: set[str]) -> pd.DataFrame:
    """All values: ``panel``, ``task``, ``metric``, ``embedding``, ``seed``, ``value``."""
    labels = pd.concat([ch.io.read_gene_labels(data / file) for file in LABELS])
    train, test = (pd.read_csv(data / f"ggi_{part}.tsv.gz", sep="\t") for part in ("train", "valid"))
    parts = []

    def add(panel: str, table: pd.DataFrame, metrics: list[str], task: str | None = None, seed: int = 0) -> None:
        table = table if task is None else table.assign(task=task)
        table = table.melt(["embedding", "task"], metrics, "metric")
        parts.append(table.groupby(["embedding", "task", "metric"], sort=False, as_index=False)["value"].mean())
        parts[-1] = parts[-1].assign(panel=panel, seed=seed)
        log.info("%s seed %d\n%s", panel, seed, parts[-1].round(3).to_string(index=False))

    areas = ["roc_auc", "pr_auc"]
    for seed in seeds if "2b" in panels else ():
        add("2b", ch.metrics.gene_property(vectors, labels, seed=seed), areas, seed=seed)
        pairs = ch.metrics.gene_pairs(vectors, train, test, label="label", max_pairs=N_PAIRS, seed=seed)
        add("2b", pairs, areas, "gene pairs", seed)
    for name, file in SETS.items() if "2c" in panels else ():
        found = ch.metrics.semantic_correlation(vectors, read_gmt(data / file))
        add("2c", found, ["correlation", "improvement"], name)
    if "2d" in panels:
        known = {name: with_direction(table) for name, table in vectors.items() if name != "PCA of expression"}
        found = ch.metrics.cluster_enrichment(known, read_gmt(data / SETS["GO BP"]))
        add("2d", found, ["share", "share_random"], "GO BP, mean over K")
    return pd.concat(parts, ignore_index=True)


def with_direction(table: pd.DataFrame) -> pd.DataFrame:
    """Genes of which something is known."""
    return table[(table != 0).any(axis=1)]


def leakage(data: Path) -> pd.DataFrame:
    """How many of the tested pairs stand in the graph that mini and the paper's model were trained on."""
    test = pd.read_csv(data / "ggi_valid.tsv.gz", sep="\t")
    edges = pd.read_csv(data / EDGES, sep="\t", usecols=["symbol_a", "symbol_b"])
    return ch.metrics.overlap(test, edges, label="label")


def draw(means: pd.DataFrame, path: Path) -> None:
    """One panel a measure, a bar for each embedding."""
    shown = {"2b": "roc_auc", "2c": "improvement", "2d": "share"}
    names = means["embedding"].unique()
    shown = {panel: metric for panel, metric in shown.items() if panel in {*means["panel"]}}
    _, axes = plt.subplots(1, len(shown), figsize=(5 * len(shown), 5), layout="constrained", squeeze=False)
    for ax, (panel, metric) in zip(axes[0], shown.items(), strict=True):
        rows = means[(means["panel"] == panel) & (means["metric"] == metric)]
        table = rows.pivot_table(index="task", columns="embedding", values="value", sort=False)
        table.reindex(columns=[name for name in names if name in table]).plot.bar(
            ax=ax, legend=panel == next(iter(shown)), width=0.8
        )
        ax.set_ylabel(metric.replace("_", " "))
        ax.set_xlabel("")
        ax.set_title(panel, loc="left")
        ax.tick_params(axis="x", rotation=30)
        if panel == "2b":
            ax.axhline(0.5, color="0.4", linewidth=0.8)
    plt.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--data", type=Path, default=os.environ.get("CELLHERMES_TEST_DATA", "../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("build/paper"))
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds of folds, forests and draws")
    parser.add_argument("--max-genes", type=int, help="a sample of so many genes, for a quick look")
    parser.add_argument("--panels", nargs="+", choices=["2b", "2c", "2d"], default=["2b", "2c", "2d"])
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    started = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    values = measure(embeddings(args.model, args.data, 0, args.max_genes), args.data, range(args.seeds), {*args.panels})
    values.to_parquet(args.out / "fig2_genes.parquet")
    keys = ["panel", "task", "metric", "embedding"]
    means = (
        values.groupby(keys, sort=False)["value"].agg(["mean", "std"]).reset_index().rename(columns={"mean": "value"})
    )
    means.to_csv(args.out / "fig2_genes.csv", index=False)
    draw(means, args.out / "fig2_genes.png")
    print(means.pivot_table(index=keys[:3], columns="embedding", values="value", sort=False).round(3).to_string())
    print("\nOf the tested pairs in BioGRID:\n", leakage(args.data).round(3).to_string(index=False))
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
