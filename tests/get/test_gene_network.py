"""Graphs and changes of degree against networkx."""

import networkx as nx
import numpy as np
import pytest

import cellhermes as ch


@pytest.fixture
def networks(adata):
    ch.tl.gene_network(adata, groupby="cell_type", groups=["B", "NK"], use_rep="expression")
    return adata


def test_graph_has_symbols_and_weights(networks):
    graph = ch.get.gene_network(networks, "B")
    weights = networks.varp["gene_network:B"]
    assert list(graph) == list(networks.var_names[np.diff(weights.indptr) > 0])
    assert graph.number_of_edges() == weights.nnz / 2
    at = networks.var_names.get_loc
    for one, two, weight in graph.edges(data="weight"):
        assert weight == weights[at(one), at(two)]


def test_degrees_equal_networkx(networks):
    change = ch.get.degree_change(networks, "B", "NK")
    graphs = [ch.get.gene_network(networks, group) for group in ("B", "NK")]
    assert set(change.index) == set(graphs[0]) & set(graphs[1])
    for column, graph in zip(["degree", "degree_reference"], graphs, strict=True):
        assert change[column].to_dict() == {gene: graph.degree(gene) for gene in change.index}
    assert (change["change"] == change["degree"] - change["degree_reference"]).all()
    assert (change["change"].abs().diff().dropna() <= 0).all()
    assert change[["null_change", "null_share"]].isna().all(axis=None)
    assert change.index.name == "gene"


def test_change_is_held_against_two_halves_of_the_group(networks):
    ch.tl.split_groups(networks, "cell_type", groups=["B"])
    ch.tl.gene_network(networks, groupby="half", use_rep="expression")
    change = ch.get.degree_change(networks, "B", "NK")
    one, two = (ch.get.gene_network(networks, f"B (half {i})") for i in (1, 2))
    null = {gene: one.degree(gene) - two.degree(gene) for gene in set(one) & set(two)}
    sizes = np.abs(list(null.values()))
    for gene, row in change.iterrows():
        assert np.isnan(row["null_change"]) if gene not in null else row["null_change"] == null[gene]
        assert row["null_share"] == pytest.approx((sizes >= abs(row["change"])).mean())


def test_readers_never_write(networks):
    before = networks.copy()
    graph = ch.get.gene_network(networks, "B")
    graph.remove_node(next(iter(graph)))
    change = ch.get.degree_change(networks, "B", "NK")
    change["change"] = 0  # a frame of its own: no warning of a copy
    assert list(networks.uns) == list(before.uns)
    assert (networks.varp["gene_network:B"] != before.varp["gene_network:B"]).nnz == 0
    assert isinstance(graph, nx.Graph)


def test_what_is_not_there_is_named_with_the_call_that_makes_it(networks):
    with pytest.raises(KeyError, match=r"the network without groups was not made. Pass group=, one of \['B', 'NK'\]"):
        ch.get.gene_network(networks)
    with pytest.raises(
        KeyError, match=r"No networks in groups \['DC'\] under .*Run `ch.tl.gene_network\(adata, groupby="
    ):
        ch.get.gene_network(networks, "DC")
    with pytest.raises(KeyError, match=r"uns\['nope'\].*Run `ch.tl.gene_network\(adata\)` first"):
        ch.get.gene_network(networks, "B", key="nope")
    with pytest.raises(ValueError, match="both 'B'"):
        ch.get.degree_change(networks, "B", "B")
    del networks.varp["gene_network:B"]
    with pytest.raises(KeyError, match="lists it"):
        ch.get.gene_network(networks, "B")
