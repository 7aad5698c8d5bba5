"""Cell sentences as numbers of words, and hashes of what is read of cells."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from ..._adata import Column


@dataclass(frozen=True)
class Sentences:
    """Sentences as numbers of words, so that millions of them are small and shared between processes."""

    words: np.ndarray
    """The words, each once (object)."""
    ids: np.ndarray
    """Numbers of the words of all sentences, one sentence after another."""
    first: np.ndarray
    """Where each sentence begins in ``ids``, and the end of the last."""


@dataclass(frozen=True)
class Written:
    """What is written for each cell, made when it is read."""

    texts: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, cells: slice) -> np.ndarray:
        return self.texts[self.codes[cells]]


def numbered(column: Column) -> Sentences:
    number = defaultdict(count().__next__)
    lengths, parts = [np.zeros(1, np.int64)], []
    for start in range(0, len(column), 4096):
        sentences = [s.split() if isinstance(s, str) else [] for s in column[start : start + 4096]]
        lengths.append(np.array([len(words) for words in sentences], np.int64))
        ids = np.fromiter(map(number.__getitem__, chain.from_iterable(sentences)), np.int32)
        parts.append(ids.astype(np.min_scalar_type(len(number))))
    ids = np.concatenate(parts) if parts else np.empty(0, np.uint8)
    return Sentences(np.array(list(number), object), ids, np.cumsum(np.concatenate(lengths)))


def values_sha256(*columns: pd.Index | np.ndarray | Column | Written) -> str:
    """Hash the values (SHA-256), one on each line."""
    digest = hashlib.sha256()
    for values in columns:
        for start in range(0, len(values), 4096):
            digest.update("\n".join([*map(str, values[start : start + 4096]), ""]).encode())
        digest.update(b"\0")
    return digest.hexdigest()
