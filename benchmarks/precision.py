"""What fewer bits and compiled layers cost and save: ``python benchmarks/precision.py --data ../shared/data``.

Drift: vectors of PBMC 3k by the bundled model in other numbers than float32, and how well their neighbours tell cell
types. Its layers are too narrow for four bits as bitsandbytes multiplies them, so that they are rounded and put back.

Speed: prompts through a Llama with random weights (eight layers, 2,048 wide), all in one process, in turns, best of
some rounds; and what its layers take. Names the device.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import numpy as np
import torch
from shared import MINI, in_turn, write_like
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

import cellhermes as ch

TOKENS = (4, 256)  # prompts, tokens of each
BLOCK = 64  # weights that share a scale


def in_four_bits(folder: Path) -> Path:
    """Write mini with all linear layers rounded to four bits, and kept as numbers of full length."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    lm = AutoModelForCausalLM.from_pretrained(MINI, dtype=torch.float32)
    for layer in lm.get_decoder().modules():
        if isinstance(layer, torch.nn.Linear):
            rounded = quantize_4bit(layer.weight.data.reshape(-1, BLOCK), quant_type="nf4", compress_statistics=True)
            layer.weight.data = dequantize_4bit(*rounded).reshape(layer.weight.shape)
    return write_like(ch.CellHermes.from_pretrained("mini"), lm, folder)


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
        with tempfile.TemporaryDirectory() as folder:
            source = in_four_bits(Path(folder)) if name == "4bit" else "mini"
            model = ch.CellHermes.from_pretrained(source, **options)
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


def write_llama(folder: Path) -> None:
    """A model with random weights that reads the words of mini."""
    tokenizer = AutoTokenizer.from_pretrained(MINI)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=2_048, intermediate_size=7_168, num_hidden_layers=8,
        num_attention_heads=16, num_key_value_heads=4,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def megabytes(model: ch.CellHermes, prompts: list[str]) -> float:
    """Of the layers, which are seen as they work."""
    layers = set()

    def note(module: torch.nn.Module, *_: object) -> None:
        if isinstance(module, LlamaDecoderLayer):
            layers.add(module)

    with register_module_forward_pre_hook(note):
        model.embed(prompts)
    parts = [part for layer in layers for part in (*layer.parameters(), *layer.buffers())]
    return sum(part.numel() * part.element_size() for part in parts) / 1e6


def speed(rounds: int) -> None:
    """Print tokens per second."""
    on_gpu = torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    kinds = {
        f"{dtype}{', ' + quantize if quantize else ''}{', compiled' if compiled else ''}": {
            "dtype": dtype, "quantize": quantize, "torch_compile": compiled
        }
        for dtype in ("float32", "bfloat16")
        for quantize in ("", "8bit", "4bit" if find_spec("bitsandbytes") else "8bit")
        for compiled in (False, True)
        if not (compiled and quantize)
    }  # fmt: skip
    n_prompts, n_tokens = TOKENS
    genes = ch.datasets.toy(n_obs=10).var_names
    prompts = [" ".join(genes[k : k + n_tokens]) for k in range(n_prompts)]
    n = sum(map(len, AutoTokenizer.from_pretrained(MINI)(prompts).input_ids))
    with tempfile.TemporaryDirectory() as folder:
        write_llama(Path(folder))
        models = {
            name: ch.CellHermes.from_pretrained(folder, device=device, wrap="plain", **how)
            for name, how in kinds.items()
        }
    calls = {name: partial(model.embed, prompts, batch_size=n_prompts) for name, model in models.items()}
    seconds = in_turn(rounds, **calls)
    where = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} of {os.cpu_count()} cores"
    print(f"\n| numbers | layers, MB | tokens/s ({where}) | against float32 |")
    print("|---|---|---|---|")
    for name, model in models.items():
        ratio = seconds["float32"] / seconds[name]
        print(f"| {name} | {megabytes(model, prompts[:1]):,.0f} | {n / seconds[name]:,.0f} | {ratio:.2f} x |")


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
