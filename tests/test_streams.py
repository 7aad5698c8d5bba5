"""No two uses of a seed draw the same numbers."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import cellhermes as ch
from cellhermes._streams import Use, below, generator, hashed, seed_of

SOURCES = {path: path.read_text("utf-8") for path in Path(ch.__file__).parent.rglob("*.py")}


def test_no_two_streams_are_equal():
    """Of all uses, of numbers within them, of longer and shorter keys with zeros, and of seeds."""
    keys = list(product((0, 1, 2), Use, ((), (0,), (0, 0), (1,), (1, 0), (0, 1))))
    drawn = {tuple(generator(seed, use, *numbers).integers(2**32, size=2).tolist()) for seed, use, numbers in keys}
    assert len(drawn) == len(keys)
    plain = {tuple(np.random.default_rng(seed).integers(2**32, size=2).tolist()) for seed in range(3)}
    assert not drawn & plain
    numbers = np.arange(50)
    bits = [*(hashed(seed, use, numbers).tolist() for seed in (0, 1, 2) for use in Use)]
    assert len({bit for row in bits for bit in row}) == len(bits) * len(numbers)


def test_padding_with_zeros_would_be_seen():
    """What the keys are there for: numpy takes these for the same list of seeds."""
    first, second = (np.random.default_rng(seed).integers(2**32, size=4).tolist() for seed in ([7, 1], [7, 1, 0]))
    assert first == second
    first, second = (generator(7, Use.SPLIT, *numbers).integers(2**32, size=4).tolist() for numbers in ((), (0,)))
    assert first != second


@pytest.mark.parametrize("use", Use, ids=lambda use: use.name)
def test_each_use_has_one_place(use):
    texts = [text for path, text in SOURCES.items() if path.name != "_streams.py"]
    assert sum(len(re.findall(rf"\bUse\.{use.name}\b", text)) for text in texts) == 1


def test_seeds_are_joined_with_numbers_in_one_file_only():
    joined = [path.name for path, text in SOURCES.items() if re.search(r"default_rng\(\[|SeedSequence\(", text)]
    assert joined == ["_streams.py"]


def test_hash_looks_random():
    bits = hashed(0, Use.SPLIT, np.arange(100_000))
    assert len(set(bits.tolist())) == 100_000
    ones = ((bits[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 0.01
    shares = np.bincount(below(bits, 20), minlength=20) / 100_000
    assert len(shares) == 20
    assert np.abs(shares - 0.05).max() < 0.005
    others = [
        hashed(1, Use.SPLIT, np.arange(100_000)),
        hashed(0, Use.NEGATIVES, np.arange(100_000)),
        hashed(-1, Use.SPLIT, np.arange(100_000)),
    ]
    assert all(abs(np.corrcoef(bits.astype(float), other.astype(float))[0, 1]) < 0.02 for other in others)


def test_a_seed_stands_for_itself_and_a_generator_for_what_it_draws_next():
    rng = np.random.default_rng(3)
    assert [seed_of(7), seed_of(np.int64(7))] == [7, 7]
    assert seed_of(np.random.default_rng(3)) == seed_of(rng) != seed_of(rng)
    assert seed_of(None) != seed_of(None)
