"""Numbered parts of a corpus that is being written, made here or in other processes, and joined in order."""

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
from typing import TYPE_CHECKING

from ..._disk import commit, file_hash, noted, write_json
from ._read import FIELDS, Record, pyarrow, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ._pairs import Pairs

    Job = tuple[Pairs, Path, str, int]  # pairs, folder and format of the parts, pairs of a part

logger = logging.getLogger("cellhermes")

PART = 16_384  # pairs of a part: some 20 MB, a second or less of work


class Parts:
    """Numbered parts in a folder, each with a note of what is in it: a part is finished when it is as its note says.

    Finished parts are joined in order, while later ones are still being made. A joined part of JSON lines is removed at
    once, so that the disk holds the corpus once. Parquet has its index at the end, so that a file cannot be continued:
    its parts are kept and joined again.
    """

    def __init__(self, folder: Path, n_pairs: int, suffix: str) -> None:
        self.folder, self.suffix = folder, suffix
        self.n = -(-n_pairs // PART)
        self.notes: list[dict[str, object]] = []
        self.sha256 = ""

    @property
    def whole(self) -> Path:
        return self.folder / f"whole{self.suffix}"

    def made(self, pairs: Pairs, n_workers: int) -> Iterator[dict[str, object]]:
        """Make what is missing, join the parts in order, and tell what is in each."""
        self.notes = self._joined()
        missing = [k for k in range(len(self.notes), self.n) if not self._is_finished(k)]
        if len(missing) < self.n:
            logger.info("Pairs.write: %s of %s parts are there already", f"{self.n - len(missing):,}", f"{self.n:,}")
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

    def _joined(self) -> list[dict[str, object]]:
        """Read notes of the parts that an earlier run has joined: their notes are there and they are not."""
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
        self._writer = pyarrow("parquet").ParquetWriter(path, _schema(), compression="zstd")

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, content: bytes) -> None:
        self._writer.write_table(pyarrow("parquet").read_table(pyarrow().BufferReader(content)))

    @property
    def sha256(self) -> str:
        return file_hash(self._path)


def _part(folder: Path, suffix: str, k: int) -> Path:
    return folder / f"{k:06d}{suffix}"


def _note(folder: Path, k: int) -> Path:
    return folder / f"{k:06d}.json"


def write_part(pairs: Pairs, folder: Path, suffix: str, size: int, k: int) -> None:
    """Write part ``k``, then its note."""
    templates: dict[str, dict[str, int]] = {}
    records = _noted(pairs[k * size : (k + 1) * size], k * size, templates)
    content = json_lines(records) if suffix == ".jsonl" else _table(records)
    n = sum(seen["pairs"] for seen in templates.values())
    note = {"pairs": n, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "templates": templates}
    commit(_part(folder, suffix, k), content)
    write_json(_note(folder, k), note)


def _noted(pairs: Pairs, start: int, templates: dict[str, dict[str, int]]) -> Iterator[Record]:
    """Make records of pairs; counts and lengths of each template are added up on the way."""
    for number, pair in enumerate(pairs, start):
        seen = templates.setdefault(pair.prompt.kind, {"pairs": 0, "characters": 0, "longest": 0, "longest_pair": 0})
        length = len(pair.prompt.text) + len(pair.answer)
        seen["version"] = pair.prompt.version
        seen["pairs"] += 1
        seen["characters"] += length
        if length > seen["longest"]:
            seen.update(longest=length, longest_pair=number)
        yield record_of(pair)


def json_lines(records: Iterator[Record]) -> bytes:
    encode = json.JSONEncoder(ensure_ascii=False).encode
    return "".join([encode(record) + "\n" for record in records]).encode()


def _table(records: Iterator[Record]) -> bytes:
    sink = pyarrow().BufferOutputStream()
    table = pyarrow().Table.from_pylist(list(records), _schema())
    pyarrow("parquet").write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _schema() -> object:
    text, number = pyarrow().string(), pyarrow().int32()
    return pyarrow().schema({name: number if name in {"version", "variant"} else text for name in FIELDS})


# ------------------------------------------------------------------------------------------------------- workers


@contextmanager
def _working(job: Job, n_workers: int, missing: list[int]) -> Iterator[Iterator[None]]:
    """Write the missing parts, here or in other processes; each step of the iterator is one more that is finished."""
    try:
        if n_workers == 1 or len(missing) < 2:
            yield (write_part(*job, k) for k in missing)
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
    """End with the parent: killed, it cannot end its workers, and they would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(k: int) -> None:
    write_part(*_job[0], k)
