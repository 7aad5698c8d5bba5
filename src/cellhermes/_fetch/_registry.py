"""What can be downloaded by name: ``registry.toml`` becomes records. No network here."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from .._disk import packaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HASH = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}|git:[0-9a-f]{40}")
COMMIT = re.compile(r"[0-9a-f]{40}")
FIRST_USE = "first use"  # taken from what arrives, recorded, and checked ever after


@dataclass(frozen=True, slots=True)
class File:
    """One file of an entry.

    ``hash`` is ``"sha256:..."``, ``"md5:..."`` or ``"git:..."``, or says where one comes from: ``"zenodo"``, ``"hub"``,
    ``"first use"``. ``size`` is in bytes, 0 if not known. ``begins`` matches the first line of a text whose hash is not
    known.
    """

    name: str
    urls: tuple[str, ...]
    hash: str
    size: int = 0
    begins: str = ""

    @property
    def known(self) -> str:
        """The hash, ``""`` where only the download will tell."""
        return self.hash if HASH.fullmatch(self.hash) else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A data set or a repository of weights."""

    name: str
    description: str
    version: str
    license: str
    citation: str
    source: str
    files: tuple[File, ...]
    expects: Mapping[str, int | list[str]] = field(default_factory=dict)
    """Of a table of cells: ``n_obs`` and ``n_vars`` (0: not known), columns of ``obs``, ``layers``."""
    members: Mapping[str, str] = field(default_factory=dict)
    """Of an archive: name to pattern of a file in it."""
    commit: str = ""
    parent: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files, 0 if one is not known."""
        sizes = [file.size for file in self.files]
        return sum(sizes) if all(sizes) else 0


@cache
def registry() -> dict[str, dict[str, Entry]]:
    """Entries by kind (``"data"``, ``"model"``) and name."""
    table = packaged("registry.toml")
    return {kind: {name: _entry(name, raw) for name, raw in entries.items()} for kind, entries in table.items()}


def _entry(name: str, raw: Mapping[str, object]) -> Entry:
    held = tuple(File(**{**file, "urls": tuple(file["urls"])}) for file in raw["files"])
    return Entry(name=name, **{**raw, "files": held})


def find(kind: str, name: str) -> Entry:
    """Return an entry; an unknown name is an error that says which are known."""
    known = registry()[kind]
    if name not in known:
        raise ValueError(unknown("data set" if kind == "data" else "weights", name, known))
    return known[name]


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that there is no such name, which is meant perhaps, and which there are."""
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return f"No {what} {name!r}.{meant} Known: {', '.join(known)}."
