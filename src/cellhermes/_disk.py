"""Files on a disk: written whole or not at all, locked, hashed and read, with errors that say what to do.

The ground floor of all that writes or checks a file. Knows not what files hold.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import time
import tomllib
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Literal
from zipfile import BadZipFile

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("cellhermes")

CACHE = "CELLHERMES_CACHE"  # environment variable
BOM = b"\xef\xbb\xbf"
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)
SETTLED = 2.0  # seconds: a file that was written later than this before may be written again without a new time
LARGE = 1 << 26  # bytes from which a hash is kept on disk: others are read again sooner than one notices

_seen: dict[str, tuple[list[int], str]] = {}


def cache_folder() -> Path:
    """Where downloads are kept: ``$CELLHERMES_CACHE``, or the cache folder that the system gives to programs."""
    import pooch

    return Path(os.environ.get(CACHE) or pooch.os_cache("cellhermes")).expanduser()


# ---- reading


def parsed(content: bytes, where: object, kind: Literal["JSON", "TOML"] = "JSON") -> object:
    """Read a text in JSON or TOML; anything else is a ``ValueError`` that begins with ``where``."""
    try:
        text = content.removeprefix(BOM).decode()
        return json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also bytes that are no UTF-8, and brackets without end
        msg = f"{where} is not {kind}: {error}"
        raise ValueError(msg) from error


def json_object(content: bytes, where: object) -> dict:
    """Read an object in JSON; anything else is a ``ValueError`` that begins with ``where``."""
    value = parsed(content, where)
    if not isinstance(value, dict):
        msg = f"{where} holds {type(value).__name__}; expected a JSON object"
        raise ValueError(msg)
    return value


def packaged(place: str) -> dict:
    """Read a TOML file of the package."""
    return tomllib.loads((files("cellhermes") / place).read_text("utf-8"))


def noted(path: Path) -> dict:
    """Read the JSON object in a file; empty where there is none or half of one."""
    try:
        return json_object(path.read_bytes(), path)
    except (OSError, ValueError):
        return {}


@contextmanager
def zip_names() -> Iterator[None]:
    """While an archive, or a member of it, is opened: a name that cannot be decoded is damage like any other.

    The standard library lets a bare ``UnicodeDecodeError`` out.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        msg = f"the name of a member is no text: {error.object[:80]!r}"
        raise BadZipFile(msg) from error


# ---- writing


@contextmanager
def whole(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give another name to write a file under, so that it is whole under its own, whatever happens.

    Without ``sync``, it survives the end of the process, but not that of the machine.
    """
    part = path.with_name(f"{path.name}.{token_hex(4)}.part")
    try:
        yield part
        if sync:
            flush(part)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def commit(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file, whole or not at all; see :func:`whole`."""
    with explained(path.parent), whole(path, sync=sync) as part:
        part.write_bytes(content)


def write_json(path: Path, content: object, *, sync: bool = True) -> None:
    """Write JSON, whole or not at all."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    commit(path, text.encode(errors="backslashreplace"), sync=sync)  # halves of characters become \udXXX, as in JSON


def flush(*paths: Path) -> None:
    """Wait until files and folders are on the disk; else a power failure could leave a name with nothing behind it."""
    for path in paths:
        if path.is_file() or os.name == "posix":  # Windows flushes files only, and those that may be written
            number = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)


@contextmanager
def explained(
    where: Path,
    refused: str = "Pass the path of a folder of yours.",
    full: str = "Finished blocks are kept: free some space and call again, and the computation goes on where it "
    "stopped.",
) -> Iterator[None]:
    """Errors of a disk that is full or may not be written say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in REFUSED:
            msg = f"{where} may not be written ({error}). {refused}"
            raise PermissionError(error.errno, msg) from error
        if error.errno in FULL:
            msg = f"No space is left for {where}. {full}"
            raise OSError(error.errno, msg) from error
        raise


def check_space(folder: Path, needed: int, what: str = "", elsewhere: str = "write to another disk") -> None:
    """Refuse to begin what has no room."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        needs = f"{what} needs {size_text(needed)}" if what else f"{size_text(needed)} are to be written"
        msg = f"{needs}, but {folder} has {size_text(free)} left. Free some, or {elsewhere}."
        raise OSError(msg)


def size_text(size: int) -> str:
    """Bytes as people read them."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:,.0f} {unit}" if unit == "B" or value >= 100 else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError


class Lock:
    """A lock of a file; on a file system that has none, it is granted with a warning."""

    def __init__(self, path: Path) -> None:
        from filelock import FileLock

        self._lock = FileLock(path)

    def acquire(self, seconds: float = -1) -> bool:
        """Wait for it, so many seconds or until it is free; whether it is ours now."""
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=seconds)
        except Timeout:
            return False
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise
            logger.warning("%s: no locks on this file system; start one process only.", self._lock.lock_file)
        return True

    def release(self) -> None:
        self._lock.release()


# ---- hashes


def json_hash(content: object) -> str:
    """SHA-256 of what JSON can hold, whatever the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path, kind: str = "sha256") -> str:
    """Hash of a file: ``"sha256"``, ``"md5"``, or ``"git"``, as the model hub gives it for small files."""
    head = f"blob {path.stat().st_size}\0".encode() if kind == "git" else b""
    digest = hashlib.new("sha1" if kind == "git" else kind, head, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, all of it; not read again by the same or another process while the file stays as it is.

    Whether it stayed is told by size, inode and the times of the last write and change, which nobody can set back. To
    read it in any case, take :func:`file_hash`.
    """
    path = path.resolve()
    state, name = _state(path), str(path)
    note = cache_folder() / "hashes" / hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    kept, sha256 = _seen.get(name) or _kept(note)
    if kept == state:
        _seen[name] = kept, sha256
        return sha256
    sha256 = file_hash(path)
    if state == _state(path) and time.time_ns() - max(state[1:3]) > SETTLED * 1e9:
        _seen[name] = state, sha256
        if state[0] >= LARGE:
            with suppress(OSError):  # a cache that may not be written costs time only
                note.parent.mkdir(parents=True, exist_ok=True)
                write_json(note, {"file": name, "state": state, "sha256": sha256}, sync=False)
    return sha256


def is_as_written(path: Path, *hashes: str | None) -> bool:
    """Whether a path is a file, and no link to one, with one of these hashes."""
    return path.is_file() and not path.is_symlink() and sha256_of(path) in hashes


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]


def _kept(note: Path) -> tuple[list[int], str]:
    """State and hash of a file that another process has read, if that is known."""
    with suppress(ValueError, KeyError, TypeError):
        held = noted(note)
        if len(bytes.fromhex(held["sha256"])) == hashlib.sha256().digest_size:
            return held["state"], held["sha256"]
    return [], ""
