"""Corpora on disk: JSON lines or parquet that trainers read as they are, written in parts that survive an interruption.

While a corpus is written, its parts stand in a folder beside it. The file has its name only when it is whole.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from .. import _place
from .._blocks import Shard, Work
from .._disk import check_space, commit, file_hash, flush, noted, write_json
from .._keys import version
from ..io._files import records
from ..text import Prompt, QAPair

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from tokenizers import Tokenizer

    from ._pairs import Pairs

    Job = tuple[Pairs, Path, str, int]  # pairs, folder and format of the parts, pairs of a part

logger = logging.getLogger("cellhermes")

PART = 16_384  # pairs of a part: some 20 MB, a second or less of work
SAMPLE = 1_000  # pairs whose tokens are counted for the card
ROOM = 64  # pairs from which the size of the file is told, and which are compared when writing goes on
FORMATS = (".jsonl", ".parquet")
FIELDS = ("instruction", "input", "output", "task", "template", "version", "variant", "source")

Record = dict[str, str | int]
Card = dict[str, object]


def write_pairs(
    pairs: Pairs,
    path: str | Path,
    *,
    n_workers: int = 1,
    inputs: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> Card:
    """Write a corpus as JSON lines or parquet, with a card beside it.

    Each record holds ``instruction`` (the description of the task), ``input`` (what it is about) and ``output`` (the
    answer), the layout that LLaMA-Factory calls Alpaca; instruction, a line break and input are the prompt. ``task``,
    ``template``, ``version``, ``variant`` and ``source`` (cell, or genes with a blank between them) say where the pair
    comes from.

    The file appears under its name when it is whole. Until then, finished parts are kept in ``<path>.parts``: the
    same call after an interruption or a full disk goes on from there, and gives the same file.

    Parameters
    ----------
    pairs
        Pairs of one objective or of a mixture.
    path
        File to write, ``.jsonl`` or ``.parquet`` (which needs pyarrow).
    n_workers
        Number of processes that make pairs. On Linux they share the memory of this one; elsewhere each gets a copy.
    inputs
        Files that the pairs come from; their SHA-256 is written on the card.
    overwrite
        Replace a file that is there.

    Returns
    -------
    The card, as written to ``<path>.card.json``: counts, lengths and versions of the templates, what was dropped, the
    arguments and seeds of the pairs, hashes of the inputs and of the file, and the version of cellhermes.

    Raises
    ------
    FileExistsError
        If the file is there already.
    FileNotFoundError
        If its folder or an input is not there.
    ValueError
        If the format is not known, or unfinished parts of another corpus are in the way.
    BlockingIOError
        If another process is writing the same file.

    Examples
    --------
    >>> import tempfile
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=50)
    >>> ch.pp.cell_sentences(adata)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     card = ch.train.write_pairs(ch.train.mlm_pairs(adata), f"{folder}/corpus.jsonl")
    >>> card["pairs"], card["templates"]["masked_genes/plain"]["pairs"]
    (100, 100)
    """
    path = Path(path)
    work = Work(_parts_of(path), Shard())
    if path.is_file():
        work.clear(noted(_card_path(path)))
    _check(path, pairs, n_workers, inputs, overwrite=overwrite)
    with work:
        card = _write(pairs, path, work, n_workers, inputs)
    work.remove()
    logger.info("write_pairs: %s pairs -> %s, card -> %s", f"{len(pairs):,}", path, _card_path(path))
    return card


def _write(pairs: Pairs, path: Path, work: Work, n_workers: int, inputs: Sequence[str | Path]) -> Card:
    about = {
        "cellhermes": version(),
        "file": path.name,
        "pairs": len(pairs),
        "task": pairs.task,
        "fingerprint": pairs.fingerprint(),
        "sample": hashlib.sha256(_lines(map(_record, _some(pairs)))).hexdigest(),
        "part": PART,
        "inputs": [_file(Path(name)) for name in inputs],
    }
    work.claim(about)
    parts = _Parts(work.folder, len(pairs), path.suffix)
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


def read_pairs(path: str | Path) -> Iterator[QAPair]:
    """Read a corpus one pair at a time.

    Parameters
    ----------
    path
        A file of :func:`~cellhermes.train.write_pairs`, or any JSON lines (``.jsonl``), JSON list (``.json``) or
        parquet file with ``instruction``, ``output`` and optionally ``input``, such as the released training sets.

    Returns
    -------
    Iterator over the pairs, in the order of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the format is not known, or a record lacks a field; the message has file, line and text.

    Examples
    --------
    >>> import tempfile
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=50)
    >>> ch.pp.cell_sentences(adata)
    >>> pairs = ch.train.mlm_pairs(adata)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     card = ch.train.write_pairs(pairs, f"{folder}/corpus.jsonl")
    ...     list(ch.train.read_pairs(f"{folder}/corpus.jsonl")) == list(pairs)
    True
    """
    path = Path(path)
    readers = {".jsonl": partial(records, is_list=False), ".json": partial(records, is_list=True)}
    readers |= {".parquet": _read_parquet}
    if path.suffix not in readers:
        msg = f"{path} ends with {path.suffix!r}; expected one of {', '.join(readers)}."
        raise ValueError(msg)
    if not path.is_file():
        msg = f"{path} is not a file."
        raise FileNotFoundError(msg)
    return (_pair(record, where) for where, record in readers[path.suffix](path))


# ------------------------------------------------------------------------------------------------------- records


def _record(pair: QAPair) -> Record:
    prompt = pair.prompt
    instruction, _, block = prompt.text.partition("\n")
    values = (instruction, block, pair.answer, pair.task, prompt.kind, prompt.version, prompt.variant, pair.source)
    return dict(zip(FIELDS, values, strict=True))


def _pair(record: object, where: str) -> QAPair:
    try:
        parts = (record["instruction"], record.get("input") or "")
        prompt = Prompt(
            "\n".join(part for part in parts if part).strip(),
            kind=record.get("template", ""),
            variant=record.get("variant", 0),
            version=record.get("version", 0),
        )
        if not isinstance(record["output"], str):
            raise TypeError
        return QAPair(prompt, record["output"], record.get("task", ""), record.get("source", ""))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        msg = f"{where}: expected a record with instruction, input and output, got {str(record)[:120]!r}."
        raise ValueError(msg) from error


def _read_parquet(path: Path) -> Iterator[tuple[str, object]]:
    number = 0
    try:
        with _pyarrow("parquet").ParquetFile(path) as file:
            for batch in file.iter_batches(4096):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", record
    except (OSError, ValueError, RuntimeError) as error:  # those of pyarrow name no file
        msg = f"{path} cannot be read as parquet behind row {number}: {error}"
        raise ValueError(msg) from error


# --------------------------------------------------------------------------------------------------------- parts


class _Parts:
    """Numbered parts in a folder, each with a note of what is in it: a part is finished when it is as its note says.

    Finished parts are joined in order, while later ones are still being made. A joined part of JSON lines is removed at
    once, so that the disk holds the corpus once. Parquet has its index at the end, so that a file cannot be continued:
    its parts are kept and joined again.
    """

    def __init__(self, folder: Path, n_pairs: int, suffix: str) -> None:
        self.folder, self.suffix = folder, suffix
        self.n = -(-n_pairs // PART)
        self.notes: list[Card] = []
        self.sha256 = ""

    @property
    def whole(self) -> Path:
        return self.folder / f"whole{self.suffix}"

    def made(self, pairs: Pairs, n_workers: int) -> Iterator[Card]:
        """Make what is missing, join the parts in order, and tell what is in each."""
        self.notes = self._joined()
        missing = [k for k in range(len(self.notes), self.n) if not self._is_finished(k)]
        if len(missing) < self.n:
            logger.info("write_pairs: %s of %s parts are there already", f"{self.n - len(missing):,}", f"{self.n:,}")
        yield from self.notes
        with _working((pairs, self.folder, self.suffix, PART), n_workers, missing) as finished, self._whole() as whole:
            for k in range(len(self.notes), self.n):
                if k in missing:
                    next(finished)
                note = noted(_note(self.folder, k))
                part = _part(self.folder, self.suffix, k)
                whole.add(part.read_bytes())
                if isinstance(whole, _Lines):
                    part.unlink()
                self.notes.append(note)
                yield note
        self.sha256 = whole.sha256

    def _joined(self) -> list[Card]:
        """Notes of the parts that an earlier run has joined: their notes are there and they are not."""
        notes = []
        while _note(self.folder, len(notes)).is_file() and not _part(self.folder, self.suffix, len(notes)).is_file():
            notes.append(noted(_note(self.folder, len(notes))))
        size = self.whole.stat().st_size if self.whole.is_file() else 0
        return notes if size >= sum(note["bytes"] for note in notes) else []

    def _is_finished(self, k: int) -> bool:
        part = _part(self.folder, self.suffix, k)
        return part.is_file() and file_hash(part) == noted(_note(self.folder, k)).get("sha256")

    def _whole(self) -> _Lines | _Parquet:
        if self.suffix == ".parquet":
            return _Parquet(self.whole)
        return _Lines(self.whole, sum(note["bytes"] for note in self.notes))


class _Lines:
    """A growing file of JSON lines that begins with what an earlier run has joined."""

    def __init__(self, path: Path, size: int) -> None:
        self._file = path.open("r+b" if path.is_file() else "w+b")
        self._file.truncate(size)
        self._digest = hashlib.file_digest(self._file, "sha256")

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, content: bytes) -> None:
        self._file.write(content)
        self._file.flush()
        os.fsync(self._file.fileno())  # before the part is removed
        self._digest.update(content)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class _Parquet:
    """A parquet file with one row group for each part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = _pyarrow("parquet").ParquetWriter(path, _schema(), compression="zstd")

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, content: bytes) -> None:
        self._writer.write_table(_pyarrow("parquet").read_table(_pyarrow().BufferReader(content)))

    @property
    def sha256(self) -> str:
        return file_hash(self._path)


