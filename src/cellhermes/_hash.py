"""Hashes of what was read: texts, columns, rows of a matrix. Hashes of files are in ``_fetch``."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .text._cell import jit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scipy import sparse

# Steps and constants of XXH64 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md): each is a bijection of the state and of
# the word, so that one changed word is always seen. hashlib is too slow beside the writing of sentences.
PRIMES = np.array([0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F], np.uint64)


def hashed(texts: Iterable[object]) -> str:
    """SHA-256 of texts."""
    digest = hashlib.sha256()
    part: list[str] = []
    for text in texts:
        part.append(str(text))
        if len(part) == 4096:
            _update(digest, part)
            part.clear()
    _update(digest, part)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, texts: list[str]) -> None:
    """Add texts and where each ends."""
    digest.update("".join(texts).encode(errors="surrogatepass"))
    digest.update(np.fromiter(map(len, texts), np.int64, len(texts)))


def hashed_column(values: pd.Series) -> str:
    """SHA-256 of a column: its type, its values, and which are missing."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        parts = values.cat.codes.to_numpy(), hashed(values.cat.categories), values.cat.ordered
    elif isinstance(values.dtype, np.dtype) and values.dtype.kind in "biufcmM":
        parts = (values.to_numpy(),)
    else:
        missing = values.isna().to_numpy(bool)
        parts = missing, hashed(values.astype(object).where(~missing, ""))
    return _digest(values.dtype if len(parts) == 1 else "", *parts)


def hashed_rows(block: sparse.csr_matrix) -> str:
    """Hash of rows of a matrix: the length of each, the columns and the values as they are stored."""
    indices = block.indices.astype(np.int32, copy=False)
    ends = (np.asarray(block.indptr) - block.indptr[0]).astype(np.int64)
    return _digest(block.shape[1], block.dtype, ends, *map(_mixed, (indices, block.data)))


def total(digests: Iterable[str]) -> str:
    """One hash of those of blocks, in their order."""
    return hashed(digests)


def _digest(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        content = np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else str(part).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def _mixed(values: np.ndarray) -> np.ndarray:
    """Four words that stand for an array, and what is left behind its last 32 bytes."""
    whole = np.ascontiguousarray(values).view(np.uint8)
    n = len(whole) // 32 * 32
    state = _mix(whole[:n].view(np.uint64), PRIMES)
    return np.concatenate([state.view(np.uint8), whole[n:], np.array([len(whole)]).view(np.uint8)])


@jit
def _mix(words, primes):  # noqa: ANN001, ANN202
    a = b = c = d = np.uint64(0)
    p, q, up, down = primes[0], primes[1], np.uint64(31), np.uint64(33)
    i1, i2, i3, i4 = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)  # of another type, slower
    i = np.uint64(0)
    while i < np.uint64(len(words)):
        a += words[i] * q
        b += words[i + i1] * q
        c += words[i + i2] * q
        d += words[i + i3] * q
        a = ((a << up) | (a >> down)) * p
        b = ((b << up) | (b >> down)) * p
        c = ((c << up) | (c >> down)) * p
        d = ((d << up) | (d >> down)) * p
        i += i4
    return np.array([a, b, c, d])
