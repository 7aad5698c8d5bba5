from __future__ import annotations

import subprocess
import sys
from hashlib import blake2b

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from cellhermes.text import _cell


def by_hand(values, symbols, n_genes, mask=None):
    """The rules of the design, gene by gene."""
    sentences = []
    for row in np.asarray(values):
        genes = []
        for column, value in enumerate(row):
            if value > 0 and (mask is None or mask[column]):
                tie = int.from_bytes(blake2b(symbols[column].encode(), digest_size=8).digest(), "big")
                genes.append((-value.item(), tie, symbols[column]))
        sentences.append(" ".join(symbol for _, _, symbol in sorted(genes)[:n_genes]))
    return sentences


def in_order(values, symbols, n_genes, mask=None, order=0):
    """The same with the ties of another order, and the share of the words that ties decide."""
    sentences, shares = [], []
    for row in np.asarray(values):
        value_of = {symbols[c]: row[c].item() for c in np.flatnonzero(row) if mask is None or mask[c]}
        salt = b"" if order < 2 else bytes([order // 2])
        ties = sorted(value_of, key=lambda s: blake2b(s.encode(), digest_size=8, salt=salt).digest())
        words = sorted(reversed(ties) if order % 2 else ties, key=lambda s: -value_of[s])[:n_genes]  # stable
        sentences.append(" ".join(words))
        n_tied = sum(any(value_of[w] == v for s, v in value_of.items() if s != w) for w in words)
        shares.append(n_tied / len(words) if words else np.nan)
    return sentences, shares


def draw_matrix(seed, n_rows, n_columns, dtype, *, density=0.5, ties=True):
    rng = np.random.default_rng(seed)
    values = rng.poisson(2, (n_rows, n_columns)) if ties else rng.gamma(1, 1, (n_rows, n_columns))
    return (values * (rng.random(values.shape) < density)).astype(dtype)


SYMBOLS = [
    f"{'αβΓ鬼'[i % 4] if i % 5 == 0 else 'G'}{'X' * (i % 23)}{i}" for i in range(700)
]  # not only ASCII; long ones


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(0, 9), st.integers(1, 700)),
    dtype=st.sampled_from(["bool", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64"]),
    storage=st.sampled_from([np.asarray, sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.coo_array]),
    density=st.sampled_from([0.05, 0.5, 1.0]),
    ties=st.booleans(),
    n_genes=st.sampled_from([1, 2, 7, 40, 100, 1000]),
    masked=st.booleans(),
)
def test_sentences_are_those_ranked_gene_by_gene(seed, shape, dtype, storage, density, ties, n_genes, masked):
    values = draw_matrix(seed, *shape, dtype, density=density, ties=ties)
    matrix = storage(values.astype("float32") if dtype == "float16" else values)  # scipy has no float16
    mask = np.random.default_rng(seed).random(shape[1]) < 0.6 if masked else None
    words = _cell.vocabulary(SYMBOLS[: shape[1]], mask)
    expected = by_hand(values, SYMBOLS, n_genes, mask)
    assert _cell.cell_sentences(matrix, words, n_genes) == expected
    columns, counts = _cell.ranked_genes(matrix, words, n_genes)
    assert columns.shape == (shape[0], n_genes)
    assert columns.dtype == np.int32
    named = [" ".join(SYMBOLS[c] for c in row[:n]) for row, n in zip(columns, counts, strict=True)]
    assert named == expected
    assert all((row[n:] == -1).all() for row, n in zip(columns, counts, strict=True))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(0, 5), st.integers(1, 120)),
    dtype=st.sampled_from(["bool", "uint8", "int64", "float32", "float64"]),
    density=st.sampled_from([0.05, 0.5, 1.0]),
    ties=st.booleans(),
    n_genes=st.sampled_from([1, 2, 7, 40, 100, 1000]),
    masked=st.booleans(),
    order=st.integers(0, 5),
)
def test_other_orders_and_the_share_of_ties_are_those_found_gene_by_gene(
    seed, shape, dtype, density, ties, n_genes, masked, order
):
    values = draw_matrix(seed, *shape, dtype, density=density, ties=ties)
    mask = np.random.default_rng(seed).random(shape[1]) < 0.6 if masked else None
    words = _cell.vocabulary(SYMBOLS[: shape[1]], mask, order=order)
    sentences, shares = in_order(values, SYMBOLS, n_genes, mask, order)
    assert _cell.cell_sentences(sparse.csr_matrix(values), words, n_genes) == sentences
    np.testing.assert_array_equal(_cell.tied_shares(sparse.csr_matrix(values), words, n_genes), shares)
    if order == 0:
        assert sentences == by_hand(values, SYMBOLS, n_genes, mask)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 150), st.integers(1, 60), st.integers(1, 9))
