"""Draw the pictures of docs/gallery.md: ``python tools/draw_gallery.py [FOLDER]``, about ten minutes on one core.

One picture for every function of ``ch.pl``, from the blood cells that scanpy brings and the bundled model, with nothing
downloaded. The adapter whose answers are drawn is tuned here, on a CPU and with a fixed seed.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
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
MYELOID = ["monocyte", "dendritic cell"]


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

# a task: answers, measures, explanation; short sentences make it quick
ch.pp.cell_sentences(adata, n_genes=40)
frame = ch.train.split_random(adata.obs[["cell_type", "cell_sentence"]], fractions=(0.6, 0.03, 0.37))
answers = sorted(frame["cell_type"].unique())
pairs, held_out = (ch.train.task_pairs(frame, "cell_type", answers=answers, part=part) for part in ("train", "valid"))
config = ch.train.TrainConfig(max_steps=100, accumulation=2, learning_rate=2e-3, eval_every=25)
with tempfile.TemporaryDirectory() as out:
    adapter = ch.train.fit(pairs, config, evaluation=held_out, base="mini", device="cpu", out=Path(out) / "cell-type")
    save(ch.pl.training(adapter), "training")
    model = ch.CellHermes.from_pretrained(adapter, device="cpu")
test = adata[(frame["split"] == "test").to_numpy()].copy()
truth = test.obs["cell_type"]
found = {}
for name, asked in (("mini, tuned", model), ("mini", "mini")):
    ch.tl.predict(test, asked, "cell_type", answers=answers, key_added=name)
    found[name] = ch.get.answers(test, name)
for name in ("majority", "frequency"):
    found[name] = ch.metrics.baseline(frame, name, label="cell_type")
parts = {"all cells": truth.notna(), "lymphoid cells": ~truth.isin(MYELOID), "myeloid cells": truth.isin(MYELOID)}
scores = [
    ch.metrics.classification(truth[rows], table.loc[truth.index[rows]]).assign(task=part, method=name)
    for part, rows in parts.items()
    for name, table in found.items()
]
save(ch.pl.scores(pd.concat(scores), baselines=["majority", "frequency"]), "scores")
save(ch.pl.roc(ch.metrics.roc(truth, found["mini, tuned"])), "roc")

ch.tl.explain(test, model, "cell_type", answers=answers)
ch.tl.faithfulness(test, model, "cell_type", cells=80)
save(ch.pl.importance(test, n_genes=6), "importance")
save(ch.pl.recurrence(test, answer="B cell", n_genes=12), "recurrence")
save(ch.pl.faithfulness(test, "deletion"), "faithfulness")
save(ch.pl.sentence(test, truth.index[truth == "B cell"][0]), "sentence")
