"""Prompts that are looked at together: which of them should lie near each other, and what their answers begin with.

A pair teaches words; a group teaches vectors, at the place from which :meth:`CellHermes.embed
<cellhermes.CellHermes.embed>` reads them. Like a pair, a group is made when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from ..._disk import json_hash
from ..._streams import Use, hashed
from ._pairs import Pairs, pairs_sha256

if TYPE_CHECKING:
    from ...text import Prompt, QAPair

N_GROUPS = 2**20  # of a sequence without an end, as far as a run is concerned


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Prompts, and what is known about them.

    Parameters
    ----------
    prompts
        The prompts; their vectors are read at the end of the prompt.
    near
        (prompts, prompts) how much of each prompt's nearness belongs to each other prompt. Rows sum to 1, or to 0 for a
        prompt of which nothing is known; the diagonal is 0. None teaches no nearness.
    first
        (prompts, words) how likely an answer behind each prompt begins with each word of the :class:`Groups`. Rows sum
        to 1 or 0. None teaches no answers.

    Examples
    --------
    >>> import cellhermes as ch
    >>> import numpy as np
    >>> prompts = [ch.text.Prompt(text) for text in ("Gene CD3E", "Gene CD3D", "Gene LYZ")]
    >>> group = Group(prompts, near=np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]))
    >>> len(group.prompts)
    3
    """

    prompts: Sequence[Prompt]
    near: np.ndarray | None = None
    first: sp.csr_array | None = None

    def __post_init__(self) -> None:
        n = len(self.prompts)
        if n < 2 or (self.near is None and self.first is None):
            msg = f"A group of {n} prompts; expected at least two, with `near`, `first` or both."
            raise ValueError(msg)
        for name, table in (("near", self.near), ("first", self.first)):
            if table is None:
                continue
            if table.shape[0] != n or (name == "near" and table.shape[1] != n):
                msg = f"`{name}` of shape {table.shape} for {n} prompts."
                raise ValueError(msg)
            sums = np.asarray(table.sum(1)).ravel()
            if not np.all(np.isclose(sums, 1, atol=1e-3) | (sums == 0)):
                msg = f"rows of `{name}` sum to {sums.min():.3g} to {sums.max():.3g}; expected 1, or 0 for no loss."
                raise ValueError(msg)


class Groups(Sequence[Group]):
    """Groups of prompts, made when they are read; a step of :func:`~cellhermes.train.fit` reads one of each source.

    Parameters
    ----------
    make
        Makes the group of a number.
    task
        What the groups teach, such as ``"genes"``.
    words
        What the columns of ``first`` stand for: gene symbols, or other beginnings of answers.
    near_weight
        Weight of the loss on nearness.
    first_weight
        Weight of the loss on the first token of the answer.
    about
        How the groups are made, with hashes of the input. JSON can hold it.

    Examples
    --------
    >>> import cellhermes as ch
    >>> groups = ch.train.corpus.gene_groups(ch.datasets.ppi("toy"), n_edges=4, n_genes=2)
    >>> groups[0].near.shape == (len(groups[0].prompts),) * 2
    True
    """

    def __init__(
        self,
        make: Callable[[int], Group],
        *,
        task: str,
        words: Sequence[str] = (),
        near_weight: float = 1.0,
        first_weight: float = 1.0,
        about: Mapping[str, object] | None = None,
    ) -> None:
        for name, weight in (("near_weight", near_weight), ("first_weight", first_weight)):
            if not 0 <= weight < float("inf"):
                msg = f"{name} is {weight}; expected a number of at least 0."
                raise ValueError(msg)
        self._make = make
        self.task, self.words = task, tuple(words)
        self.near_weight, self.first_weight = near_weight, first_weight
        self._about = dict(about or {}) | {"near_weight": near_weight, "first_weight": first_weight}

    @property
    def about(self) -> Mapping[str, object]:
        """Tell how the groups are made."""
        return MappingProxyType(self._about)

    def __len__(self) -> int:
        return N_GROUPS

    def __getitem__(self, index: int) -> Group:
        if not 0 <= index < N_GROUPS:
            msg = f"group {index} is not there; expected a number from 0 to below {N_GROUPS:,}."
            raise IndexError(msg)
        return self._make(index)

    def __repr__(self) -> str:
        return f"Groups({self.task!r})"

    def fingerprint(self) -> str:
        """Hash what the groups are made from.

        Returns
        -------
        SHA-256 of ``about`` and ``words``.
        """
        return json_hash([self.task, self._about, self.words])


