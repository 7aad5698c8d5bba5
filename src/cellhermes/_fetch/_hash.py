"""Hashes of whole files. A large file is read once: what was found is kept by its path, size, times and inode."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from secrets import token_hex
from typing import TYPE_CHECKING

from ._cache import cache_folder, file_hash

if TYPE_CHECKING:
    from pathlib import Path

SETTLED = 2.0  # seconds: a file that was written later than this before may be written again without a new time
LARGE = 1 << 26  # bytes from which a hash is kept on disk: others are read again sooner than one notices

_seen: dict[str, tuple[list[int], str]] = {}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, all of it; not read again by the same or another process while the file stays as it is.

    Whether it stayed is told by size, inode and the times of the last write and change, which nobody can set back. To
    read it in any case, take :func:`~cellhermes._fetch._cache.file_hash`.
    """
    path = path.resolve()
    state, name = _state(path), str(path)
    kept, found = _seen.get(name) or _read(path) or ([], "")
    if kept == state:
        _seen[name] = kept, found
        return found
    found = file_hash(path)
    if state == _state(path) and time.time_ns() - max(state[1:3]) > SETTLED * 1e9:
        _seen[name] = state, found
        if state[0] >= LARGE:
            _write(path, state, found)
    return found


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]


def _note(path: Path) -> Path:
    """File of our cache that keeps the hash of a file."""
    return cache_folder() / "hashes" / hashlib.sha256(str(path).encode()).hexdigest()[:32]


def _read(path: Path) -> tuple[list[int], str] | None:
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):  # there is none, or it is damaged
        held = json.loads(_note(path).read_text("utf-8"))
        if len(bytes.fromhex(held["sha256"])) == hashlib.sha256().digest_size:
            return held["state"], held["sha256"]
    return None


def _write(path: Path, state: list[int], found: str) -> None:
    note = _note(path)
    part = note.with_name(f"{note.name}.{token_hex(4)}.part")
    with suppress(OSError):  # a cache that may not be written costs time only
        note.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"file": str(path), "state": state, "sha256": found}), "utf-8", newline="\n")
        part.replace(note)
