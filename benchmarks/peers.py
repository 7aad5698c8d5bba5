"""Vectors of cells against sentence-transformers and plain transformers: ``python benchmarks/peers.py``.

All sides have the weights of the bundled model, float32 on the CPU, the same threads and the same texts, and read the
state of the last token after the final norm. Rounds are taken in turns, the best counts. Prints a markdown table; the
vectors are compared, because a side whose vectors differ is no peer.
"""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch
from shared import MINI
from transformers import AutoModel, AutoTokenizer

import cellhermes as ch

if TYPE_CHECKING:
    from collections.abc import Callable


def texts(wrap: ch.text.Wrap, n: int) -> tuple[list[ch.text.Prompt], list[str]]:
    """Prompts, and what the model reads of each, with everything around it."""
    adata = ch.datasets.toy(n_obs=n)
    ch.pp.cell_sentences(adata)
    cell = ch.text.Template.load("cell")
    prompts = [cell.fill(genes=sentence.split()) for sentence in adata.obs["cell_sentence"]]
    return prompts, [wrap.head + prompt.text + wrap.tail for prompt in prompts]


def plain(read: list[str], batch_size: int) -> Callable[[], np.ndarray]:
    """A loop over batches in the order of the texts, padded on the left, as most scripts do it."""
    tokenizer = AutoTokenizer.from_pretrained(MINI, padding_side="left")
    model = AutoModel.from_pretrained(MINI, dtype=torch.float32).eval()

    def run() -> np.ndarray:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(read), batch_size):
                some = read[start : start + batch_size]
                batch = tokenizer(some, return_tensors="pt", padding=True, add_special_tokens=False)
                parts.append(model(**batch).last_hidden_state[:, -1].numpy())
        return np.concatenate(parts)

    return run


def sentence_transformers(read: list[str], batch_size: int) -> Callable[[], np.ndarray]:
    """The library, with pooling of the last token."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    words = Transformer(str(MINI), model_kwargs={"dtype": "float32"})  # the tokenizer adds nothing of its own
    words.tokenizer.padding_side = "left"
    pooling = Pooling(words.get_embedding_dimension(), "lasttoken")
    model = SentenceTransformer(modules=[words, pooling], device="cpu")
    return lambda: model.encode(read, batch_size=batch_size, show_progress_bar=False)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32, help="of the peers")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    model = ch.CellHermes.from_pretrained("mini", device="cpu")
    prompts, read = texts(ch.text.Wrap.load(model.card.wrap), given.cells)
    sides = {"cellhermes": lambda: model.embed(prompts), "plain transformers": plain(read, given.batch_size)}
    if find_spec("sentence_transformers"):
        sides["sentence-transformers"] = sentence_transformers(read, given.batch_size)
    else:
        print("sentence-transformers is not installed and is left out.\n")
    expected = sides["plain transformers"]()
    seconds, differs = dict.fromkeys(sides, np.inf), {}
    for _ in range(given.repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            found = run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
            differs[name] = np.abs(found - expected).max() / np.abs(expected).max()
    n_threads = torch.get_num_threads()
    print(f"| {given.cells} cells, {n_threads} threads | cells/s | against cellhermes | vectors differ by |")
    print("|---|---|---|---|")
    for name, taken in seconds.items():
        ratio = seconds["cellhermes"] / taken
        print(f"| {name} | {given.cells / taken:.1f} | {ratio:.2f} x | {differs[name]:.1e} |")


if __name__ == "__main__":
    main()
