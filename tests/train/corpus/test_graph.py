from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellhermes.train.corpus import _graph
from cellhermes.train.corpus._graph import compact, exchanged, non_edges, one_neighbor, rings

SIZES = (4, 3, 2)


def bits(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, n, np.uint64)


def of(graph):
    """The graph as arrays; node ``N007`` has number 7."""
    names = {node: f"N{node:05}" for node in graph}
    a, b = ([names[edge[end]] for edge in graph.edges] for end in (0, 1))
    return compact(a, b, names.values())


@st.composite
def graphs(draw, n_max=14):
    n = draw(st.integers(2, n_max))
    pairs = [(a, b) for a in range(n) for b in range(a)]
    graph = nx.empty_graph(n)
    graph.add_edges_from(draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=3 * n)))
    return graph


def true_rings(graph, node, absent=(), unnamed=()):
    """Sets of nodes one, two and three steps away, by networkx."""
    graph = graph.copy()
    graph.remove_edges_from([edge for edge in absent if edge[0] >= 0])
    distance = nx.single_source_shortest_path_length(graph, node, cutoff=3)
    return [{z for z, d in distance.items() if d == hop and z not in unnamed} for hop in (1, 2, 3)]


def drawn(found, item=0):
    return [[z for z in ring[item].tolist() if z >= 0] for ring in found]


# ---- the graph


def test_a_small_graph_by_hand():
    graph = compact(["B", "C", "A", "B", "B"], ["C", "B", "B", "B", "D"], ["Z"])
    assert graph.symbols == ("A", "B", "C", "D", "Z")
    assert graph.start.tolist() == [0, 1, 4, 5, 6, 6]
    assert graph.neighbors.tolist() == [1, 0, 2, 3, 1, 1]
    assert graph.degree.tolist() == [1, 3, 1, 1, 0]
    assert graph.edges.tolist() == [[0, 1], [1, 2], [1, 3]]
    assert (graph.self_loops, graph.duplicates) == (1, 1)
    assert [part.tolist() for part in graph.by_degree] == [[0, 2, 3, 1], [0, 3, 1, 2, -1]]


