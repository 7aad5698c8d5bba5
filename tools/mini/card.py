"""The model card of ``mini``, written from what the build and the evaluation recorded."""

import numpy as np
from scipy import stats

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
    inputs.STRING: (
        "STRING 12.0 human, combined score of at least 800: start values and partners of genes, never questions",
        "CC BY 4.0 (STRING)",
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
    "two_batches_total": "two PBMC batches, scib-metrics total",
    "two_batches_bio": "two PBMC batches, bio conservation",
    "two_batches_batch": "two PBMC batches, batch correction",
    "three_technologies_total": "three PBMC technologies, scib-metrics total",
    "three_technologies_bio": "three PBMC technologies, bio conservation",
    "three_technologies_batch": "three PBMC technologies, batch correction",
    "masked_link": "yes or no to held-out edges, degree-matched, with context, accuracy",
    "masked_link_auc": "the same, ROC-AUC of the odds",
    "masked_link_short": "with at most 16, 10 and 6 genes in its lists, as in training, accuracy",
    "masked_link_short_auc": "the same, ROC-AUC of the odds",
    "masked_link_bare": "without context, accuracy",
    "masked_link_bare_auc": "the same, ROC-AUC of the odds",
    "masked_node_top10": "gene asked for by its held-out neighbours, in the first ten answers",
}
GROUPS = {"genes": slice(0, 7), "cells": slice(7, 17), "questions": slice(17, 24)}
TEXT = """# mini

A small language model of genes and cells that ships inside `cellhermes`, so that every function can be run, tested and
measured on a laptop CPU without network. It speaks the prompts of the package and uses the Llama architecture:
{layers} layers, width {width}, {parameters:,} parameters, bf16 safetensors, a byte-level tokenizer of {vocabulary:,}
tokens in which each of {symbols:,} gene symbols behind a blank is one token.

## What it is not

- **Not a chat model.** It has read gene lists and the package's own questions, no prose. Its answers to all else are
  noise, and a reason that it gives is text without thought: good for testing software, not for biology.
- **Not a substitute for the 8B CellHermes model**, and none of the paper's results were made with it.
- **Blood-heavy.** All but {tumour} of its {n_cells:,} training cells are blood cells.
- **Human only**, official symbols only. {unseen:,} symbols occur in none of its training data. They are listed in
  `unseen_genes.txt`; `ch.tl.embed_genes` names those that it meets, as their vectors mean nothing.
- **Small data.** What it knows of genes comes from two interaction graphs, not from literature.

## Training data

The split was fixed before training.

| input | licence | used | sha256 |
|---|---|---|---|
{inputs}

Of the BioGRID edges, {edges:,} were trained on. {held_out:,} (a seeded 2% of all) were held out, also of STRING, and
{skipped:,} with a symbol outside the vocabulary left out. STRING integrates pathway databases, text mining and
co-expression, so what was measured below on gene pairs that share pathways is not independent of it: compare with
"SVD of both graphs", which had the same inputs, and with "SVD of BioGRID", which had not.
Never used in training: `pbmc68k_reduced` (the demo's cells), `pbmc3k_labelled`, `pbmc_sorted_labelled`,
`pbmc_two_batches`, `pbmc_three_technologies`, gene-level labels, gene-pair files, gene sets, marker tables and genetic
interaction scores. Nothing that is limited to non-commercial use went in. Labels and conditions of the training
cells were not read.

## Recipe

1. *Start values.* The token table starts as spectral factors of its own training data: {dims[biogrid]} dimensions of
   the degree-normalised BioGRID graph, {dims[string]} of STRING and {dims[cells]} of the training cells' ranked genes.
   The second attention layer starts as a mean over gene tokens, all other layers write zeros. So a good part of what
   the numbers below show is in the start, which is why the start stands beside the result.
2. *Training.* One run of `ch.train.fit`: {steps:,} steps, {tokens:,} tokens, {minutes:.0f} minutes on {device}, AdamW,
   seed {seed}. All tokens of question-answer pairs have a loss ({mix}). Beside them, each step reads groups that train
   the vector at the end of a prompt: genes near their partners in BioGRID, STRING and co-expression ({shares}); cells
   as near to each other as their principal components, of which the text shows up to 100 genes, often through a random
   panel; genes in cells, naming the partners that the cell expresses; and yes or no to masked links.

Rebuild with `python tools/build_mini.py`. Settings: {config}. Versions: {versions}.

## Evaluation

Baselines: random vectors; an untrained model of the same shape; the start values; the trained token table alone;
character n-grams of the symbols; SVD of the training graphs; principal components of expression; TF-IDF of the genes
that the model reads. In brackets: 95% interval of the mean over seeds 0 to 4, of folds, forests, samples or clusters.
{tables}

Gene pairs and classes use random forests (pairs: {n_pairs:,} of the training pairs; classes: five-fold
cross-validation). No gene of the validation pairs occurs in the training pairs. The cell numbers use the default of
`ch.tl.embed_cells`; kNN is 15 neighbours in five-fold cross-validation. "PCA of expression" reads the whole expression
matrix, the model at most 100 genes and no values. One training run: other seeds of the training would differ.
Yes-or-no questions are those of `ch.train.corpus.link_pairs`, about {n_links:,} held-out edges and as many negatives.
Trials that led to the recipe were scored on these same test sets, so small advantages may be chance.

### Yes or no to a link: what was tried

That two genes belong together stands in the cosine of their vectors (table above) long before an answer uses it.
Accuracies on held-out edges:

| trial | in its own format | in questions |
|---|---|---|
| tuning all weights on 9,000 questions with context, or 47,000 without | | 0.50 |
| the same on 64,000, two attention layers starting as a comparison of gene vectors | | 0.50 |
| lists of candidates, the verdict right behind each (900,000 verdicts, loss on verdicts) | 0.67 | 0.50 |
| the same, loss on all tokens of the lists | 0.76 | 0.50 |
| then questions, or pairs or lists with a colon before the verdict, beside the lists (150 to 250 steps) | | 0.50 |
| this run: lists with a colon before the verdict and groups of questions from the start | | see above |

In this run questions stayed at chance for 1,400 of 2,000 steps, some 42,000 questions, and were learned in the
last 600.

## Licence

The weights are released under CC BY 4.0, with attribution to the data sources above. The code is BSD-3-Clause.
"""


