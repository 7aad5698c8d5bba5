"""How fast ``mini`` is on one core, and what it takes of memory: ``python benchmarks/mini_speed.py``.

Rates are for a second of processor time, so that other programs on the machine do not count. The cells are those that
scanpy brings, with sentences of 100 genes; nothing is downloaded.
"""

import resource
import sys
import time
from collections.abc import Callable

import scanpy as sc
import torch

import cellhermes as ch

N_CELLS = 200


def peak() -> float:
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def rate(n: int, call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return n / (time.process_time() - start)


torch.set_num_threads(1)
adata = sc.datasets.pbmc68k_reduced().raw.to_adata()[:N_CELLS].copy()
ch.pp.cell_sentences(adata)
before = peak()
model = ch.CellHermes.from_pretrained("mini", device="cpu")
model.embed(["Gene CD3E"])  # what is loaded at the first use
n_genes = int(adata.var["sentence_gene"].sum())
context = {"groupby": "bulk_labels", "groups": ["CD19+ B"], "key_added": "context"}
print(f"cells:            {rate(adata.n_obs, lambda: ch.tl.embed_cells(adata, model)):8,.0f} a second")
print(f"genes:            {rate(n_genes, lambda: ch.tl.embed_genes(adata, model)):8,.0f} a second")
print(f"genes in a cell:  {rate(n_genes, lambda: ch.tl.embed_genes(adata, model, **context)):8,.0f} a second")
print(f"two-answer tasks: {rate(adata.n_obs, lambda: ch.tl.predict(adata, model, 't_cell_reactivity')):8,.0f} a second")
print(f"peak memory:      {peak():8,.0f} MB, of which {before:,.0f} MB before a model was loaded")
