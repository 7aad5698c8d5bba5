"""Shape, start values and files of ``mini``.

The start is not random: gene tokens begin as spectral factors of the *training* graph and of the *training* cells, and
the first attention layer begins as a plain mean over gene tokens, so that training starts from a useful vector.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from safetensors.torch import save_file
from sklearn.preprocessing import normalize
from sklearn.utils.extmath import randomized_svd
from transformers import LlamaConfig, LlamaForCausalLM

import cellhermes as ch

DIMS = {"biogrid": 88, "string": 56, "cells": 48}  # what is left of the width belongs to words and to "this is a gene"
PARTS = {"biogrid": 0.45, "string": 0.3, "cells": 0.25}  # of a gene's squared length
TABLE_STD = 0.04


def make_config(vocab: int, bos: int, eos: int) -> LlamaConfig:
    """A small Llama; the output table is the input table."""
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=224,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=7,
        num_key_value_heads=7,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
        initializer_range=0.02,
    )


def graph_factors(edges: np.ndarray, n: int, dim: int, seed: int) -> np.ndarray:
    """Left singular vectors of the degree-normalised positive log matrix of the graph, one unit row per gene."""
    pairs = pd.DataFrame(edges)
    return ch.baselines.embed_genes(range(n), "ppmi", graph=pairs, n_components=dim, rng=seed).to_numpy()


def cell_factors(ranked: list[np.ndarray], n: int, dim: int, seed: int, top: int = 200) -> np.ndarray:
    """Singular vectors of which genes stand among the first of which cells (tf-idf), one unit row per gene."""
    row, column, start = [], [], 0
    for block in ranked:
        cell, place = np.nonzero(block[:, :top] >= 0)
        row.append(block[cell, place])
        column.append(cell + start)
        start += len(block)
    row, column = np.concatenate(row), np.concatenate(column)
    idf = np.log(start / (1 + np.bincount(row, minlength=n)))
    counts = sp.csr_array((np.maximum(idf, 0.05)[row], (row, column)), shape=(n, start), dtype=np.float32)
    u, s, _ = randomized_svd(counts, dim, n_iter=5, random_state=seed)
    return normalize(u * np.sqrt(s)).astype(np.float32)


def start_factors(
    edges: np.ndarray, string: np.ndarray, ranked: list[np.ndarray], n: int, seed: int
) -> dict[str, np.ndarray]:
    """Factors of both training graphs and of the training cells, by name; (genes, dimensions) with unit rows."""
    return {
        "biogrid": graph_factors(edges, n, DIMS["biogrid"], seed),
        "string": graph_factors(string, n, DIMS["string"], seed),
        "cells": cell_factors(ranked, n, DIMS["cells"], seed),
    }


def joined(factors: dict[str, np.ndarray]) -> np.ndarray:
    """Factors side by side, each with its part of the length."""
    return np.hstack([np.sqrt(PARTS[name]) * part for name, part in factors.items()])


def start_table(factors: np.ndarray, gene_token: np.ndarray, config: LlamaConfig, seed: int) -> np.ndarray:
    """Token table: genes in their own subspace, words in the rest, and one axis that says "gene"."""
    rng = np.random.default_rng(seed)
    hidden, n_gene_dims = config.hidden_size, factors.shape[1]
    table = np.zeros((config.vocab_size, hidden), dtype=np.float32)
    table[:, n_gene_dims:] = rng.normal(size=(config.vocab_size, hidden - n_gene_dims))
    factors = factors.copy()
    unseen = np.linalg.norm(factors, axis=1) < 1e-6
    factors[unseen] = rng.normal(size=(unseen.sum(), n_gene_dims)) * 0.3 / np.sqrt(n_gene_dims)
    rotation, _ = np.linalg.qr(rng.normal(size=(n_gene_dims, n_gene_dims)))
    table[gene_token] = 0
    table[gene_token, :n_gene_dims] = factors @ rotation * np.sqrt(n_gene_dims)
    table[gene_token, n_gene_dims] = 3
    return table * TABLE_STD


def make_model(config: LlamaConfig, table: np.ndarray | None, seed: int) -> LlamaForCausalLM:
    """A model of that shape; with a table it starts from it and from mean pooling, without one it is random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).float()
    if table is None:
        return model
    gene_dims = torch.diag((torch.arange(config.hidden_size) < sum(DIMS.values())).float())
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.from_numpy(table))
        for i, layer in enumerate(model.model.layers):
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
            if i == 1:
                layer.self_attn.q_proj.weight.mul_(0.1)
                layer.self_attn.v_proj.weight.copy_(gene_dims)
                layer.self_attn.o_proj.weight.copy_(torch.eye(config.hidden_size))
    return model


def load(folder: Path) -> LlamaForCausalLM:
    """A model of this shape, in float32."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def save_model(model: LlamaForCausalLM, folder: Path, dtype: torch.dtype) -> None:
    """Write ``config.json`` and ``model.safetensors``, the latter in one step: readers never see half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().to(dtype).contiguous() for k, v in model.state_dict().items()}
    del weights["lm_head.weight"]  # the same as the token table
    part = folder / "model.part"
    save_file(weights, part, metadata={"format": "pt"})
    part.chmod(0o644)
    part.replace(folder / "model.safetensors")
    config = {k: v for k, v in model.config.to_dict().items() if v is not None and k != "transformers_version"}
    config |= {"architectures": ["LlamaForCausalLM"], "dtype": str(dtype).removeprefix("torch.")}
    config.pop("_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
