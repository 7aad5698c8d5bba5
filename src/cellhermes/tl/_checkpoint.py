"""Finished blocks of a call whose result goes back to the caller, kept in a folder until that is saved."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np

from .._blocks import SHARD, Held, Keeper, Shard, Work, commit
from .._result import hashed

logger = logging.getLogger("cellhermes")

# What numpy raises at a file that is no array: its head is read as Python, and it may be taken for an archive.
DAMAGED = (ValueError, EOFError, OSError, MemoryError, RecursionError, SyntaxError, TokenError, BadZipFile)


@contextmanager
def checkpoint(
    folder: str | Path | None, about: Mapping[str, object], texts: Iterable[str], shard: Shard | None = None
) -> Iterator[Keeper[np.ndarray]]:
    """Keep numbered arrays that belong to one input.

    Parameters
    ----------
    folder
        Made if it is not there; None keeps them in memory.
    about
        What the blocks depend on besides the texts: model, template, block size.
    texts
        What is computed; hashed, so that blocks of other data are not taken.
    shard
        Which share of the blocks this process computes; None is all of them.
    """
    if folder is None:
        yield Held()
        return
    shard = shard or Shard()
    if shard.n > 1 and not shard.waits:
        msg = f"{SHARD} is set, but the result of this call is all rows; pass out= to a function that takes it."
        raise ValueError(msg)
    with Work(Path(folder), shard) as work:
        work.claim({**about, "sha256_of_texts": hashed(texts)})
        yield Arrays(work.folder)


class Arrays:
    """Arrays in the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, i: int) -> bool:
        if not self._path(i).is_file():
            return False
        try:
            np.load(self._path(i), mmap_mode="r", allow_pickle=False)
        except DAMAGED as error:
            logger.warning("%s is damaged (%s) and is computed again.", self._path(i), error)
            return False
        return True

    def load(self, i: int) -> np.ndarray:
        return np.load(self._path(i), allow_pickle=False)

    def save(self, i: int, block: np.ndarray) -> None:
        from io import BytesIO

        content = BytesIO()
        np.save(content, block, allow_pickle=False)
        commit(self._path(i), content.getvalue())

    def _path(self, i: int) -> Path:
        return self.folder / f"{i:06d}.npy"
