"""Embedding, genes in context and attention, against plain transformers: ``python benchmarks/model.py``.

A random Llama with 12 layers, 768 wide, in float32; both sides on the same model, texts and threads, in turn, in one
run. Prints a markdown table; times are the best of ``--repeats`` rounds.

cells        tokens per second of ``embed`` as a part of the machine's own float32 matrix-multiply rate, measured in
between on
             the shapes of the model's layers
genes        256 genes behind one sentence of about 350 tokens, against the same prompts in full, batched by eight
attention    8 x 512 tokens: ``attend`` against the plain hidden-state forward, and memory above the loaded weights
against
             ``output_attentions=True``
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from shared import Tokens, in_turn, memory
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

import cellhermes as ch

SIZES = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12}
GENES = sorted({f"{a}{b}{i}" for a in "ABCDEFGHKL" for b in "KLMNPRST" for i in (1, 2, 3, 12, 40)})


def write_model(folder: Path) -> None:
    """A random Llama and a byte-level tokenizer that spells a gene in about three tokens, as Llama's does."""
    special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = "Gene A cell with genes ranked by expression In this cell user assistant"
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([words] * 4, trainer)
    PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=special[0], eos_token=special[3]).save_pretrained(folder)
    config = LlamaConfig(vocab_size=32_000, max_position_embeddings=2048, pad_token_id=None, **SIZES)
    generator_state = torch.random.get_rng_state()
    torch.random.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    torch.random.set_rng_state(generator_state)


def tokens_of(folder: Path) -> Tokens:
    return Tokens(AutoTokenizer.from_pretrained(folder), ch.text.Wrap.load("plain"))


def sentence(tokens: Tokens, n_tokens: int, seed: int) -> list[str]:
    """Genes whose cell prompt has about ``n_tokens`` tokens."""
    genes = list(np.random.default_rng(seed).permutation(GENES))
    fill = ch.text.Template.load("cell").fill
    while len(tokens.prompt(fill(genes=genes))) > n_tokens:
        genes.pop()
    return genes


def flops(n_tokens: int, length: int) -> float:
    """Multiply-adds x 2 of the layers for prompts of one length: weights, and causal attention."""
    h, m, n = SIZES["hidden_size"], SIZES["intermediate_size"], SIZES["num_hidden_layers"]
    return n_tokens * n * 2 * (4 * h * h + 3 * h * m) + n_tokens * n * 2 * 2 * h * length / 2


def matmul() -> float:
    """Floating-point operations of one round of the layers' matrix shapes, 2,800 tokens."""
    h, m = SIZES["hidden_size"], SIZES["intermediate_size"]
    total = 0.0
    for rows, columns in ((h, h), (h, h), (h, m), (m, h)) * 6:
        torch.mm(MATRICES[rows], MATRICES[rows, columns])
        total += 2 * 2800 * rows * columns
    return total


h, m = SIZES["hidden_size"], SIZES["intermediate_size"]
MATRICES = {
    h: torch.ones(2800, h),
    m: torch.ones(2800, m),
    (h, h): torch.ones(h, h),
    (h, m): torch.ones(h, m),
    (m, h): torch.ones(m, h),
}


def cells(model: ch.CellHermes, lm: PreTrainedModel, tokens: Tokens, repeats: int) -> dict[str, str]:
    prompts = [ch.text.Template.load("cell").fill(genes=sentence(tokens, 350, seed)) for seed in range(32)]
    ids = [*map(tokens.prompt, prompts)]
    taken = in_turn(repeats, ours=lambda: model.embed(prompts), matmul=matmul, plain=lambda: plain(lm, ids))
    work = sum(flops(len(row), len(row)) for row in ids)
    rate, peak = work / taken["ours"], matmul() / taken["matmul"]
    return {
        "embed 32 cells of 350 tokens": f"{taken['ours']:.2f} s",
        "the same by plain batching": f"{taken['plain']:.2f} s",
        "float32 rate, embed / matrix multiply": f"{rate / 1e9:.0f} / {peak / 1e9:.0f} GFLOP/s = "
        f"**{rate / peak:.2f}** (asked: 0.6)",
    }


