"""What ties decide, and what averaging their orders mends: ``python benchmarks/ties.py --data ../shared/data``.

Counts are small numbers: most genes of a sentence share their value with others, and each order of these is as true as
that of the hash. Cells of three data sets are embedded with the bundled model, and one table says

tied        share of the words whose place, or presence, ties decide
other words share of the words of one order that another one does not have
neighbours  share of a cell's 15 nearest neighbours that stay when other orders are taken: of one order; of an order
            and its reverse (`n_orders=2`); of four that are no reverses; of two and their reverses (`n_orders=4`)
types       accuracy of cell types from 15 neighbours
time        processor time of sentences and vectors of 100 cells in two and in four orders, against one

Another says how much of the change of degree between networks of two types is left when the cells that genes are read
behind are written in another order: rank correlation over all genes, and how many of the 20 largest changes stay.
"""

from __future__ import annotations

import argparse
import time
import warnings
from itertools import combinations
from pathlib import Path

import anndata as ad
import numpy as np
from shared import variable_genes
from sklearn.neighbors import NearestNeighbors

import cellhermes as ch

SETS = ("pbmc3k_labelled", "pbmc_sorted_labelled", "kang_labelled_1267genes")
TYPES = ("CD8 T", "CD14+ Mono")  # of the first set, whose networks are compared
N_ORDERS = 16  # orders 1, 3, 5, ... have their reverses behind them
WAYS = {  # orders that are averaged, and others that they are compared with
    "one": ([1], [3], [5], [7]),
    "an order and its reverse": ([1, 2], [3, 4], [5, 6], [7, 8]),
    "four, no reverses": ([1, 3, 5, 7], [9, 11, 13, 15]),
    "two and their reverses": ([1, 2, 3, 4], [5, 6, 7, 8]),
}
N_NEIGHBORS, N_LARGEST = 15, 20
N_TIMED, N_ROUNDS = 100, 3  # cells whose vectors are timed; rounds


def key_of(number: int) -> str:
    """Column with the sentences of an order."""
    return "cell_sentence" if number == 1 else f"cell_sentence_order_{number}"


def cells(path: Path, n: int) -> ad.AnnData:
    """Some cells of a file, of types that have ten or more of them."""
    adata = ad.read_h5ad(path)
    adata = adata[np.sort(np.random.default_rng(0).permutation(adata.n_obs)[:n])]
    counts = adata.obs["cell_type"].value_counts()
    return adata[adata.obs["cell_type"].isin(counts.index[counts >= 10])].copy()


def neighbours(vectors: np.ndarray) -> np.ndarray:
    """(cells, 15) nearest by cosine, without the cell itself."""
    search = NearestNeighbors(n_neighbors=N_NEIGHBORS, metric="cosine").fit(vectors)
    return search.kneighbors(return_distance=False)


def shared(*sets: np.ndarray) -> float:
    """Mean share of a row that is in the same row of another array, over all pairs of arrays."""
    shares = [np.mean([np.isin(a, b).mean() for a, b in zip(*pair, strict=True)]) for pair in combinations(sets, 2)]
    return float(np.mean(shares))


def report(name: str, adata: ad.AnnData, model: ch.CellHermes) -> None:
    """Print the row of a data set."""
    ch.pp.cell_sentences(adata, n_orders=N_ORDERS)
    first, other = (adata.obs[key_of(number)].str.split() for number in (1, 3))
    other_words = 1 - np.mean([np.isin(a, b).mean() for a, b in zip(first, other, strict=True)])
    vectors = {}
    for number in range(1, N_ORDERS + 1):
        ch.tl.embed_cells(adata, model, sentence_key=key_of(number), key_added="one")
        vectors[number] = adata.obsm.pop("one")
    stay, right = [], []
    for sets in WAYS.values():
        means = [np.mean([vectors[number] for number in numbers], axis=0) for numbers in sets]
        stay.append(f"{shared(*map(neighbours, means)):.2f}")
        right.append(f"{np.mean([ch.metrics.knn_accuracy(one, adata.obs['cell_type']) for one in means]):.3f}")
    tied = adata.obs["cell_sentence_tied"].mean()
    figures = [f"{tied:.2f}", f"{other_words:.2f}", ", ".join(stay), ", ".join(right), times(adata, model)]
    print(f"| {name}, {adata.n_obs} | {' | '.join(figures)} |", flush=True)


def times(adata: ad.AnnData, model: ch.CellHermes) -> str:
    """Processor time of two and of four orders, against one: the least of some rounds, taken in turn."""
    few = ad.AnnData(adata.X[:N_TIMED], var=adata.var[[]], obs=adata.obs[["cell_type"]][:N_TIMED])
    seconds = {n_orders: [] for n_orders in (1, 2, 4)}
    for _ in range(N_ROUNDS):
        for n_orders, taken in seconds.items():
            start = time.process_time()
            ch.pp.cell_sentences(few, n_orders=n_orders)
            ch.tl.embed_cells(few, model)
            taken.append(time.process_time() - start)
    return ", ".join(f"{min(seconds[n_orders]) / min(seconds[1]):.1f} x" for n_orders in (2, 4))


def networks(adata: ad.AnnData, model: ch.CellHermes, n_genes: int) -> None:
    """Print how much of a change of degree survives another order of ties."""
    import scanpy as sc

    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    ch.pp.cell_sentences(adata, n_orders=5)
    genes = variable_genes(adata, n_genes)
    print("\n| genes are read behind | rank correlation of the changes | of the 20 largest stay |\n|---|---|---|")
    for context in ("medoid", 10):
        changes = []
        for number in (1, 3, 5):
            how = {"groupby": "cell_type", "groups": TYPES, "sentence_key": key_of(number), "context": context}
            ch.tl.embed_genes(adata, model, genes=genes, **how, rng=0)
            ch.tl.gene_network(adata, groupby="cell_type", groups=TYPES)
            changes.append(ch.get.degree_change(adata, *TYPES)["change"])
        pairs = [*combinations(changes, 2)]
        alike = np.mean([a.corr(b, method="spearman") for a, b in pairs])
        stay = np.mean([a.index[:N_LARGEST].isin(b.index[:N_LARGEST]).mean() for a, b in pairs])
        name = "the medoid" if context == "medoid" else f"{context} cells"
        print(f"| {name} | {alike:.2f} | {stay:.0%} |", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the extracts")
    parser.add_argument("--cells", type=int, default=400, help="of each data set")
    parser.add_argument("--genes", type=int, default=500, help="of a network")
    parser.add_argument("--only", choices=["cells", "networks"])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    model = ch.CellHermes.from_pretrained("mini")
    print(f"In this order: {'; '.join(WAYS)}.\n")
    print(
        "| cells | tied | other words | neighbours | types | time of two and four orders |\n|---|---|---|---|---|---|"
    )
    for name in SETS if given.only != "networks" else ():
        report(name, cells(given.data / f"{name}.h5ad", given.cells), model)
    if given.only != "cells":
        networks(ad.read_h5ad(given.data / f"{SETS[0]}.h5ad"), model, given.genes)


if __name__ == "__main__":
    main()
