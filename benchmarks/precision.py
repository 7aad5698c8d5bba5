"""What fewer bits and compiled layers cost and save: ``python benchmarks/precision.py --data ../shared/data``.

Drift: vectors of PBMC 3k by the bundled model in other numbers than float32, and how well their neighbours tell cell
types. Its layers are too narrow for four bits as bitsandbytes multiplies them, so that they are rounded and put back.

Speed: forward passes of a Llama with random weights (eight layers, 2,048 wide), all in one process, in turns, best of
some rounds; and what its layers take. Names the device.
"""

from __future__ import annotations

import argparse
import os
import time
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import cellhermes as ch
from cellhermes.model._forward import NAME, compile_layers, register
from cellhermes.model._quantize import BLOCK, quantize_layers

TOKENS = (4, 256)  # prompts, tokens of each


def in_four_bits(model: ch.CellHermes) -> None:
    """Round all linear layers to four bits, and keep them as numbers of full length."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    for layer in model._reader.decoder.modules():
        if isinstance(layer, torch.nn.Linear):
            rounded = quantize_4bit(layer.weight.data.reshape(-1, BLOCK), quant_type="nf4", compress_statistics=True)
            layer.weight.data = dequantize_4bit(*rounded).reshape(layer.weight.shape)


def drift(data: Path) -> None:
    """Print how far vectors are from those of float32."""
    adata = ad.read_h5ad(data / "pbmc3k_labelled.h5ad")
    ch.pp.cell_sentences(adata)
    in_cell, sentence = ch.text.Template.load("gene_in_cell"), adata.obs["cell_sentence"].iloc[0].split()
    prompts = [in_cell.fill(genes=sentence, gene=gene) for gene in adata.var_names[adata.var["sentence_gene"]][:500]]
    expected: list[np.ndarray] = []
    print("| numbers | cosine of cells with float32: median, lowest | of genes in a cell | cell types by neighbours |")
    print("|---|---|---|---|")
    for name, options in {
        "float32": {},
        "bfloat16": {"dtype": "bfloat16"},
        "8bit": {"quantize": "8bit"},
        "8bit, bfloat16": {"quantize": "8bit", "dtype": "bfloat16"},
        "4bit": {},
    }.items():
        if name == "4bit" and find_spec("bitsandbytes") is None:
            print("\nbitsandbytes is not installed; four bits are left out.")
            continue
        model = ch.CellHermes.from_pretrained("mini", **options)
        if name == "4bit":
            in_four_bits(model)
        ch.tl.embed_cells(adata, model)
        found = [adata.obsm["X_cellhermes"], model.embed(prompts)]
        expected = expected or found
        cosines = [cosine(*both) for both in zip(found, expected, strict=True)]
        accuracy = ch.metrics.knn_accuracy(found[0], adata.obs["cell_type"])
        drifts = " | ".join(f"{np.median(one):.5f}, {one.min():.5f}" for one in cosines)
        print(f"| {name} | {drifts} | {accuracy:.3f} |", flush=True)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each row with that of another matrix."""
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def llama(dtype: str, quantize: str, device: str, *, compiled: bool) -> LlamaForCausalLM:
    """A model with random weights."""
    register()
    config = LlamaConfig(
        vocab_size=1_000, hidden_size=2_048, intermediate_size=7_168, num_hidden_layers=8, num_attention_heads=16,
        num_key_value_heads=4, attn_implementation=NAME,
    )  # fmt: skip
    with torch.device("meta"):
        lm = LlamaForCausalLM(config)
    lm = lm.to_empty(device="cpu").to(getattr(torch, dtype)).eval()
    rng = torch.Generator().manual_seed(0)
    for weight in lm.parameters():
        weight.data.normal_(std=0.02, generator=rng)
    lm.model.rotary_emb = type(lm.model.rotary_emb)(config)
    if quantize:
        quantize_layers(lm, quantize, device)
    if compiled:
        compile_layers(lm)
    return lm.to(device)


def megabytes(lm: LlamaForCausalLM) -> float:
    """Of the layers."""
    parts = [*lm.model.layers.parameters(), *lm.model.layers.buffers()]
    return sum(part.numel() * part.element_size() for part in parts) / 1e6


def speed(rounds: int) -> None:
    """Print tokens per second."""
    on_gpu = torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    kinds = {
        f"{dtype}{', ' + quantize if quantize else ''}{', compiled' if compiled else ''}": (dtype, quantize, compiled)
        for dtype in ("float32", "bfloat16")
        for quantize in ("", "8bit", "4bit" if find_spec("bitsandbytes") else "8bit")
        for compiled in (False, True)
        if not (compiled and quantize)
    }
    ids = torch.randint(0, 1_000, TOKENS, generator=torch.Generator().manual_seed(0)).to(device)
    models = {
        name: llama(dtype, quantize, device, compiled=compiled) for name, (dtype, quantize, compiled) in kinds.items()
    }
    seconds = dict.fromkeys(models, np.inf)
    for k in range(rounds + 1):  # the first one warms and compiles
        for name, lm in models.items():
            start = time.perf_counter()
            with torch.inference_mode():
                found = lm.model(ids, use_cache=False).last_hidden_state
            if on_gpu:
                torch.cuda.synchronize()
            taken = time.perf_counter() - start
            assert bool(found.isfinite().all()), name
            seconds[name] = min(seconds[name], taken) if k else np.inf
    where = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} of {os.cpu_count()} cores"
    n = ids.numel()
    print(f"\n| numbers | layers, MB | tokens/s ({where}) | against float32 |")
    print("|---|---|---|---|")
    for name, lm in models.items():
        ratio = seconds["float32"] / seconds[name]
        print(f"| {name} | {megabytes(lm):,.0f} | {n / seconds[name]:,.0f} | {ratio:.2f} x |")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with pbmc3k_labelled.h5ad")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["drift", "speed"])
    given = parser.parse_args()
    if given.only != "speed":
        drift(given.data)
    if given.only != "drift":
        speed(given.rounds)


if __name__ == "__main__":
    main()
