"""The model card of ``mini``, written from what the build and the evaluation recorded."""

from . import evaluate, inputs

SOURCES = {
    "pbmc_donor_a_unlabelled.h5ad": (
        "10x Genomics frozen PBMC donor A, no labels",
        "CC BY 4.0 (10x Genomics; copy from the GPL-3 package MUDAN)",
    ),
    "kang_ctrl_stim_unlabelled.h5ad": (
        "Kang 2018 PBMC, control and IFN-beta; the condition is never read",
        "public data, GEO GSE96583 (copy from the GPL-3 package harmony)",
    ),
    "kang_labelled_1267genes.h5ad": (
        "Kang 2018 PBMC, subset; neither condition nor cell type is read",
        "public data, GEO GSE96583 (copy from the GPL-3 package muscat)",
    ),
    "oligodendroglioma_small.h5ad": (
        "Tirosh 2016 oligodendroglioma, Smart-seq2, down-sampled; labels are not read",
        "BSD-3-Clause (distributed with inferCNV)",
    ),
    inputs.EDGES: (
        "BioGRID 4.4.232 human interactions between known symbols, physical and genetic mixed",
        "MIT (BioGRID)",
    ),
    inputs.GENES: (
        "Ensembl GRCh38 symbols, biotypes and full names: vocabulary of the tokenizer only",
        "no restriction (Ensembl)",
    ),
}
MEASURES = {
    "gene_pairs": "Gene2vec pairs, training to validation part, ROC-AUC",
    "dosage_sensitive_vs_insensitive_tf": "dosage-sensitive transcription factors, ROC-AUC",
    "bivalent_vs_lys4_only": "bivalent against Lys4-only promoters, ROC-AUC",
    "bivalent_vs_non_methylated": "bivalent against non-methylated promoters, ROC-AUC",
    "notch1_network": "NOTCH1 network, central against peripheral, ROC-AUC",
    "notch1_target": "NOTCH1 targets, ROC-AUC",
    "held_out_edges": "held-out BioGRID edges, degree-matched, ROC-AUC of the cosine",
    "pbmc3k_knn": "PBMC 3k, nine types, kNN accuracy",
    "pbmc3k_nmi": "PBMC 3k, k-means NMI",
    "pbmc68k_knn": "PBMC 68k reduced, ten types, kNN accuracy",
    "pbmc68k_nmi": "PBMC 68k reduced, k-means NMI",
    "masked_link": "yes or no to held-out edges, degree-matched, accuracy",
    "masked_node_top10": "gene asked for by its held-out neighbours, in the first ten answers",
}
TEXT = """# mini

A small language model of genes and cells that ships inside `cellhermes`, so that every function can be run, tested and
measured on a laptop CPU without network. It speaks the prompts of the package and uses the Llama architecture:
{layers} layers, width {width}, {parameters:,} parameters, bf16 safetensors, a byte-level tokenizer of {vocabulary:,}
tokens in which each of {symbols:,} gene symbols behind a blank is one token.

## What it is not

- **Not a chat model.** It has read gene lists and a few fixed questions, no prose. Its answers to all else are noise.
  It has not learned where an answer ends: read its first token, or use the probabilities of given answers.
  Its yes or no to an interaction is worth what the last table says: where that is near 0.5, nothing.
- **Not a substitute for the 8B CellHermes model**, and none of the paper's results were made with it.
- **Blood-heavy.** All but {tumour} of its {n_cells:,} training cells are blood cells.
- **Human only**, official symbols only. {unseen:,} symbols occur in none of its training data; their
  vectors mean nothing.
- **A short run.** {minutes:.0f} minutes on two shared CPU cores. A later version is to be trained properly.

## Training data

The split was fixed before training.

| input | licence | used | sha256 |
|---|---|---|---|
{inputs}

Of the edges, {edges:,} were trained on. {held_out:,} (a seeded 2% of all) were held out, and {skipped:,} with a symbol
outside the vocabulary left out.
Never used in training: `pbmc68k_reduced` (the demo's cells), `pbmc3k_labelled`, `pbmc_sorted_labelled`,
`pbmc_two_batches`, `pbmc_three_technologies`, gene-level labels, gene-pair files, gene sets, marker tables and genetic
interaction scores. Nothing that is limited to non-commercial use went in. Labels and conditions of the training
cells were not read.

## Recipe

1. *Start values.* The token table starts as spectral factors of its own training data: {graph_dim} dimensions of the
   degree-normalised training graph and {cell_dim} of the training cells' ranked genes. The second attention layer
   starts as a mean over gene tokens, all other layers write zeros. So a good part of what the numbers below show is
   in the start, which is why the start stands beside the result.
2. *Training.* {steps:,} steps, {tokens:,} tokens, {minutes:.0f} minutes, AdamW, seed {seed}. Every document is a chat
   turn, and the position that is later read as the embedding is trained on a distribution over genes. For a gene: its
   partners (by 1/sqrt(degree)) and co-expressed genes. For a cell: the denoised profile of the whole cell, of which the
   text shows up to 100 genes, often through a random panel. For a gene in a cell: its partners, those that the cell
   expresses five times as likely. For a question (missing gene, next gene, masked node, masked link, neighbours): the
   answer. Added are a contrastive loss on the two ends of edges, a loss that makes cells as similar as the principal
   components of their whole profiles, and the next-token loss on the documents.

Rebuild with `python tools/build_mini.py`; settings: {recipe}.

## Evaluation

Baselines: random vectors; an untrained model of the same shape; the start values; the trained token table alone; SVD of
the training graph; principal components of expression.
{tables}

Gene pairs and classes use random forests (pairs: {n_pairs:,} of the training pairs, one seed; classes: five-fold
cross-validation, mean of seeds 0-4). No gene of the validation pairs occurs in the training pairs. The cell numbers
use the vector at the end of the bare cell prompt; kNN is 15 neighbours in five-fold cross-validation, k-means is the
mean of seeds 0-4. "PCA of expression" reads the whole expression matrix, the model at most 100 genes and no values.
One training run: differences under 0.02 are noise. Masked link and masked node are asked in the wordings of training.
Trials that led to the recipe were scored on these same test sets, so small advantages may be chance.

## Licence

The weights are released under CC BY 4.0, with attribution to the data sources above. The code is BSD-3-Clause.
"""