@settings(deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_order_and_direction_of_edges_do_not_matter(graph, random):
    one = of(graph)
    edges = [random.sample(edge, 2) for edge in graph.edges]
    random.shuffle(edges)
    nodes = [f"N{node:05}" for node in random.sample(list(graph), len(graph))]
    other = compact([f"N{a:05}" for a, _ in edges], [f"N{b:05}" for _, b in edges], nodes)
    assert one.symbols == other.symbols
    assert one.sha256() == other.sha256()
    assert one.edges.tolist() == sorted(sorted(edge) for edge in graph.edges)
    assert other.neighbors.tolist() == [b for a in sorted(graph) for b in sorted(graph[a])]


def test_the_hash_sees_a_changed_edge_and_a_changed_symbol():
    hashes = {compact(a, b).sha256() for a, b in [("AB", "BC"), ("AB", "CC"), ("AB", "BD"), ("A", "B")]}
    assert len(hashes) == 4


def test_an_empty_graph_has_no_nodes():
    assert compact([], []).symbols == ()
    assert compact([], [], ["A"]).degree.tolist() == [0]


# ---- rings


@settings(max_examples=300, deadline=None)
@given(graphs(), st.data())
def test_drawn_nodes_stand_at_exactly_their_distance(graph, data):
    """On the graph without the absent edges; all of a small ring, some of a larger one, never the unnamed."""
    node = st.integers(0, len(graph) - 1)
    x = data.draw(node)
    edges = st.sampled_from([*map(tuple, graph.edges), (-1, -1)])
    absent = data.draw(st.tuples(edges, edges))
    unnamed = data.draw(st.tuples(node | st.just(-1), node | st.just(-1)))
    found = rings(
        of(graph),
        np.array([x]),
        bits(1),
        SIZES,
        hidden=np.array([[*absent[0], *absent[1]]]),
        unnamed=np.array([unnamed]),
    )
    for got, true, size in zip(drawn(found), true_rings(graph, x, absent, unnamed), SIZES, strict=True):
        assert len(set(got)) == len(got) == min(len(true), size)
        assert set(got) <= true


@pytest.mark.parametrize("p", [0.0004, 0.0008, 0.002, 0.01])
def test_a_sample_of_a_large_graph_is_empty_only_if_the_ring_is(p):
    """The graph has more nodes than are tried at random once one has been found."""
    graph = nx.gnp_random_graph(4 * _graph.VISITS, p, seed=1)
    nodes = np.arange(0, len(graph), 40)
    found = rings(of(graph), nodes, bits(len(nodes)), SIZES)
    lengths = []
    for i, x in enumerate(nodes.tolist()):
        for got, true in zip(drawn(found, i), true_rings(graph, x), strict=True):
            assert set(got) <= true
            assert bool(got) == bool(true)
            lengths.append(len(got))
    assert max(lengths) == max(SIZES)


def test_a_ring_that_is_only_reached_through_an_unnamed_node_is_found():
    graph = of(nx.path_graph(4))  # 0 - 1 - 2 - 3
    found = rings(graph, np.array([0]), bits(1), SIZES, unnamed=np.array([[2, -1]]))
    assert drawn(found) == [[1], [], [3]]


def test_the_center_of_a_star_has_one_ring_and_its_points_two():
    found = rings(of(nx.star_graph(6)), np.array([0, 1]), bits(2), (10, 10, 10))
    assert [sorted(ring) for ring in drawn(found, 0)] == [[1, 2, 3, 4, 5, 6], [], []]
    assert [sorted(ring) for ring in drawn(found, 1)] == [[0], [2, 3, 4, 5, 6], []]


def test_a_sample_does_not_depend_on_what_else_is_asked():
    graph = of(nx.powerlaw_cluster_graph(300, 3, 0.3, seed=2))
    nodes, chance = np.random.default_rng(1).integers(0, 300, 200), bits(200)
    whole = rings(graph, nodes, chance, SIZES)
    order = np.random.default_rng(2).permutation(200)[:77]
    for ring, part in zip(whole, rings(graph, nodes[order], chance[order], SIZES), strict=True):
        assert (ring[order] == part).all()
    alone = rings(graph, nodes[5:6], chance[5:6], SIZES)
    assert drawn(alone) == drawn(whole, 5)
    shallow = rings(graph, nodes, chance, SIZES, depth=np.arange(200) % 4)
    for hop in (1, 2, 3):
        deep = np.arange(200) % 4 >= hop
        assert (shallow[hop - 1][deep] == whole[hop - 1][deep]).all()
        assert (shallow[hop - 1][~deep] == -1).all()


def test_neighbors_are_drawn_with_equal_chances_in_random_order():
    n = 40_000
    first, *_ = rings(of(nx.star_graph(8)), np.zeros(n, int), bits(n), (3, 1, 1))
    for place in first.T:  # each of the eight at each place: a binomial with standard deviation 66
        assert np.abs(np.bincount(place, minlength=9)[1:] - n / 8).max() < 5 * 66


def test_other_bits_give_another_sample():
    graph = of(nx.gnp_random_graph(200, 0.1, seed=3))
    found = rings(graph, np.zeros(50, int), bits(50), SIZES)
    assert all(len({tuple(row) for row in ring.tolist()}) > 40 for ring in found)


# ---- edges that are not there


@settings(max_examples=200, deadline=None)
@given(graphs(), st.booleans(), st.integers(0, 5))
def test_negatives_are_two_nodes_with_neighbors_that_are_not_joined(graph, like, seed):
    arrays = of(graph)
    nodes = [x for x in graph if graph.degree(x)]
    if len(arrays.edges) == len(nodes) * (len(nodes) - 1) // 2:
        return
    found = non_edges(arrays, arrays.edges, bits(len(arrays.edges), seed), like=like)
    for (a, b), (kept, other) in zip(arrays.edges.tolist(), found.tolist(), strict=True):
        assert kept != other
        assert not graph.has_edge(kept, other)
        assert graph.degree(kept) > 0
        assert graph.degree(other) > 0
        if like and graph.degree(a) < len(nodes) - 1:
            assert kept == a
        elif like and graph.degree(b) < len(nodes) - 1:
            assert kept == b


def test_the_second_end_of_a_negative_has_about_the_degree_of_the_one_it_replaces():
    graph = of(nx.barabasi_albert_graph(3000, 4, seed=1))
    edges = np.random.default_rng(0).permuted(graph.edges, axis=1)
    degree = graph.degree
    for like, low, high in [(True, 0.95, 1), (False, -0.1, 0.1)]:
        found = non_edges(graph, edges, bits(len(edges)), like=like)
        logs = np.log(degree[edges[:, 1]]), np.log(degree[found[:, 1]])
        assert low < np.corrcoef(*logs)[0, 1] <= high


def test_negatives_do_not_depend_on_what_else_is_asked():
    graph = of(nx.gnp_random_graph(100, 0.2, seed=4))
    chance = bits(len(graph.edges))
    whole = non_edges(graph, graph.edges, chance)
    assert (non_edges(graph, graph.edges[30:10:-2], chance[30:10:-2]) == whole[30:10:-2]).all()


@settings(max_examples=200, deadline=None)
@given(graphs(), st.integers(0, 5))
def test_exchanged_ends_are_not_joined(graph, seed):
    arrays = of(graph)
    nodes = [x for x in graph if graph.degree(x)]
    if len(arrays.edges) == len(nodes) * (len(nodes) - 1) // 2:
        return
    for (a, _), (kept, other) in zip(
        arrays.edges.tolist(), exchanged(arrays, arrays.edges, bits(len(arrays.edges), seed)).tolist(), strict=True
    ):
        assert kept != other
        assert not graph.has_edge(kept, other)
        if graph.degree(a) < len(nodes) - 1:
            assert kept == a


@pytest.mark.parametrize("draw_graph", [lambda: nx.barabasi_albert_graph(2000, 4, seed=1), lambda: nx.cycle_graph(9)])
def test_exchanged_ends_are_the_same_ends_with_partners_of_like_degree(draw_graph):
    graph = of(draw_graph())
    edges = np.random.default_rng(0).permuted(graph.edges, axis=1)
    found = exchanged(graph, edges, bits(len(edges)))
    assert (found[:, 0] == edges[:, 0]).all()
    assert (np.sort(found[:, 1]) == np.sort(edges[:, 1])).all()
    assert not (found[:, 1] == edges[:, 1]).any()
    logs = np.log(graph.degree[edges[:, 1]]), np.log(graph.degree[found[:, 1]])
    assert len(edges) == 9 or np.corrcoef(*logs)[0, 1] > 0.95
    assert (exchanged(graph, edges, bits(len(edges))) == found).all()
    assert len(edges) == 9 or (exchanged(graph, edges, bits(len(edges), 1)) != found).any(axis=1).mean() > 0.9


def test_a_star_has_no_ends_to_exchange_but_negatives():
    graph = of(nx.star_graph(5))
    found = exchanged(graph, graph.edges, bits(5))
    assert (found > 0).all()
    assert (found[:, 0] != found[:, 1]).all()


def test_every_neighbor_can_be_lost():
    graph = of(nx.star_graph(5))
    lost = Counter(one_neighbor(graph, np.zeros(6000, int), bits(6000)).tolist())
    assert sorted(lost) == [1, 2, 3, 4, 5]
    assert min(lost.values()) > 1000
    assert one_neighbor(graph, np.array([3]), bits(1)).tolist() == [0]