def test_another_order_moves_genes_within_their_ties_only(seed, n_columns, n_genes, order):
    values, symbols = draw_matrix(seed, 6, n_columns, "float32"), SYMBOLS[:n_columns]
    column = {symbol: c for c, symbol in enumerate(symbols)}
    first, other = (_cell.cell_sentences(values, _cell.vocabulary(symbols, order=o), n_genes) for o in (0, order))
    for row, *both in zip(values, first, other, strict=True):
        of_first, of_other = ([row[column[word]] for word in sentence.split()] for sentence in both)
        assert of_first == of_other
        for value in {*of_first[:-1]} - {*of_first[-1:]}:  # a tie that the end cuts may show other genes
            members = [{w for w in sentence.split() if row[column[w]] == value} for sentence in both]
            assert members[0] == members[1]
    moved = np.random.default_rng(seed).permutation(n_columns)
    permuted = _cell.vocabulary([symbols[c] for c in moved], order=order)
    assert _cell.cell_sentences(values[:, moved], permuted, n_genes) == other
    assert _cell.cell_sentences(values[::-1], _cell.vocabulary(symbols, order=order), n_genes) == other[::-1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_guess_of_the_limit_does_not_change_a_sentence(dtype, monkeypatch):
    values = draw_matrix(0, 30, 700, dtype, density=0.9, ties=False)
    values[:, :350] *= 1000  # rows whose order is not random mislead the sample
    expected = by_hand(values, SYMBOLS, 50)
    words = _cell.vocabulary(SYMBOLS)
    for wrong in (0, 1e-30, 1, 1e30):  # too low: the buffer overflows; too high: nothing is found
        guess = np.full(len(values), wrong, dtype)
        monkeypatch.setattr(_cell, "_limits", lambda *_, g=guess: g.view(np.uint32) if dtype == "float32" else g)
        assert _cell.cell_sentences(sparse.csr_matrix(values), words, 50) == expected


def test_float64_keeps_differences_that_float32_would_lose():
    values = np.array([[1.0, 1.0 + 1e-12, 1.0 - 1e-12]])
    assert _cell.cell_sentences(values, _cell.vocabulary(["A", "B", "C"]), 3) == ["B A C"]


def test_ties_follow_the_hash_of_the_symbol():
    words = _cell.vocabulary(["CD4", "CD8A", "MS4A1"])
    hashes = {s: blake2b(s.encode(), digest_size=8).hexdigest() for s in ("CD4", "CD8A", "MS4A1")}
    assert _cell.cell_sentences(np.ones((1, 3)), words, 3) == [" ".join(sorted(hashes, key=hashes.get))]


def test_stored_zeros_are_left_out():
    matrix = sparse.csr_matrix((np.array([0.0, -0.0, 2.0], "float32"), [0, 1, 2], [0, 3]), shape=(1, 3))
    assert _cell.cell_sentences(matrix, _cell.vocabulary(["A", "B", "C"]), 3) == ["C"]
    matrix.data = matrix.data.astype("float64") + np.array([0, 0, 1e-12])
    assert _cell.cell_sentences(matrix, _cell.vocabulary(["A", "B", "C"]), 3) == ["C"]


def test_entries_stored_in_parts_are_summed_without_touching_the_matrix():
    data, indices = np.array([3.0, 2.0, 2.0], "float32"), np.array([1, 0, 0])
    matrix = sparse.csr_matrix((data, indices, [0, 3]), shape=(1, 2))
    assert _cell.cell_sentences(matrix, _cell.vocabulary(["A", "B"]), 2) == ["A B"]  # 4 > 3
    assert matrix.data.tolist() == [3, 2, 2]
    assert matrix.indices.tolist() == [1, 0, 0]


def test_unsorted_indices_are_read_as_they_are():
    values = draw_matrix(3, 20, 300, "float32")
    matrix = sparse.csr_matrix(values)
    shuffled = matrix.copy()
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        order = np.random.default_rng(start).permutation(np.arange(start, stop))
        shuffled.indices[start:stop], shuffled.data[start:stop] = matrix.indices[order], matrix.data[order]
    shuffled.has_sorted_indices = False
    before = shuffled.indices.copy()
    words = _cell.vocabulary(SYMBOLS[:300])
    assert _cell.cell_sentences(shuffled, words, 100) == by_hand(values, SYMBOLS, 100)
    assert (shuffled.indices == before).all()


@pytest.mark.parametrize("index", ["int32", "int64"])
def test_index_types_and_read_only_arrays_are_accepted(index):
    values = draw_matrix(4, 5, 50, "float32")
    matrix = sparse.csr_array(values)
    matrix.indices, matrix.indptr = matrix.indices.astype(index), matrix.indptr.astype(index)
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    assert _cell.cell_sentences(matrix, _cell.vocabulary(SYMBOLS[:50]), 10) == by_hand(values, SYMBOLS, 10)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_scaling_and_logarithm_do_not_change_sentences(dtype):
    counts = draw_matrix(5, 50, 400, dtype)
    normalised = np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4)
    words = _cell.vocabulary(SYMBOLS[:400])
    of_counts = _cell.cell_sentences(counts, words, 100)
    assert _cell.cell_sentences(normalised, words, 100) == of_counts
    assert _cell.cell_sentences(normalised.astype("float32"), words, 100) == of_counts


