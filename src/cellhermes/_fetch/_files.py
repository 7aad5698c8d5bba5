"""A file of the cache by name: there and checked, or downloaded, checked and then put there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._disk import CACHE, cache_folder, file_hash
from ._cache import difference, locked, offline, record, recorded, writable
from ._download import download
from ._kind import check_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger("cellhermes")


def fetch(
    urls: str | Sequence[str],
    name: str,
    *,
    known: str = "",
    size: int = 0,
    check: Callable[[Path], object] = lambda path: None,
    advice: str = "",
    headers: Mapping[str, str] | None = None,
) -> Path:
    """Return the file ``name`` of the cache; where it is missing, download it from the first mirror that has it.

    Parameters
    ----------
    urls
        Address, or mirrors in their order.
    name
        Path below the cache folder.
    known
        Hash, as ``"sha256:..."``, ``"md5:..."`` or ``"git:..."``; without one it is recorded at the first use, of a
        file that can be what its name says.
    size
        In bytes, 0 if not known.
    check
        Reads a new file and raises ValueError if it is not what was asked for (servers answer errors with pages), so
        that nothing but good files is recorded.
    advice
        What works without the download.
    headers
        For the host of ``urls``, not for others that it redirects to.

    Raises
    ------
    ValueError
        If the file, or what a mirror gave, is another one than its hash says.
    ConnectionError
        If there is no network, or it may not be used, or no mirror has the file.
    OSError
        If the disk is full or the cache may not be written.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    path = cache_folder() / name
    if _is_there(path, known):
        return path
    if path.is_file() and _adopt(path, check):
        return path
    if how := offline():
        msg = (
            f"{path} is not there, and {how} forbids the network. Put it there by hand (from {urls[0]}), import a "
            f"bundle that another machine exported, or unset the variable. {advice}"
        )
        raise ConnectionError(msg.rstrip())
    with writable(), locked(name):
        if not _is_there(path, known):  # another process may have been faster
            _download(urls, path, known=known or recorded(path), size=size, check=check, advice=advice, headers=headers)
    return path


def _is_there(path: Path, known: str) -> bool:
    """Whether a file is there, and is the one that it was."""
    known = known or recorded(path)
    if not path.is_file() or not known:
        return False
    if how := difference(path, known):
        msg = f"`{path}` has changed: {how}. Delete it to download it again."
        raise ValueError(msg)
    return True


def _adopt(path: Path, check: Callable[[Path], object]) -> bool:
    """Take over a file that somebody put there and for which no hash is known, if it is what it should be."""
    try:
        check_kind(path, path.name)
        check(path)
    except ValueError:
        return False
    with writable():
        record(path, file_hash(path))
    logger.warning("`%s` was there without a recorded hash; its sha256 was recorded and holds from now on.", path)
    return True


def _download(
    urls: Sequence[str],
    path: Path,
    *,
    known: str,
    size: int,
    check: Callable[[Path], object],
    advice: str,
    headers: Mapping[str, str] | None,
) -> None:
    def compare(new: Path) -> None:
        if known and (how := difference(new, known)):
            msg = f"what it gives is another file: {how}"
            raise ValueError(msg)
        if not known:
            check_kind(new, path.name)
        check(new)

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    logger.info("Downloading %s.", urls[0])
    try:
        url = download(urls, part, check=compare, is_known=bool(known), size=size, headers=headers)
    except ConnectionError as error:
        msg = f"could not download {path.name} ({error}). Call again when it can be reached; what arrived is kept. "
        msg += f"Or put the file there by hand, as `{path}`. {advice}"
        raise ConnectionError(msg.rstrip()) from error
    except ValueError as error:
        first = known and recorded(path) == known
        hint = f" Delete `{path}.sha256` to accept another file; results may differ from earlier ones." if first else ""
        msg = f"The download of {path.name} did not give what was asked for: {error}.{hint} {advice}".rstrip()
        raise ValueError(msg) from error
    # First, so that no file is ever without one; also beside a hash that a host gave today and may not give tomorrow.
    record(path, known.removeprefix("sha256:") if known.startswith("sha256:") else file_hash(part))
    if not known:
        logger.warning(
            "No checksum of %s is published. Its sha256 was recorded in `%s.sha256` and is checked from now on.",
            path.name, path,
        )  # fmt: skip
    part.replace(path)
    part.with_name(part.name + ".etag").unlink(missing_ok=True)
    logger.info("Downloaded %s to `%s`. Set %s to keep such files elsewhere.", url, path, CACHE)
