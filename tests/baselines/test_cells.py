"""Embeddings of cells against their libraries."""

import sys

import numpy as np
import pytest
import scanpy as sc

import cellhermes as ch
from cellhermes.baselines import embed_cells


@pytest.mark.filterwarnings("ignore")  # of what they import
@pytest.mark.parametrize(("method", "module", "extra"), [("Harmony", "harmonypy", "metrics"), ("scVI", "scvi", "scvi")])
def test_what_is_not_installed_is_named_with_its_extra(monkeypatch, adata, method, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"cellhermes\[{extra}\]"):
        embed_cells(adata.X, adata.obs["donor"], methods=[method], counts=adata.layers["counts"])


def test_references_follow_scanpy_and_the_seed(adata):
    found = embed_cells(adata.X, adata.obs["donor"], methods=["PCA", "random"], n_top_genes=100, rng=1)
    sc.pp.highly_variable_genes(adata, n_top_genes=100)
    adata.X = adata.X.toarray()
    sc.pp.scale(adata, max_value=10)
    sc.pp.pca(adata, n_comps=50, mask_var="highly_variable")
    a, b = found["PCA"][:, :10], adata.obsm["X_pca"][:, :10]
    np.testing.assert_allclose(np.abs(a), np.abs(b), atol=1e-2)
    assert list(found) == ["PCA", "random"]
    again = embed_cells(ch.datasets.toy().X, adata.obs["donor"], n_top_genes=100, rng=1, methods=list(found))
    assert all((found[name] == again[name]).all() for name in found)


def test_genes_that_few_cells_express_are_no_reason_for_a_warning(adata):
    silent = adata.X.toarray()
    silent[:, 20:] = 0
    found = embed_cells(silent, adata.obs["donor"], methods=["PCA"])  # a warning would be an error here
    assert 0 < found["PCA"].shape[1] <= 20


def test_harmony_brings_batches_together():
    pytest.importorskip("harmonypy")
    rng = np.random.default_rng(0)
    batch, kind = np.arange(300) % 2, np.arange(300) // 2 % 3
    x = rng.gamma(1, 0.3, (300, 60))
    x[:, :20] += 2 * (kind[:, None] == np.arange(20) % 3)
    x[:, 20:30] += 0.5 * batch[:, None]
    found = embed_cells(x, batch, methods=["Harmony", "PCA"], n_components=10)

    def between(z):
        return np.linalg.norm(z[batch == 0].mean(0) - z[batch == 1].mean(0)) / z.std()

    assert found["Harmony"].shape == (300, 10)
    assert between(found["Harmony"]) < 0.3 * between(found["PCA"])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"methods": ["scVI"]}, "pass counts="),
        ({"batch": None}, r"\['Harmony'\], which correct for batches"),
        ({"methods": ["BBKNN"]}, "methods has"),
        ({"batch": ["a"] * 3}, "3 batches"),
        ({"expression": -np.ones((9, 5))}, "minimum of -1"),
    ],
)
def test_bad_references_are_named(options, text):
    given = {"expression": np.eye(9, 5), "batch": ["a"] * 9, **options}
    with pytest.raises(ValueError, match=text):
        embed_cells(given.pop("expression"), given.pop("batch"), **given)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scvi_leaves_the_random_states_alone():
    pytest.importorskip("scvi")
    adata = ch.datasets.toy()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    found = [
        embed_cells(adata.X, adata.obs["donor"], methods=["scVI"], counts=adata.layers["counts"])["scVI"]
        for _ in range(2)
    ]
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-3)
