"""Hashes of what was read: any change is seen, and how a thing is stored is not."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellhermes._hash import _mixed, hashed, hashed_column, hashed_rows


def test_texts_end_where_they_end():
    assert hashed(["ab", "c"]) != hashed(["a", "bc"])
    assert hashed(["a\0b"]) != hashed(["a", "b"])
    assert hashed([]) != hashed([""]) != hashed(["", ""])
    assert hashed(iter(["a"] * 5000)) == hashed(["a"] * 5000) != hashed(["a"] * 5001)


COLUMNS = {
    "floats": [1.0, np.nan, 3.0],
    "integers": [1, 2, 3],
    "texts": ["a", "b", None],
    "word for nothing": ["a", "b", "None"],
    "empty": ["a", "b", ""],
    "categories": pd.Categorical(["a", "b", None]),
    "ordered": pd.Categorical(["a", "b", None], ordered=True),
    "other categories": pd.Categorical(["a", "c", None]),
    "nullable": pd.array([1, 2, None], dtype="Int64"),
    "truth": [True, False, True],
    "times": pd.to_datetime(["2020-01-01", "2020-01-02", None]),
}


def test_columns_differ_by_type_value_and_what_is_missing():
    found = {name: hashed_column(pd.Series(values)) for name, values in COLUMNS.items()}
    assert len({*found.values()}) == len(COLUMNS)
    for name, values in COLUMNS.items():
        assert hashed_column(pd.Series(values)) == found[name]
        assert hashed_column(pd.Series(values)[::-1]) != found[name] or name == "truth"


def slow(values):
    """The steps of XXH64 in whole numbers of Python, one word after another."""
    content, state = values.tobytes(), [0] * 4
    whole = len(content) // 32 * 32
    for i in range(0, whole, 8):
        word, lane = int.from_bytes(content[i : i + 8], "little"), i // 8 % 4
        x = (state[lane] + word * 0xC2B2AE3D27D4EB4F) % 2**64
        state[lane] = (x << 31 | x >> 33) * 0x9E3779B185EBCA87 % 2**64
    words = b"".join(x.to_bytes(8, "little") for x in state)
    return words + content[whole:] + len(content).to_bytes(8, "little")


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 15, 16, 63, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
def test_values_are_mixed_as_a_slow_loop_does(n, dtype):
    values = (np.random.default_rng(n).random(n + 1) * 100).astype(dtype)[1:]  # not on a border of eight bytes
    assert _mixed(values).tobytes() == slow(values)


def test_any_change_of_a_block_of_rows_is_seen():
    rng = np.random.default_rng(0)
    block = sparse.random(50, 30, 0.3, "csr", "float32", rng)
    seen, first = {hashed_rows(block)}, hashed_rows(block)
    for i in range(block.nnz):
        other = block.copy()
        other.data[i] = np.nextafter(other.data[i], np.float32(9))
        seen.add(hashed_rows(other))
    assert len(seen) == block.nnz + 1
    moved = block.copy()
    moved.indices[0] += 1
    longer = sparse.csr_matrix((block.data, block.indices, block.indptr), (50, 31))
    cut = block.indptr.copy()
    cut[1] -= 1
    others = [
        moved,
        longer,
        block.astype("float64"),
        block[::-1],
        sparse.csr_matrix((block.data, block.indices, cut), (50, 30)),
    ]
    assert len({first, *map(hashed_rows, others)}) == 6


def test_where_rows_were_cut_from_does_not_matter():
    block = sparse.random(50, 30, 0.3, "csr", "float32", np.random.default_rng(0))
    wide = sparse.csr_matrix((block.data, block.indices.astype("int64"), block.indptr.astype("int64")), block.shape)
    assert hashed_rows(block) == hashed_rows(wide) == hashed_rows(sparse.csr_matrix(block.toarray()))
    assert hashed_rows(block) != hashlib.sha256(b"").hexdigest()
