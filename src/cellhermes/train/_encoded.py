"""Question-answer pairs as token ids on disk: made once, read by every process and epoch from one mapped file.

Knows encoders and files, not models. What does not fit is cut or dropped here, and counted.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from .._disk import flush, noted, sha256_of, write_json
from .._streams import Use, generator
from ..text import QAPair
from .corpus._pairs import Pairs, pairs_sha256

if TYPE_CHECKING:
    from ..model._tokens import Encoder

logger = logging.getLogger("cellhermes")

Source = str | Path | Sequence[QAPair]
CHUNK = 1024  # pairs that are tokenised at once
HEAD = 1000  # pairs of a stream that are compared when a run goes on
IDS, INDEX, ABOUT = FILES = ("ids.bin", "index.npz", "about.json")


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples of several sources, one after the other.

    Parameters
    ----------
    ids
        (tokens,) int32, all examples joined.
    ends
        (examples + 1,) int64, example ``i`` is ``ids[ends[i] : ends[i + 1]]``.
    n_prompt
        (examples,) int32, how many first ids of an example are the question's.
    task
        (examples,) int16, number in ``tasks``.
    tasks
        Names of tasks.
    sources
        Name of a source to how many examples it gave.
    dropped
        Reason to number of pairs that gave no example.
    n_cut
        Examples that were longer than the limit.
    """

    ids: np.ndarray
    ends: np.ndarray
    n_prompt: np.ndarray
    task: np.ndarray
    tasks: list[str]
    sources: dict[str, int]
    dropped: dict[str, int]
    n_cut: int

    def __len__(self) -> int:
        return len(self.n_prompt)

    @property
    def lengths(self) -> np.ndarray:
        """Count tokens: (examples,)."""
        return np.diff(self.ends)

    def about(self) -> dict[str, object]:
        """Describe in numbers what there is."""
        counts = np.bincount(self.task, minlength=len(self.tasks)).tolist()
        return {
            "pairs": len(self),
            "tokens": int(self.ends[-1]),
            "tasks": dict(zip(self.tasks, counts, strict=True)),
            "sources": self.sources,
            "dropped": self.dropped,
            "cut": self.n_cut,
        }


class Stream:
    """Pairs of unknown number, of which the first are known.

    A stream may never end, so that no hash of it all can be had before it is trained on.
    """

    def __init__(self, pairs: Iterable[QAPair]) -> None:
        rest = iter(pairs)
        self.head = list(islice(rest, HEAD))
        self._pairs = chain(self.head, rest) if rest is pairs else pairs  # an iterator can be read once

    def __iter__(self) -> Iterator[QAPair]:
        return iter(self._pairs)


def as_sources(pairs: Source | Mapping[str, Source]) -> dict[str, Source]:
    """Name the sources; a single one is called ``"pairs"``."""
    sources = dict(pairs) if isinstance(pairs, Mapping) else {"pairs": pairs}
    for name, source in sources.items():
        if isinstance(source, str | Path):
            Pairs.read(source)  # whether it is there, and of a known format
        elif not isinstance(source, Sequence):
            msg = (
                f"pairs of {name!r} are a {type(source).__name__}; expected a path, ch.train.corpus.Pairs, or a list "
                "of ch.text.QAPair (a stream stands alone, with max_steps in the config)."
            )
            raise TypeError(msg)
        elif len(source) and not isinstance(source[0], QAPair):
            msg = f"pairs of {name!r} hold a {type(source[0]).__name__}; expected ch.text.QAPair."
            raise TypeError(msg)
    return sources


def read(sources: Mapping[str, Source]) -> Iterator[QAPair]:
    """Read the pairs of all sources."""
    return chain.from_iterable(map(_opened, sources.values()))


def _opened(source: Source) -> Iterable[QAPair]:
    return Pairs.read(source) if isinstance(source, str | Path) else source


def fingerprint(source: Source) -> str:
    """Hash what a source holds: of a file, all of it; else every question, answer and task, made for this."""
    if isinstance(source, Stream):
        source = source.head
    return sha256_of(Path(source)) if isinstance(source, str | Path) else pairs_sha256(source)


