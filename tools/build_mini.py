"""Build the bundled model ``mini`` from public inputs: tokenizer, start values, training, evaluation and card.

    python tools/build_mini.py --data ../shared/data --work build/mini

Everything is seeded. A run that was killed goes on from its last checkpoint in ``--work`` when it is called again.
``--evaluate`` measures the weights that exist and writes their card.
"""

import argparse
import json
import logging
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from mini import card, evaluate, inputs, model, recipe, tokenizer

import cellhermes as ch

log = logging.getLogger("cellhermes.mini")
FOLDER = Path(ch.__file__).parent / "model" / "mini"
SEED = 0
N_WORDS = 2500  # merges of plain English


def words_to_learn(data: Path) -> list[str]:
    """Text for the vocabulary: our prompts many times, and the full names of protein-coding genes."""
    # not of reasons, which it is not trained on
    names = [name for name in ch.text.Template.names() if not name.startswith("reason")]
    prompts = [text for name in names for text in ch.text.Template.load(name).variants]
    lines = tokenizer.ENGLISH + [ch.text.Wrap.load("llama3-chat").render(p) for p in prompts]
    genes = pd.read_csv(data / inputs.GENES, sep="\t", usecols=["biotype", "description"])
    names = genes.loc[genes["biotype"] == "protein_coding", "description"].dropna()
    return lines * 50 + names.str.replace(r" \[Source.*", "", regex=True).tolist()


def build(data: Path, work: Path, out: Path, n_steps: int) -> dict:
    """Prepare, train and write the model; returns what the card says about it."""
    started = time.monotonic()
    symbols, all_edges = inputs.read_symbols(data)
    edges, held_out = inputs.split_edges(all_edges, symbols, SEED)
    string = inputs.read_string(data, symbols, held_out)
    cells = [inputs.read_cells(data / name) for name in inputs.CELLS]
    factors = model.start_factors(edges, string, [inputs.ranked(c, symbols) for c in cells], len(symbols), SEED)
    tok = tokenizer.make_tokenizer(symbols, words_to_learn(data), N_WORDS)
    config = model.make_config(
        tok.get_vocab_size(), tok.token_to_id("<|begin_of_text|>"), tok.token_to_id("<|eot_id|>")
    )
    gene_token = np.array([tok.token_to_id(f"Ġ{symbol}") for symbol in symbols])
    table = model.start_table(model.joined(factors), gene_token, config, SEED)
    start = model.make_model(config, table, SEED)
    model.save_model(start, work / "start", torch.float32)
    tokenizer.save_tokenizer(tok, work / "start", max_length=1024)
    name = np.array(symbols, object)
    graphs = {
        key: pd.DataFrame(name[ends], columns=["a", "b"]) for key, ends in (("biogrid", edges), ("string", string))
    }
    graphs["coexpression"] = recipe.coexpressed(factors["cells"], symbols)
    seen = {*graphs["biogrid"].to_numpy().ravel(), *graphs["string"].to_numpy().ravel()}
    seen |= {gene for adata in cells for s in adata.obs["cell_sentence"] for gene in s.split()}
    log.info("inputs ready after %.0f s", time.monotonic() - started)
    run = ch.train.fit(
        recipe.pairs(graphs["biogrid"], cells, SEED, n_steps * recipe.BATCH),
        recipe.config(SEED, n_steps),
        groups=recipe.groups(graphs, cells, SEED),
        out=work / "run", base=work / "start", wrap="llama3-chat-blank", device=None,
    )  # fmt: skip
    trained = model.load(run)
    model.save_model(trained, out, torch.bfloat16)
    tokenizer.save_tokenizer(tok, out, max_length=1024)
    unseen = sorted(set(symbols) - seen)
    (out / "unseen_genes.txt").write_text("\n".join(unseen) + "\n", encoding="utf-8")
    record = json.loads((run / "training.json").read_text())
    used = (inputs.GENES, inputs.EDGES, inputs.STRING, *inputs.CELLS)
    return {
        "symbols": len(symbols),
        "unseen_symbols": len(unseen),
        "known_edges": len(all_edges),
        "edges": len(edges),
        "held_out_edges": len(held_out),
        "string_edges": len(string),
        "cells": dict(zip(inputs.CELLS, [c.n_obs for c in cells], strict=True)),
        "sha256": {file: inputs.sha256(data / file) for file in used},
        "parameters": sum(p.numel() for p in trained.parameters()),
        "vocabulary": config.vocab_size,
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "dims": model.DIMS,
        "mix": recipe.MIX,
        "shares": recipe.SHARES,
        "config": record["run"]["config"],
        "results": record["results"],
        "versions": record["versions"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("CELLHERMES_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default, help="folder with the public inputs")
    parser.add_argument("--work", type=Path, default=Path("build/mini"), help="folder for checkpoints and results")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the model")
    parser.add_argument("--steps", type=int, default=recipe.N_STEPS, help="optimiser steps")
    parser.add_argument("--evaluate", action="store_true", help="only measure the model in --out and write its card")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.evaluate:
        facts = build(args.data, args.work, args.out, args.steps)
        (args.work / "build.json").write_text(json.dumps(facts, indent=2) + "\n")
    results = evaluate.evaluate(args.out, args.data, SEED)
    (args.work / "evaluation.json").write_text(json.dumps(results, indent=2) + "\n")
    facts = json.loads((args.work / "build.json").read_text())
    (args.out / "README.md").write_text(card.render(facts, results), encoding="utf-8")


if __name__ == "__main__":
    main()
