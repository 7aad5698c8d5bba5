"""From values and symbols to cell sentences: which genes stand in front, and in which order.

The order is fixed by the values of one cell alone: falling value, zeros left out, ties by a hash of the symbol.
Everything here is arrays and strings; sparse rows are read in place, never as a dense matrix.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar

import numba
import numpy as np
from numba.extending import overload
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Matrix = sparse.spmatrix | sparse.sparray | np.ndarray

T = TypeVar("T")

ROWS_PER_TASK = 256  # rows that a thread ranks at once; their keys stay in its cache
# Not numba.get_num_threads(): it starts numba's own threads, and with them resets how many OpenMP gives to torch.
MAX_THREADS = numba.config.NUMBA_NUM_THREADS
SAMPLE = 128  # values of a row that are looked at to guess how high its first genes stand


class BadValueError(ValueError):
    """A stored value that has no place in a ranking: negative, NaN or infinite."""

    def __init__(self, row: int, column: int, value: float) -> None:
        super().__init__(row, column, value)  # what it is made from again, in another process
        self.row, self.column, self.value = row, column, value

    def __str__(self) -> str:
        return f"value {self.value:g} at row {self.row}, column {self.column}; expected finite values >= 0."


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a matrix' columns, prepared for ranking and writing; made by :func:`vocabulary`."""

    rank: np.ndarray
    """Place of each column in the order of ties, -1 for a column that is not in the mask. int32."""
    column: np.ndarray
    """The column at each place: the inverse of ``rank``. int32."""
    letters: np.ndarray
    """UTF-8 bytes of the symbols in the order of ties, each with a blank behind it: eight in a uint64, lowest first."""
    first: np.ndarray
    """Where each symbol begins in ``letters``, and the end of the last. uint32."""
    length: np.ndarray
    """Number of bytes of each symbol with its blank. uint32."""


