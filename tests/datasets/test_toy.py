from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

import cellhermes as ch
from cellhermes._symbols import human_symbols
from cellhermes.datasets import _toy


def test_symbols_are_real_and_of_the_stated_kind(adata):
    assert set(adata.var_names) <= human_symbols().known
    recipe = _toy._recipe()
    assert {*_toy._members(recipe["programmes"]), *recipe["housekeeping"]} <= human_symbols().protein_coding


def test_same_seed_same_data(adata):
    again = ch.datasets.toy()
    assert (again.X != adata.X).nnz == 0
    assert again.obs.equals(adata.obs)
    assert (ch.datasets.toy(rng=1).layers["counts"] != adata.layers["counts"]).nnz > 0


def test_x_is_log_normalised_counts(adata):
    counts = adata.layers["counts"].toarray()
    assert (counts == counts.round()).all()
    np.testing.assert_allclose(np.expm1(adata.X.toarray()).sum(axis=1), 1e4, rtol=1e-4)
    assert adata.X.dtype == adata.layers["counts"].dtype == np.float32
    assert adata.X.format == "csr"


def test_cells_of_a_type_are_alike_and_batches_are_mixed(adata):
    assert ch.metrics.knn_accuracy(adata.X.toarray(), adata.obs["cell_type"]) > 0.9
    crossed = adata.obs.groupby(["cell_type", "batch"], observed=True).size()
    assert len(crossed) == 14
    assert adata.obs.groupby("donor", observed=True)["batch"].nunique().eq(1).all()


@pytest.mark.parametrize("n_obs", [1, 20, 1000])
def test_number_of_cells_is_free(n_obs):
    assert ch.datasets.toy(n_obs=n_obs).n_obs == n_obs


def test_no_cells_are_an_error():
    with pytest.raises(ValueError, match="n_obs=0; expected at least 1"):
        ch.datasets.toy(n_obs=0)


def test_interactions_are_denser_within_a_programme(ppi):
    programmes = _toy._recipe()["programmes"]
    within = np.mean([nx.density(ppi.subgraph(genes)) for genes in programmes.values()])
    assert within > 5 * nx.density(ppi)
    assert min(degree for _, degree in ppi.degree) >= 1
    assert nx.utils.graphs_equal(ppi, ch.datasets.ppi("toy"))
    assert not list(nx.selfloop_edges(ppi))
