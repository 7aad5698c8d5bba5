"""What all readers of text share: a plain file, a gzip file or a member of a zip archive; its bytes, lines and fields.

A byte-order mark, ends of lines of Windows, blank lines, comments and delimiters at the end of a line say nothing and
are left out, everywhere in the same way.
"""

from __future__ import annotations

import gzip
import logging
import lzma
import struct
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from .._disk import BOM, parsed, zip_names

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path
    from typing import BinaryIO

logger = logging.getLogger("cellhermes")

# What gzip and zip files raise that are damaged, encrypted (RuntimeError), or packed in a way that is not known here.
DAMAGED = (EOFError, OSError, RuntimeError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
UTF16 = (b"\xff\xfe", b"\xfe\xff")
Row = tuple[int, list[bytes]]  # number of a line, from 1, and its fields


@contextmanager
def undamaged(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises, while it is read, into a ``ValueError`` that names it."""
    try:
        yield
    except DAMAGED as error:
        msg = f"{path} is damaged or not complete: {error}. Download it again."
        raise ValueError(msg) from error


@contextmanager
def unpacked(path: Path, member: str | None) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open the text of a file, behind a byte-order mark, and the file itself; damage is a ``ValueError``."""
    with path.open("rb") as raw, undamaged(path), _member(raw, path, member) as text:
        start = text.peek(3)[:3]
        if start[:2] in UTF16:
            msg = f"{path} is text in UTF-16; expected UTF-8. Save it as UTF-8, as Excel's 'CSV UTF-8' does."
            raise ValueError(msg)
        if b"\r" in (head := text.peek(3)) and b"\n" not in head:
            msg = f"{path} has ends of lines of old Macs (\\r); expected \\n. Save it as plain CSV or text in UTF-8."
            raise ValueError(msg)
        if start == BOM:
            text.read(3)
        yield text, raw


def lines(path: Path, member: str | None) -> Iterator[bytes]:
    """Read the lines of a file, with a progress bar."""
    size = path.stat().st_size
    with (
        unpacked(path, member) as (text, raw),
        tqdm(total=size, desc=path.name, unit="B", unit_scale=True, delay=2, leave=False) as bar,
    ):
        for number, line in enumerate(text):
            if not number % 2**16:
                bar.update(max(0, raw.tell() - bar.n))
            yield line


def rows(path: Path, sep: str, member: str | None) -> Iterator[Row]:
    """Read the fields of each line that says something; all lines must have as many as the first.

    Left out are blank lines, empty fields behind the last one, and comments: ``#`` and a blank, or ``#`` and another
    number of fields than the rest.
    """
    tab = sep.encode()
    least = most = 0
    for number, line in enumerate(lines(path, member), 1):
        fields = line.rstrip(b"\r\n").split(tab)
        if len(fields) == most and fields[0].strip() and not line.startswith(b"#"):  # nearly all lines
            yield number, fields
            continue
        is_comment = line.startswith(b"#") and (len(fields) == 1 if not least else len(fields) != most)
        if not any(field.strip() for field in fields) or is_comment or line.startswith(b"# "):
            continue
        if not least:
            least, most = len(_without_end(fields)), len(fields)
        if len(fields) > most and len(_without_end(fields)) <= most:
            fields = fields[:most]
        elif least <= len(fields) < most:
            fields += [b""] * (most - len(fields))
        if len(fields) != most:
            shown = line.decode("utf-8", "replace").rstrip()[:120]
            msg = f"{path}, line {number}: {len(fields)} columns, expected {most} as in line 1. Text: {shown!r}."
            raise ValueError(msg)
        yield number, fields
    if not least:
        msg = f"{path} is empty."
        raise ValueError(msg)


def records(path: Path, *, is_list: bool) -> Iterator[tuple[str, object]]:
    """Yield records of a JSON list, or of JSON lines, with where each stands."""
    if not is_list:
        return _record_lines(path)
    content = parsed(path.read_bytes(), path)
    if not isinstance(content, list):
        msg = f"{path} holds {type(content).__name__}; expected a list of records."
        raise ValueError(msg)
    return ((f"{path}, record {number}", record) for number, record in enumerate(content, 1))


def _record_lines(path: Path) -> Iterator[tuple[str, object]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = parsed(line, where)
            except ValueError as error:
                msg = f"{error}: {line[:120].decode('utf-8', 'replace')!r}."
                raise ValueError(msg) from None
            yield where, record


def is_symbol(text: object) -> bool:
    """Tell whether it is one word, as are ``NA``, ``NAN`` and ``1E5``, which other readers take for something else."""
    return isinstance(text, str) and len(text.split()) == 1 and text != "-" and "\ufffd" not in text


def told_of_na(path: str | Path, symbols: Container[str]) -> None:
    """Warn of a gene that R may have written for a missing one."""
    if "NA" in symbols:
        logger.warning("%s has a gene 'NA'. If that is R's missing value, leave these rows out of the file.", path)


def _without_end(fields: list[bytes]) -> list[bytes]:
    """Drop the empty fields at the end."""
    n = len(fields)
    while n and not fields[n - 1].strip():
        n -= 1
    return fields[:n]


def _member(raw: BinaryIO, path: Path, member: str | None) -> BinaryIO:
    magic = raw.read(4)
    raw.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(raw)
    if magic != b"PK\x03\x04":
        return raw
    with zip_names():
        archive = zipfile.ZipFile(raw)
    with zip_names():
        return archive.open(picked(archive, path, member))


def picked(archive: zipfile.ZipFile, path: Path, member: str | None) -> str:
    """Name a file of an archive: the one that is asked for, or the only one."""
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    if member is None and len(names) == 1:
        return names[0]
    if member not in names:
        msg = f"{path} has no file {member!r}" if member else f"{path} has {len(names)} files"
        msg += f". Pass one of them as member=: {', '.join(names)[:500]}."
        raise ValueError(msg)
    return member
