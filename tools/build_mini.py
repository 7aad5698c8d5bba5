"""Build the bundled model ``mini`` from public inputs: tokenizer, weights, evaluation and card.

    python tools/build_mini.py --data ../shared/data --work build/mini

Everything is seeded. A run that was killed goes on from its last checkpoint in ``--work``. ``--start-only`` writes the
untrained start values, ``--evaluate`` measures and writes the card for weights that exist.
"""

import argparse
import json
import logging
import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from mini import card, evaluate, inputs, model, stream, tokenizer, train

import cellhermes as ch

log = logging.getLogger("cellhermes.mini")
FOLDER = Path(ch.__file__).parent / "model" / "mini"
SEED = 0
N_WORDS = 2500  # merges of plain English


def words_to_learn(data: Path) -> list[str]:
    """Text for the vocabulary: our prompts many times, and the full names of protein-coding genes."""
    prompts = [v for t in (*ch.text.templates().values(), *stream.QUESTIONS.values()) for v in t.variants]
    lines = stream.WORDING["english"]["lines"] + [ch.text.wrap("llama3-chat").render(p) for p in prompts]
    genes = pd.read_csv(data / inputs.GENES, sep="\t", usecols=["biotype", "description"])
    names = genes.loc[genes["biotype"] == "protein_coding", "description"].dropna()
    return lines * 50 + names.str.replace(r" \[Source.*", "", regex=True).tolist()


def coexpressed(factors: np.ndarray, k: int = 20) -> np.ndarray:
    """The k genes nearest in the factors of the training cells, -1 for genes without any."""
    seen = np.flatnonzero(np.linalg.norm(factors, axis=1) > 0)
    similarity = factors[seen] @ factors[seen].T
    np.fill_diagonal(similarity, -1)
    near = np.full((len(factors), k), -1)
    near[seen] = seen[np.argpartition(-similarity, k, axis=1)[:, :k]]
    return near


def prepare(data: Path, folder: Path) -> tuple[train.Trainer, dict]:
    """Inputs, tokenizer and start values: everything that stands before the first training step."""
    symbols, all_edges = inputs.read_symbols(data)
    edges, held_out = inputs.split_edges(all_edges, symbols, SEED)
    cells = [inputs.read_cells(data / name, symbols) for name in inputs.CELLS]
    tok = tokenizer.make_tokenizer(symbols, words_to_learn(data), N_WORDS)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_tokenizer(tok, folder, max_length=1024)
    answer = np.array([tok.token_to_id(f"Ġ{word}") for word in [*symbols, "Yes", "No"]])
    config = model.make_config(
        tok.get_vocab_size(), tok.token_to_id("<|begin_of_text|>"), tok.token_to_id("<|eot_id|>")
    )
    graph = model.graph_factors(edges, len(symbols), model.GRAPH_DIM, SEED)
    cell = model.cell_factors([c.ranked for c in cells], len(symbols), model.CELL_DIM, SEED)
    table = model.start_table(graph, cell, answer[:-2], config, SEED)
    net = model.make_model(config, table, SEED)
    sources = [stream.CellSource(c, len(symbols), SEED) for c in cells]
    documents = stream.Stream(symbols, edges, coexpressed(cell), sources)
    facts = {
        "symbols": len(symbols),
        "unseen_symbols": len(symbols) - len(documents.trained),
        "known_edges": len(all_edges),
        "edges": len(edges),
        "held_out_edges": len(held_out),
        "cells": {c.name: len(c.ranked) for c in cells},
        "sha256": {name: inputs.sha256(data / name) for name in (inputs.GENES, inputs.EDGES, *inputs.CELLS)},
        "parameters": sum(p.numel() for p in net.parameters()),
        "vocabulary": config.vocab_size,
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "graph_dim": model.GRAPH_DIM,
        "cell_dim": model.CELL_DIM,
    }
    return train.Trainer(net, tok, answer, documents, train.Recipe(seed=SEED)), facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("CELLHERMES_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default, help="folder with the public inputs")
    parser.add_argument("--work", type=Path, default=Path("build/mini"), help="folder for checkpoints and results")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the model")
    parser.add_argument("--steps", type=int, help="optimiser steps, if not the recipe's")
    parser.add_argument("--start-only", action="store_true", help="write the start values and stop")
    parser.add_argument("--evaluate", action="store_true", help="only measure the model in --out and write its card")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.evaluate:
        build(args)
    if not args.start_only:
        results = evaluate.evaluate(args.out, args.data, SEED)
        (args.work / "evaluation.json").write_text(json.dumps(results, indent=2) + "\n")
        facts = json.loads((args.work / "build.json").read_text())
        (args.out / "README.md").write_text(card.render(facts, results), encoding="utf-8")


def build(args: argparse.Namespace) -> None:
    """Prepare, train and write the model."""
    started = time.monotonic()
    trainer, facts = prepare(args.data, args.out)
    log.info("Inputs ready after %.0f s: %s", time.monotonic() - started, facts)
    if args.steps:
        trainer.recipe = type(trainer.recipe)(**asdict(trainer.recipe) | {"steps": args.steps})
    if not args.start_only:
        trainer.resume(args.work)
        trainer.run(args.work)
    model.save_model(trainer.model, args.out)
    facts |= {"recipe": asdict(trainer.recipe), "tokens": trainer.tokens, "seconds": round(trainer.seconds)}
    (args.work / "build.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
