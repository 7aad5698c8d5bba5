"""Exact neighbours against a plain search, and weights against scanpy's own exact path."""

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from cellhermes.tl import _knn
from cellhermes.tl._knn import ExactSearch, connectivities


def brute_force(rows, k, *, centre):
    """All distances in a double loop; ties within 1e-12 go to the earlier row."""
    rows = rows - rows.mean(1, keepdims=True) if centre else rows
    found = []
    for i, a in enumerate(rows):
        away = [1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in rows]
        away[i] = -1
        found.append(sorted(range(len(rows)), key=lambda j, away=away: (round(away[j], 12), j))[:k])
    return np.array(found)


def neighbours(rows, k, *, centre=False):
    found = ExactSearch(k, centre=centre).fit_transform(rows)
    return found.indices.reshape(-1, k), found.data.reshape(-1, k)


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_neighbours_equal_brute_force(monkeypatch, centre, form):
    monkeypatch.setattr(_knn, "BLOCK", 17)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 12)) * (rng.random((60, 12)) < 0.6) + (0 if centre else 1e-3)
    given_rows = sparse.csr_matrix(rows) if form == "sparse" else rows
    np.testing.assert_array_equal(neighbours(given_rows, 7, centre=centre)[0], brute_force(rows, 7, centre=centre))


def test_search_is_exact_where_scanpys_own_is_approximate():
    rows = np.random.default_rng(0).normal(size=(4_200, 24)).astype(np.float32)
    found, _ = neighbours(rows, 15)
    unit = rows.astype(float) / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    some = np.arange(0, 4_200, 70)
    cosine = unit[some] @ unit.T
    cosine[np.arange(len(some)), some] = 2
    np.testing.assert_array_equal(found[some], np.argsort(-cosine, axis=1, kind="stable")[:, :15])


def test_correlation_equals_numpy():
    rows = sparse.random(40, 30, 0.4, format="csr", random_state=0) + sparse.csr_matrix(np.eye(40, 30))
    found, distance = neighbours(rows.tocsr(), 9, centre=True)
    r = np.corrcoef(rows.toarray())
    np.testing.assert_allclose(distance[:, 1:], 1 - np.take_along_axis(r, found[:, 1:], axis=1), atol=2e-12)


@given(
    rows=hnp.arrays(np.int8, st.tuples(st.integers(4, 25), st.integers(2, 4)), elements=st.integers(-2, 2)).filter(
        lambda rows: rows.any(axis=1).all()
    ),
    block=st.integers(1, 30),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_ties_go_to_the_earlier_gene_whatever_the_block_size(rows, block, data):
    k = data.draw(st.integers(2, len(rows) - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_knn, "BLOCK", block)
        found, distance = neighbours(rows.astype(float), k)
    np.testing.assert_array_equal(found, brute_force(rows.astype(float), k, centre=False))
    assert (found[:, 0] == np.arange(len(rows))).all()
    assert (np.diff(distance, axis=1) >= 0).all()
    assert distance.min() >= 0


def test_weights_equal_those_of_scanpys_exact_path():
    rows = np.random.default_rng(1).normal(size=(200, 20))
    weights, crowded = connectivities(rows, 15, centre=False)
    table = AnnData(rows)
    sc.pp.neighbors(table, n_neighbors=15, use_rep="X", metric="cosine", transformer="sklearn")
    np.testing.assert_allclose(weights.toarray(), table.obsp["connectivities"].toarray(), atol=1e-5)
    assert crowded == 0
    assert weights.dtype == np.float32


def test_weights_are_symmetric_and_every_gene_has_its_neighbours():
    weights, _ = connectivities(np.random.default_rng(2).normal(size=(120, 8)), 10, centre=True)
    assert (weights != weights.T).nnz == 0
    assert weights.diagonal().sum() == 0
    assert np.diff(weights.indptr).min() >= 9
    assert 0 < weights.data.min() <= weights.data.max() <= 1


def test_identical_rows_are_counted_when_they_fill_a_neighbourhood():
    rows = np.random.default_rng(3).normal(size=(30, 6))
    rows[:5] = rows[0]
    assert connectivities(rows, 5, centre=False)[1] == 5
    assert connectivities(rows, 6, centre=False)[1] == 0


@pytest.mark.parametrize("n_twins", [4, 9, 13])
def test_a_gene_keeps_its_edges_beside_genes_with_equal_vectors(n_twins):
    """Beside several neighbours at distance 0, scanpy's weights of the others are too small for a float32."""
    rows = np.random.default_rng(0).normal(size=(80, 8))
    rows[1 : n_twins + 1] = rows[0]
    weights, crowded = connectivities(rows, 15, centre=False)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    nearest = np.argsort(-(unit @ unit.T).round(10), axis=1, kind="stable")
    expected = {frozenset((i, j)) for i in range(80) for j in [k for k in nearest[i] if k != i][:14]}
    assert {frozenset(pair) for pair in zip(*weights.nonzero(), strict=True)} == expected
    assert crowded == 0
    assert np.diff(weights.indptr).min() >= 14
