"""Does an explanation find the gene that decides? ``python benchmarks/planted_signal.py --out build/planted``.

Generated cells, into half of whose sentences one gene is put at a random place, instead of the last one: with it the
true answer is Reactive, without it Non-Reactive, and nothing else tells them apart. The bundled model is tuned on some
cells (all weights, as an adapter cannot teach its token table two words that it has hardly read), and asked about
others, for each of ``--planted`` genes. Prints a markdown table of

accuracy            share of test cells that are answered rightly
occlusion, first    share of the cells answered Reactive, rightly, in which the planted gene is the most important one
attention, first    the same of attention, of the head that is chosen by its entropy
attention, top 10   the same for the ten most important genes
best head, first    the same of the head that finds the gene most often, chosen with the answer in hand
by chance, first    the same of a gene drawn from the sentence
answer changes      share of these cells whose answer is another without the gene
other gene          the same without the gene beside it in the sentence

Models are kept in ``--out``, and a second call goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import cellhermes as ch

TASK = "t_cell_reactivity"
ANSWERS = ["Reactive", "Non-Reactive"]
GENES = ["CXCL13", "ENTPD1", "TIGIT", "PDCD1", "IFNG"]
N_TRAIN, N_TEST, N_GENES = 2400, 200, 20


def cells(
    gene: str, *, n_train: int = N_TRAIN, n_test: int = N_TEST, n_genes: int = N_GENES, seed: int = 0
) -> ad.AnnData:
    """Cells with their sentences, true answers and the split; every other cell has the gene."""
    toy = ch.datasets.toy(n_obs=n_train + n_test, rng=seed)
    toy = toy[:, toy.var_names != gene].copy()
    ch.pp.cell_sentences(toy, n_genes=n_genes)
    # In the gene's place the last one goes, or the length of a sentence would tell it.
    sentences = [sentence.split() for sentence in toy.obs["cell_sentence"]]
    rng = np.random.default_rng(seed)
    for genes in sentences[::2]:
        genes.pop()
        genes.insert(rng.integers(len(genes) + 1), gene)
    obs = pd.DataFrame({"cell_sentence": [" ".join(genes) for genes in sentences]}, index=toy.obs_names)
    obs["answer"] = np.where(np.arange(len(obs)) % 2, *ANSWERS[::-1])
    obs["split"] = np.where(np.arange(len(obs)) < n_train, "train", "test")
    names = pd.DataFrame(index=[*toy.var_names, gene])
    return ad.AnnData(sparse.csr_matrix((len(obs), len(names)), dtype=np.float32), obs=obs, var=names)


def tuned(adata: ad.AnnData, out: Path, *, n_steps: int, rate: float, seed: int = 0) -> ch.CellHermes:
    """The bundled model, tuned on the training cells; goes on where an earlier call stopped."""
    config = ch.train.TrainConfig.preset(
        "instruct", method="full", attention="eager", max_steps=n_steps, learning_rate=rate, save_every=50, seed=seed
    )
    pairs = ch.train.questions.task_pairs(adata.obs, TASK, seed=seed)
    return ch.CellHermes.from_pretrained(ch.train.fit(pairs, config, base="mini", out=out, device="cpu"), device="cpu")


def rates(adata: ad.AnnData, model: ch.CellHermes, gene: str) -> dict[str, float]:
    """How often each way finds the gene, in the test cells that are rightly said to have it."""
    test = adata[adata.obs["split"] == "test"].copy()
    found = ch.tl.answer(test.obs, model, TASK)
    is_right = found["answer"].to_numpy() == test.obs["answer"].to_numpy()
    hits = test[is_right & (test.obs["answer"] == ANSWERS[0]).to_numpy()].copy()
    rows = {"accuracy": is_right.mean(), "cells": hits.n_obs}
    if not hits.n_obs:
        return rows
    ch.tl.explain(hits, model, TASK, method="occlusion", key_added="occlusion")
    ch.tl.explain(hits, model, TASK, key_added="attention")
    heads = []
    for head in range(model.n_heads):
        ch.tl.explain(hits, model, TASK, head=head, key_added="head")
        heads.append(_found(hits, gene, "head", 1))
    rows |= {f"{name}, first": _found(hits, gene, name, 1) for name in ("occlusion", "attention")}
    rows |= {"attention, top 10": _found(hits, gene, "attention", 10), "best head, first": max(heads)}
    sentences = [sentence.split() for sentence in hits.obs["cell_sentence"]]
    rows["by chance, first"] = np.mean([1 / len(genes) for genes in sentences])
    without = [[other for other in genes if other != gene] for genes in sentences]
    beside = [_without_neighbour(genes, gene) for genes in sentences]
    for name, left in (("answer changes", without), ("other gene", beside)):
        asked = pd.DataFrame({"cell_sentence": [" ".join(genes) for genes in left]})
        rows[name] = (ch.tl.answer(asked, model, TASK)["answer"] != ANSWERS[0]).mean()
    return rows


def _found(adata: ad.AnnData, gene: str, key: str, n_top: int) -> float:
    top = ch.get.importance(adata, n_top=n_top, key=key)
    return float((top["gene"] == gene).groupby(top["cell"]).any().mean())


def _without_neighbour(genes: list[str], gene: str) -> list[str]:
    at = genes.index(gene)
    gone = at + 1 if at + 1 < len(genes) else at - 1
    return genes[:gone] + genes[gone + 1 :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/planted"))
    parser.add_argument("--planted", nargs="+", default=GENES)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--genes", type=int, default=N_GENES, help="genes of a sentence")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    options = parser.parse_args()
    found = {}
    for seed, gene in enumerate(options.planted):
        adata = cells(gene, n_genes=options.genes, seed=seed)
        folder = options.out / f"{gene}-{options.genes}-{options.steps}-{options.rate:g}"
        model = tuned(adata, folder, n_steps=options.steps, rate=options.rate, seed=seed)
        found[gene] = rates(adata, model, gene)
    table = pd.DataFrame(found).T
    print("| planted gene | " + " | ".join(table) + " |\n" + "|---" * (1 + len(table.columns)) + "|")
    for gene, row in table.iterrows():
        print(f"| {gene} | " + " | ".join(f"{v:.0f}" if n == "cells" else f"{v:.2f}" for n, v in row.items()) + " |")


if __name__ == "__main__":
    main()
