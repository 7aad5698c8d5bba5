"""Corpora on disk: JSON lines or parquet that trainers read as they are, written in parts that survive an interruption.

While a corpus is written, its parts stand in a folder beside it. The file has its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from ... import _place
from ..._blocks import Shard, Work
from ..._disk import check_space, file_hash, flush, noted, write_json
from ..._keys import version
from ..._streams import Use, generator
from . import _parts
from ._read import pyarrow, record_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

    from ...text import QAPair
    from ._pairs import Pairs

logger = logging.getLogger("cellhermes")

SAMPLE = 1_000  # pairs whose tokens are counted for the card
ROOM = 64  # pairs from which the size of the file is told, and which are compared when writing goes on
FORMATS = (".jsonl", ".parquet")

Card = dict[str, object]


def write(
    pairs: Pairs, path: str | Path, *, n_workers: int = 1, inputs: Sequence[str | Path] = (), overwrite: bool = False
) -> Card:
    """Write a corpus and its card, as :meth:`Pairs.write` says."""
    path = Path(path)
    work = Work(_parts_of(path), Shard())
    if path.is_file():
        work.clear(noted(_card_path(path)))
    _check(path, pairs, n_workers, inputs, overwrite=overwrite)
    with work:
        card = _write(pairs, path, work, n_workers, inputs)
    work.remove()
    logger.info("Pairs.write: %s pairs -> %s, card -> %s", f"{len(pairs):,}", path, _card_path(path))
    return card


def _write(pairs: Pairs, path: Path, work: Work, n_workers: int, inputs: Sequence[str | Path]) -> Card:
    about = {
        "cellhermes": version(),
        "file": path.name,
        "pairs": len(pairs),
        "task": pairs.task,
        "fingerprint": pairs.fingerprint(),
        "sample": hashlib.sha256(_parts.json_lines(map(record_of, _some(pairs)))).hexdigest(),
        "part": _parts.PART,
        "inputs": [_file(Path(name)) for name in inputs],
    }
    work.claim(about)
    parts = _parts.Parts(work.folder, len(pairs), path.suffix)
    with tqdm(total=len(pairs), desc=f"writing {path.name}", unit="pair", delay=1) as progress:
        for part in parts.made(pairs, n_workers):
            progress.update(part["pairs"])
    card = _card(pairs, about, parts)
    card_file = parts.folder / "card.json"  # goes with the folder if this process is killed
    write_json(card_file, card)
    card_file.replace(_card_path(path))
    flush(parts.whole)
    parts.whole.replace(path)
    return card


# ---------------------------------------------------------------------------------------------------------- card


def _check(path: Path, pairs: Pairs, n_workers: int, inputs: Sequence[str | Path], *, overwrite: bool) -> None:
    _place.check_new(path, FORMATS, map(Path, inputs), overwrite=overwrite)
    if path.suffix == ".parquet":
        pyarrow()
    if n_workers < 1 or not len(pairs):
        msg = f"n_workers={n_workers} for {len(pairs)} pairs; expected at least one of each."
        raise ValueError(msg)
    card = _card_path(path)
    _place.check_free(card, "file")
    _place.check_free(_parts_of(path), "folder")
    if card.exists() and not {"fingerprint", "cellhermes"} <= {*noted(card)}:
        msg = f"{card} is no card of a corpus, so it stays. Move it away, or pass another path."
        raise FileExistsError(msg)
    _check_room(path, pairs)


def _some(pairs: Pairs) -> Pairs:
    """Take a few pairs from the first to the last."""
    return pairs.take(np.linspace(0, len(pairs) - 1, min(ROOM, len(pairs))).astype(np.int64))


def _check_room(path: Path, pairs: Pairs) -> None:
    """Check that the corpus fits on the disk, from the lengths of some of its pairs."""
    chosen = _some(pairs)
    size = len(_parts.json_lines(map(record_of, chosen))) / len(chosen) * len(pairs)
    # of parquet, parts and whole are there at once, each about a third of the text
    check_space(path.resolve().parent, int(size if path.suffix == ".jsonl" else size / 2))


def _parts_of(path: Path) -> Path:
    return path.with_name(path.name + ".parts")


def _card_path(path: Path) -> Path:
    return path.with_name(path.name + ".card.json")


def _file(path: Path) -> Card:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_hash(path)}


def _card(pairs: Pairs, about: Card, parts: _parts.Parts) -> Card:
    return {
        **about,
        "bytes": parts.whole.stat().st_size,
        "sha256": parts.sha256,
        "templates": _with_tokens(_summed(parts.notes), pairs),
        "tokenizer": "mini",
        "dropped": dict(pairs.dropped),
        "about": dict(pairs.about),
    }


def _summed(notes: list[Card]) -> dict[str, dict[str, int]]:
    """Sum counts and lengths of each template over all parts."""
    templates: dict[str, dict[str, int]] = {}
    for note in notes:
        for name, seen in note["templates"].items():
            all_ = templates.setdefault(name, {**seen, "pairs": 0, "characters": 0})
            all_["pairs"] += seen["pairs"]
            all_["characters"] += seen["characters"]
            if seen["longest"] > all_["longest"]:
                all_.update(longest=seen["longest"], longest_pair=seen["longest_pair"])
    return dict(sorted(templates.items()))


def _with_tokens(templates: dict[str, dict[str, int]], pairs: Pairs) -> dict[str, dict[str, float]]:
    """Add tokens of prompt and answer: of the longest pair, and the mean of a sample of all."""
    chosen = generator(0, Use.CARD_SAMPLE).integers(len(pairs), size=min(SAMPLE, len(pairs)))
    tokens: dict[str, list[int]] = {name: [] for name in templates}
    for pair in pairs.take(chosen):
        tokens[pair.prompt.kind].append(_n_tokens(pair))
    described = {}
    for name, seen in templates.items():
        longest = _n_tokens(pairs[seen["longest_pair"]])
        counted = tokens[name] or [longest]
        described[name] = {
            "version": seen["version"],
            "pairs": seen["pairs"],
            "characters_mean": round(seen["characters"] / seen["pairs"], 1),
            "characters_longest": seen["longest"],
            "tokens_mean": round(float(np.mean(counted)), 1),
            "tokens_longest": max(longest, *counted),
            "longest_pair": seen["longest_pair"],
        }
    return described


def _n_tokens(pair: QAPair) -> int:
    """Count tokens of prompt and answer, without what stands around them."""
    encode = _tokenizer().encode
    return sum(len(encode(text, add_special_tokens=False).ids) for text in (pair.prompt.text, pair.answer))


@cache
def _tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_str((files("cellhermes") / "model" / "mini" / "tokenizer.json").read_text("utf-8"))
