"""Where downloads are kept, how a file is checked, and who may write. Knows neither hosts nor what files hold.

The hash of a file that has no published one is recorded when the file first arrives, in ``<file>.sha256`` beside it
(the format of ``sha256sum``), and holds from then on, also when the file is downloaded again.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("cellhermes")

FOLDER = "CELLHERMES_CACHE"  # environment variable
OFFLINE = ("CELLHERMES_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # the last two are the model hub's own
RECORD = ".sha256"
NOTES = (RECORD, RECORD + ".new", ".part", ".part.etag")  # what stands beside a file


def cache_folder() -> Path:
    """Where downloads are kept: ``$CELLHERMES_CACHE``, or the cache folder that the system gives to programs."""
    import pooch

    return Path(os.environ.get(FOLDER) or pooch.os_cache("cellhermes")).expanduser()


def offline() -> str:
    """The variable that forbids the network, ``""`` if none does."""
    return next((f"{name}={os.environ[name]}" for name in OFFLINE if _is_on(os.environ.get(name, ""))), "")


def _is_on(value: str) -> bool:
    return value.strip().lower() not in {"", "0", "false", "no", "off"}


def size_text(size: int) -> str:
    """Bytes as people read them."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:,.0f} {unit}" if unit == "B" or value >= 100 else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError


# ---- hashes


def file_hash(path: Path, kind: str = "sha256") -> str:
    """Hash of a file: ``"sha256"``, ``"md5"``, or ``"git"``, as the model hub gives it for small files."""
    if kind != "git":
        import pooch

        return pooch.file_hash(str(path), alg=kind)
    hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            hasher.update(block)
    return hasher.hexdigest()


def recorded(path: Path) -> str:
    """Hash that was recorded for a file (``"sha256:..."``), ``""`` if none was."""
    record = path.with_name(path.name + RECORD)
    if not record.is_file():
        return ""
    found = re.match(rb"[0-9a-f]{64}\b", record.read_bytes())
    if not found:
        msg = f"{record} is damaged: it does not begin with a SHA-256. Delete it and {path.name}, and download again."
        raise ValueError(msg)
    return f"sha256:{found[0].decode()}"


def record(path: Path, digest: str) -> None:
    """Write down the SHA-256 of a file."""
    new = path.with_name(path.name + RECORD + ".new")
    new.write_text(f"{digest}  {path.name}\n", "utf-8", newline="\n")
    new.replace(path.with_name(path.name + RECORD))


def difference(path: Path, known: str) -> str:
    """How a file differs from its hash, with both; ``""`` if it does not."""
    kind, _, expected = known.partition(":")
    found = file_hash(path, kind)
    return "" if found == expected else f"its {kind} is {found}, but was {expected}"


# ---- writing


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time; the others wait. A process that dies lets go."""
    from filelock import FileLock, Timeout

    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / hashlib.blake2b(name.encode(), digest_size=12).hexdigest())
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        logger.warning("Another process is getting %s; waiting for it.", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writable() -> Iterator[None]:
    """Errors of a cache that is full or may not be written say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            msg = f"The cache {cache_folder()} may not be written ({error}). Set {FOLDER} to a folder of yours."
            raise PermissionError(error.errno, msg) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            msg = (
                f"No space is left in the cache {cache_folder()}. Free some and call again, the download goes on where "
                f"it stopped; or set {FOLDER} to a folder on another disk."
            )
            raise OSError(error.errno, msg) from error
        raise


def check_space(needed: int, folder: Path, what: str) -> None:
    """Whether a folder has room, before anything moves."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = (
            f"{what} needs {size_text(needed)}, but {folder} has {size_text(free)} left. Free some, or set {FOLDER} "
            "(HF_HOME for models of the hub) to a folder on another disk."
        )
        raise OSError(msg)
