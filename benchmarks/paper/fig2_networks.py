"""Figure 2f to k, gene networks of two cell types: ``python -m benchmarks.paper.fig2_networks --model mini``.

The paper compares HSPCs with CD8+ T cells of the Immune data. Beside the networks of the model stands the co-expression
control, through the same search, clustering and test (Supplementary Figure 7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import scanpy as sc

import cellhermes as ch

from ._run import main

if TYPE_CHECKING:
    from anndata import AnnData

    from ._run import Run

PANELS = {
    "2g": "ten genes with the largest change of degree between CD8+ T cells and HSPCs, JAM3 the first",
    "2h": "neighbours of JAM3 are enriched for differentiation and activation of T cells",
    "2i": "volcano of the modules that CD8+ T cells have alone; three are read further",
    "2j, 2k": "module 20: activation and differentiation of T cells; module 11: killing by T cells",
    "S6": "Jaccard index of every pair of modules",
    "S7": "co-expression networks through the same steps: no meaningful module",
}
N_TOP = 3  # modules that are read further


def make(run: Run) -> None:
    adata = run.cells("immune", "pbmc3k_labelled.h5ad", "PBMC 3k, CD8 T cells against CD14+ monocytes")
    sets = run.file("go_bp_enrichr2021.gmt.gz")
    if adata is None or sets is None:
        return
    groupby, group, reference = (
        ("final_annotation", "CD8+ T cells", "HSPCs") if "final_annotation" in adata.obs else
        ("cell_type", "CD8 T", "CD14+ Mono")
    )  # fmt: skip
    genes = prepare(adata, 500 if run.options.quick else 2000)
    model = run.model()
    ch.tl.split_groups(adata, groupby, groups=[group, reference])  # halves of each type's cells, for the null
    for compare in ({"groupby": groupby, "groups": [group, reference]}, {"groupby": "half"}):
        ch.tl.embed_genes(adata, model, genes=genes, **compare)
        ch.tl.gene_network(adata, **compare)
        ch.tl.gene_network(adata, source="expression", genes=genes, key_added="co_expression", **compare)

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
            **ch.get.module_nulls(adata)["share_specific"].add_prefix("specific, ").to_dict(),
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


def prepare(adata: AnnData, n_genes: int) -> list[str]:
    """Log-normalise, write sentences, and choose the most variable of the genes that may stand in them."""
    if "counts" in adata.layers:
        adata.X = adata.layers["counts"].copy()
    sc.pp.filter_genes(adata, min_cells=10)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    ch.pp.cell_sentences(adata)
    allowed = adata[:, adata.var["sentence_gene"].to_numpy()].copy()
    sc.pp.highly_variable_genes(allowed, n_top_genes=n_genes)
    return allowed.var_names[allowed.var["highly_variable"]].tolist()


def best(adata: AnnData, n: int) -> pd.DataFrame:
    return ch.get.enrich(adata).head(n)[["of", "term", "overlap", "n_genes", "set_size", "pval_adj", "genes"]]


if __name__ == "__main__":
    main("fig2_networks")
