"""Lists from a graph: which of these genes are partners, what the partners are, and where a walk leads.

A question for one link teaches one bit for a hundred tokens, a list one bit for two. Small models learn to compare two
genes from lists first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..text import QAPair
from ..text._graph import exchanged
from ..text._template import kinds
from ._pairs import Pairs, hashed
from ._pairs_graph import _checked, _dropped, _wording

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from ..text import Template
    from ..text._graph import Graph

CHECK, NEIGHBORS, WALK = 120, 130, 140  # streams of randomness; + 1 for the wording
DEFAULT = (30, 20, 10)  # of the objectives that show rings


def link_list_pairs(
    graph: nx.Graph | pd.DataFrame,
    *,
    n_pairs: int,
    n_candidates: int = 40,
    relation: str = "interaction",
    seed: int = 0,
) -> Pairs:
    """Check lists of candidates for the partners of a gene.

    The answer takes the candidates one by one, each with Yes or No behind a colon. Half of them are partners. For each
    partner stands a stranger with about as many partners of its own, so that over the graph a gene is turned down as
    often as it is accepted, as in :func:`link_pairs` with ``negatives="degree"``.

    Parameters
    ----------
    graph
        As in :func:`node_pairs`.
    n_pairs
        How many lists. The gene that a list is about is the end of a random edge.
    n_candidates
        At most so many candidates, an even number.
    relation, seed
        As in :func:`node_pairs`.

    Returns
    -------
    Pairs of the task ``"link_list"``.

    Raises
    ------
    TypeError
        If ``graph`` is neither a graph nor a table, or a node is no string.
    ValueError
        If there is no edge, a symbol is empty or has blanks, or a number is out of range.
    KeyError
        If there is no such relation.

    Examples
    --------
    >>> import cellhermes as ch
    >>> pair = ch.train.link_list_pairs(ch.datasets.ppi("toy"), n_pairs=10, n_candidates=4)[0]
    >>> sorted(set(pair.answer.split()[1::2]))
    ['No', 'Yes']
    """
    if n_candidates < 2 or n_candidates % 2:
        msg = f"n_candidates={n_candidates}; expected an even number of at least 2."
        raise ValueError(msg)
    graph, templates, about = _prepared(graph, "link_list", n_pairs, relation, seed)
    left = np.repeat(np.arange(len(graph.symbols), dtype=np.int32), graph.degree)
    directed = np.stack([left, graph.neighbors], axis=1)
    strangers = exchanged(graph, directed, hashed(seed, CHECK + 2, np.arange(len(directed))))
    make = _LinkLists(graph, templates, seed, n_candidates // 2, strangers[:, 1])
    return Pairs(make, n_pairs, task=make.task, about=about | {"n_candidates": n_candidates}, dropped=_dropped(graph))


def neighbor_pairs(
    graph: nx.Graph | pd.DataFrame, *, n_pairs: int, n_neighbors: int = 30, relation: str = "interaction", seed: int = 0
) -> Pairs:
    """List partners of a gene.

    Partners are drawn without replacement, with chances of one over the square root of their degree, or hubs would
    fill every list.

    Parameters
    ----------
    graph
        As in :func:`node_pairs`.
    n_pairs
        How many lists. The gene that a list is about is the end of a random edge.
    n_neighbors
        At most so many partners.
    relation, seed
        As in :func:`node_pairs`.

    Returns
    -------
    Pairs of the task ``"neighbors"``.

    Raises
    ------
    TypeError
        If ``graph`` is neither a graph nor a table, or a node is no string.
    ValueError
        If there is no edge, a symbol is empty or has blanks, or a number is out of range.
    KeyError
        If there is no such relation.

    Examples
    --------
    >>> import cellhermes as ch
    >>> pairs = ch.train.neighbor_pairs(ch.datasets.ppi("toy"), n_pairs=10, n_neighbors=3)
    >>> len(pairs[0].answer.split()) <= 3
    True
    """
    _at_least(1, n_neighbors=n_neighbors)
    graph, templates, about = _prepared(graph, "neighbors", n_pairs, relation, seed)
    make = _Neighbors(graph, templates, seed, n_neighbors)
    return Pairs(make, n_pairs, task=make.task, about=about | {"n_neighbors": n_neighbors}, dropped=_dropped(graph))


def walk_pairs(
    graph: nx.Graph | pd.DataFrame, *, n_pairs: int, n_steps: int = 30, relation: str = "interaction", seed: int = 0
) -> Pairs:
    """Walk through a graph: genes, each joined with the one before.

    A step goes to any partner of the gene with equal chances (DeepWalk; Perozzi et al. 2014).

    Parameters
    ----------
    graph
        As in :func:`node_pairs`.
    n_pairs
        How many walks. Each begins at the end of a random edge.
    n_steps
        Steps of a walk.
    relation, seed
        As in :func:`node_pairs`.

    Returns
    -------
    Pairs of the task ``"walk"``.

    Raises
    ------
    TypeError
        If ``graph`` is neither a graph nor a table, or a node is no string.
    ValueError
        If there is no edge, a symbol is empty or has blanks, or a number is out of range.
    KeyError
        If there is no such relation.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ppi = ch.datasets.ppi("toy")
    >>> first, second = ch.train.walk_pairs(ppi, n_pairs=10)[0].answer.split()[:2]
    >>> ppi.has_edge(first, second)
    True
    """
    _at_least(1, n_steps=n_steps)
    graph, templates, about = _prepared(graph, "walk", n_pairs, relation, seed)
    make = _Walks(graph, templates, seed, n_steps)
    return Pairs(make, n_pairs, task=make.task, about=about | {"n_steps": n_steps}, dropped=_dropped(graph))


def _at_least(low: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < low:
            msg = f"{name}={number}; expected at least {low}."
            raise ValueError(msg)


def _prepared(
    graph: nx.Graph | pd.DataFrame, task: str, n_pairs: int, relation: str, seed: int
) -> tuple[Graph, Template, dict[str, object]]:
    _at_least(1, n_pairs=n_pairs)
    compacted, about = _checked(graph, DEFAULT, relation, seed, task)
    del about["n_neighbors"]
    return compacted, next(iter(kinds(task, relation).values())), about | {"n_pairs": n_pairs}


@dataclass(frozen=True)
class _Lists:
    """Makes lists about a gene; subclasses say what stands in them."""

    graph: Graph
    template: Template
    seed: int
    stream = 0
    task = ""

    def __call__(self, numbers: np.ndarray) -> list[QAPair]:
        symbols = self.graph.symbols
        wording = _wording((self.template,), self.seed, self.stream + 1, numbers)
        pairs = []
        for number, variant in zip(numbers.tolist(), wording, strict=True):
            rng = np.random.default_rng([self.seed, self.stream, number])
            at = rng.integers(len(self.graph.neighbors))
            gene = int(np.searchsorted(self.graph.start, at, side="right") - 1)
            answer = self._answer(gene, rng)
            prompt = self.template.fill(variant=variant, gene=symbols[gene])
            pairs.append(QAPair(prompt, self.template.answer.format(list=answer), self.task, symbols[gene]))
        return pairs

    def _answer(self, gene: int, rng: np.random.Generator) -> str:
        raise NotImplementedError

    def _edges(self, gene: int) -> slice:
        return slice(self.graph.start[gene], self.graph.start[gene + 1])


@dataclass(frozen=True)
class _LinkLists(_Lists):
    n_partners: int
    strangers: np.ndarray
    """For each directed edge a gene that its first end isn't joined with."""
    stream, task = CHECK, "link_list"

    def _answer(self, gene: int, rng: np.random.Generator) -> str:
        edges = self._edges(gene)
        n = edges.stop - edges.start
        drawn = edges.start + rng.choice(n, min(self.n_partners, n), replace=False)
        candidates = np.concatenate([self.graph.neighbors[drawn], self.strangers[drawn]])
        said = np.repeat(["Yes", "No"], len(drawn))
        order = rng.permutation(len(candidates))
        symbols = self.graph.symbols
        return " ".join(f"{symbols[i]}: {word}" for i, word in zip(candidates[order], said[order], strict=True))


@dataclass(frozen=True)
class _Neighbors(_Lists):
    n_neighbors: int
    stream, task = NEIGHBORS, "neighbors"

    def _answer(self, gene: int, rng: np.random.Generator) -> str:
        near = self.graph.neighbors[self._edges(gene)]
        chance = 1 / np.sqrt(self.graph.degree[near])
        drawn = rng.choice(near, min(self.n_neighbors, len(near)), replace=False, p=chance / chance.sum())
        return " ".join(self.graph.symbols[i] for i in drawn)


@dataclass(frozen=True)
class _Walks(_Lists):
    n_steps: int
    stream, task = WALK, "walk"

    def _answer(self, gene: int, rng: np.random.Generator) -> str:
        passed = []
        for _ in range(self.n_steps):
            near = self.graph.neighbors[self._edges(gene)]
            gene = int(near[rng.integers(len(near))])
            passed.append(self.graph.symbols[gene])
        return " ".join(passed)
