"""How much biology modules of contextual gene embeddings hold, beside controls.

``python benchmarks/modules_vs_controls.py CELLS SETS`` takes cells with raw counts and a ``cell_type`` column (made for
PBMC 3k) and a GMT file (GO Biological Process), builds gene networks of two cell types in several ways, clusters them,
and prints a markdown table. All use the same genes, neighbour search, clustering and enrichment test:

mini             genes embedded behind the sentence of a cell of the type (the paper's way), with the bundled model
untrained        the same with random weights of the same shape, mean of ``--seeds`` models
co-expression    Pearson correlation over the cells of the type
spelling         character n-grams of the symbols: ZNF, SLC and HLA genes cluster by their names; knows no cell
shuffled         the model's modules with their genes exchanged at random: what chance gives

enriched         share of modules with at least one gene set at an adjusted p below 0.05
genes            share of genes in such modules; less bent by many small modules
edges            neighbours that share a gene set of at most ``--largest`` genes, against all pairs (1 is chance)
specific         modules below a Jaccard index of 0.4 with all of the other type
another seed     the same of a second clustering of the same network
halves           the same of the networks of two halves of the type's own cells
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse
from shared import untrained, variable_genes
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

import cellhermes as ch

ALPHA = 0.05


def prepare(path: Path, n_genes: int) -> tuple[ad.AnnData, list[str]]:
    """Log-normalised cells with sentences, and the most variable of the genes that may stand in sentences."""
    adata = ad.read_h5ad(path)
    sc.pp.filter_genes(adata, min_cells=10)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    ch.pp.cell_sentences(adata)
    return adata, variable_genes(adata, n_genes)


def embed(adata: ad.AnnData, model: ch.CellHermes, genes: list[str], groups: list[str]) -> None:
    """Networks of vectors behind a cell of each type, and behind a cell of each half of its cells."""
    for groupby, labels in (("cell_type", groups), ("half", None)):
        ch.tl.embed_genes(adata, model, genes=genes, groupby=groupby, groups=labels)
        ch.tl.gene_network(adata, groupby=groupby, groups=labels)


def co_expression(adata: ad.AnnData, genes: list[str], groups: list[str]) -> None:
    for groupby, labels in (("cell_type", groups), ("half", None)):
        ch.tl.gene_network(adata, use_rep="expression", genes=genes, groupby=groupby, groups=labels)


def spelling(adata: ad.AnnData, genes: list[str]) -> None:
    """One network of the symbols' character n-grams, for all cells."""
    grams = TfidfVectorizer(analyzer="char", ngram_range=(2, 4), lowercase=False)
    vectors = TruncatedSVD(256, random_state=0).fit_transform(grams.fit_transform([f"^{gene}$" for gene in genes]))
    adata.varm["X_spelling"] = np.full((adata.n_vars, vectors.shape[1]), np.nan, np.float32)
    adata.varm["X_spelling"][adata.var_names.get_indexer(genes)] = vectors
    ch.tl.gene_network(adata, use_rep="X_spelling")


class Scorer:
    """Enrichment of modules and of edges, with one collection of gene sets."""

    def __init__(self, path: Path, genes: list[str], largest: int) -> None:
        self.sets = ch.io.read_gmt(path)
        at = pd.Index(genes)
        small = [at.get_indexer(names) for names in self.sets.values() if len(names) <= largest]
        members = [np.unique(found[found >= 0]) for found in small]
        column = np.repeat(np.arange(len(members)), [len(m) for m in members])
        ones = np.ones(len(column), np.float32)
        table = sparse.csr_matrix((ones, (np.concatenate(members), column)), (len(genes), len(members)))
        share = (table @ table.T).toarray() > 0
        np.fill_diagonal(share, val=False)
        self.genes, self.share = at, share
        self.chance = share.sum() / (len(genes) * (len(genes) - 1))

    def modules(self, adata: ad.AnnData, group: str | None, of: dict | None = None) -> dict[str, float]:
        """Number of modules, share that is enriched, share of genes in those."""
        ch.tl.enrich(adata, self.sets, of=of, group=group)
        lists, table = adata.uns["enrich"]["lists"], ch.get.enrich(adata)
        found = lists["of"].isin(table.loc[table["pval_adj"] < ALPHA, "of"])
        genes = lists.loc[found, "n_genes"].sum() / lists["n_genes"].sum()
        return {"modules": len(lists), "enriched": found.mean(), "genes": genes}

    def edges(self, adata: ad.AnnData, group: str | None) -> float:
        """How much more often neighbours share a gene set than any two genes do."""
        network = ch.get.gene_network(adata, group)
        a, b = (self.genes.get_indexer(ends) for ends in zip(*network.edges, strict=True))
        return float(self.share[a, b].mean() / self.chance)


