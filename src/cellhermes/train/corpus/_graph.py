"""Bounded samples of what stands around a node of a graph: its neighbours, those two steps away, those three.

A graph is two integer arrays and a list of symbols; nothing here knows networkx or AnnData, and no text is written.
Three steps reach nearly every gene of a dense interaction graph, so a ring is drawn from and never listed in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from ...text._cell import jit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOPS = 3  # the paper's templates stop at three hops
WALKS = 4  # steps tried along edges, for each place of a listing, before nodes are tried at random
VISITS = 512  # nodes that are tried at random for a ring of which one is known already
WINDOW = 16  # nodes to either side, in the order of degrees, among which a node of like degree is sought first
TRIES = 8  # draws before that window doubles
REACH = 64  # edges to either side, in the order of degrees, with which an edge may exchange its second end
SWEEPS = 4, 30  # times each edge does so; times at most, for edges that have found no partner by then


@dataclass(frozen=True)
class Graph:
    """An undirected graph without self-loops and double edges; made by :func:`compact`."""

    symbols: tuple[str, ...]
    """Names of the nodes, sorted, so that the order of the input doesn't matter."""
    start: np.ndarray
    """Where each node's neighbours begin in ``neighbors``, and the end of the last. int64."""
    neighbors: np.ndarray
    """Neighbours of all nodes in turn, sorted for each. int32."""
    self_loops: int = 0
    """Edges from a node to itself that were left out."""
    duplicates: int = 0
    """Edges that were left out because the same two nodes were joined already, in either direction."""

    @cached_property
    def degree(self) -> np.ndarray:
        """Count the neighbours of each node. int64."""
        return np.diff(self.start)

    @cached_property
    def edges(self) -> np.ndarray:
        """List both ends of each edge (edges x 2, int32), the smaller number first, sorted."""
        first = np.repeat(np.arange(len(self.symbols), dtype=np.int32), self.degree)
        return np.stack([first, self.neighbors], axis=1)[first < self.neighbors]

    @cached_property
    def by_degree(self) -> tuple[np.ndarray, np.ndarray]:
        """Order nodes with neighbours by degree (int32); also the place of each node in this order, or -1 (int64)."""
        order = np.argsort(self.degree, kind="stable")
        order = order[self.degree[order] > 0].astype(np.int32)
        place = np.full(len(self.symbols), -1, np.int64)
        place[order] = np.arange(len(order))
        return order, place

    def sha256(self) -> str:
        """Hash symbols and edges: equal for equal graphs, whatever the order they were given in."""
        digest = sha256("\n".join(self.symbols).encode())
        digest.update(self.start.astype("<i8").tobytes())
        digest.update(self.neighbors.astype("<i4").tobytes())
        return digest.hexdigest()


def compact(a: Sequence[str], b: Sequence[str], nodes: Iterable[str] = ()) -> Graph:
    """Make a graph of the edges ``a[i]`` - ``b[i]``.

    Parameters
    ----------
    a, b
        Symbols at both ends.
    nodes
        Further nodes, which may have no edge.

    Examples
    --------
    >>> from cellhermes.train.corpus._graph import compact
    >>> graph = compact(["TP53", "MDM2", "TP53"], ["MDM2", "TP53", "TP53"], ["ACTB"])
    >>> graph.symbols, graph.degree.tolist(), graph.self_loops, graph.duplicates
    (('ACTB', 'MDM2', 'TP53'), [0, 1, 1], 1, 1)
    """
    symbols = sorted({*a, *b, *nodes})
    number = {symbol: i for i, symbol in enumerate(symbols)}
    ends = np.stack([np.fromiter(map(number.__getitem__, column), np.int64, len(column)) for column in (a, b)])
    ends = ends[:, ends[0] != ends[1]]
    keys, times = np.unique(ends.min(axis=0) * len(symbols) + ends.max(axis=0), return_counts=True)
    low, high = np.divmod(keys, max(len(symbols), 1))
    first, second = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.lexsort((second, first))
    start = np.concatenate([[0], np.cumsum(np.bincount(first, minlength=len(symbols)))]).astype(np.int64)
    return Graph(tuple(symbols), start, second[order].astype(np.int32), len(a) - ends.shape[1], int((times - 1).sum()))