@torch.inference_mode()
def plain(lm: PreTrainedModel, ids: list[list[int]], batch_size: int = 8) -> np.ndarray:
    """Full prompts in batches of eight through transformers' own model class."""
    out = []
    for start in range(0, len(ids), batch_size):
        rows = ids[start : start + batch_size]
        width = max(map(len, rows))
        padded = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        states = lm.model(padded, attention_mask=mask).last_hidden_state
        out.append(states[torch.arange(len(rows)), mask.sum(1) - 1].numpy())
    return np.concatenate(out)


def genes_in_context(model: ch.CellHermes, lm: PreTrainedModel, tokens: Tokens, repeats: int) -> dict[str, str]:
    listed = sentence(tokens, 350, 0)
    fill = ch.text.Template.load("gene_in_cell").fill
    prompts = [fill(genes=listed, gene=gene) for gene in GENES[:256]]
    ids = [*map(tokens.prompt, prompts)]
    ours, full = model.embed(prompts), plain(lm, ids)
    difference = np.abs(ours - full).max() / np.abs(full).max()
    taken = in_turn(min(repeats, 2), ours=lambda: model.embed(prompts), plain=lambda: plain(lm, ids))
    return {
        "256 genes behind 350 tokens, full prompts": f"{256 / taken['plain']:.1f} genes/s",
        "the same behind one prefix": f"{256 / taken['ours']:.1f} genes/s = "
        f"**{taken['plain'] / taken['ours']:.1f}x** (asked: 12x)",
        "largest difference of vectors (relative)": f"{difference:.1e} (asked: 1e-5)",
    }


def eight(tokens: Tokens) -> list[ch.text.Prompt]:
    return [ch.text.Template.load("cell").fill(genes=sentence(tokens, 512, seed)) for seed in range(8)]


def attention(model: ch.CellHermes, tokens: Tokens, folder: Path, repeats: int) -> dict[str, str]:
    prompts = eight(tokens)
    taken = in_turn(
        repeats, attend=lambda: model.attend(prompts, batch_size=8), hidden=lambda: model.embed(prompts, batch_size=8)
    )
    most = {what: measure(what, folder) for what in ("attend", "output_attentions")}
    return {
        "8 x 512 tokens, attend / hidden states": f"{taken['attend']:.2f} / {taken['hidden']:.2f} s = "
        f"**{taken['attend'] / taken['hidden']:.2f}** (asked: 1.1)",
        "memory above weights, attend / output_attentions": f"{most['attend']:.0f} / "
        f"{most['output_attentions']:.0f} MB = "
        f"**{most['attend'] / most['output_attentions']:.2f}** (asked: 0.25)",
    }


def measure(what: str, folder: Path) -> float:
    """Peak memory (MB) above the loaded weights, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", what, "--folder", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def above(call) -> float:
    """Peak memory of a call above what was there before it."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak that loading the weights left
    before = memory("VmRSS")
    call()
    return memory("VmHWM") - before


@torch.inference_mode()
def measure_here(what: str, folder: Path) -> None:
    tokens = tokens_of(folder)
    prompts = eight(tokens)
    if what == "attend":
        model = ch.CellHermes.from_pretrained(folder, device="cpu")
        model.attend([ch.text.Template.load("cell").fill(genes=GENES[:8])])
        taken = above(lambda: model.attend(prompts, batch_size=8))
    else:
        lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval().model
        ids = [*map(tokens.prompt, prompts)]
        width = max(map(len, ids))
        lm(torch.tensor([ids[0][:8]]), output_attentions=True)
        taken = above(lambda: lm(torch.tensor([row + [0] * (width - len(row)) for row in ids]), output_attentions=True))
    print(json.dumps(taken))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["cells", "genes", "attention"])
    parser.add_argument("--measure", choices=["attend", "output_attentions"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure_here(given.measure, given.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        model = ch.CellHermes.from_pretrained(folder, device="cpu")
        lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokens = tokens_of(Path(folder))
        parts = {
            "cells": lambda: cells(model, lm, tokens, given.repeats),
            "genes": lambda: genes_in_context(model, lm, tokens, given.repeats),
            "attention": lambda: attention(model, tokens, Path(folder), given.repeats),
        }
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n\n| measure | figure |\n|---|---|")
        for name, part in parts.items():
            if given.only in (None, name):
                for row in part().items():
                    print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