def test_column_order_does_not_change_sentences():
    values = draw_matrix(6, 50, 400, "float32")
    order = np.random.default_rng(0).permutation(400)
    symbols = SYMBOLS[:400]
    permuted = _cell.cell_sentences(values[:, order], _cell.vocabulary([symbols[i] for i in order]), 100)
    assert permuted == _cell.cell_sentences(values, _cell.vocabulary(symbols), 100)


def test_blocks_threads_and_subsets_do_not_change_sentences(monkeypatch):
    values = sparse.csr_matrix(draw_matrix(7, 600, 300, "float32"))
    words = _cell.vocabulary(SYMBOLS[:300])
    whole = _cell.cell_sentences(values, words, 50)
    assert _cell.cell_sentences(values[100:317], words, 50) == whole[100:317]
    monkeypatch.setattr(_cell, "ROWS_PER_TASK", 7)
    for n in (1, 3):
        monkeypatch.setattr(_cell, "MAX_THREADS", n)
        assert _cell.cell_sentences(values, words, 50) == whole


def test_sentences_leave_the_threads_of_torch_alone():
    code = (
        "import torch, numpy as np; from cellhermes.text import _cell; torch.set_num_threads(1); "
        "_cell.cell_sentences(np.ones((3, 2), np.float32), _cell.vocabulary(['CD4', 'LYZ']), 2); "
        "raise SystemExit(torch.get_num_threads() != 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [-1, -0.3, np.nan, np.inf, -np.inf])
def test_the_first_bad_value_is_named(dtype, bad, monkeypatch):
    monkeypatch.setattr(_cell, "ROWS_PER_TASK", 8)
    values = draw_matrix(8, 40, 60, dtype, density=1)
    values[21, 17] = values[21, 40] = values[33, 2] = bad
    if dtype == "float64":
        values[0, 0] = 1 / 3  # is not a float32: the other kernel
    mask = np.arange(60) > 50  # values outside the mask are looked at as well
    with pytest.raises(_cell.BadValueError, match="row 21, column 17") as error:
        _cell.cell_sentences(sparse.csr_matrix(values), _cell.vocabulary(SYMBOLS[:60], mask), 10)
    assert (error.value.row, error.value.column) == (21, 17)
    np.testing.assert_allclose(error.value.value, bad, rtol=1e-6)


def test_negative_integers_are_bad_values():
    with pytest.raises(_cell.BadValueError, match="value -3 at row 0, column 1"):
        _cell.cell_sentences(np.array([[1, -3]]), _cell.vocabulary(["A", "B"]), 10)


def test_complex_values_cannot_be_ranked():
    with pytest.raises(TypeError, match="complex128 cannot be ranked: expected numbers"):
        _cell.cell_sentences(np.array([[1j]]), _cell.vocabulary(["A"]), 10)


def test_kernels_compile_where_no_cache_can_be_written(monkeypatch):
    def njit(*, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_(**options)

    compile_ = numba.njit
    monkeypatch.setattr(numba, "njit", njit)
    assert _cell.jit(lambda x: x + 1)(1) == 2


def test_no_columns_and_no_mask_give_empty_sentences():
    assert _cell.cell_sentences(np.empty((2, 0)), _cell.vocabulary([]), 10) == ["", ""]
    assert _cell.cell_sentences(np.ones((2, 3)), _cell.vocabulary(["A", "B", "C"], np.zeros(3, bool)), 10) == ["", ""]
