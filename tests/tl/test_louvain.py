"""Partitions against python-louvain, Jaccard indices against Python sets."""

import time

import community
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from cellhermes.tl._knn import connectivities
from cellhermes.tl._louvain import check_resolution, partition
from cellhermes.tl._specific import jaccard


def sets(modules):
    return [set(np.flatnonzero(modules == i)) for i in range(modules.max() + 1)]


def slow_jaccard(modules, reference):
    return np.array([[len(a & b) / len(a | b) for b in sets(reference)] for a in sets(modules)])


@pytest.fixture(scope="module")
def weights():
    """Network of 400 genes around 12 centres, with 20 further genes that are outside."""
    rng = np.random.default_rng(0)
    profiles = rng.normal(size=(12, 10))[rng.integers(12, size=400)] + rng.normal(size=(400, 10))
    inside = connectivities(profiles, 15, centre=False)[0]
    return sparse.block_diag([sparse.csr_matrix((20, 20), dtype=np.float32), inside], format="csr")


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize("resolution", [1.0, 2.0])
def test_partition_is_that_of_python_louvain(weights, seed, resolution):
    inside = weights[20:, 20:]
    graph = nx.from_scipy_sparse_array(inside)
    expected = community.best_partition(graph, resolution=resolution, random_state=seed)
    found = partition(weights, resolution=resolution, seed=seed)
    assert (found[:20] == -1).all()
    groups = {frozenset(g for g in expected if expected[g] == number) for number in set(expected.values())}
    assert {frozenset(i - 20 for i in genes) for genes in sets(found)} == groups


def test_modules_are_numbered_by_falling_size_and_the_same_each_time(weights):
    found = partition(weights, resolution=1.0, seed=0)
    size = np.bincount(found[found >= 0])
    assert (np.diff(size) <= 0).all()
    np.testing.assert_array_equal(found, partition(weights, resolution=1.0, seed=0))


def test_modules_of_one_size_are_numbered_by_their_first_gene():
    block = np.ones((4, 4)) - np.eye(4)
    apart = sparse.block_diag([block] * 3, format="csr", dtype=np.float32)
    mixed = np.argsort([0, 1, 2] * 4, kind="stable")  # genes of the three blocks take turns
    place = np.argsort(mixed)
    found = partition(apart[place][:, place].tocsr(), resolution=1.0, seed=5)
    np.testing.assert_array_equal(found, [0, 1, 2] * 4)


def test_clustering_leaves_the_global_random_state_alone(weights):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    partition(weights, resolution=1.0, seed=0)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_resolution_at_which_the_search_stops_early_is_refused():
    rows = np.random.default_rng(0).normal(size=(1_000, 100))
    weights = connectivities(rows, 15, centre=False)[0]
    options = {"resolution": 0.1, "seed": 0}
    found = partition(weights, **options)
    assert found.max() > partition(weights, resolution=1.0, seed=0).max()  # more modules where fewer were asked for
    with pytest.raises(ValueError, match=r"Group 'B': at resolution=0.1 the network falls apart.*stopped early"):
        check_resolution(weights, found, **options, min_genes=1, where="Group 'B'")


def test_resolution_that_leaves_crumbs_is_refused(weights):
    found = partition(weights, resolution=50.0, seed=0)
    with pytest.raises(ValueError, match=r"falls apart into .* fewer than min_genes=10. Pass a lower resolution="):
        check_resolution(weights, found, resolution=50.0, seed=0, min_genes=10, where="Group 'B'")


@pytest.mark.parametrize("resolution", [0.9, 1.0, 1.5, 3.0])
def test_resolutions_that_answer_are_let_through(weights, resolution):
    found = partition(weights, resolution=resolution, seed=0)
    check_resolution(weights, found, resolution=resolution, seed=0, min_genes=5, where="Group 'B'")


numbered = hnp.arrays(np.int64, 30, elements=st.integers(-1, 5)).map(
    lambda x: np.where(x < 0, -1, np.unique(np.where(x < 0, x.max(), x), return_inverse=True)[1])
)


@given(numbered, numbered)
@settings(max_examples=100, deadline=None)
def test_jaccard_equals_sets(modules, reference):
    found = jaccard(modules, reference)
    if modules.max() < 0 or reference.max() < 0:
        assert found.size == 0
        return
    np.testing.assert_allclose(found, slow_jaccard(modules, reference), rtol=1e-15)
    np.testing.assert_allclose(found, jaccard(reference, modules).T)
    np.testing.assert_array_equal(np.diag(jaccard(modules, modules)), 1)


def test_jaccard_of_many_modules_is_much_faster_than_a_double_loop():
    rng = np.random.default_rng(0)
    modules, reference = (rng.permutation(np.arange(4_000) % 100) for _ in range(2))
    a, b = sets(modules), sets(reference)

    def best(function):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    slow = best(lambda: [[len(x & y) / len(x | y) for y in b] for x in a])
    assert slow > 20 * best(lambda: jaccard(modules, reference))  # 50 is measured on a quiet machine, in benchmarks
