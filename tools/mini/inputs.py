"""The public inputs of ``mini`` and what the build takes from them: edges, symbols and ranked cells.

What may be trained on is decided here, before anything is trained, and copied into the model card from here.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

import cellhermes as ch

GENES = "human_genes_grch38.tsv.gz"
EDGES = "biogrid_4.4.232_human_edges.tsv.gz"
CELLS = (
    "pbmc_donor_a_unlabelled.h5ad",
    "kang_ctrl_stim_unlabelled.h5ad",
    "kang_labelled_1267genes.h5ad",
    "oligodendroglioma_small.h5ad",
)
HELD_OUT = 0.02  # share of the edges that training never sees
LONG_RANK = 1200  # genes kept of a cell, so that a panel of fewer genes can be imitated


@dataclass(frozen=True)
class Cells:
    """Cells of one data set.

    Parameters
    ----------
    name
        The file.
    ranked
        Gene ids of each cell by falling expression, -1 behind the last; (cells, LONG_RANK).
    count
        Genes in each row of `ranked`.
    expression
        log1p of counts per 10,000 of the sentence genes; (cells, genes).
    gene
        Id of each column of `expression`.
    """

    name: str
    ranked: np.ndarray
    count: np.ndarray
    expression: sp.csr_matrix
    gene: np.ndarray


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_symbols(data: Path) -> tuple[list[str], pd.DataFrame]:
    """Symbols that become tokens, and the edges between known symbols.

    All protein-coding symbols of Ensembl, then the other symbols of the graph with at least five partners: a token that
    was seen less often would be noise.
    """
    genes = pd.read_csv(data / GENES, sep="\t", usecols=["symbol", "biotype"])
    coding = sorted(set(genes.loc[genes["biotype"] == "protein_coding", "symbol"].dropna()))
    edges = pd.read_csv(data / EDGES, sep="\t")
    edges = edges.loc[edges["both_known_symbols"] == 1, ["symbol_a", "symbol_b"]].reset_index(drop=True)
    degree = edges.stack().value_counts()
    others = sorted(set(degree.index[degree >= 5]) - set(coding))
    return coding + others, edges


def split_edges(edges: pd.DataFrame, symbols: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(train, held-out) edges as gene ids; the held-out part is a seeded sample of all known-symbol edges."""
    index = {symbol: i for i, symbol in enumerate(symbols)}
    ids = np.column_stack([edges[c].map(index).fillna(-1).to_numpy(np.int64) for c in ("symbol_a", "symbol_b")])
    held = np.random.default_rng(seed).random(len(ids)) < HELD_OUT
    known = (ids >= 0).all(axis=1)
    return ids[known & ~held], ids[known & held]


def read_cells(path: Path, symbols: list[str]) -> Cells:
    """Rank the genes of every cell of a file; labels and conditions are not read."""
    adata = ad.read_h5ad(path)
    adata = ad.AnnData(adata.X, obs=adata.obs[[]], var=adata.var[[]])
    ch.pp.cell_sentences(adata, n_genes=LONG_RANK)
    index = {symbol: i for i, symbol in enumerate(symbols)}
    ranked = np.full((adata.n_obs, LONG_RANK), -1, dtype=np.int32)
    for row, sentence in zip(ranked, adata.obs["cell_sentence"], strict=True):
        ids = [index[gene] for gene in sentence.split() if gene in index]
        row[: len(ids)] = ids
    gene = adata.var_names.map(lambda s: index.get(s, -1)).to_numpy(np.int64)
    keep = adata.var["sentence_gene"].to_numpy() & (gene >= 0)
    counts = sp.csr_matrix(adata.X, dtype=np.float32)
    counts = sp.diags_array(1e4 / np.maximum(np.asarray(counts.sum(1)).ravel(), 1)) @ counts
    expression = sp.csr_matrix(counts)[:, keep].log1p()
    return Cells(path.name, ranked, (ranked >= 0).sum(1), expression, gene[keep])
