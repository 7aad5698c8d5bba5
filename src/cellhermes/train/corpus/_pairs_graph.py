"""The graph objectives of the corpus: which gene has this neighbourhood, and whether two genes are joined.

Which rings a kind of question shows is read from the slots of its template; the rings come from ``_graph.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..._streams import Use, hashed
from ...text import QAPair
from ...text._template import kinds
from ._graph import HOPS, Graph, exchanged, non_edges, one_neighbor, rings
from ._interactions import check_strangers, checked, left_out, wordings
from ._pairs import Pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import networkx as nx
    import pandas as pd

    from ...text import Template

RINGS, LOST = (Use.LINK_RINGS_A, Use.LINK_RINGS_B), (Use.LINK_LOST_A, Use.LINK_LOST_B)  # of both genes
NOTHING = "none"  # what is written for a ring without genes


def node_pairs(
    graph: nx.Graph | pd.DataFrame,
    *,
    n_neighbors: Sequence[int] = (30, 20, 10),
    relation: str = "interaction",
    seed: int = 0,
) -> Pairs:
    """Ask for a gene that is hidden in a graph, from the genes around it.

    Every gene with a neighbour gives one pair of each kind: genes one step away, two steps, three steps, one and two,
    one to three (five kinds, as in the paper). A listing is a random sample of the genes at exactly that distance, new
    for each pair; the hidden gene is never in it. A ring without genes reads "none".

    Parameters
    ----------
    graph
        Interactions: a networkx graph of symbols, or a table with symbols in its first two columns. Directions, weights
        and attributes are not used; self-loops are left out and repeated edges merged.
    n_neighbors
        At most so many genes one, two and three steps away. With the default, the longest question has about 320 tokens
        of Llama 3.
    relation
        What an edge means, a block of ``text/templates/relations.toml``: ``"interaction"``, ``"regulation"``, ...
    seed
        Pair ``i`` is a function of the graph, the seed and ``i``.

    Returns
    -------
    Pairs of the task ``"masked_node"``: the answer is the gene's symbol.

    Raises
    ------
    TypeError
        If ``graph`` is neither, or a node is no string.
    ValueError
        If there is no edge, a symbol is empty or has blanks, or ``n_neighbors`` are not three numbers above 0.
    KeyError
        If there is no such relation.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ppi = ch.datasets.ppi("toy")
    >>> pairs = ch.train.corpus.node_pairs(ppi)
    >>> len(pairs) == 5 * len(ppi)
    True
    >>> partners = pairs[0].prompt.text.splitlines()[1].removeprefix("Direct interaction partners include: ").split()
    >>> set(partners) <= set(ppi[pairs[0].answer])
    True
    """
    _check_sizes(n_neighbors)
    compacted, about = checked(graph, relation, seed, "masked_node")
    about |= {"n_neighbors": list(n_neighbors)}
    nodes = np.flatnonzero(compacted.degree).astype(np.int32)
    make = _NodePairs(compacted, nodes, tuple(kinds("masked_node", relation).values()), tuple(n_neighbors), seed)
    dropped = left_out(compacted) | {"gene without neighbour": len(compacted.symbols) - len(nodes)}
    return Pairs(make, len(nodes) * len(make.templates), task="masked_node", about=about, dropped=dropped)


def link_pairs(
    graph: nx.Graph | pd.DataFrame,
    *,
    n_pairs: int | None = None,
    negatives: Literal["degree", "uniform"] = "degree",
    n_neighbors: Sequence[int] = (30, 20, 10),
    relation: str = "interaction",
    seed: int = 0,
) -> Pairs:
    """Ask whether two genes are joined in a graph, with genes around one or both of them, or without.

    Half of the pairs ask for an edge, half for two genes that are not joined, in turns of random order; both halves use
    the ten kinds of context equally often. Edges are drawn without replacement. An edge in question counts as absent:
    distances are those of the graph without it, and neither gene is listed around the other. So that nothing but the
    edge differs, each gene of a negative loses one random neighbour in the same way. A ring without genes reads "none".

    Parameters
    ----------
    graph
        As in :func:`node_pairs`.
    n_pairs
        How many pairs, an even number; None asks for every edge once. The paper has 1,455,846.
    negatives
        ``"degree"`` keeps the first gene of an edge and exchanges the second with another edge, whose second gene has
        about as many neighbours: every gene is asked about as often with the answer Yes as with No, so that neither
        names nor degrees tell the answer. ``"uniform"`` draws two genes that have neighbours.
    n_neighbors
        At most so many genes one, two and three steps away from each gene. With the default, the longest question has
        about 600 tokens of Llama 3.
    relation, seed
        As in :func:`node_pairs`.

    Returns
    -------
    Pairs of the task ``"masked_link"``: the answer is ``"Yes"`` or ``"No"``.

    Raises
    ------
    ValueError
        If all genes are joined with each other, ``n_pairs`` is odd or more than twice the number of edges, or another
        argument is out of range; graph and relation as for :func:`node_pairs`.

    Examples
    --------
    >>> import cellhermes as ch
    >>> pairs = ch.train.corpus.link_pairs(ch.datasets.ppi("toy"), n_pairs=100)
    >>> sum(pair.answer == "Yes" for pair in pairs)
    50
    """
    if negatives not in ("degree", "uniform"):
        msg = f"negatives={negatives!r}; expected 'degree' or 'uniform'."
        raise ValueError(msg)
    _check_sizes(n_neighbors)
    compacted, about = checked(graph, relation, seed, "masked_link")
    check_strangers(compacted)
    n_edges = len(compacted.edges)
    n_pairs = 2 * n_edges if n_pairs is None else n_pairs
    if n_pairs % 2 or not 0 < n_pairs <= 2 * n_edges:
        msg = (
            f"n_pairs={n_pairs:,}; expected an even number (an edge and a negative each) up to {2 * n_edges:,}, "
            f"as the graph has {n_edges:,} edges."
        )
        raise ValueError(msg)
    drawn = np.argsort(hashed(seed, Use.LINK_EDGES, np.arange(n_edges)), kind="stable")[: n_pairs // 2]
    edges = compacted.edges[drawn]
    flipped = hashed(seed, Use.LINK_ENDS, np.arange(len(edges))) % np.uint64(2) == 1
    edges[flipped] = edges[flipped, ::-1]
    templates = tuple(kinds("masked_link", relation).values())
    bits = hashed(seed, Use.LINK_STRANGERS, np.arange(len(edges)))
    strangers = (
        exchanged(compacted, edges, bits) if negatives == "degree" else non_edges(compacted, edges, bits, like=False)
    )
    make = _LinkPairs(compacted, edges, strangers, templates, tuple(n_neighbors), seed)
    about |= {"n_neighbors": list(n_neighbors), "n_pairs": n_pairs, "negatives": negatives}
    return Pairs(make, n_pairs, task="masked_link", about=about, dropped=left_out(compacted))


def _check_sizes(n_neighbors: Sequence[int]) -> None:
    if len(n_neighbors) != HOPS or min(n_neighbors) < 1:
        msg = f"n_neighbors={n_neighbors!r}; expected {HOPS} numbers above 0: genes one, two and three steps away."
        raise ValueError(msg)


@dataclass(frozen=True)
class _NodePairs:
    """Makes masked-node pairs; number = place of the gene x number of kinds + kind."""

    graph: Graph
    nodes: np.ndarray
    templates: tuple[Template, ...]
    sizes: tuple[int, ...]
    seed: int

    def __call__(self, numbers: np.ndarray) -> list[QAPair]:
        places, kind = np.divmod(numbers, len(self.templates))
        nodes, shown = self.nodes[places], _shown(self.templates, "")
        bits = hashed(self.seed, Use.NODE_RINGS, numbers)
        listed = [ring.tolist() for ring in rings(self.graph, nodes, bits, self.sizes, depth=_depths(shown)[kind])]
        wording = wordings(self.templates, self.seed, Use.NODE_WORDING, numbers)
        pairs, symbols = [], self.graph.symbols
        for i, (node, k, variant) in enumerate(zip(nodes.tolist(), kind.tolist(), wording, strict=True)):
            template, gene = self.templates[k], symbols[node]
            slots = {slot: _listing(symbols, listed[ring][i]) for slot, ring in shown[k].items()}
            prompt = template.fill(variant=variant, **slots)
            pairs.append(QAPair(prompt, template.answer.format(gene=gene), "masked_node", gene))
        return pairs


@dataclass(frozen=True)
class _LinkPairs:
    """Makes masked-link pairs; numbers 2 p and 2 p + 1 are edge p and its negative, or the other way round."""

    graph: Graph
    edges: np.ndarray
    strangers: np.ndarray
    """For each edge the two genes of its negative."""
    templates: tuple[Template, ...]
    sizes: tuple[int, ...]
    seed: int

    def __call__(self, numbers: np.ndarray) -> list[QAPair]:
        at = numbers // 2
        kind = at % len(self.templates)
        joined = numbers % 2 == (hashed(self.seed, Use.LINK_FIRST, at) % np.uint64(2)).astype(np.int64)
        ends, absent, unnamed = self._questions(at, joined)
        shown = [_shown(self.templates, prefix) for prefix in ("a_", "b_")]
        listed = [[], []]
        for end, nodes in enumerate(ends.T):
            bits, depth = hashed(self.seed, RINGS[end], numbers), _depths(shown[end])[kind]
            drawn = rings(self.graph, nodes, bits, self.sizes, depth=depth, hidden=absent, unnamed=unnamed[:, end])
            listed[end] = [ring.tolist() for ring in drawn]
        wording = wordings(self.templates, self.seed, Use.LINK_WORDING, numbers)
        pairs, symbols = [], self.graph.symbols
        for i, (k, variant, yes) in enumerate(zip(kind.tolist(), wording, joined.tolist(), strict=True)):
            template = self.templates[k]
            gene_a, gene_b = (symbols[node] for node in ends[i].tolist())
            slots = {
                slot: _listing(symbols, listed[end][ring][i]) for end in (0, 1) for slot, ring in shown[end][k].items()
            }
            prompt = template.fill(variant=variant, gene_a=gene_a, gene_b=gene_b, **slots)
            answer = template.answer.format(verdict="Yes" if yes else "No")
            pairs.append(QAPair(prompt, answer, "masked_link", f"{gene_a} {gene_b}"))
        return pairs

    def _questions(self, at: np.ndarray, joined: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give both genes (pairs x 2), the edges that count as absent (x 4), and for each gene two that are not listed.

        An edge is absent itself. A negative's genes lose a neighbour each, which, as it is joined with the gene in
        truth, is not listed at another distance either.
        """
        ends = np.where(joined[:, np.newaxis], self.edges[at], self.strangers[at])
        absent, unnamed = np.full((len(at), 4), -1, np.int32), np.full((len(at), 2, 2), -1, np.int32)
        absent[joined, :2] = ends[joined]
        no = ~joined
        unnamed[:, :, 0] = ends[:, ::-1]
        for end in (0, 1):
            lost = one_neighbor(self.graph, ends[no, end], hashed(self.seed, LOST[end], at[no]))
            absent[no, 2 * end], absent[no, 2 * end + 1] = ends[no, end], lost
            unnamed[no, end, 1] = lost
        return ends, absent, unnamed


def _shown(templates: Sequence[Template], prefix: str) -> list[dict[str, int]]:
    """Say for each template which of its slots takes which ring (0 for one step away)."""
    ring_of = {f"{prefix}hop{hop}": hop - 1 for hop in range(1, HOPS + 1)}
    return [{slot: ring_of[slot] for slot in template.slots if slot in ring_of} for template in templates]


def _depths(shown: list[dict[str, int]]) -> np.ndarray:
    """Count the rings that each template needs, up to the last."""
    return np.array([1 + max(slots.values(), default=-1) for slots in shown])


def _listing(symbols: Sequence[str], nodes: list[int]) -> str:
    return " ".join([symbols[node] for node in nodes if node >= 0]) or NOTHING
