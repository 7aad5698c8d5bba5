"""Every use of a seed, each with a stream of its own, so that no two uses draw the same numbers.

What is drawn for a thing depends on seed, use and number of the thing alone: not on what was drawn before, nor on
processes. A new use is a new last line of :class:`Use`: one in between would change the draws of those below it.
"""

from __future__ import annotations

from enum import IntEnum, auto, unique

import numpy as np


@unique
class Use(IntEnum):
    """What randomness is used for."""

    MASKED_WORDING = auto()
    MASKED_PLACES = auto()
    NEXT_WORDING = auto()
    NEXT_LENGTH = auto()
    NODE_WORDING = auto()
    NODE_RINGS = auto()
    LINK_WORDING = auto()
    LINK_EDGES = auto()
    LINK_ENDS = auto()
    LINK_FIRST = auto()
    LINK_STRANGERS = auto()
    LINK_RINGS_A = auto()
    LINK_RINGS_B = auto()
    LINK_LOST_A = auto()
    LINK_LOST_B = auto()
    CHECK_WORDING = auto()
    CHECK_STRANGERS = auto()
    CHECK_LISTS = auto()
    NEIGHBORS_WORDING = auto()
    NEIGHBORS_LISTS = auto()
    WALK_WORDING = auto()
    WALK_LISTS = auto()
    GENE_GROUPS = auto()
    CELL_GROUPS = auto()
    GENE_IN_CELL_GROUPS = auto()
    ANSWER_GROUPS = auto()
    MIXTURE = auto()
    CARD_SAMPLE = auto()
    TASK_WORDING = auto()
    SPLIT = auto()
    COMBINATIONS = auto()
    NEGATIVES = auto()
    BALANCE = auto()
    GENE_SETS = auto()
    HELD_OUT = auto()
    CAP = auto()
    EPOCH_ORDER = auto()
    EPOCH_SOURCE = auto()
    STREAM_ORDER = auto()


def seed_of(rng: int | np.random.Generator | None) -> int:
    """Take a seed as it is; draw one from a generator, or from the system for None."""
    return int(rng) if isinstance(rng, int | np.integer) else int(np.random.default_rng(rng).integers(2**32))


def generator(seed: int, use: Use, *numbers: int) -> np.random.Generator:
    """Make the generator of a use, and of a number within it.

    Examples
    --------
    >>> from cellhermes._streams import Use, generator
    >>> first, second = (generator(0, Use.SPLIT, *numbers).integers(2**32) for numbers in ((), (0,)))
    >>> bool(first == second)  # numpy pads lists of seeds with zeros, but no key
    False
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(use, *numbers)))


def hashed(seed: int, use: Use, numbers: np.ndarray) -> np.ndarray:
    """Draw 64 bits for each number: splitmix64 of seed, use and number.

    Examples
    --------
    >>> import numpy as np
    >>> from cellhermes._streams import Use, hashed
    >>> hashed(0, Use.SPLIT, np.arange(2)).tolist() == hashed(0, Use.SPLIT, np.arange(5))[:2].tolist()
    True
    """
    key = _mix(_mix(np.array([seed], np.int64).view(np.uint64)) + np.uint64(use))
    return _mix(key + np.asarray(numbers).astype(np.uint64))


def _mix(x: np.ndarray) -> np.ndarray:
    """Take one step of splitmix64 (Steele, Lea and Flood 2014), a bijection of 64 bits that looks random."""
    x = x + np.uint64(0x9E3779B97F4A7C15)  # arrays wrap around without a warning
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def below(bits: np.ndarray, n: int | np.ndarray) -> np.ndarray:
    """Map random bits to whole numbers 0 <= x < n, n below 2**32."""
    return ((bits >> np.uint64(32)) * np.asarray(n, np.uint64) >> np.uint64(32)).astype(np.int64)