def _part(folder: Path, suffix: str, k: int) -> Path:
    return folder / f"{k:06d}{suffix}"


def _note(folder: Path, k: int) -> Path:
    return folder / f"{k:06d}.json"


def _write_part(pairs: Pairs, folder: Path, suffix: str, size: int, k: int) -> None:
    """Write part ``k``, then its note."""
    templates: dict[str, dict[str, int]] = {}
    records = _noted(pairs[k * size : (k + 1) * size], k * size, templates)
    content = _lines(records) if suffix == ".jsonl" else _table(records)
    n = sum(seen["pairs"] for seen in templates.values())
    note = {"pairs": n, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "templates": templates}
    commit(_part(folder, suffix, k), content)
    write_json(_note(folder, k), note)


def _noted(pairs: Pairs, start: int, templates: dict[str, dict[str, int]]) -> Iterator[Record]:
    """Records of pairs; counts and lengths of each template are added up on the way."""
    for number, pair in enumerate(pairs, start):
        seen = templates.setdefault(pair.prompt.kind, {"pairs": 0, "characters": 0, "longest": 0, "longest_pair": 0})
        length = len(pair.prompt.text) + len(pair.answer)
        seen["version"] = pair.prompt.version
        seen["pairs"] += 1
        seen["characters"] += length
        if length > seen["longest"]:
            seen.update(longest=length, longest_pair=number)
        yield _record(pair)