def encode(
    sources: Mapping[str, Source],
    encoder: Encoder,
    folder: Path,
    *,
    max_tokens: int,
    caps: Mapping[str, int],
    seed: int,
    key: str,
) -> None:
    """Write the examples of all sources into ``folder``; what is there already, whole and of this key, is kept."""
    if _is_whole(folder, key):
        return
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    ends, n_prompt, task = [0], [], []
    tasks: dict[str, int] = {}
    counts: dict[str, int] = {}
    dropped: Counter[str] = Counter()
    n_cut = 0
    total = sum(_size(source, caps.get(name)) or 0 for name, source in sources.items()) or None
    with (folder / IDS).open("wb") as file, tqdm(total=total, desc="tokenise", delay=2, leave=False) as bar:
        for number, (name, source) in enumerate(sources.items()):
            before = len(n_prompt)
            for chunk in _chunks(_capped(source, caps.get(name), generator(seed, Use.CAP, number))):
                for pair, example in zip(chunk, encoder.examples(chunk, max_tokens=max_tokens), strict=True):
                    if example is None:
                        dropped[f"{pair.task}: no room for any of the answer in {max_tokens} tokens"] += 1
                        continue
                    file.write(np.array(example.ids, np.int32).tobytes())
                    ends.append(ends[-1] + len(example.ids))
                    n_prompt.append(example.n_prompt)
                    task.append(tasks.setdefault(pair.task, len(tasks)))
                    n_cut += example.is_cut
                bar.update(len(chunk))
            counts[name] = len(n_prompt) - before
    np.savez(
        folder / INDEX,
        ends=np.array(ends, np.int64), n_prompt=np.array(n_prompt, np.int32), task=np.array(task, np.int16),
    )  # fmt: skip
    about = {"tasks": list(tasks), "sources": counts, "dropped": dict(dropped), "n_cut": n_cut}
    flush(folder / IDS, folder / INDEX)
    files = {name: sha256_of(folder / name) for name in (IDS, INDEX)}
    write_json(folder / ABOUT, {**about, "key": key, "files": files})  # last: without it the rest counts as unfinished


def load(folder: Path) -> Examples:
    """Map what :func:`encode` wrote."""
    about = noted(folder / ABOUT)
    del about["key"], about["files"]
    with np.load(folder / INDEX) as index:
        arrays = {name: index[name] for name in ("ends", "n_prompt", "task")}
    n_tokens = int(arrays["ends"][-1])
    ids = np.memmap(folder / IDS, np.int32, mode="r") if n_tokens else np.empty(0, np.int32)
    return Examples(ids=ids, **arrays, **about)


def remove(folder: Path) -> None:
    """Remove the examples of a run, and the folders that are empty then."""
    for part in ("train", "evaluation"):
        for name in FILES:
            (folder / part / name).unlink(missing_ok=True)
        with suppress(OSError):  # none, or something else in it
            (folder / part).rmdir()
    with suppress(OSError):
        folder.rmdir()


def _is_whole(folder: Path, key: str) -> bool:
    """Tell whether the examples of this key are there, as they were written."""
    about = noted(folder / ABOUT)
    try:
        return about["key"] == key and all(sha256_of(folder / name) == about["files"][name] for name in (IDS, INDEX))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _size(source: Source, cap: int | None) -> int | None:
    if isinstance(source, str | Path):
        return None
    return len(source) if cap is None else min(cap, len(source))


def _capped(source: Source, cap: int | None, rng: np.random.Generator) -> Iterable[QAPair]:
    """Draw at most ``cap`` pairs without replacement, in their order."""
    if cap is None:
        return _opened(source)
    n = sum(1 for _ in Pairs.read(source)) if isinstance(source, str | Path) else len(source)
    if cap >= n:
        return _opened(source)
    chosen = np.sort(rng.choice(n, cap, replace=False))
    if isinstance(source, Pairs):
        return source.take(chosen)
    wanted = set(chosen.tolist())
    return (pair for i, pair in enumerate(_opened(source)) if i in wanted)


def _chunks(pairs: Iterable[QAPair]) -> Iterator[list[QAPair]]:
    iterator = iter(pairs)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
