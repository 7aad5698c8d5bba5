"""Embeddings without a language model: against dense linear algebra, and on planted structure."""

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import cellhermes as ch
from cellhermes.baselines import embed_genes


def cosine(x):
    unit = x.to_numpy(float) / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


def same_geometry(a, b, **options):
    """Equal up to rotation."""
    np.testing.assert_allclose(a @ a.T, b @ b.T, **options)


@pytest.fixture(scope="module")
def graph():
    made = nx.connected_caveman_graph(5, 8)
    return nx.relabel_nodes(made, {i: f"GENE{i:02}" for i in made})


def test_random_vectors_are_those_of_the_seed():
    a, b = (embed_genes(["A", "B"], "random", n_components=500, rng=s) for s in (0, 1))
    pd.testing.assert_frame_equal(a, embed_genes(["A", "B"], "random", n_components=500))
    assert abs(np.corrcoef(a.loc["A"], b.loc["A"])[0, 1]) < 0.2
    assert a.index.tolist() == ["A", "B"]


def test_symbols_of_a_family_are_near_and_others_are_not():
    genes = [f"{family}{i}" for family in ("ZNF", "SLC25A", "KRT") for i in range(1, 30)]
    near = cosine(embed_genes(genes, "ngrams", n_components=20))
    same = np.equal.outer(*[np.repeat(range(3), 29)] * 2)
    assert near[same].mean() > near[~same].mean() + 0.3
    with pytest.raises(ValueError, match="no spelling to read"):
        embed_genes(["AB", "CD"], "ngrams")


def test_principal_components_keep_the_distances_of_standardised_genes():
    x = np.random.default_rng(0).poisson(2, (30, 12)).astype(float)
    z = (x - x.mean(0)) / x.std(0)
    found = embed_genes(list("ABCDEFGHIJKL"), "pca", expression=sparse.csr_array(x), n_components=12).to_numpy(float)
    centred = z.T - z.T.mean(0)
    same_geometry(found, centred, atol=1e-3)


def test_coexpression_is_the_spectrum_of_the_correlation_matrix():
    x = np.random.default_rng(0).normal(size=(40, 10))
    x[:, 3] = 1  # a constant gene
    found = embed_genes(list("ABCDEFGHIJ"), "coexpression", expression=x, n_components=10)
    with np.errstate(invalid="ignore"):
        c = np.nan_to_num(np.corrcoef(x.T))
    c[3] = c[:, 3] = 0
    same_geometry(found.to_numpy(float), c, atol=1e-3)
    assert (found.loc["D"] == 0).all()


@pytest.mark.parametrize(
    ("x", "options", "text"),
    [
        (np.ones((4, 3)), {}, "expected cells x genes"),
        (np.full((4, 2), np.nan), {}, "missing or infinite"),
        (np.ones((4, 2)), {"method": "umap"}, "method='umap'"),
        (np.ones((4, 2)), {"n_components": 0}, "n_components=0"),
        (None, {}, "method='pca' reads expression; pass expression="),
        (None, {"method": "ppmi"}, "method='ppmi' reads graph; pass graph="),
    ],
)
def test_bad_expression_is_named(x, options, text):
    with pytest.raises(ValueError, match=text):
        embed_genes(["A", "B"], **{"method": "pca", "expression": x} | options)


@pytest.fixture(scope="module")
def untied():
    """A graph whose eigenvalues differ."""
    return nx.relabel_nodes(nx.barabasi_albert_graph(40, 2, seed=1), {i: f"GENE{i:02}" for i in range(40)})


def test_ppmi_is_the_dense_decomposition(untied):
    graph = untied
    names = sorted(graph)
    a = nx.to_numpy_array(graph, names)
    d = a.sum(1)
    u, s, _ = np.linalg.svd(a * np.log1p(d.sum() / np.outer(d, d)))
    n = 32  # nearly all: the randomised decomposition is exact where little is left out
    x = u[:, :n] * np.sqrt(s[:n])
    found = embed_genes(names, "ppmi", graph=graph, n_components=n)
    assert found.index.tolist() == names
    same_geometry(found.to_numpy(float), x / np.linalg.norm(x, axis=1, keepdims=True), atol=1e-3)


def test_laplacian_eigenmaps_are_those_of_the_dense_laplacian(untied):
    graph = untied
    names = sorted(graph)
    d = nx.to_numpy_array(graph, names).sum(1)
    values, u = np.linalg.eigh(nx.normalized_laplacian_matrix(graph, names).toarray())
    assert values[6] - values[5] > 1e-6  # no tie at the cut
    found = embed_genes(names, "laplacian", graph=graph, n_components=5).to_numpy(float)
    same_geometry(found, u[:, 1:6] / np.sqrt(d)[:, None], atol=1e-5)


@pytest.mark.parametrize("method", ["ppmi", "laplacian"])
def test_groups_of_the_graph_are_near(graph, method):
    near = cosine(embed_genes(sorted(graph), method, graph=graph, n_components=4))
    same = np.equal.outer(*[np.repeat(range(5), 8)] * 2)
    assert near[same].mean() > near[~same].mean() + 0.5


@pytest.mark.parametrize("method", ["ppmi", "laplacian"])
def test_graph_and_frames_of_pairs_give_the_same(graph, method):
    expected = embed_genes(sorted(graph), method, graph=graph, n_components=3)
    pairs = pd.DataFrame([(b, a) for a, b in graph.edges], columns=["x", "y"])
    pairs = pd.concat([pairs, pairs[:5], pd.DataFrame({"x": ["GENE01"], "y": ["GENE01"]})])
    pd.testing.assert_frame_equal(embed_genes(sorted(graph), method, graph=pairs, n_components=3), expected)
    more = pairs.set_axis(["gene_a", "gene_b"], axis=1).assign(score=1)
    pd.testing.assert_frame_equal(embed_genes(sorted(graph), method, graph=more, n_components=3), expected)


@pytest.mark.parametrize("method", ["ppmi", "laplacian"])
def test_genes_may_be_given_and_those_without_partners_are_zero(graph, method):
    found = embed_genes(["ALONE", *sorted(graph)[:16]], method, graph=graph, n_components=3)
    assert found.shape == (17, 3)
    assert (found.loc["ALONE"] == 0).all()
    assert (found.iloc[1:] != 0).any(axis=1).all()


def test_bad_graphs_are_named(graph):
    with pytest.raises(ValueError, match="None of 45 pairs|None of"):
        embed_genes(["A", "B", "C"], "ppmi", graph=graph)
    with pytest.raises(KeyError, match="two columns only"):
        embed_genes(["A", "B"], "ppmi", graph=pd.DataFrame({"a": ["A"], "b": ["B"], "c": [1]}))
    with pytest.raises(ValueError, match="method='walks'"):
        embed_genes(sorted(graph), "walks", graph=graph)


def test_toy_graph_is_embedded_as_measures_take_it():
    graph = ch.datasets.ppi("toy")
    found = embed_genes(sorted(graph), "ppmi", graph=graph, n_components=8)
    sets = {"T cell receptor": ["CD3D", "CD3E", "CD3G", "CD247"], "MHC II": ["CD74", "HLA-DRA", "HLA-DRB1"]}
    assert ch.metrics.semantic_correlation(found, sets)["n_genes"][0] == 7