def measure(adata: ad.AnnData, scorer: Scorer, groups: list[str]) -> pd.DataFrame:
    """One row a type."""
    rows = []
    for group, reference in (groups, groups[::-1]):
        ch.tl.modules(adata, group, reference)
        nulls = ch.get.modules(adata, "nulls")["share_specific"]
        shares = {"specific": nulls["observed"], "reseed": nulls["reseed"], "halves": nulls["halves"]}
        row = {**scorer.modules(adata, group), "edges": scorer.edges(adata, group), **shares}
        rows.append({"type": group, **row})
    return pd.DataFrame(rows)


def shuffled(adata: ad.AnnData, scorer: Scorer, group: str, n: int) -> dict[str, float]:
    """Mean over ``n`` exchanges of the genes of the modules that are stored."""
    table = ch.get.modules(adata, "genes", group=group)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        drawn = table.assign(gene=rng.permutation(table["gene"].to_numpy()))
        lists = {str(k): v.tolist() for k, v in drawn.groupby("module")["gene"]}
        found.append(scorer.modules(adata, group, lists))
    return {"type": group, **pd.DataFrame(found).mean(), "edges": 1.0}


def show(name: str, rows: pd.DataFrame) -> None:
    number = lambda value, form: "" if pd.isna(value) else format(value, form)
    for row in rows.to_dict("records"):
        shares = [number(row.get(c), ".0%") for c in ("enriched", "genes")]
        nulls = [number(row.get(c), ".0%") for c in ("specific", "reseed", "halves")]
        cells = [name, row["type"], f"{row['modules']:.0f}", *shares, number(row["edges"], ".2f"), *nulls]
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", type=Path, help="h5ad with raw counts and obs['cell_type']")
    parser.add_argument("sets", type=Path, help="GMT file")
    parser.add_argument("--groups", nargs=2, default=["CD8 T", "CD14+ Mono"])
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--seeds", type=int, default=3, help="untrained models, and shuffled modules")
    parser.add_argument("--largest", type=int, default=200, help="genes of the gene sets that count for edges")
    options = parser.parse_args()
    start = time.perf_counter()
    adata, genes = prepare(options.cells, options.genes)
    scorer = Scorer(options.sets, genes, options.largest)
    ch.tl.split_groups(adata, "cell_type", groups=options.groups)
    print(
        f"{len(genes):,} genes; {scorer.chance:.1%} of all pairs share a gene set of at most {options.largest} genes\n"
    )
    print("| network | type | modules | enriched | genes | edges | specific | another seed | halves |")
    print("|---|---|---|---|---|---|---|---|---|")

    model = ch.CellHermes.from_pretrained(options.model)
    embed(adata, model, genes, options.groups)
    show(options.model, measure(adata, scorer, options.groups))
    control = shuffled(adata, scorer, options.groups[1], options.seeds)
    rows = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            random = ch.CellHermes.from_pretrained(untrained(model, seed, Path(folder)))
            embed(adata, random, genes, options.groups)
        rows.append(measure(adata, scorer, options.groups))
    show("untrained", pd.concat(rows).groupby("type", sort=False).mean().reset_index())
    co_expression(adata, genes, options.groups)
    show("co-expression", measure(adata, scorer, options.groups))
    spelling(adata, genes)
    ch.tl.modules(adata)
    row = {"type": "all", **scorer.modules(adata, None), "edges": scorer.edges(adata, None)}
    show("spelling", pd.DataFrame([row]))
    show("shuffled", pd.DataFrame([control]))
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
