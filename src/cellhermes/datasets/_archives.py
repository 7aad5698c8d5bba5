"""One file of an archive: which of them the registry gives a name, and picking it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from fnmatch import translate
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from .. import _fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def archived(ending: str) -> dict[str, tuple[_fetch.Entry, str]]:
    """Files with names of their own in the registry's archives: the archive, and a pattern of the file's name."""
    entries = _fetch.registry()["data"].values()
    return {name: (entry, pattern) for entry in entries for name, pattern in entry.members.items() if ending in pattern}


def picked(entry: _fetch.Entry, pattern: str) -> tuple[Path, str]:
    """Archive of a data set, and the one file in it whose name matches (``*`` is anything)."""
    archive = _fetch.data_file(entry, entry.files[0], check=_fetch.members)
    held = _fetch.members(archive)
    matches = re.compile(translate(pattern), re.I).match
    names = [name for name in held if matches(PurePosixPath(name).name) and "__MACOSX" not in name]
    if len(names) != 1:
        listed = ", ".join(sorted(held)[:40])
        msg = f"{archive.name} has {len(names)} files that match {pattern!r}, expected one. It has: {listed}."
        raise ValueError(msg)
    return archive, names[0]


@contextmanager
def member(entry: _fetch.Entry, pattern: str) -> Iterator[Path]:
    """Open the one file of a data set's archive whose name matches, for as long as it is read."""
    archive, name = picked(entry, pattern)
    with _fetch.unpacked(archive, f"^{re.escape(name)}$") as (path,):
        yield path
