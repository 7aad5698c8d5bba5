"""Finished blocks of a call whose result goes back to the caller, kept in a folder until that is saved."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np

from .._blocks import SHARD, Held, Keeper, Shard, Work
from .._disk import check_space, commit
from .._hash import hashed

logger = logging.getLogger("cellhermes")

N = hashlib.sha256().digest_size


@contextmanager
def checkpoint(
    folder: str | Path | None,
    about: Mapping[str, object],
    texts: Iterable[str],
    shard: Shard | None = None,
    *,
    needed: int = 0,
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
    needed
        Bytes that will be written.
    """
    if folder is None:
        yield Held()
        return
    shard = shard or Shard()
    if shard.n > 1 and not shard.waits:
        msg = f"{SHARD} is set, but the result of this call is all rows; pass out= to a function that takes it."
        raise ValueError(msg)
    with Work(Path(folder), shard) as work:
        about = {**about, "sha256_of_texts": hashed(texts)}
        if not any(work.folder.glob("*.npy")):
            check_space(work.folder, needed)
        work.claim(about)
        yield Arrays(work.folder)


class Arrays:
    """Arrays in the files of a folder, each with its SHA-256 at its end, which numpy does not read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[int, bool] = {}  # which were looked at, and are whole

    def has(self, i: int) -> bool:
        if self._seen.get(i):
            return True
        if not self._path(i).is_file():
            return False
        content = self._path(i).read_bytes()
        is_whole = hashlib.sha256(content[:-N]).digest() == content[-N:]
        if not is_whole and i not in self._seen:
            logger.warning("%s is damaged and is computed again.", self._path(i))
        self._seen[i] = is_whole
        return is_whole

    def load(self, i: int) -> np.ndarray:
        return np.load(self._path(i), allow_pickle=False)

    def save(self, i: int, block: np.ndarray) -> None:
        file = BytesIO()
        np.save(file, block, allow_pickle=False)
        content = file.getvalue()
        commit(self._path(i), content + hashlib.sha256(content).digest())
        self._seen[i] = True

    def _path(self, i: int) -> Path:
        return self.folder / f"{i:06d}.npy"
