"""What is in the caches: which files belong to a name, whether they are still what they were, and removing them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd

from .._disk import cache_folder
from ._cache import NOTES, RECORD, difference, recorded
from ._registry import registry
from ._weights import ADAPTER, LOCK, adapter_folder, cached_base, lock_of, locked_files, read_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ._registry import Entry


def held_data(entry: Entry) -> list[Path]:
    """Files of a data set that are in the cache, also of other versions, without notes and halves."""
    folder = cache_folder() / "data" / entry.name
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(NOTES))


def held_weights(repository: str, commit: str = "") -> list[Path]:
    """Files of a repository that are in our cache or in the hub's."""
    lock = lock_of(repository)
    commit = commit or (read_lock(lock).commit if lock.is_file() else "")
    ours = [p for p in adapter_folder(repository).rglob("*") if p.is_file() and not p.name.endswith((*NOTES, LOCK))]
    base = cached_base(repository, commit)
    return sorted([*ours, *([p for p in base.rglob("*") if p.is_file()] if base else [])])


def is_held(repository: str, commit: str = "") -> bool:
    """Whether the weights of a repository need no download."""
    names = {path.name for path in held_weights(repository, commit)}
    return names >= {*ADAPTER} or "config.json" in names


def bundled(held: Mapping[str, Iterable[Path]]) -> list[Path]:
    """Files by name or repository together with the notes that make them complete on another machine."""
    paths = [path for paths in held.values() for path in paths]
    notes = [path.with_name(path.name + RECORD) for path in paths if path.is_relative_to(cache_folder())]
    notes += [lock_of(name) for name in held] if paths else []
    return list(dict.fromkeys([*paths, *(note for note in notes if note.is_file())]))


def state(path: Path, entry: Entry | None = None) -> str:
    """``"good"``, or what is wrong with a file, or that nothing is known of it."""
    known = next((f.known for f in entry.files if f.name == path.name and f.known), "") if entry else ""
    known = known or recorded(path) or locked_files(path).get(path.name, "") or _of_blob(path)
    if not known:
        return "no hash is known"
    how = difference(path, known)
    return f"changed: {how}" if how else "good"


def verified(held: Mapping[str, Iterable[Path]]) -> pd.DataFrame:
    """One row a file: the name it belongs to, its path, its bytes, and whether it is still what it was."""
    entries = registry()["data"]
    rows = [
        (name, str(path), path.stat().st_size, state(path, entries.get(name)))
        for name, paths in held.items()
        for path in paths
    ]
    return pd.DataFrame(rows, columns=["name", "file", "size", "state"])


def _of_blob(path: Path) -> str:
    """Hash of a file in the hub's cache, where it is a link to a file that is named by its hash."""
    name = path.resolve().name if path.is_symlink() else ""
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return f"sha256:{name}"
    return f"git:{name}" if re.fullmatch(r"[0-9a-f]{40}", name) else ""


def remove(paths: Iterable[Path]) -> int:
    """Delete files of our cache and return their bytes; recorded hashes stay, and hold for the next download."""
    freed = 0
    for path in paths:
        if not path.is_relative_to(cache_folder()):
            continue  # the hub's cache is shared with other programs
        freed += path.stat().st_size
        path.unlink()
    return freed


def remove_halves(folder: Path) -> None:
    """Delete what interrupted downloads left."""
    for path in folder.rglob("*"):
        if path.name.endswith((".part", ".part.etag")):
            path.unlink(missing_ok=True)
