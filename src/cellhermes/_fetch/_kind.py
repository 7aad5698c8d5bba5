"""Whether a file that arrives without a known hash can be what its name says, from its first bytes and its structure.

Hosts answer with login pages, with nothing, with half of a file. What is wrong here never becomes the recorded hash.
"""

from __future__ import annotations

import gzip
import re
import struct
import tarfile
import zlib
from pathlib import PurePath
from typing import TYPE_CHECKING

from .._disk import json_object
from ._unpack import members

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ._registry import File

MAGIC = {  # what a file begins with, by the end of its name
    ".h5ad": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    ".zip": (b"PK", "a zip archive"),
    ".gz": (b"\x1f\x8b", "a gzip file"),
}
TEXTS = {".csv", ".gmt", ".tsv", ".txt"}
BLOCK = 2**20


def check_kind(path: Path, name: str) -> None:
    """Raise ValueError if the content of ``path`` cannot be that of a whole file ``name``."""
    suffix = PurePath(name).suffix.lower()
    with path.open("rb") as file:
        start = file.read(BLOCK)
    if not start:
        msg = "what came is empty"
        raise ValueError(msg)
    magic, kind = MAGIC.get(suffix, (b"", f"a file {suffix}"))
    if _is_page(start) or not start.startswith(magic):
        what = "a web page (a login, an error?)" if _is_page(start) else f"something that begins with {start[:8]!r}"
        msg = f"what came is {what}; expected {kind}"
        raise ValueError(msg)
    if suffix in TEXTS:
        _check_text(start)
    elif suffix in CHECKS:
        CHECKS[suffix](path)


def check_first_line(path: Path, file: File) -> None:
    """Raise ValueError if a text does not begin as the registry says."""
    with gzip.open(path) if file.name.endswith(".gz") else path.open("rb") as opened:
        line = opened.readline(BLOCK).decode("utf-8", "replace").strip()
    if not re.fullmatch(file.begins, line):
        msg = f"its first line is {line[:60]!r}; expected one that matches {file.begins!r}"
        raise ValueError(msg)


def _is_page(start: bytes) -> bool:
    begins = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return begins.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--"))


def _check_text(start: bytes) -> None:
    if b"\0" in start or start.lstrip()[:1] in (b"", b"{", b"<"):
        msg = f"what came begins with {start[:40]!r}; expected a table or a list as text"
        raise ValueError(msg)


def _check_hdf5(path: Path) -> None:
    """Check that an HDF5 file ends where it says: HDF5 file format specification, section II.A."""
    with path.open("rb") as file:
        head = file.read(64)
    # version of the superblock to where its addresses begin: base, another one, end of file
    places = {0: (24, 13), 1: (28, 13), 2: (12, 9), 3: (12, 9)}
    first, width = places.get(head[8], (0, 0)) if len(head) == 64 else (0, 0)
    if not first or head[width] != 8:
        msg = "what came is no HDF5 file of a known version"
        raise ValueError(msg)
    (end,) = struct.unpack_from("<Q", head, first + 16)
    _check_length(path, end)


def _check_safetensors(path: Path) -> None:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
        if length > path.stat().st_size - 8:
            msg = "what came is no safetensors file, or the beginning of one"
            raise ValueError(msg)
        header = json_object(file.read(length), "the header of what came")
    try:
        ends = [tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__"]
        end = 8 + length + max(ends, default=0)
    except (KeyError, TypeError, IndexError) as error:
        msg = f"what came has no header of a safetensors file: {error!r}"
        raise ValueError(msg) from error
    _check_length(path, end)


def _check_json(path: Path) -> None:
    json_object(path.read_bytes(), "what came")


def _check_tar(path: Path) -> None:
    if not tarfile.is_tarfile(path):
        msg = "what came is no tar archive, or not the whole of one"
        raise ValueError(msg)
    members(path)


def _check_gzip(path: Path) -> None:
    try:
        with gzip.open(path) as file:
            start = file.read(BLOCK)
            while file.read(BLOCK):
                pass
    except (EOFError, OSError, zlib.error) as error:
        msg = f"what came is a gzip file that is not whole: {error}"
        raise ValueError(msg) from error
    if not start or _is_page(start):
        msg = f"what came is a gzip file of {'a web page (a login, an error?)' if start else 'nothing'}"
        raise ValueError(msg)


def _check_length(path: Path, end: int) -> None:
    if (size := path.stat().st_size) < end:
        msg = f"what came has {size:,} bytes, but says of itself that it has {end:,}"
        raise ValueError(msg)


CHECKS: dict[str, Callable[[Path], object]] = {
    ".gz": _check_gzip, ".h5ad": _check_hdf5, ".json": _check_json, ".safetensors": _check_safetensors,
    ".tar": _check_tar, ".zip": members,
}  # fmt: skip
