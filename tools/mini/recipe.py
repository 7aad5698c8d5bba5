"""What ``mini`` is trained on, and how: pairs, groups and the config, all of them the library's own."""

import numpy as np
import pandas as pd
from anndata import AnnData

import cellhermes as ch

N_STEPS = 2000
BATCH = 24
MIX = {  # share of the pairs
    "link_list": 0.55,
    "masked_link": 0.08,
    "masked_node": 0.12,
    "masked_genes": 0.08,
    "next_genes": 0.04,
    "neighbors": 0.06,
    "walk": 0.07,
}
SHARES = {"biogrid": 0.5, "string": 0.3, "coexpression": 0.2}  # of a gene's partners
YES_NO = ("Yes", "No")
N_NEIGHBORS = (16, 10, 6)  # shorter than the corpus's own, for time


def config(seed: int, n_steps: int = N_STEPS) -> ch.train.TrainConfig:
    """The run."""
    return ch.train.TrainConfig.preset(
        "from_scratch", max_steps=n_steps, batch_size=BATCH, packing=False, max_tokens=256, learning_rate=1.2e-3,
        embedding_lr_factor=0.2, warmup_ratio=0.02, weight_decay=0.05, sampled_softmax=3000, attention="eager",
        dtype="bfloat16", log_every=20, save_every=100, seed=seed,
    )  # fmt: skip


def pairs(graph: pd.DataFrame, cells: list[AnnData], seed: int, n: int) -> ch.train.corpus.Pairs:
    """Questions about edges and cells, and lists, in random order."""
    counts = {task: round(share * n) for task, share in MIX.items()}
    link = 2 * (counts["masked_link"] // 2)
    common = {"seed": seed}
    parts = [
        ch.train.corpus.list_pairs(graph, "link_list", n_pairs=counts["link_list"], **common),
        ch.train.corpus.link_pairs(graph, n_pairs=link, n_neighbors=N_NEIGHBORS, **common),
        ch.train.corpus.node_pairs(graph, n_neighbors=N_NEIGHBORS, **common),
        ch.train.corpus.list_pairs(graph, "neighbors", n_pairs=counts["neighbors"], **common),
        ch.train.corpus.list_pairs(graph, "walk", n_pairs=counts["walk"], **common),
        several(ch.train.corpus.mlm_pairs, cells, seed),
        several(ch.train.corpus.ar_pairs, cells, seed),
    ]
    return ch.train.corpus.mixture(parts, counts | {"masked_link": link}, seed=seed)


def several(make, cells: list[AnnData], seed: int) -> ch.train.corpus.Pairs:  # noqa: ANN001
    """Pairs of the cells of all data sets, from their first 100 genes."""
    first = pd.concat([data.obs["cell_sentence"] for data in cells])
    short = [" ".join(sentence.split()[:100]) for sentence in first]
    names = [f"{i}:{name}" for i, data in enumerate(cells) for name in data.obs_names]
    return make(AnnData(obs=pd.DataFrame({"cell_sentence": short}, index=names)), seed=seed)


def groups(graphs: dict[str, pd.DataFrame], cells: list[AnnData], seed: int) -> dict[str, ch.train.corpus.Groups]:
    """Genes near their partners, cells near those with alike profiles, genes in cells, and verdicts on links."""
    links = ch.train.corpus.link_pairs(graphs["biogrid"], n_neighbors=N_NEIGHBORS, seed=seed + 1)
    n_kinds = 10  # of context, in turn; the first has none
    bare = links.take(np.flatnonzero(np.arange(len(links)) // 2 % n_kinds == 0))
    return {
        "genes": ch.train.corpus.gene_groups(graphs, shares=SHARES, n_edges=40, n_genes=24, near_weight=1.0, seed=seed),
        "cells": ch.train.corpus.cell_groups(cells, n_cells=28, near_weight=2.0, seed=seed),
        "genes_in_cells": ch.train.corpus.gene_in_cell_groups(cells, graphs, shares=SHARES, n_cells=8, seed=seed),
        "links": ch.train.corpus.answer_groups(links, answers=YES_NO, n_pairs=10, seed=seed),
        "bare_links": ch.train.corpus.answer_groups(bare, answers=YES_NO, n_pairs=20, seed=seed),
    }


def coexpressed(factors: np.ndarray, symbols: list[str], k: int = 20) -> pd.DataFrame:
    """Edges between each gene and the k nearest in the factors of the training cells."""
    seen = np.flatnonzero(np.linalg.norm(factors, axis=1) > 0)
    similarity = factors[seen] @ factors[seen].T
    np.fill_diagonal(similarity, -1)
    near = seen[np.argpartition(-similarity, k, axis=1)[:, :k]]
    name = np.array(symbols, object)
    return pd.DataFrame({"a": np.repeat(name[seen], k), "b": name[near.ravel()]})