def render(facts: dict, results: dict) -> str:
    """The card as plain Markdown."""
    recipe = facts["recipe"]
    cells = facts["cells"]
    return TEXT.format(
        **{k: facts[k] for k in ("parameters", "symbols", "edges", "layers", "width", "vocabulary", "tokens")},
        **{k: facts[k] for k in ("graph_dim", "cell_dim")},
        tumour=cells["oligodendroglioma_small.h5ad"],
        n_cells=sum(cells.values()),
        unseen=facts["unseen_symbols"],
        held_out=facts["held_out_edges"],
        skipped=facts["known_edges"] - facts["edges"] - facts["held_out_edges"],
        minutes=facts["seconds"] / 60,
        n_pairs=evaluate.N_PAIRS,
        steps=recipe["steps"],
        seed=recipe["seed"],
        recipe=", ".join(f"{k} {v}" for k, v in recipe.items()),
        inputs="\n".join(_input_row(name, facts) for name in SOURCES),
        tables="\n".join(_table(title, keys, results) for title, keys in _groups().items()),
    )


def _input_row(name: str, facts: dict) -> str:
    what, licence = SOURCES[name]
    n_cells = facts["cells"].get(name)
    used = f"{n_cells:,} cells" if n_cells else "see below" if name == inputs.EDGES else "names"
    return f"| `{name}`: {what} | {licence} | {used} | `{facts['sha256'][name]}` |"


def _groups() -> dict[str, list[str]]:
    keys = list(MEASURES)
    return {"genes": keys[:7], "cells": keys[7:11], "questions": keys[11:]}


def _table(title: str, keys: list[str], results: dict) -> str:
    """Rows are measures, columns are embeddings in order of appearance."""
    columns = list(dict.fromkeys(c for key in keys for c in results[key]))
    head = [f"\n### {title.capitalize()}\n", f"| measure | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    rows = []
    for key in keys:
        values = [f"{results[key][c]:.3f}" if c in results[key] else "" for c in columns]
        rows.append(f"| {MEASURES[key]} | {' | '.join(values)} |")
    return "\n".join([*head, *rows])