def rings(
    graph: Graph,
    nodes: np.ndarray,
    bits: np.ndarray,
    sizes: Sequence[int],
    *,
    depth: np.ndarray | int = HOPS,
    hidden: np.ndarray | None = None,
    unnamed: np.ndarray | None = None,
) -> tuple[np.ndarray, ...]:
    """Draw from the nodes at distance 1, 2 and 3 of each of some nodes, each node at most once.

    Neighbours are drawn with equal chances. For the rings behind them, edges of the nodes drawn before are followed
    first, then nodes are tried in random order; each is checked to be at exactly that distance. A sample is empty only
    if the ring is, and holds the whole ring if that is not larger than asked for and the graph has at most ``VISITS``
    nodes.

    Parameters
    ----------
    graph
        Made by :func:`compact`.
    nodes
        Numbers of the nodes.
    bits
        64 random bits for each of them (uint64); the same bits give the same sample, whatever else is asked for.
    sizes
        At most so many of each ring.
    depth
        The last ring that is needed, for each node or for all.
    hidden
        Two edges for each node that count as absent (nodes x 4: ends of the first, ends of the second), -1 for none.
    unnamed
        Two nodes for each node that are not drawn, wherever they stand (nodes x 2), -1 for none.

    Returns
    -------
    For each ring the drawn nodes (nodes x size, int32) in random order, filled up with -1.
    """
    n = len(nodes)
    nodes = np.ascontiguousarray(nodes, np.int32)  # one type each, so that kernels are compiled once
    hidden = np.full((n, 4), -1, np.int32) if hidden is None else np.ascontiguousarray(hidden, np.int32)
    unnamed = np.full((n, 2), -1, np.int32) if unnamed is None else np.ascontiguousarray(unnamed, np.int32)
    drawn = tuple(np.full((n, size), -1, np.int32) for size in sizes)
    depth = np.full(n, depth, np.int32)
    widest = int(graph.degree.max(initial=0))
    _rings(graph.start, graph.neighbors, widest, nodes, depth, hidden, unnamed, bits, *drawn)
    return drawn