def vocabulary(symbols: Sequence[str], mask: np.ndarray | None = None, *, order: int = 0) -> Vocabulary:
    """Prepare the symbols of the columns; ``mask`` says which columns may stand in a sentence (default: all).

    Ties are ordered by ``blake2b(symbol, digest_size=8)``, read as a big-endian integer, smaller first: an order
    that depends neither on the alphabet nor on the place of the column. That is ``order`` 0, and 1 is its reverse: of
    both, the mean place of a gene within its tie is the middle. 2 and 3 are another order and its reverse, by the same
    hash with ``salt=bytes([1])``, and so on.
    """
    salt = (order // 2).to_bytes(8, "little")  # of zeros only, it is none
    columns = np.arange(len(symbols)) if mask is None else np.flatnonzero(mask)
    words = [symbols[c].encode() for c in columns]
    digests = b"".join(blake2b(word, digest_size=8, salt=salt).digest() for word in words)
    by_hash = np.argsort(np.frombuffer(digests, dtype=">u8"), kind="stable")[:: -1 if order % 2 else 1]
    rank = np.full(len(symbols), -1, np.int32)
    rank[columns[by_hash]] = np.arange(len(by_hash))
    words = [words[i] + b" " for i in by_hash]
    length = np.array([len(word) for word in words], np.uint32)
    first = np.cumsum([0, *(length + 7) // 8]).astype(np.uint32)
    eights = b"".join(word + bytes(-len(word) % 8) for word in words)
    return Vocabulary(
        rank, columns[by_hash].astype(np.int32), np.frombuffer(eights, "<u8").astype(np.uint64), first, length
    )


def ranked_genes(matrix: Matrix, vocabulary: Vocabulary, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Genes of each row in the order of its sentence, as columns of the matrix.

    Parameters
    ----------
    matrix
        Cells x genes: scipy sparse (CSR is read in place, other formats are converted) or a dense array.
    vocabulary
        The columns that may be named and their order of ties.
    n_genes
        At most so many genes a row.

    Returns
    -------
    The columns (rows x ``n_genes``, int32, filled up with -1) and the number of genes of each row.
    """
    parts = _over_rows(matrix, vocabulary, n_genes, lambda keys: _ranks(keys, n_genes))
    ranks = np.concatenate([np.empty((0, n_genes), np.int32), *parts])
    columns = np.append(vocabulary.column, np.int32(-1))  # rank -1, no gene, is the last entry
    return columns[ranks], np.count_nonzero(ranks >= 0, axis=1)


def cell_sentences(matrix: Matrix, vocabulary: Vocabulary, n_genes: int) -> list[str]:
    """Symbols of the genes of each row, joined by one blank; a row without genes gives ``""``.

    Parameters
    ----------
    matrix, vocabulary, n_genes
        As in :func:`ranked_genes`.

    Examples
    --------
    >>> import numpy as np
    >>> from cellhermes.text._cell import cell_sentences, vocabulary
    >>> cell_sentences(np.array([[1.0, 3.0, 0.0], [0.0, 0.0, 0.0]]), vocabulary(["CD3E", "MALAT1", "CD8A"]), 100)
    ['MALAT1 CD3E', '']
    """

    def write(keys: np.ndarray) -> list[str]:
        letters, ends = _write(_ranks(keys, n_genes), vocabulary.letters, vocabulary.first, vocabulary.length, 0)
        text, ends = memoryview(letters), ends.tolist()
        return [str(text[a : max(a, b - 1)], "utf-8") for a, b in zip([0, *ends], ends, strict=False)]

    n_genes = min(n_genes, len(vocabulary.rank))
    return [sentence for part in _over_rows(matrix, vocabulary, n_genes, write) for sentence in part]


def tied_shares(matrix: Matrix, vocabulary: Vocabulary, n_genes: int) -> np.ndarray:
    """Share of each row's words that the order of ties decides: where they stand, or whether they do.

    These are the words whose value another gene of the row has, too, be it in the sentence or behind its end.

    Parameters
    ----------
    matrix, vocabulary, n_genes
        As in :func:`ranked_genes`.

    Returns
    -------
    (rows,) float64; NaN for a row without genes.

    Examples
    --------
    >>> import numpy as np
    >>> from cellhermes.text._cell import tied_shares, vocabulary
    >>> tied_shares(np.array([[3.0, 1.0, 1.0]]), vocabulary(["CD3E", "MALAT1", "CD8A"]), 2).tolist()
    [0.5]
    """
    n_genes = min(n_genes, len(vocabulary.rank))

    def share(keys: np.ndarray) -> np.ndarray:
        keys = keys[:, : n_genes + 1]  # the first gene behind the end may be tied with the last word
        values = keys.real if keys.dtype.kind == "c" else keys >> np.uint64(32)
        is_gene = _ranks(keys, n_genes + 1)[:, : keys.shape[1]] >= 0
        is_tied = np.zeros_like(is_gene)
        is_tied[:, 1:] = is_gene[:, 1:] & (values[:, 1:] == values[:, :-1])
        is_tied[:, :-1] |= is_tied[:, 1:]
        with np.errstate(invalid="ignore"):
            return is_tied[:, :n_genes].sum(axis=1) / is_gene[:, :n_genes].sum(axis=1)

    return np.concatenate([np.empty(0), *_over_rows(matrix, vocabulary, n_genes + 1, share)])


def encoded_sentences(matrix: Matrix, vocabulary: Vocabulary, n_genes: int) -> tuple[np.ndarray, int]:
    """Sentences as bytes, without making strings, which hold the interpreter's lock: call it in threads.

    Parameters
    ----------
    matrix, vocabulary, n_genes
        As in :func:`ranked_genes`.

    Returns
    -------
    The sentences in UTF-8 (uint8), each behind its length as four bytes, lowest first; and how many are empty.
    """
    indptr, indices, values = _csr_arrays(matrix)
    n_genes = min(n_genes, len(vocabulary.rank))
    parts, n_empty = [np.empty(0, np.uint8)], 0
    for first in range(0, len(indptr) - 1, ROWS_PER_TASK):
        rows = indptr[first : first + ROWS_PER_TASK + 1]
        ranks = _ranks(_first_keys(rows, indices, values, vocabulary.rank, n_genes, first), n_genes)
        letters, ends = _write(ranks, vocabulary.letters, vocabulary.first, vocabulary.length, 4)
        parts.append(letters[: ends[-1]])
        n_empty += int((ranks[:, 0] < 0).sum())
    return np.concatenate(parts), n_empty


def _over_rows(matrix: Matrix, vocabulary: Vocabulary, n_genes: int, task: Callable[[np.ndarray], T]) -> list[T]:
    """Rank blocks of rows and hand the keys of each to ``task``, in threads: the kernels do not hold the GIL."""
    indptr, indices, values = _csr_arrays(matrix)

    def run(first: int) -> T:
        rows = indptr[first : first + ROWS_PER_TASK + 1]
        return task(_first_keys(rows, indices, values, vocabulary.rank, n_genes, first))

    firsts = range(0, len(indptr) - 1, ROWS_PER_TASK)
    workers = min(MAX_THREADS, len(firsts))
    if workers <= 1:
        return [run(first) for first in firsts]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, firsts))


def _first_keys(
    rows: np.ndarray, indices: np.ndarray, values: np.ndarray, rank: np.ndarray, n_genes: int, first_row: int
) -> np.ndarray:
    """Keys of the genes of some rows in the order of their sentences, ``n_genes`` or all that there are, or more."""
    by_bits = values.dtype == np.uint32
    # Room for more keys than genes: numpy sorts some hundred integers faster than the best of them can be chosen.
    width = min(int(np.diff(rows).max()), 4 * n_genes if by_bits else n_genes)
    keys = np.full((len(rows) - 1, width), np.uint64(2**64 - 1) if by_bits else complex(np.inf, -1))
    limits = _limits(rows, indices, values, rank, n_genes)
    bad = _select(rows, indices, values, rank, limits, n_genes, keys)
    if bad >= 0:
        row = first_row + int(np.searchsorted(rows, bad, side="right")) - 1
        value = values[bad : bad + 1].view(np.float32 if by_bits else np.float64)[0]
        raise BadValueError(row, int(indices[bad]), float(value))
    keys.sort(axis=1)
    return keys


def _ranks(keys: np.ndarray, n_genes: int) -> np.ndarray:
    """Ranks of the first genes of each row, filled up with -1."""
    first = keys[:, :n_genes]
    ranks = np.full((len(keys), n_genes), -1, np.int32)
    ranks[:, : first.shape[1]] = first.imag if keys.dtype.kind == "c" else first.astype(np.uint32).view(np.int32)
    return ranks


def _limits(rows: np.ndarray, indices: np.ndarray, values: np.ndarray, rank: np.ndarray, n_genes: int) -> np.ndarray:
    """Guess for each row a value that somewhat more than ``n_genes`` genes of the mask reach, from a sample of the row.

    A wrong guess costs time only: a row with too few genes is read again.
    """
    sample = _sample(rows, indices, values, rank, SAMPLE)
    sample.sort(axis=1)
    expected = n_genes * SAMPLE / np.maximum(np.diff(rows), 1)  # values of the sample that belong to the first genes
    place = np.ceil(expected + 2 * np.sqrt(expected) + 1).astype(np.int64)
    limits = sample[np.arange(len(sample)), np.maximum(SAMPLE - place, 0)]
    return np.where(place <= SAMPLE, limits, values.dtype.type(0))


def _csr_arrays(matrix: Matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row pointers, columns, and the values: float64, or the bits of float32 where float32 holds them exactly."""
    csr = matrix if sparse.issparse(matrix) and matrix.format == "csr" else sparse.csr_array(matrix)
    if not csr.has_canonical_format:  # an entry may be stored in parts: sum them, but not in the caller's matrix
        csr = csr.copy()
        csr.sum_duplicates()
    indptr, indices = csr.indptr.astype(np.int64, copy=False), csr.indices.astype(np.int32, copy=False)
    values = csr.data
    if values.dtype.kind not in "biuf":
        msg = f"values of type {values.dtype} cannot be ranked: expected numbers (bool, integer or floating point)."
        raise TypeError(msg)
    if not np.can_cast(values.dtype, np.float32):
        values = values.astype(np.float64, copy=False)
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        if not np.array_equal(single, values):
            return indptr, indices, values
        values = single
    return indptr, indices, values.astype(np.float32, copy=False).view(np.uint32)


def jit(function: Callable) -> Callable:
    """Compile on first use and keep the machine code, unless no folder can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba finds no place for its cache
        return numba.njit(nogil=True)(function)


# The kernels compare keys; the smaller key stands in front. For float32 a key is one uint64: the inverted bits of the
# value (bits of floats >= 0 sort as the floats do) above the rank in ties. For float64 it is a complex number, which
# numpy sorts by the real part, the negative value, and then by the imaginary part, the rank.


def _key(value, rank):  # noqa: ANN001, ANN202
    raise NotImplementedError


@overload(_key)
def _(value, rank):  # noqa: ANN001, ANN202
    if isinstance(value, numba.types.Float):
        return lambda value, rank: complex(-value, rank)
    return lambda value, rank: (np.uint64(0x7FFFFFFF - (value & 0x7FFFFFFF)) << np.uint64(32)) | np.uint64(rank)


def _is_bad(value):  # noqa: ANN001, ANN202
    raise NotImplementedError


@overload(_is_bad)
def _(value):  # noqa: ANN001, ANN202
    if isinstance(value, numba.types.Float):
        return lambda value: not 0 <= value < np.inf
    return lambda value: (value >= 0x7F800000) & (value != 0x80000000)  # from infinity on, without -0.0


@jit
def _before(a, b):  # noqa: ANN001, ANN202
    return (a.real < b.real) | ((a.real == b.real) & (a.imag < b.imag))


@jit
def _sample(rows, indices, values, rank, size):  # noqa: ANN001, ANN202
    """Values at even distances in each row; zero for those outside the mask."""
    sample = np.zeros((len(rows) - 1, size), values.dtype)
    for row in range(len(sample)):
        n = np.uint64(rows[row + 1] - rows[row])
        for i in range(np.uint64(size) if n else np.uint64(0)):
            j = np.uint64(rows[row]) + i * n // np.uint64(size)
            if rank[np.uint32(indices[j])] >= 0:
                sample[row, i] = values[j]
    return sample


@jit
def _select(rows, indices, values, rank, limits, n_genes, keys):  # noqa: ANN001, ANN202
    """Put the smallest keys of each row into ``keys``, unsorted; return where the first bad value is, or -1."""
    longest = 0
    for row in range(len(limits)):
        longest = max(longest, rows[row + 1] - rows[row])
    positions = np.empty(longest + 1, np.uint64)
    candidates = np.empty(longest + 1, keys.dtype)
    nothing = values.dtype.type(0)
    for row in range(len(limits)):
        n, is_bad = _at_least(limits[row], values, rows[row], rows[row + 1], positions)
        if is_bad:
            for j in range(rows[row], rows[row + 1]):
                if _is_bad(values[j]):
                    return j
        n = _keys_of(positions[:n], indices, values, rank, candidates)
        if n < n_genes and limits[row] > nothing:  # the limit was too high
            n, _ = _at_least(nothing, values, rows[row], rows[row + 1], positions)
            n = _keys_of(positions[:n], indices, values, rank, candidates)
        if n > keys.shape[1]:
            _partition(candidates, n, n_genes)
            n = n_genes
        keys[row, :n] = candidates[:n]
    return -1


@jit
def _at_least(limit, values, start, stop, positions):  # noqa: ANN001, ANN202
    """Find the values of a row that reach a limit, without a branch; also say whether there is a bad one.

    Here and below, unsigned indices spare the check for negative ones.
    """
    n, is_bad = np.uint64(0), False
    for j in range(np.uint64(start), np.uint64(stop)):
        positions[n] = j
        n += np.uint64(values[j] >= limit)
        is_bad |= _is_bad(values[j])
    return np.int64(n), is_bad


@jit
def _keys_of(positions, indices, values, rank, keys):  # noqa: ANN001, ANN202
    """Keys of the found values that are not zero and belong to a gene of the mask."""
    zero = _key(values.dtype.type(0), np.int32(0))
    n = np.uint64(0)
    for j in positions:
        place = rank[np.uint32(indices[j])]
        keys[n] = _key(values[j], place)
        n += np.uint64((place >= 0) & _before(keys[n], zero))
    return np.int64(n)


@jit
def _partition(keys, n, k):  # noqa: ANN001, ANN202
    """Reorder the first ``n`` keys so that the ``k`` smallest come first."""
    low, high = 0, n - 1
    while low < high:
        pivot = keys[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while _before(keys[i], pivot):
                i += 1
            while _before(pivot, keys[j]):
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            return


@jit
def _write(ranks, letters, first, length, before):  # noqa: ANN001, ANN202
    """Write the symbols of all rows into one buffer; return it and the end of each row.

    Eight bytes are written at a time (the compiler makes one store of them); what is too much is overwritten next.
    Where four bytes are asked for before each row, they hold its length, and no blank stands behind it.
    """
    size = len(ranks) * before
    for rank in ranks.ravel():
        if rank >= 0:
            size += length[np.uint32(rank)]
    out = np.empty(size + 8, np.uint8)
    ends = np.empty(len(ranks), np.int64)
    end = np.uint64(0)
    for row in range(len(ranks)):
        start = end
        end += np.uint64(before)
        for rank in ranks[row]:
            if rank < 0:
                break
            symbol = np.uint32(rank)
            at = end
            for eight in range(first[symbol], first[symbol + np.uint32(1)]):
                for byte in range(8):
                    out[at + np.uint64(byte)] = np.uint8(letters[eight] >> np.uint64(8 * byte))
                at += np.uint64(8)
            end += np.uint64(length[symbol])
        if before:
            if end > start + np.uint64(4):
                end -= np.uint64(1)
            n = end - start - np.uint64(4)
            for byte in range(4):
                out[start + np.uint64(byte)] = np.uint8(n >> np.uint64(8 * byte))
        ends[row] = end
    return out, ends
