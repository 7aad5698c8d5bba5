"""A pair depends on its number, and on nothing that was read before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellhermes.text import Prompt, QAPair
from cellhermes.train.corpus import Pairs


def make(numbers):
    return [QAPair(Prompt(f"pair {number}"), str(number), "demo") for number in numbers]


def answers(pairs):
    return [int(pair.answer) for pair in pairs]


@pytest.fixture
def pairs():
    return Pairs(make, 3000, task="demo", about={"seed": 1}, dropped={"cells": 2, "none": 0})


def test_pairs_are_a_sequence(pairs):
    assert len(pairs) == 3000
    assert answers(pairs) == list(range(3000))
    assert pairs[-1].answer == "2999"
    assert dict(pairs.dropped) == {"cells": 2}
    with pytest.raises(IndexError, match="pair 3000 is not there"):
        pairs[3000]
    with pytest.raises(TypeError):
        pairs.about["seed"] = 2


@given(start=st.integers(-40, 40), stop=st.integers(-40, 40), step=st.sampled_from([-3, -1, 1, 2]), n=st.integers(1, 9))
def test_slices_and_shards_are_those_of_a_list(start, stop, step, n):
    pairs, plain = Pairs(make, 33, task="demo"), list(range(33))
    chosen = pairs[start:stop:step]
    assert answers(chosen) == plain[start:stop:step]
    assert sorted(a for k in range(n) for a in answers(chosen.shard(k, n))) == sorted(plain[start:stop:step])
    assert answers(pairs.take(plain[::-2])[1:]) == plain[::-2][1:]
    assert answers(pairs[5:].take([-1, 0])) == [32, 5]


def test_what_is_not_there_is_refused(pairs):
    with pytest.raises(ValueError, match="shard 3 of 3"):
        pairs.shard(3, 3)
    with pytest.raises(IndexError, match="there are 3,000"):
        pairs.take([0, 3000])


def test_fingerprint_tells_pairs_apart(pairs):
    same = Pairs(make, 3000, task="demo", about={"seed": 1})
    assert pairs.fingerprint() == same.fingerprint() == pairs[:].fingerprint()
    other = [pairs[1:], pairs[::-1], Pairs(make, 3000, task="demo", about={"seed": 2}), Pairs(make, 3000, task="d")]
    assert len({part.fingerprint() for part in [pairs, *other]}) == 5
