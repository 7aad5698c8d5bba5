"""Lists from a graph: which of these genes are partners, what the partners are, and where a walk leads.

A question for one link teaches one bit for a hundred tokens, a list one bit for two. Small models learn to compare two
genes from lists first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ..._streams import Use, generator, hashed
from ...text import QAPair
from ...text._template import kinds
from ._graph import exchanged
from ._interactions import check_strangers, checked, left_out, wordings
from ._pairs import Pairs

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from ...text import Template
    from ._graph import Graph

N_GENES = {"link_list": 40, "neighbors": 30, "walk": 30}


def list_pairs(
    graph: nx.Graph | pd.DataFrame,
    kind: Literal["link_list", "neighbors", "walk"],
    *,
    n_pairs: int,
    n_genes: int | None = None,
    relation: str = "interaction",
    seed: int = 0,
) -> Pairs:
    """Ask for lists of genes from a graph: which candidates are partners of a gene, its partners, or a walk.

    ``"link_list"`` shows candidates, half of them partners, and the answer says Yes or No to each. For each partner
    stands a stranger with about as many partners of its own, so that over the graph a gene is turned down as often as
    it is accepted, as in :func:`link_pairs` with ``negatives="degree"``. ``"neighbors"`` lists partners, drawn without
    replacement with chances of one over the square root of their degree, or hubs would fill every list. ``"walk"`` goes
    through the graph, each step to any partner of the gene before with equal chances (DeepWalk; Perozzi et al. 2014).

    Parameters
    ----------
    graph
        As in :func:`node_pairs`.
    kind
        What is asked for; also the name of the task.
    n_pairs
        How many lists. The gene that a list is about is the end of a random edge.
    n_genes
        At most so many candidates (an even number), at most so many partners, or the steps of a walk. None takes 40
        candidates, 30 partners and 30 steps.
    relation, seed
        As in :func:`node_pairs`.

    Returns
    -------
    Pairs of the task ``kind``.

    Raises
    ------
    ValueError
        If there is no such kind, or a number is out of range; graph and relation as for :func:`node_pairs`.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ppi = ch.datasets.ppi("toy")
    >>> pair = ch.train.corpus.list_pairs(ppi, "link_list", n_pairs=10, n_genes=4)[0]
    >>> sorted(set(pair.answer.split()[1::2]))
    ['No', 'Yes']
    >>> first, second = ch.train.corpus.list_pairs(ppi, "walk", n_pairs=10)[0].answer.split()[:2]
    >>> ppi.has_edge(first, second)
    True
    """
    if kind not in KINDS:
        msg = f"kind={kind!r}; expected one of {list(KINDS)}."
        raise ValueError(msg)
    n_genes = N_GENES[kind] if n_genes is None else n_genes
    step = 2 if kind == "link_list" else 1  # a stranger beside each partner
    if n_pairs < 1 or n_genes < step or n_genes % step:
        number = "an even number of at least 2" if step == 2 else "at least 1"
        msg = f"n_pairs={n_pairs}, n_genes={n_genes}; expected at least 1 pair, and {number} genes."
        raise ValueError(msg)
    compacted, about = checked(graph, relation, seed, kind)
    if kind == "link_list":
        check_strangers(compacted)
    template = next(iter(kinds(kind, relation).values()))
    about |= {"n_pairs": n_pairs, "n_listed": n_genes}
    return Pairs(
        KINDS[kind](compacted, template, seed, n_genes), n_pairs, task=kind, about=about, dropped=left_out(compacted)
    )


@dataclass(frozen=True)
class _Lists(ABC):
    """Makes lists about a gene; subclasses say what stands in them."""

    graph: Graph
    template: Template
    seed: int
    n_genes: int
    task: ClassVar[str]
    lists: ClassVar[Use]
    wording: ClassVar[Use]

    def __call__(self, numbers: np.ndarray) -> list[QAPair]:
        symbols = self.graph.symbols
        variants = wordings((self.template,), self.seed, self.wording, numbers)
        pairs = []
        for number, variant in zip(numbers.tolist(), variants, strict=True):
            rng = generator(self.seed, self.lists, number)
            at = rng.integers(len(self.graph.neighbors))
            gene = int(np.searchsorted(self.graph.start, at, side="right") - 1)
            answer = self._answer(gene, rng)
            prompt = self.template.fill(variant=variant, gene=symbols[gene])
            pairs.append(QAPair(prompt, self.template.answer.format(list=answer), self.task, symbols[gene]))
        return pairs

    @abstractmethod
    def _answer(self, gene: int, rng: np.random.Generator) -> str:
        """Write what the answer lists."""

    def _edges(self, gene: int) -> slice:
        return slice(self.graph.start[gene], self.graph.start[gene + 1])


@dataclass(frozen=True)
class _LinkLists(_Lists):
    task, lists, wording = "link_list", Use.CHECK_LISTS, Use.CHECK_WORDING

    def __post_init__(self) -> None:
        _ = self.strangers  # before processes share it

    @cached_property
    def strangers(self) -> np.ndarray:
        """Draw for each directed edge a gene that its first end isn't joined with."""
        first = np.repeat(np.arange(len(self.graph.symbols), dtype=np.int32), self.graph.degree)
        directed = np.stack([first, self.graph.neighbors], axis=1)
        return exchanged(self.graph, directed, hashed(self.seed, Use.CHECK_STRANGERS, np.arange(len(directed))))[:, 1]

    def _answer(self, gene: int, rng: np.random.Generator) -> str:
        edges = self._edges(gene)
        n = edges.stop - edges.start
        drawn = edges.start + rng.choice(n, min(self.n_genes // 2, n), replace=False)
        candidates = np.concatenate([self.graph.neighbors[drawn], self.strangers[drawn]])
        verdicts = np.repeat(["Yes", "No"], len(drawn))
        order = rng.permutation(len(candidates))
        symbols = self.graph.symbols
        return " ".join(f"{symbols[i]}: {word}" for i, word in zip(candidates[order], verdicts[order], strict=True))


@dataclass(frozen=True)
class _Neighbors(_Lists):
    task, lists, wording = "neighbors", Use.NEIGHBORS_LISTS, Use.NEIGHBORS_WORDING

    def _answer(self, gene: int, rng: np.random.Generator) -> str:
        near = self.graph.neighbors[self._edges(gene)]
        chance = 1 / np.sqrt(self.graph.degree[near])
        drawn = rng.choice(near, min(self.n_genes, len(near)), replace=False, p=chance / chance.sum())
        return " ".join(self.graph.symbols[i] for i in drawn)


@dataclass(frozen=True)
class _Walks(_Lists):
    task, lists, wording = "walk", Use.WALK_LISTS, Use.WALK_WORDING

    def _answer(self, gene: int, rng: np.random.Generator) -> str:
        passed = []
        for _ in range(self.n_genes):
            near = self.graph.neighbors[self._edges(gene)]
            gene = int(near[rng.integers(len(near))])
            passed.append(self.graph.symbols[gene])
        return " ".join(passed)


KINDS = {"link_list": _LinkLists, "neighbors": _Neighbors, "walk": _Walks}