def render(facts: dict, results: dict) -> str:
    """The card as plain Markdown."""
    cells, run = facts["cells"], facts["results"]
    return TEXT.format(
        **{k: facts[k] for k in ("parameters", "symbols", "edges", "layers", "width", "vocabulary", "dims")},
        tumour=cells["oligodendroglioma_small.h5ad"],
        n_cells=sum(cells.values()),
        unseen=facts["unseen_symbols"],
        held_out=facts["held_out_edges"],
        skipped=facts["known_edges"] - facts["edges"] - facts["held_out_edges"],
        steps=run["steps"],
        tokens=run["tokens"],
        minutes=run["seconds"] / 60,
        device={"cpu": "two shared CPU cores"}.get(run["device"], run["device"]),
        seed=facts["config"]["seed"],
        mix=", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in facts["mix"].items()),
        shares=", ".join(f"{share:.0%}" for share in facts["shares"].values()),
        config=", ".join(f"{k} {v}" for k, v in facts["config"].items()),
        versions=", ".join(f"{k} {v}" for k, v in facts["versions"].items()),
        n_pairs=evaluate.N_PAIRS,
        n_links=evaluate.N_LINKS,
        inputs="\n".join(_input_row(name, facts) for name in SOURCES),
        tables="\n".join(_table(title, list(MEASURES)[part], results) for title, part in GROUPS.items()),
    )


def _input_row(name: str, facts: dict) -> str:
    what, licence = SOURCES[name]
    n_cells = facts["cells"].get(name)
    used = f"{n_cells:,} cells" if n_cells else "names"
    used = {inputs.EDGES: f"{facts['edges']:,} edges", inputs.STRING: f"{facts['string_edges']:,} edges"}.get(
        name, used
    )
    return f"| `{name}`: {what} | {licence} | {used} | `{facts['sha256'][name]}` |"


def _table(title: str, keys: list[str], results: dict) -> str:
    """Rows are embeddings in order of appearance, columns are measures."""
    keys = [key for key in keys if key in results]
    rows = list(dict.fromkeys(name for key in keys for name in results[key]))
    lines = [f"\n### {title.capitalize()}\n"]
    lines += [f"{i}. {MEASURES[key]}" for i, key in enumerate(keys, 1)]
    lines += ["", f"| | {' | '.join(map(str, range(1, len(keys) + 1)))} |", "|---" * (len(keys) + 1) + "|"]
    for name in rows:
        cells = [_value(results[key].get(name)) for key in keys]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _value(values: list[float] | None) -> str:
    """Mean and 95% interval of the mean over seeds (Student's t)."""
    if not values:
        return ""
    if len(values) == 1 or np.ptp(values) == 0:
        return f"{values[0]:.3f}"
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]"
