"""Members of zip and tar archives, to a folder that is removed afterwards. Archives are not trusted.

A name that leads out of the folder, a link, or sizes that no honest archive has are errors before anything is written.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .._disk import cache_folder, size_text, zip_names
from ._cache import check_space, writable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

LARGEST = 200 * 10**9  # bytes of all members together
RATIO = 300  # of unpacked to packed; text of one letter has 1,000, tables of counts about 20
SMALL = 50 * 10**6  # bytes up to which no ratio is suspicious
WINDOWS = os.name == "nt"
NO_FILE = re.compile(r"[:<>\"|?*\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d) *(\.|$)", re.I)  # for Windows


def members(archive: Path) -> dict[str, int]:
    """Sizes of the files of an archive by name; an archive that is not safe is a ValueError."""
    with opened_archive(archive) as opened:
        return {name: size for name, (_, size) in safe_members(archive, opened).items()}


@contextmanager
def unpacked(archive: Path, pattern: str = "") -> Iterator[list[Path]]:
    """Unpack the files whose name matches a regular expression, in the order of the archive, for a while."""
    with writable(), tempfile.TemporaryDirectory(dir=_scratch()) as folder, opened_archive(archive) as opened:
        held = {name: found for name, found in safe_members(archive, opened).items() if re.search(pattern, name, re.I)}
        check_space(Path(folder), sum(size for _, size in held.values()), archive.name)
        paths = []
        for name, (member, size) in held.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with _member(opened, member) as source, path.open("wb") as target:
                _copy(source, target, size, f"{archive.name}: {name}")
            paths.append(path)
        yield paths


def _scratch() -> Path:
    folder = cache_folder() / "unpacked"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def opened_archive(archive: Path) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    try:
        is_zip = zipfile.is_zipfile(archive)
        with _zip_file(archive) if is_zip else tarfile.open(archive) as opened:
            yield opened
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        msg = f"{archive} is damaged, or no archive: {str(error).splitlines()[0]}. Delete it to download it again."
        raise ValueError(msg) from error


def _zip_file(archive: Path) -> zipfile.ZipFile:
    with zip_names():
        return zipfile.ZipFile(archive)


def safe_members(
    archive: Path, opened: zipfile.ZipFile | tarfile.TarFile
) -> dict[str, tuple[zipfile.ZipInfo | tarfile.TarInfo, int]]:
    """Files of an archive by name, if all of them may be unpacked."""
    members: dict[str, tuple[zipfile.ZipInfo | tarfile.TarInfo, int]] = {}
    seen: dict[str, str] = {}  # names that are one file for Windows and macOS
    for member in opened.infolist() if isinstance(opened, zipfile.ZipFile) else opened.getmembers():
        is_zip = isinstance(member, zipfile.ZipInfo)
        name = member.filename if is_zip else member.name
        if member.is_dir() if is_zip else member.isdir():
            continue
        if problem := _problem(name, member):
            msg = f"{archive} is not unpacked: its member {name!r} {problem}."
            raise ValueError(msg)
        if (before := seen.setdefault(name.replace("\\", "/").casefold(), name)) in members:
            msg = f"{archive} is not unpacked: it has two members {before!r}"
            msg += "." if before == name else f" and {name!r}, which are one file on some systems."
            raise ValueError(msg)
        members[name] = (member, member.file_size if is_zip else member.size)
    total, packed = sum(size for _, size in members.values()), archive.stat().st_size
    if total > LARGEST or (total > SMALL and total > RATIO * packed):
        msg = f"{archive} is not unpacked: {size_text(packed)} would become {size_text(total)}."
        raise ValueError(msg)
    return members


def _problem(name: str, member: zipfile.ZipInfo | tarfile.TarInfo) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name) or "\0" in name or not path.parts:
        return "leads out of the folder"
    if WINDOWS and any(map(NO_FILE.search, path.parts)):
        return "is no name of a file on Windows"
    if isinstance(member, tarfile.TarInfo):
        return "" if member.isreg() else "is a link or a device"
    return "is a link" if (member.external_attr >> 16) & 0o170000 == 0o120000 else ""


def _member(opened: zipfile.ZipFile | tarfile.TarFile, member: zipfile.ZipInfo | tarfile.TarInfo) -> BinaryIO:
    with zip_names():
        return opened.open(member) if isinstance(opened, zipfile.ZipFile) else opened.extractfile(member)


def _copy(source: BinaryIO, target: BinaryIO, size: int, what: str) -> None:
    shutil.copyfileobj(source, target, 2**20)
    if target.tell() != size:
        msg = f"{what} has {target.tell():,} bytes, but is listed with {size:,}."
        raise ValueError(msg)
