"""Lists from a graph: true, balanced, and blind to degrees."""

from collections import Counter
from functools import partial
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellhermes as ch
from cellhermes.train.corpus import list_pairs


@pytest.fixture(scope="module")
def graph():
    """Genes of very different degrees."""
    plain = nx.barabasi_albert_graph(60, 3, seed=1)
    return nx.relabel_nodes(plain, {i: f"G{i}" for i in plain})


def verdicts(pair):
    words = pair.answer.split(" ")
    assert all(word.endswith(":") for word in words[::2])
    return [(gene[:-1], verdict) for gene, verdict in zip(words[::2], words[1::2], strict=True)]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 4), seed=st.integers(0, 99))
def test_verdicts_are_true_and_half_of_them_yes(graph, n, seed):
    for pair in list_pairs(graph, "link_list", n_pairs=8, n_genes=2 * n, seed=seed):
        said = verdicts(pair)
        near = set(graph[pair.source])
        assert all((gene in near) == (verdict == "Yes") and gene != pair.source for gene, verdict in said)
        assert len(said) == 2 * min(n, len(near))
        assert sum(verdict == "Yes" for _, verdict in said) == len(said) / 2
        assert len({gene for gene, verdict in said if verdict == "Yes"}) == len(said) / 2
        assert pair.prompt.text.endswith(f"Gene: {pair.source}")


def test_a_candidate_s_degree_does_not_tell_the_verdict(graph):
    degree = {"Yes": [], "No": []}
    for pair in list_pairs(graph, "link_list", n_pairs=600, n_genes=60):
        for gene, verdict in verdicts(pair):
            degree[verdict].append(graph.degree[gene])
    yes, no = (np.mean(np.log(degree[verdict])) for verdict in ("Yes", "No"))
    uniform = np.mean(np.log([d for _, d in graph.degree]))
    assert abs(yes - no) < 0.25 * abs(yes - uniform)


def test_neighbors_are_drawn_by_the_root_of_their_degree(graph):
    hub = max(graph, key=graph.degree)
    pairs = list_pairs(graph, "neighbors", n_pairs=12_000, n_genes=1)
    first = Counter(pair.answer for pair in pairs if pair.source == hub)
    near = sorted(graph[hub])
    expected = np.array([graph.degree[gene] ** -0.5 for gene in near])
    found = np.array([first[gene] for gene in near])
    expected *= found.sum() / expected.sum()
    chi2 = ((found - expected) ** 2 / expected).sum()
    assert found.sum() > 300
    assert chi2 < len(near) + 4 * np.sqrt(2 * len(near))
    uniform = found.sum() / len(near)
    assert ((found - uniform) ** 2 / uniform).sum() > 1.5 * chi2, "the test sees the weights"


def test_neighbors_are_partners_without_repeats(graph):
    for pair in list_pairs(graph, "neighbors", n_pairs=50, n_genes=5):
        listed = pair.answer.split(" ")
        assert len(set(listed)) == len(listed) == min(5, graph.degree[pair.source])
        assert set(listed) <= set(graph[pair.source])


def test_a_walk_follows_edges(graph):
    for pair in list_pairs(graph, "walk", n_pairs=50, n_genes=12):
        passed = [pair.source, *pair.answer.split(" ")]
        assert len(passed) == 13
        assert all(graph.has_edge(a, b) for a, b in pairwise(passed))


@pytest.mark.parametrize("kind", ["link_list", "neighbors", "walk"])
def test_a_pair_depends_on_its_number_and_the_seed_alone(graph, kind):
    make = partial(list_pairs, kind=kind)
    pairs = make(graph, n_pairs=30, seed=3)
    assert [pairs[i] for i in (17, 2, 29)] == list(pairs.take([17, 2, 29]))
    shuffled = nx.Graph()
    shuffled.add_edges_from((b, a) for a, b in list(graph.edges)[::-1])
    assert list(make(shuffled, n_pairs=30, seed=3)) == list(pairs)
    assert list(make(graph, n_pairs=30, seed=4)) != list(pairs)
    assert pairs.fingerprint() == make(shuffled, n_pairs=30, seed=3).fingerprint()
    assert pairs.fingerprint() != make(graph, n_pairs=30, seed=4).fingerprint()


def test_genes_are_drawn_by_their_edges(graph):
    asked = Counter(pair.source for pair in list_pairs(graph, "walk", n_pairs=6000, n_genes=1))
    share = np.array([asked[gene] / 6000 for gene in graph])
    expected = np.array([graph.degree[gene] for gene in graph]) / (2 * graph.number_of_edges())
    assert np.abs(share - expected).max() < 4 * np.sqrt(expected.max() / 6000)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda g: list_pairs(g, "link_list", n_pairs=2, n_genes=3), "n_genes=3; expected .* an even number"),
        (lambda g: list_pairs(g, "link_list", n_pairs=0), "n_pairs=0, .*; expected at least 1 pair"),
        (lambda g: list_pairs(g, "neighbors", n_pairs=2, n_genes=0), "n_genes=0; expected .* at least 1 genes"),
        (lambda g: list_pairs(g, "stars", n_pairs=2), "kind='stars'; expected one of .*'walk'"),
        (lambda g: list_pairs(nx.Graph(), "walk", n_pairs=2), "no edge"),
        (lambda g: list_pairs(nx.complete_graph(list("ABC")), "link_list", n_pairs=2), "negatives need two"),
    ],
)
def test_what_cannot_be_listed_is_refused(graph, call, says):
    with pytest.raises(ValueError, match=says):
        call(graph)


def test_lists_mix_with_the_four_objectives(graph):
    lists = [list_pairs(graph, kind, n_pairs=20) for kind in ("link_list", "walk")]
    parts = [*lists, ch.train.corpus.node_pairs(graph)]
    mixed = ch.train.corpus.mixture(parts, {"link_list": 5, "walk": 5, "masked_node": 5})
    assert Counter(pair.task for pair in mixed) == {"link_list": 5, "walk": 5, "masked_node": 5}
