"""Finished blocks of a long computation, kept in a folder so that an interrupted call goes on where it stopped."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np

logger = logging.getLogger("cellhermes")

# What numpy raises at a file that is no array: its head is read as Python, and it may be taken for an archive.
DAMAGED = (ValueError, EOFError, OSError, MemoryError, RecursionError, SyntaxError, TokenError, BadZipFile)


class Checkpoint:
    """A folder of numbered arrays that belong to one input.

    Parameters
    ----------
    folder
        Made if it is not there; None keeps nothing.
    about
        What the blocks depend on besides the texts: model, template, block size.
    texts
        What is computed; hashed, so that blocks of other data are not taken.
    """

    def __init__(self, folder: str | Path | None, about: Mapping[str, object], texts: Iterable[str]) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        digest = hashlib.sha256()
        for text in texts:
            digest.update(text.encode() + b"\0")
        stamp = {**about, "sha256_of_texts": digest.hexdigest()}
        self.folder.mkdir(parents=True, exist_ok=True)
        note = self.folder / "about.json"
        if not note.is_file():
            self._replace(note, json.dumps(stamp, indent=1).encode())
            return
        try:
            found = dict(json.loads(note.read_text("utf-8")))
        except (ValueError, TypeError, RecursionError) as error:
            msg = f"{note} is damaged ({error}). Pass a new folder, or delete this one to start again."
            raise ValueError(msg) from error
        if other := [key for key in sorted({*stamp, *found}) if stamp.get(key) != found.get(key)]:
            msg = (
                f"{self.folder} holds blocks of another run: {', '.join(other)} differ. "
                "Pass a new folder, or delete this one to start again."
            )
            raise ValueError(msg)

    def load(self, i: int) -> np.ndarray | None:
        """Block ``i`` if it is finished and whole."""
        if self.folder is None or not self._path(i).is_file():
            return None
        try:
            return np.load(self._path(i), allow_pickle=False)
        except DAMAGED as error:
            logger.warning("%s is damaged (%s) and is computed again.", self._path(i), error)
            return None

    def save(self, i: int, block: np.ndarray) -> None:
        """Keep block ``i``; it has its name only once it is whole."""
        if self.folder is None:
            return
        part = self._path(i).with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, block, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path(i))

    def _path(self, i: int) -> Path:
        return self.folder / f"{i:06d}.npy"

    @staticmethod
    def _replace(path: Path, content: bytes) -> None:
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.replace(path)