def exchanged(graph: Graph, edges: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Make as many pairs of nodes that are not joined as there are edges, out of the same ends.

    Edges exchange their second ends with edges whose second end has about the same degree. So each node stands at
    either end as often as it does in ``edges``: neither a name nor a degree tells whether a pair is an edge. Where no
    exchange helps, as for a node that is joined with all others, :func:`non_edges` finds a pair.

    Parameters
    ----------
    graph
        Made by :func:`compact`; at least one pair of its nodes with neighbours is not joined.
    edges
        Edges x 2.
    bits
        64 random bits for each edge.

    Returns
    -------
    Pairs of nodes (edges x 2, int32); the first end is that of the edge, unless it has no other partner.
    """
    edges = np.ascontiguousarray(edges, np.int32)
    order = np.lexsort((bits, graph.degree[edges[:, 1]]))
    pairs = edges.copy()
    pairs[order, 1] = _exchange(graph.start, graph.neighbors, edges[order], bits[:1].copy())
    bad = _joined(graph.start, graph.neighbors, pairs)
    pairs[bad] = non_edges(graph, edges[bad], bits[bad])
    return pairs


def non_edges(graph: Graph, edges: np.ndarray, bits: np.ndarray, *, like: bool = True) -> np.ndarray:
    """Draw for each edge two nodes that are not joined.

    Parameters
    ----------
    graph
        Made by :func:`compact`; at least one pair of its nodes with neighbours is not joined.
    edges
        Edges x 2. The first end is kept where that is possible.
    bits
        64 random bits for each edge.
    like
        Whether the second end is replaced by a node of about its degree: one of the ``WINDOW`` nodes to either side in
        the order of degrees, of more if that finds none. Otherwise both ends are drawn from all nodes with neighbours.

    Returns
    -------
    Pairs of nodes (edges x 2, int32).
    """
    order, place = graph.by_degree
    edges = np.ascontiguousarray(edges, np.int32)
    return _non_edges(graph.start, graph.neighbors, order, place, edges, bits, like)


def one_neighbor(graph: Graph, nodes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Draw one neighbour of each node from 64 random bits; every node must have one."""
    start = graph.start[nodes]
    places = (bits >> np.uint64(32)) * (graph.start[nodes + 1] - start).astype(np.uint64) >> np.uint64(32)
    return graph.neighbors[start + places.astype(np.int64)]


@jit
def _below(state, n):  # noqa: ANN001, ANN202
    """Draw a whole number 0 <= x < n; one step of splitmix64 (Steele, Lea and Flood 2014) on ``state[0]``."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    x = state[0]
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return np.int64(((x >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@jit
def _rings(start, neighbors, widest, nodes, depth, hidden, unnamed, bits, first, second, third):  # noqa: ANN001, ANN202
    n = len(start) - 1
    near, taken = np.zeros(n, np.int32), np.zeros(n, np.int32)  # marks of the node at hand: its neighbours; not drawn
    pool = np.empty(widest, np.int32)
    state = np.empty(1, np.uint64)
    for item in range(len(nodes)):
        if depth[item] == 0:
            continue
        x, mark, absent = nodes[item], item + 1, hidden[item]
        state[0] = bits[item]
        taken[x] = mark
        for node in unnamed[item]:
            if node >= 0:
                taken[node] = mark
        size, any_near = 0, False
        for y in neighbors[start[x] : start[x + 1]]:
            if _is_absent(absent, x, y):
                continue
            near[y], any_near = mark, True
            if taken[y] != mark:
                pool[size] = y
                size += 1
        drawn = min(size, first.shape[1])
        for i in range(drawn):
            j = i + _below(state, size - i)
            pool[i], pool[j] = pool[j], pool[i]
            first[item, i] = pool[i]
            taken[pool[i]] = mark
        if depth[item] == 1 or not any_near:
            continue
        drawn = _draw_ring(2, start, neighbors, near, taken, mark, absent, state, first[item, :drawn], second[item])
        any_second = drawn > 0
        for node in unnamed[item]:  # a node that may not be named can still be on the way
            if node >= 0 and node != x:
                any_second |= _is_in_ring(2, start, neighbors, node, near, mark, absent)
        if depth[item] == 2 or not any_second:
            continue
        _draw_ring(3, start, neighbors, near, taken, mark, absent, state, second[item, :drawn], third[item])


@jit
def _draw_ring(hop, start, neighbors, near, taken, mark, absent, state, before, out):  # noqa: ANN001, ANN202
    """Fill ``out`` from the ring at distance ``hop``, 2 or 3; return how many were drawn."""
    drawn, n = 0, len(start) - 1
    for _ in range(WALKS * len(out) if len(before) else 0):
        if drawn == len(out):
            break
        y = before[_below(state, len(before))]
        z = neighbors[start[y] + _below(state, start[y + 1] - start[y])]
        if taken[z] != mark and _is_in_ring(hop, start, neighbors, z, near, mark, absent):
            out[drawn], taken[z] = z, mark
            drawn += 1
    step = _coprime(1 + _below(state, n), n)
    z = _below(state, n)
    for visit in range(n):
        if drawn == len(out) or (visit >= VISITS and drawn):
            break
        z = (z + step) % n
        if taken[z] != mark and _is_in_ring(hop, start, neighbors, z, near, mark, absent):
            out[drawn], taken[z] = z, mark
            drawn += 1
    return drawn


@jit
def _is_in_ring(hop, start, neighbors, z, near, mark, absent):  # noqa: ANN001, ANN202
    """Tell whether ``z`` is exactly ``hop`` (2 or 3) steps from the node whose neighbours are marked, and not it."""
    if near[z] == mark or _touches(start, neighbors, z, near, mark, absent) == (hop == 3):
        return False
    if hop == 2:
        return True
    for y in neighbors[start[z] : start[z + 1]]:
        if not _is_absent(absent, y, z) and _touches(start, neighbors, y, near, mark, absent):
            return True
    return False


@jit
def _touches(start, neighbors, z, near, mark, absent):  # noqa: ANN001, ANN202
    """Tell whether a neighbour of ``z`` is marked."""
    for y in neighbors[start[z] : start[z + 1]]:  # noqa: SIM110 (numba compiles no generator)
        if near[y] == mark and not _is_absent(absent, y, z):
            return True
    return False


@jit
def _is_absent(absent, y, z):  # noqa: ANN001, ANN202
    """Tell whether y - z is one of the two edges that count as absent."""
    a, b, c, d = absent[0], absent[1], absent[2], absent[3]
    return (a == y and b == z) or (a == z and b == y) or (c == y and d == z) or (c == z and d == y)


@jit
def _coprime(step, n):  # noqa: ANN001, ANN202
    """Find the next step that visits all of ``n`` places."""
    while True:
        a, b = step, n
        while b:
            a, b = b, a % b
        if a == 1:
            return step
        step += 1


@jit
def _exchange(start, neighbors, edges, state):  # noqa: ANN001, ANN202
    """Exchange second ends of edges that are sorted by the degree of the second end."""
    n, second, most, n_bad = len(edges), edges[:, 1].copy(), SWEEPS[1], 0
    for sweep in range(most):
        before, n_bad = n_bad, 0
        widening = max(0, sweep - SWEEPS[0] + 1)
        for i in range(n):
            a = edges[i, 0]
            is_bad = a == second[i] or _is_joined(start, neighbors, a, second[i])
            n_bad += is_bad
            if widening and not is_bad:
                continue
            node = edges[i, 1]  # wider than the edges of one node, which share its neighbours
            reach = max(REACH, 2 * (start[node + 1] - start[node])) << widening
            low, high = max(0, i - reach), min(n, i + reach + 1)
            for _ in range(2 * TRIES):
                j = low + _below(state, high - low)
                if a == second[j] or _is_joined(start, neighbors, a, second[j]):
                    continue
                c = edges[j, 0]
                if c != second[i] and not _is_joined(start, neighbors, c, second[i]):
                    helps = True
                else:  # then the other edge must have been a bad one before
                    helps = c == second[j] or _is_joined(start, neighbors, c, second[j])
                if helps:
                    second[i], second[j] = second[j], second[i]
                    break
        if widening and (n_bad == 0 or (n_bad == before and REACH << widening >= n)):
            break
    return second


@jit
def _joined(start, neighbors, pairs):  # noqa: ANN001, ANN202
    """Tell which pairs are edges, or one node twice."""
    out = np.empty(len(pairs), np.bool_)
    for i in range(len(pairs)):
        a, b = pairs[i]
        out[i] = a == b or _is_joined(start, neighbors, a, b)
    return out


@jit
def _non_edges(start, neighbors, order, place, edges, bits, like):  # noqa: ANN001, ANN202
    out = np.empty((len(edges), 2), np.int32)
    state = np.empty(1, np.uint64)
    for item in range(len(edges)):
        state[0] = bits[item]
        a, b = edges[item, 0], edges[item, 1]
        if not like:
            a, b = order[_below(state, len(order))], order[_below(state, len(order))]
        other = _stranger(start, neighbors, order, a, place[b], state, like)
        if other < 0:  # joined with every node: replace this end instead
            a, other = b, _stranger(start, neighbors, order, b, place[a], state, like)
        i = place[a]
        while other < 0:
            i = (i + 1) % len(order)
            a = order[i]
            other = _stranger(start, neighbors, order, a, place[b], state, like)
        out[item, 0], out[item, 1] = a, other
    return out


@jit
def _stranger(start, neighbors, order, a, at, state, like):  # noqa: ANN001, ANN202
    """Draw a node that is not joined with ``a``, around place ``at`` of the order; -1 if there is none."""
    if start[a + 1] - start[a] == len(order) - 1:
        return np.int32(-1)
    reach = WINDOW if like else len(order)
    while True:
        low, high = max(0, at - reach), min(len(order), at + reach + 1)
        for _ in range(TRIES):
            b = order[low + _below(state, high - low)]
            if b != a and not _is_joined(start, neighbors, a, b):
                return b
        if reach >= len(order):
            break
        reach *= 2
    for away in range(len(order)):  # hardly any is left: take the nearest
        for i in (at - away, at + away):
            if 0 <= i < len(order) and order[i] != a and not _is_joined(start, neighbors, a, order[i]):
                return order[i]
    return np.int32(-1)


@jit
def _is_joined(start, neighbors, a, b):  # noqa: ANN001, ANN202
    if start[a + 1] - start[a] > start[b + 1] - start[b]:
        a, b = b, a
    row = neighbors[start[a] : start[a + 1]]
    i = np.searchsorted(row, b)
    return i < len(row) and row[i] == b
