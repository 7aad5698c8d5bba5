"""How cost grows with cells, genes, the length of a sentence and the size of a model, in the form that asv reads.

Each class has ``params`` and methods ``time_*`` and ``peakmem_*``; ``python -m benchmarks.report`` runs them too, each
in a process of its own, and draws the curves. Generated cells; models with random weights, for which only shapes count.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import scanpy as sc
import torch
from scipy import sparse

import cellhermes as ch

from .shared import human_symbols

GENES_OF_CELL = 1_000  # expressed ones


def cells(n: int, n_genes: int = 5_000, seed: int = 0) -> sc.AnnData:
    """Counts with about a thousand expressed genes a cell, and human symbols."""
    rng = np.random.default_rng(seed)
    symbols = human_symbols()["symbol"].unique()[:n_genes]
    width = min(GENES_OF_CELL, n_genes)
    columns = np.sort(rng.integers(0, n_genes, (n, width), dtype=np.int32), axis=1)
    indptr = np.arange(0, n * width + 1, width)
    values = rng.geometric(0.4, n * width).astype(np.float32)
    matrix = sparse.csr_matrix((values, columns.ravel(), indptr), (n, n_genes))
    matrix.sum_duplicates()
    adata = sc.AnnData(matrix)
    adata.var_names = symbols
    adata.var["sentence_gene"] = True
    return adata


class Sentences:
    """Cell sentences over the number of cells."""

    params = (2_000, 8_000, 32_000)
    param_names = ("cells",)

    def setup(self, n: int) -> None:
        self.adata = cells(n)
        ch.pp.cell_sentences(cells(50))  # kernels are compiled

    def time_sentences(self, n: int) -> None:
        ch.pp.cell_sentences(self.adata)

    peakmem_sentences = time_sentences


class Embedding:
    """Vectors of cells over the number of cells."""

    params = (50, 200, 800)
    param_names = ("cells",)

    def setup(self, n: int) -> None:
        self.adata = cells(n)
        ch.pp.cell_sentences(self.adata)
        self.model = ch.CellHermes.from_pretrained("mini", device="cpu")

    def time_embedding(self, n: int) -> None:
        ch.tl.embed_cells(self.adata, self.model)

    peakmem_embedding = time_embedding


class SentenceLength:
    """Vectors of 100 cells over the genes of a sentence."""

    params = (25, 50, 100, 200)
    param_names = ("genes of a sentence",)

    def setup(self, n: int) -> None:
        self.adata = cells(100)
        ch.pp.cell_sentences(self.adata, n_genes=n)
        self.model = ch.CellHermes.from_pretrained("mini", device="cpu")

    def time_embedding(self, n: int) -> None:
        ch.tl.embed_cells(self.adata, self.model)


class Context:
    """Vectors of genes behind one cell, over the number of genes."""

    params = (250, 1_000, 4_000)
    param_names = ("genes",)

    def setup(self, n: int) -> None:
        self.adata = cells(20)
        self.adata.obs["cell_type"] = "one"
        ch.pp.cell_sentences(self.adata)
        self.model = ch.CellHermes.from_pretrained("mini", device="cpu")

    def time_genes(self, n: int) -> None:
        ch.tl.embed_genes(self.adata, self.model, genes=self.adata.var_names[:n].tolist(), groupby="cell_type")

    peakmem_genes = time_genes


class Network:
    """Nearest neighbours of genes, over the number of genes."""

    params = (500, 2_000, 5_000)
    param_names = ("genes",)

    def setup(self, n: int) -> None:
        self.adata = cells(20, n)
        rng = np.random.default_rng(0)
        self.adata.varm["X_cellhermes"] = rng.standard_normal((n, 256)).astype(np.float32)

    def time_network(self, n: int) -> None:
        ch.tl.gene_network(self.adata)


class ModelSize:
    """Vectors of 20 cells over the parameters of a model, in millions, without those of words."""

    params = (1, 4, 16, 64)
    param_names = ("million parameters",)

    def setup(self, n: int) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        width = int((n * 1e6 / 12 / 4) ** 0.5) // 64 * 64  # four layers of about 12 width ** 2
        config = LlamaConfig(
            vocab_size=1_000, hidden_size=width, intermediate_size=8 * width // 3, num_hidden_layers=4,
            num_attention_heads=width // 32, num_key_value_heads=width // 32,
        )  # fmt: skip
        self.model = LlamaForCausalLM(config).eval()
        self.ids = torch.randint(0, 1_000, (20, 300), generator=torch.Generator().manual_seed(0))

    def time_forward(self, n: int) -> None:
        with torch.inference_mode():
            self.model.model(self.ids)


class Corpus:
    """Questions written to a file, over the number of cells."""

    params = (500, 2_000, 8_000)
    param_names = ("cells",)

    def setup(self, n: int) -> None:
        self.adata = cells(n)
        ch.pp.cell_sentences(self.adata)

    def time_corpus(self, n: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            ch.train.corpus.mlm_pairs(self.adata).write(Path(folder) / "corpus.jsonl")
