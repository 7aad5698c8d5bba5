"""Figure 2f to k, gene networks of two cell types: ``python -m benchmarks.paper.fig2_networks --model mini``.

The paper compares HSPCs with CD8+ T cells of the Immune data. Beside the networks of the model stands the co-expression
control, through the same search, clustering and test (Supplementary Figure 7). Before that, clusters of the genes as
they are in each cell type are tested for a function (2f).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc

import cellhermes as ch
from cellhermes.io import read_gmt

from ..shared import variable_genes
from ._run import SETS, main, normalise

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from ._run import Run

PANELS = {
    "2f": "share of enriched clusters of genes in the context of each cell type: above other models in all types",
    "2g": "ten genes with the largest change of degree between CD8+ T cells and HSPCs, JAM3 the first",
    "2h": "neighbours of JAM3 are enriched for differentiation and activation of T cells",
    "2i": "volcano of the modules that CD8+ T cells have alone; three are read further",
    "2j, 2k": "module 20: activation and differentiation of T cells; module 11: killing by T cells",
    "S6": "Jaccard index of every pair of modules",
    "S7": "co-expression networks through the same steps: no meaningful module",
}
MIN_CELLS = 20  # of a type, so that its expression says something
N_TOP = 3  # modules that are read further


def make(run: Run) -> None:
    adata = run.cells("immune", "pbmc3k_labelled.h5ad", "PBMC 3k, CD8 T cells against CD14+ monocytes")
    sets = run.file(SETS["GO BP"])
    if adata is None or sets is None:
        return
    groupby, group, reference = (
        ("final_annotation", "CD8+ T cells", "HSPCs") if "final_annotation" in adata.obs else
        ("cell_type", "CD8 T", "CD14+ Mono")
    )  # fmt: skip
    genes = prepare(adata, 500 if run.options.quick else 2000)
    model = run.model()
    in_types(run, adata, model, genes, groupby)
    ch.tl.split_groups(adata, groupby, groups=[group, reference])  # halves of each type's cells, for the null
    for compare in ({"groupby": groupby, "groups": [group, reference]}, {"groupby": "half"}):
        ch.tl.embed_genes(adata, model, genes=genes, **compare)
        ch.tl.gene_network(adata, **compare)
        ch.tl.gene_network(adata, use_rep="expression", genes=genes, key_added="co_expression", **compare)

    change = ch.get.degree_change(adata, group, reference)
    top = str(change.index[0])
    run.table("2g", change.head(10).reset_index(names="gene"))
    run.figure("2g", ch.pl.gene_network(adata, top, group, reference=reference))
    ch.tl.enrich(adata, sets, of=top, group=group)
    run.table("2h", best(adata, 10))

    enriched = {}
    for name, keys in (("model", {}), ("co-expression", {"network_key": "co_expression"})):
        ch.tl.modules(adata, group, reference, rng=run.options.seed, **keys)
        ch.tl.enrich(adata, sets, **keys)
        found = ch.get.enrich(adata)
        modules = ch.get.modules(adata)
        hit = found.loc[found["pval_adj"] < 0.05, "of"].astype(str)
        enriched[name] = {
            "modules": len(modules),
            "enriched": modules["module"].astype(str).isin(hit).mean(),
            **ch.get.modules(adata, "nulls")["share_specific"].add_prefix("specific, ").to_dict(),
        }
        if name == "model":
            run.figure("S6", ch.pl.jaccard(adata))
            run.figure("2i", ch.pl.modules(adata))
            up = modules[modules["specific"].fillna(value=False)].nlargest(N_TOP, "score_difference")
            run.table("2i", modules)
            run.table("2j-2k", found[found["of"].astype(str).isin(up["module"].astype(str))].groupby("of").head(5))
    run.table("S7", pd.DataFrame(enriched).T.reset_index(names="network"))
    run.notes.append(
        "Modules are a finding only where they beat both nulls of S7 (reseed: another seed; halves of the cells)."
    )


def in_types(run: Run, adata: AnnData, model: ch.CellHermes, genes: list[str], groupby: str) -> None:
    """Figure 2f: clusters of genes, embedded behind a cell of each type, and of what that type's cells express."""
    n_cells = adata.obs[groupby].value_counts()
    types = sorted(n_cells.index[n_cells >= MIN_CELLS])[: 2 if run.options.quick else None]
    sets = {name: read_gmt(path) for name, file in SETS.items() if (path := run.file(file))}
    ch.tl.embed_genes(adata, model, genes=genes, groupby=groupby, groups=types, key_added="in_type")
    ch.tl.embed_genes(adata, model, genes=genes, key_added="alone")
    parts = []
    for name in types:
        mine = adata[(adata.obs[groupby] == name).to_numpy(), genes]
        expressed = ch.baselines.embed_genes(
            genes, "pca", expression=mine.X, n_components=min(50, len(mine) - 1), rng=run.options.seed
        )
        known = (expressed != 0).any(axis=1).to_numpy()  # others are not expressed in the type
        vectors = {
            f"{model.card.name}, in the type": ch.get.gene_vectors(adata, genes, [name], key="in_type"),
            f"{model.card.name}, without a context": ch.get.gene_vectors(adata, genes, [""], key="alone"),
        }
        vectors = {method: found.droplevel("group") for method, found in vectors.items()}
        vectors |= {
            "expression in the type": expressed,
            "random": ch.baselines.embed_genes(genes, "random", n_components=model.dim, rng=run.options.seed),
        }
        vectors = {method: found[known] for method, found in vectors.items()}
        for database, of in sets.items():
            found = ch.metrics.cluster_enrichment(vectors, of, rng=run.options.seed)
            parts.append(found.assign(cell_type=name, database=database))
    values = pd.concat(parts, ignore_index=True)
    table = values.groupby(["database", "cell_type", "embedding"], sort=False)[
        ["share", "share_random", "n_genes"]
    ].mean()
    run.table("2f", table.reset_index())
    run.figure("2f", shares(table["share"]))


def shares(values: pd.Series) -> Axes:
    """A panel for each database: a dot for each cell type, beside each other by embedding."""
    databases = values.index.unique("database")
    _, axes = plt.subplots(1, len(databases), figsize=(2.7 * len(databases), 3.4), sharey=True, layout="constrained")
    for ax, database in zip(np.atleast_1d(axes), databases, strict=True):
        wide = values[database].unstack("embedding", sort=False)
        ax.plot(range(wide.shape[1]), wide.T, "o-", color="0.6", linewidth=0.6, markersize=4)
        ax.plot(range(wide.shape[1]), wide.mean(), "_", color="k", markersize=22, markeredgewidth=2)
        ax.set_xticks(range(wide.shape[1]), wide.columns, rotation=40, ha="right")
        ax.set_title(database, loc="left")
        ax.margins(x=0.15)
        ax.spines[["top", "right"]].set_visible(False)
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("share of enriched clusters,\nmean over K = 20 to 80")
    return first


def prepare(adata: AnnData, n_genes: int) -> list[str]:
    """Log-normalise, write sentences, and choose the most variable of the genes that may stand in them."""
    sc.pp.filter_genes(adata, min_cells=10)
    normalise(adata)
    ch.pp.cell_sentences(adata)
    return variable_genes(adata, n_genes)


def best(adata: AnnData, n: int) -> pd.DataFrame:
    return ch.get.enrich(adata).head(n)[["of", "term", "overlap", "n_genes", "set_size", "pval_adj", "genes"]]


if __name__ == "__main__":
    main("fig2_networks")
