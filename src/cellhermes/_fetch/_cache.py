"""Where downloads are kept, how a file is checked, and who may write. Knows neither hosts nor what files hold.

The hash of a file that has no published one is recorded when the file first arrives, in ``<file>.sha256`` beside it
(the format of ``sha256sum``), and holds from then on, also when the file is downloaded again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .. import _disk
from .._disk import CACHE, Lock, cache_folder, explained, file_hash, whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

logger = logging.getLogger("cellhermes")

OFFLINE = ("CELLHERMES_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # the last two are the model hub's own
OFF = {"", "0", "false", "no", "off"}
RECORD = ".sha256"
NOTES = (RECORD, ".part", ".part.etag")  # what stands beside a file


def offline() -> str:
    """Return the variable that forbids the network, ``""`` if none does."""
    values = {name: os.environ.get(name, "") for name in OFFLINE}
    return next((f"{name}={value}" for name, value in values.items() if value.strip().lower() not in OFF), "")


# ---- hashes of downloads


def recorded(path: Path) -> str:
    """Hash that was recorded for a file (``"sha256:..."``), ``""`` if none was."""
    record = path.with_name(path.name + RECORD)
    if not record.is_file():
        return ""
    digest = re.match(rb"[0-9a-f]{64}\b", record.read_bytes())
    if not digest:
        msg = f"{record} is damaged: it does not begin with a SHA-256. Delete it and {path.name}, and download again."
        raise ValueError(msg)
    return f"sha256:{digest[0].decode()}"


def record(path: Path, digest: str) -> None:
    """Write down the SHA-256 of a file."""
    with whole(path.with_name(path.name + RECORD)) as new:
        new.write_text(f"{digest}  {path.name}\n", "utf-8", newline="\n")


def difference(path: Path, known: str) -> str:
    """How a file differs from its hash, with both; ``""`` if it does not."""
    kind, _, expected = known.partition(":")
    digest = file_hash(path, kind)
    return "" if digest == expected else f"its {kind} is {digest}, but was {expected}"


# ---- writing


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time; the others wait. A process that dies lets go."""
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / hashlib.blake2b(name.encode(), digest_size=12).hexdigest())
    if not lock.acquire(0.1):
        logger.warning("Another process is getting %s; waiting for it.", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def writable() -> AbstractContextManager[None]:
    """Errors of a cache that is full or may not be written say what to do."""
    return explained(
        cache_folder(),
        f"Set {CACHE} to a folder of yours.",
        f"Free some and call again, the download goes on where it stopped; or set {CACHE} to a folder on another disk.",
    )


def check_space(folder: Path, needed: int, what: str) -> None:
    """Whether a cache has room, before anything moves."""
    _disk.check_space(folder, needed, what, f"set {CACHE} (HF_HOME for models of the hub) to a folder on another disk")
