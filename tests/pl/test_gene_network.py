"""Nodes and edges that are drawn, against networkx."""

import networkx as nx
import numpy as np
import pytest
from matplotlib.text import Annotation

import cellhermes as ch
from cellhermes import get


def labels(ax):
    """Genes that are written beside their nodes."""
    return {text.get_text() for text in ax.texts if isinstance(text, Annotation)}


def test_a_gene_its_neighbours_and_their_edges_are_drawn(drawn):
    ax = ch.pl.gene_network(drawn, "CD79A", "B")
    ego = nx.ego_graph(get.gene_network(drawn, "B"), "CD79A")
    edges, nodes = ax.collections[:2]
    assert labels(ax) == set(ego)
    assert len(nodes.get_offsets()) == len(ego)
    assert len(edges.get_segments()) == ego.number_of_edges()
    assert ax.get_title() == "CD79A in B"


def test_edges_end_at_nodes_and_are_wider_where_heavier(drawn):
    ax = ch.pl.gene_network(drawn, "CD79A", "B")
    edges, nodes = ax.collections[:2]
    ends = np.concatenate(edges.get_segments())
    gap = np.abs(ends[:, None] - np.asarray(nodes.get_offsets())[None]).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(gap, 0, atol=1e-12)
    ego = nx.ego_graph(get.gene_network(drawn, "B"), "CD79A")
    weights = sorted(weight for *_, weight in ego.edges.data("weight"))
    np.testing.assert_allclose(sorted(edges.get_linewidths()), 0.3 + 1.7 * np.array(weights) / max(weights), rtol=1e-6)


def test_area_is_the_degree_in_the_whole_network(drawn):
    ax = ch.pl.gene_network(drawn, "CD79A", "B")
    degree = sorted((d for gene, d in get.gene_network(drawn, "B").degree if gene in labels(ax)))
    sizes = sorted(ax.collections[1].get_sizes())
    np.testing.assert_allclose(sizes, 25 + 150 * np.array(degree) / max(degree))


def test_colours_are_changes_of_degree(drawn):
    ax = ch.pl.gene_network(drawn, "CD79A", "B", reference="NK", n_labels=200)
    change = get.degree_change(drawn, "B", "NK")["change"]
    genes = labels(ax)
    drawn_changes = ax.collections[1].get_array()
    np.testing.assert_array_equal(sorted(drawn_changes), sorted(change.reindex([*genes]).fillna(0)))
    low, high = ax.collections[1].get_clim()
    assert low == -high == -max(1, np.abs(drawn_changes).max())


def test_a_module_is_drawn_and_colours_name_modules(drawn):
    table = get.modules(drawn, "genes", group="B")
    inside = table[table["module"] == 1]["gene"]
    ax = ch.pl.gene_network(drawn, 1, "B", n_labels=500)
    assert labels(ax) == set(inside)
    legend = ch.pl.gene_network(drawn, 1, "B", color="module").get_legend()
    assert [t.get_text() for t in legend.get_texts()] == [f"1 ({len(inside)})"]


def test_labels_go_to_the_genes_of_highest_degree_and_the_one_that_was_asked_for(drawn):
    ax = ch.pl.gene_network(drawn, "CD79A", "B", n_labels=3)
    degree = dict(get.gene_network(drawn, "B").degree)
    ego = nx.ego_graph(get.gene_network(drawn, "B"), "CD79A")
    highest = sorted(ego, key=lambda gene: (-degree[gene], gene))[:3]
    assert labels(ax) == {*highest, "CD79A"}


def test_layout_depends_on_the_seed_alone(drawn):
    place = lambda rng: np.asarray(ch.pl.gene_network(drawn, "CD79A", "B", rng=rng).collections[1].get_offsets())
    # the order in which genes reach the layout must not be that of a set of strings, which differs between sessions
    ego = nx.ego_graph(get.gene_network(drawn, "B"), "CD79A")
    degree = dict(get.gene_network(drawn, "B").degree)
    ordered = nx.Graph()
    ordered.add_nodes_from(sorted(ego, key=lambda gene: (-degree[gene], gene)))
    ordered.add_edges_from(ego.edges)
    expected = nx.spring_layout(ordered, seed=3, iterations=300, k=3 / np.sqrt(len(ego)), weight=None)
    np.testing.assert_allclose(place(3), [*expected.values()], atol=1e-9)
    assert not np.allclose(place(3), place(4))


@pytest.mark.parametrize(
    ("of", "options", "error", "message"),
    [
        ("NOWHERE", {}, KeyError, r"'NOWHERE' is not in the network of 'B'.*pass its number"),
        (999, {}, KeyError, "Module 999 not found; the modules of 'B' are"),
        ("CD79A", {"color": "degree_change"}, ValueError, "compares two groups; got group='B' and reference=None"),
    ],
)
def test_bad_input_says_what_to_do(drawn, of, options, error, message):
    with pytest.raises(error, match=message):
        ch.pl.gene_network(drawn, of, "B", **options)


def test_it_says_how_many_genes_have_labels(drawn):
    n = len(ch.get.gene_network(drawn, "B")["CD79A"]) + 1
    for n_labels, text in ((n, f"{n} genes"), (3, f"{n} genes, {{}} of them labelled")):
        ax = ch.pl.gene_network(drawn, "CD79A", "B", n_labels=n_labels)
        assert text.format(len(labels(ax))) in [each.get_text() for each in ax.texts]
