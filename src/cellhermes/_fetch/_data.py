"""Data sets of the registry: their place in the cache, and how they get there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._disk import cache_folder, size_text
from . import _hosts
from ._cache import check_space, offline, recorded
from ._files import fetch
from ._kind import check_first_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ._registry import Entry, File

logger = logging.getLogger("cellhermes")


def place(entry: Entry, file: File) -> str:
    """Path of a file below the cache folder; the version is part of it, so that a newer one does not collide."""
    return f"data/{entry.name}/{entry.version}/{file.name}"


def data_file(entry: Entry, file: File, *, check: Callable[[Path], object] = lambda path: None) -> Path:
    """Download a file of a data set if it is not there; its licence is shown before that."""
    name = place(entry, file)
    path = cache_folder() / name
    known = file.known
    if not path.is_file() and not offline():
        announce(entry, file.name, file.size)
        if not known and not recorded(path) and file.hash == "zenodo":
            file = _of_record(entry, file)
            logger.warning("%s: its checksum (%s) comes from the record's own list.", file.name, file.hash)
            known = file.known
        check_space(path.parent, file.size - _arrived(path), file.name)
    advice = f"{entry.name} is described at {entry.source}."

    def check_all(new: Path) -> None:
        if file.begins and not known:
            check_first_line(new, file)
        check(new)

    return fetch(file.urls, name, known=known, size=file.size, check=check_all, advice=advice)


def _of_record(entry: Entry, file: File) -> File:
    try:
        return _hosts.of_zenodo(file)
    except (ConnectionError, ValueError) as error:
        msg = (
            f"{file.name} of {entry.name!r} was not downloaded, because its checksum could not be read ({error}). Call "
            f"again when Zenodo can be reached, or download it from {entry.source} and put it by hand as "
            f"`{cache_folder() / place(entry, file)}`."
        )
        raise (ConnectionError if isinstance(error, ConnectionError) else ValueError)(msg) from error


def data_files(entry: Entry) -> dict[str, Path]:
    """All files of a data set by name."""
    return {file.name: data_file(entry, file) for file in entry.files}


def _arrived(path: Path) -> int:
    part = path.with_name(path.name + ".part")
    return part.stat().st_size if part.is_file() else 0


def announce(entry: Entry, what: str, size: int = 0) -> None:
    """Say what is about to be downloaded, and under which licence."""
    amount = f" ({size_text(size)})" if size else ""
    logger.warning(
        "Downloading %s%s of %r. Licence: %s. Please cite: %s. More: %s", what, amount, entry.name, entry.license,
        entry.citation, entry.source,
    )  # fmt: skip


def derived(
    entry: Entry, url: str, name: str, size: int = 0, *, check: Callable[[Path], object] = lambda path: None
) -> Path:
    """Return a file that an index of the entry names."""
    from ._registry import FIRST_USE, File

    return data_file(entry, File(name, (url,), FIRST_USE, size), check=check)