def answer_groups(
    pairs: Sequence[QAPair], *, answers: Sequence[str], n_pairs: int = 16, weight: float = 1.0, seed: int = 0
) -> Groups:
    """Group questions with a closed answer, each of which then counts as much as a whole text.

    In the loss on all tokens, a Yes behind a hundred tokens of context is lost. Here only the first token of the answer
    has a loss, and the mean over the questions of a group is added to that of the pairs.

    Parameters
    ----------
    pairs
        Questions of one task, such as those of :func:`~cellhermes.train.corpus.link_pairs`.
    answers
        All answers there are. They must begin with different tokens.
    n_pairs
        Questions of a group, drawn without replacement until all have been read.
    weight
        Of the loss.
    seed
        Of the order.

    Returns
    -------
    The groups, without nearness.

    Raises
    ------
    ValueError
        If there are fewer pairs than a group takes, or fewer than two answers.

    Examples
    --------
    >>> import cellhermes as ch
    >>> pairs = ch.train.corpus.link_pairs(ch.datasets.ppi("toy"), n_pairs=100)
    >>> groups = ch.train.corpus.answer_groups(pairs, answers=("Yes", "No"))
    >>> groups[0].first.shape
    (16, 2)
    """
    if not 2 <= n_pairs <= len(pairs) or len(set(answers)) < 2:
        msg = f"n_pairs={n_pairs} of {len(pairs):,} pairs, answers={answers}; expected at least two of both."
        raise ValueError(msg)
    task = pairs.task if isinstance(pairs, Pairs) else pairs[0].task
    about = {"pairs": pairs_sha256(pairs), "task": task, "n_pairs": n_pairs, "seed": seed}
    make = _Answers(pairs, task, tuple(answers), n_pairs, seed)
    return Groups(make, task=task, words=answers, first_weight=weight, about=about)


@lru_cache(maxsize=2)
def _order(seed: int, turn: int, n: int) -> np.ndarray:
    return np.argsort(hashed(seed, Use.ANSWER_GROUPS, turn * n + np.arange(n)), kind="stable")


@dataclass(frozen=True)
class _Answers:
    pairs: Sequence[QAPair]
    task: str
    answers: tuple[str, ...]
    n_pairs: int
    seed: int

    def __call__(self, number: int) -> Group:
        turn, at = divmod(number, len(self.pairs) // self.n_pairs)
        order = _order(self.seed, turn, len(self.pairs))[at * self.n_pairs : (at + 1) * self.n_pairs]
        chosen = list(self.pairs.take(order)) if isinstance(self.pairs, Pairs) else [self.pairs[i] for i in order]
        place = {answer: i for i, answer in enumerate(self.answers)}
        if other := next((pair.answer for pair in chosen if pair.answer not in place), None):
            msg = f"a pair of {self.task!r} has the answer {other!r}; expected one of {list(self.answers)}."
            raise ValueError(msg)
        columns = [place[pair.answer] for pair in chosen]
        ones = np.ones(len(chosen), np.float32), (np.arange(len(chosen)), columns)
        return Group([pair.prompt for pair in chosen], None, sp.csr_array(ones, shape=(len(chosen), len(self.answers))))


def as_groups(groups: Groups | Mapping[str, Groups] | None) -> dict[str, Groups]:
    """Name the sources of groups."""
    if groups is None:
        return {}
    named = {groups.task: groups} if isinstance(groups, Groups) else groups
    if not isinstance(named, Mapping) or not all(isinstance(part, Groups) for part in named.values()):
        msg = f"groups are a {type(groups).__name__}; expected ch.train.corpus.Groups, or a mapping of names to these."
        raise TypeError(msg)
    return dict(named)


def normalised(table: np.ndarray) -> np.ndarray:
    """Scale rows to a sum of 1; rows of zeros stay."""
    total = table.sum(1, keepdims=True)
    return np.divide(table, total, out=np.zeros(table.shape, np.float32), where=total > 0, casting="unsafe")