def _lines(records: Iterator[Record]) -> bytes:
    encode = json.JSONEncoder(ensure_ascii=False).encode
    return "".join([encode(record) + "\n" for record in records]).encode()


def _table(records: Iterator[Record]) -> bytes:
    sink = _pyarrow().BufferOutputStream()
    table = _pyarrow().Table.from_pylist(list(records), _schema())
    _pyarrow("parquet").write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _schema() -> object:
    text, number = _pyarrow().string(), _pyarrow().int32()
    return _pyarrow().schema({name: number if name in {"version", "variant"} else text for name in FIELDS})


def _pyarrow(part: str | None = None) -> ModuleType:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        msg = "parquet needs pyarrow: pip install 'cellhermes[train]', or write .jsonl."
        raise ImportError(msg) from error
    return getattr(pa, part) if part else pa


# ------------------------------------------------------------------------------------------------------- workers


@contextmanager
def _working(job: Job, n_workers: int, missing: list[int]) -> Iterator[Iterator[None]]:
    """Write the missing parts, here or in other processes; each step of the iterator is one more that is finished."""
    try:
        if n_workers == 1 or len(missing) < 2:
            yield (_write_part(*job, k) for k in missing)
            return
        # Forked processes share the pairs with this one. Making pairs takes Python, numpy and kernels of one thread, so
        # that a fork beside the threads of other libraries does no harm; where forks are not safe, pairs are copied.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        with (
            ProcessPoolExecutor(n_workers, context, initializer=_begin, initargs=job) as pool,
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            try:
                yield pool.map(_work, missing)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    except (OSError, BrokenProcessPool) as error:
        error.add_note(f"Finished parts are kept in {job[1]}: the same call goes on from there.")
        raise


_job: list[Job] = []  # of a worker process


def _begin(pairs: Pairs, folder: Path, suffix: str, size: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()  # else the collector would write to all that is shared, and so copy it
    _job[:] = [(pairs, folder, suffix, size)]


def _end_with_parent() -> None:
    """A killed parent cannot end its workers, and they would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(k: int) -> None:
    _write_part(*_job[0], k)


# ---------------------------------------------------------------------------------------------------------- card


def _check(path: Path, pairs: Pairs, n_workers: int, inputs: Sequence[str | Path], *, overwrite: bool) -> None:
    _place.check_new(path, FORMATS, map(Path, inputs), overwrite=overwrite)
    if path.suffix == ".parquet":
        _pyarrow()
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
    """A few pairs from the first to the last."""
    return pairs.take(np.linspace(0, len(pairs) - 1, min(ROOM, len(pairs))).astype(np.int64))


def _check_room(path: Path, pairs: Pairs) -> None:
    """Whether the corpus fits on the disk, from the lengths of some of its pairs."""
    chosen = _some(pairs)
    size = len(_lines(map(_record, chosen))) / len(chosen) * len(pairs)
    # of parquet, parts and whole are there at once, each about a third of the text
    check_space(path.resolve().parent, int(size if path.suffix == ".jsonl" else size / 2))


def _parts_of(path: Path) -> Path:
    return path.with_name(path.name + ".parts")


def _card_path(path: Path) -> Path:
    return path.with_name(path.name + ".card.json")


def _file(path: Path) -> Card:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_hash(path)}


def _card(pairs: Pairs, about: Card, parts: _Parts) -> Card:
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
    """Counts and lengths of each template over all parts."""
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
    chosen = np.random.default_rng(0).integers(len(pairs), size=min(SAMPLE, len(pairs)))
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
    """Tokens of prompt and answer, without what stands around them."""
    encode = _tokenizer().encode
    return sum(len(encode(text, add_special_tokens=False).ids) for text in (pair.prompt.text, pair.answer))


@cache
def _tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_str((files("cellhermes") / "model" / "mini" / "tokenizer.json").read_text("utf-8"))
