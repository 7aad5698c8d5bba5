"""Draw the figures of docs/networks.md, and print its numbers: ``python tools/draw_networks.py CELLS SETS``.

CELLS is an h5ad file of PBMC 3k with raw counts and ``cell_type``, SETS a GMT file of GO Biological Process.
"""

import sys
from pathlib import Path

import anndata as ad
import matplotlib as mpl
import numpy as np
import scanpy as sc
from matplotlib.axes import Axes

import cellhermes as ch

mpl.use("Agg")
FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"


def save(ax: Axes, name: str) -> None:
    ax.figure.savefig(FIGURES / f"networks_{name}.png", dpi=100, pil_kwargs={"optimize": True})


cells, gene_sets = sys.argv[1:]
adata = ad.read_h5ad(cells)
sc.pp.filter_genes(adata, min_cells=10)
sc.pp.normalize_total(adata, target_sum=1e4)
sc.pp.log1p(adata)
ch.pp.cell_sentences(adata)
allowed = adata[:, adata.var["sentence_gene"].to_numpy()].copy()
sc.pp.highly_variable_genes(allowed, n_top_genes=2000)
genes = allowed.var_names[allowed.var["highly_variable"]].tolist()
sc.pp.pca(allowed, mask_var="highly_variable")
sc.pp.neighbors(allowed)
sc.tl.umap(allowed)
adata.obsm["X_umap"] = allowed.obsm["X_umap"]

types = ["CD8 T", "CD14+ Mono"]
ch.tl.split_groups(adata, "cell_type", groups=types)
for groupby, groups in (("cell_type", types), ("half", None)):
    ch.tl.embed_genes(adata, genes=genes, groupby=groupby, groups=groups)
    ch.tl.gene_network(adata, groupby=groupby, groups=groups)
ch.tl.modules(adata, "CD8 T", "CD14+ Mono")
ch.tl.enrich(adata, gene_sets)
modules = ch.get.modules(adata)
change = ch.get.degree_change(adata, "CD8 T", "CD14+ Mono")
print(modules.drop(columns=["group", "reference"]).round(3).to_string())
print(ch.get.modules(adata, "nulls").round(3).to_string())
print(change.head(12).to_string())
print(ch.get.enrich(adata).groupby("of").head(1)[["of", "term", "overlap", "n_genes", "pval_adj"]].to_string())

save(ch.pl.degree_change(adata, "CD8 T", "CD14+ Mono"), "degree_change")
save(ch.pl.gene_network(adata, change.index[0], "CD8 T", reference="CD14+ Mono"), "gene_network")
save(ch.pl.jaccard(adata), "jaccard")
save(ch.pl.modules(adata), "modules")
best = int(modules.loc[modules["score_difference"].abs().idxmax(), "module"])
print("module of the figures:", best, np.array(ch.get.modules(adata, "genes").query("module == @best")["gene"])[:20])
save(ch.pl.module_scores(adata, best), "module_scores")
save(ch.pl.enrich(adata, n_terms=1), "enrich")
