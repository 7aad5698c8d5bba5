"""Draw the pictures of docs/gallery.md: ``python tools/draw_gallery.py [FOLDER]``, about two minutes on one core.

One picture for every function of ``ch.pl``, from the blood cells that scanpy brings and the bundled model, with nothing
downloaded.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import scanpy as sc
from matplotlib.axes import Axes

import cellhermes as ch

mpl.use("Agg")
FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"

# of the 765 genes of these cells; what they do is text-book knowledge
SETS = {
    name: genes.split()
    for name, genes in {
        "T cell receptor signalling": "CD3D CD3E CD3G CD247 LCK LAT CD4 CD8A CD8B CD28 CSK PTPRC",
        "killing by lymphocytes": "GZMA GZMB GZMH GZMK GZMM PRF1 GNLY NKG7 CTSW FGFBP2 KLRB1 CST7",
        "B cell receptor signalling": "CD79A CD79B MS4A1 BLK BANK1 FCRLA TNFRSF13B POU2AF1 SPIB",
        "antigen presentation, class II": (
            "HLA-DMA HLA-DMB HLA-DPA1 HLA-DPB1 HLA-DQA1 HLA-DQA2 HLA-DQB1 HLA-DRA HLA-DRB1 HLA-DRB5 CD74 IFI30 CTSH"
        ),
        "inflammation of myeloid cells": "S100A8 S100A9 LYZ FCN1 MNDA IL1B CFD FPR1 CD33 LGALS2 CFP SERPINB1",
        "mitochondrial electron transport": (
            "NDUFA1 NDUFA2 NDUFA4 NDUFA8 NDUFAB1 NDUFB2 NDUFB10 NDUFB11 NDUFS5 NDUFS8 COX6A1 COX7B COX7C UQCRC1 "
            "UQCRFS1 SDHC ATP5B ATP5I ATP5O"
        ),
        "translation by mitochondrial ribosomes": (
            "MRPL9 MRPL18 MRPL21 MRPL40 MRPL48 MRPS6 MRPS21 MRPS25 MRPS33 DAP3 NSUN6"
        ),
        "protein degradation by the proteasome": "PSMA7 PSMB2 PSMB6 PSMC3 PSMC5 PSMD7 PSMD13 PSME2 PSMG2 POMP",
        "splicing of messenger RNA": "SRSF2 SRSF7 SF3B2 SFPQ SNRNP70 U2AF1 LSM4 LSM5 HNRNPA1 HNRNPF HNRNPK HNRNPR",
    }.items()
}
COARSE = {
    "CD19+ B": "B cell",
    "CD14+ Monocyte": "monocyte",
    "Dendritic": "dendritic cell",
    "CD56+ NK": "NK cell",
    "CD34+": None,  # too few
}


def save(ax: Axes, name: str) -> None:
    ax.figure.savefig(folder / f"gallery_{name}.png", dpi=110, pil_kwargs={"optimize": True})


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES
adata = sc.datasets.pbmc68k_reduced().raw.to_adata()  # log-normalised
adata.obs["cell_type"] = [COARSE.get(name, "T cell") for name in adata.obs["bulk_labels"]]
adata = adata[adata.obs["cell_type"].notna()].copy()
ch.pp.cell_sentences(adata)

# networks, modules, gene sets
types = ["B cell", "monocyte"]
ch.tl.split_groups(adata, "cell_type", groups=types)
for groupby, groups in (("cell_type", types), ("half", None)):
    ch.tl.embed_genes(adata, "mini", groupby=groupby, groups=groups)
    ch.tl.gene_network(adata, groupby=groupby, groups=groups)
ch.tl.modules(adata, "B cell", "monocyte")
ch.tl.enrich(adata, SETS)

save(ch.pl.degree_change(adata, "B cell", "monocyte", n_genes=15), "degree_change")
save(ch.pl.gene_network(adata, "CD79A", "B cell", reference="monocyte"), "gene_network")
save(ch.pl.jaccard(adata), "jaccard")
save(ch.pl.modules(adata), "modules")
best = ch.get.enrich(adata).query("term == 'B cell receptor signalling'").sort_values("pval")["of"].iloc[0]
save(ch.pl.module_scores(adata, int(best)), "module_scores")
save(ch.pl.enrich(adata, n_terms=2), "enrich")

# a task: answers, measures, explanation; of two types, in short sentences, which makes it quick
cells = adata[adata.obs["cell_type"].isin(["B cell", "T cell"]).to_numpy()].copy()
ch.pp.cell_sentences(cells, n_genes=40)
frame = ch.train.questions.split(cells.obs[["cell_type", "cell_sentence"]], "random", fractions=(0.5, 0, 0.5))
test = cells[(frame["split"] == "test").to_numpy()].copy()
truth = test.obs["cell_type"]
answers = ["B cell", "T cell"]
found = {}
for name, prior in (("mini", ""), ("mini, less prior", "N/A")):
    ch.tl.predict(
        test, "mini", ch.text.Question("cell_type", answers=answers, normalize="sum", prior=prior), key_added=name
    )
    found[name] = ch.get.answers(test, name)
for name in ("majority", "frequency"):
    found[name] = ch.baselines.answer(frame, name, label="cell_type")
many = test.obs["n_genes"] >= test.obs["n_genes"].median()
parts = {"all cells": truth.notna(), "cells with many genes": many, "cells with few genes": ~many}
scores = [
    ch.metrics.classification(truth[rows], table.loc[truth.index[rows]]).assign(task=part, method=name)
    for part, rows in parts.items()
    for name, table in found.items()
]
save(ch.pl.scores(pd.concat(scores), baselines=["majority", "frequency"]), "scores")
curves = [
    ch.metrics.roc(truth[rows], found["mini"].loc[truth.index[rows]]).assign(method=part)
    for part, rows in parts.items()
]
save(ch.pl.roc(pd.concat(curves), answer="B cell"), "roc")

ch.tl.explain(test, "mini", ch.text.Question("cell_type", answers=answers))
ch.tl.faithfulness(test, "mini", "cell_type", cells=40)
save(ch.pl.importance(test), "importance")
save(ch.pl.recurrence(test), "recurrence")
save(ch.pl.faithfulness(test, "deletion"), "faithfulness")
save(ch.pl.sentence(test, truth.index[truth == "B cell"][0]), "sentence")

# the log of a run, with made-up losses: training takes too long for a picture
step = np.arange(1, 201)
noise = np.random.default_rng(0).normal(0, 0.25, len(step))
log = pd.DataFrame({"step": step, "loss": 0.9 + 3 * np.exp(-step / 40) + noise})
log["learning_rate"] = 5e-5 * (1 + np.cos(np.pi * step / len(step))) / 2
log["eval_loss"] = (0.95 + 3 * np.exp(-step / 40)).round(3)
log.loc[step % 25 != 0, "eval_loss"] = np.nan
save(ch.pl.training(log), "training")
