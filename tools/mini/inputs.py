"""The public inputs of ``mini`` and what the build takes from them: edges, symbols and ranked cells.

What may be trained on is decided here, before anything is trained, and copied into the model card from here.
"""

import hashlib
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

import cellhermes as ch

GENES = "human_genes_grch38.tsv.gz"
EDGES = "biogrid_4.4.232_human_edges.tsv.gz"
STRING = "string_v12_human_800_edges.tsv.gz"
CELLS = (
    "pbmc_donor_a_unlabelled.h5ad",
    "kang_ctrl_stim_unlabelled.h5ad",
    "kang_labelled_1267genes.h5ad",
    "oligodendroglioma_small.h5ad",
)
HELD_OUT = 0.02  # share of the edges that training never sees
LONG_RANK = 1200  # genes kept of a cell, so that a panel of fewer genes can be imitated


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


def read_string(data: Path, symbols: list[str], held_out: np.ndarray) -> np.ndarray:
    """Edges of STRING as gene ids, without those that are held out of BioGRID."""
    frame = pd.read_csv(data / STRING, sep="\t")
    index = {symbol: i for i, symbol in enumerate(symbols)}
    ids = np.column_stack([frame[c].map(index).fillna(-1).to_numpy(np.int64) for c in ("symbol_a", "symbol_b")])
    ids = ids[(ids >= 0).all(axis=1)]
    key = np.array([len(symbols), 1])
    return ids[~np.isin(np.sort(ids, axis=1) @ key, np.sort(held_out, axis=1) @ key)]


def read_cells(path: Path) -> ad.AnnData:
    """Long sentences, log-normalised expression and principal components; labels and conditions are not read."""
    adata = ad.read_h5ad(path)
    adata = ad.AnnData(adata.X, obs=adata.obs[[]], var=adata.var[[]])
    ch.pp.cell_sentences(adata, n_genes=LONG_RANK)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=min(2000, adata.n_vars - 1))
    scaled = sc.pp.scale(adata[:, adata.var["highly_variable"]], max_value=10, copy=True)
    adata.obsm["X_pca"] = sc.pp.pca(scaled.X, n_comps=30, random_state=0)
    return adata


def ranked(adata: ad.AnnData, symbols: list[str]) -> np.ndarray:
    """(cells, genes) gene ids of each cell by falling expression, -1 behind the last."""
    index = {symbol: i for i, symbol in enumerate(symbols)}
    found = np.full((adata.n_obs, LONG_RANK), -1, dtype=np.int32)
    for row, sentence in zip(found, adata.obs["cell_sentence"], strict=True):
        ids = [index[gene] for gene in sentence.split() if gene in index]
        row[: len(ids)] = ids
    return found
