"""Integration: what is refused, references against their libraries; and (slow) what scib-metrics gives."""

import sys

import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import cellhermes as ch
from cellhermes.metrics import integration, reference_embeddings

needs_scib = pytest.mark.skipif(
    not __import__("importlib").util.find_spec("scib_metrics"), reason="scib-metrics is not installed"
)
# of jax and its dependants, on import
quiet = pytest.mark.filterwarnings("ignore")


def planted(n=240, seed=0):
    """Cells of three types in two batches: vectors that know the type, the batch, and nothing."""
    rng = np.random.default_rng(seed)
    kind, batch = np.arange(n) % 3, rng.integers(0, 2, n)
    noise = lambda: rng.normal(0, 0.1, (n, 6))
    return (
        {
            "types": noise() + 3 * np.eye(6)[kind],
            "batches": noise() + 3 * np.eye(6)[kind] + 6 * np.eye(6)[3 + batch],
            "noise": noise(),
        },
        batch.astype(str),
        np.array(list("TBN"))[kind],
    )


@needs_scib
@quiet
@pytest.mark.parametrize(
    ("change", "options", "error", "text"),
    [
        (lambda x, b, y: (x, ["one"] * 240, y), {}, ValueError, "same of the batches.*expected two"),
        (lambda x, b, y: (x, b, ["T"] * 240), {}, ValueError, "same of the labels"),
        (lambda x, b, y: (x, b, [None, *y[1:]]), {}, ValueError, "1 of 240 cells have no batch or no label"),
        (lambda x, b, y: ({"a": x["types"][:9]}, b, y), {}, ValueError, r"shape \(9, 6\) and there are 240 cells"),
        (lambda x, b, y: ({"a": np.where(np.eye(240, 6), np.nan, 1)}, b, y), {}, ValueError, "in 6 of 240 cells"),
        (lambda x, b, y: ({"a": np.ones((240, 2))}, b, y), {}, ValueError, "same vector in all 240"),
        (lambda x, b, y: ({"a": x["types"][:80]}, b[:80], y[:80]), {}, ValueError, "80 cells; expected more than 90"),
        (lambda x, b, y: (x, b, y), {"max_cells": 50}, ValueError, "50 cells; expected more than 90"),
        (lambda x, b, y: (x, b, y), {"unintegrated": "PCA"}, KeyError, "none of the embeddings"),
        (lambda x, b, y: ({}, b, y), {}, ValueError, "There is no embedding"),
    ],
)
def test_bad_input_is_named(change, options, error, text):
    embeddings, batch, labels = change(*planted())
    with pytest.raises(error, match=text):
        integration(embeddings, batch, labels, **options)


@quiet
def test_what_is_not_installed_is_named_with_its_extra(monkeypatch, adata):
    for module in ("scib_metrics.benchmark", "harmonypy", "scvi"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"cellhermes\[metrics\]"):
        integration(*planted())
    for method, extra in (("Harmony", "metrics"), ("scVI", "scvi")):
        with pytest.raises(ImportError, match=rf"cellhermes\[{extra}\]"):
            reference_embeddings(adata.X, adata.obs["donor"], methods=[method], counts=adata.layers["counts"])


def test_references_follow_scanpy_and_the_seed(adata):
    found = reference_embeddings(adata.X, adata.obs["donor"], methods=["PCA", "random"], n_top_genes=100, seed=1)
    sc.pp.highly_variable_genes(adata, n_top_genes=100)
    adata.X = adata.X.toarray()
    sc.pp.scale(adata, max_value=10)
    sc.pp.pca(adata, n_comps=50, mask_var="highly_variable")
    a, b = found["PCA"][:, :10], adata.obsm["X_pca"][:, :10]
    np.testing.assert_allclose(np.abs(a), np.abs(b), atol=1e-2)
    assert list(found) == ["PCA", "random"]
    again = reference_embeddings(ch.datasets.toy().X, adata.obs["donor"], n_top_genes=100, seed=1, methods=list(found))
    assert all((found[name] == again[name]).all() for name in found)


def test_genes_that_few_cells_express_are_no_reason_for_a_warning(adata):
    silent = adata.X.toarray()
    silent[:, 20:] = 0
    found = reference_embeddings(silent, adata.obs["donor"], methods=["PCA"])  # a warning would be an error here
    assert 0 < found["PCA"].shape[1] <= 20


def test_harmony_brings_batches_together():
    pytest.importorskip("harmonypy")
    rng = np.random.default_rng(0)
    batch, kind = np.arange(300) % 2, np.arange(300) // 2 % 3
    x = rng.gamma(1, 0.3, (300, 60))
    x[:, :20] += 2 * (kind[:, None] == np.arange(20) % 3)
    x[:, 20:30] += 0.5 * batch[:, None]
    found = reference_embeddings(x, batch, methods=["Harmony", "PCA"], n_components=10)

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
        reference_embeddings(given.pop("expression"), given.pop("batch"), **given)


@needs_scib
@quiet
@pytest.mark.slow
def test_planted_types_and_batches_are_told_and_results_are_those_of_scib_metrics():
    import scib_metrics

    x, batch, labels = planted()
    with_twin = {"types": x["types"], "twin": x["types"].copy(), "noise": x["noise"], "batches": x["batches"]}
    found = integration(with_twin, batch, labels, unintegrated="batches")
    table = found.pivot(index="metric", columns="embedding", values="value")
    assert (table["twin"] == table["types"]).all()
    assert table.loc["KMeans NMI", "types"] > 0.99
    assert table.loc["KMeans NMI", "noise"] < 0.1
    assert table.loc["iLISI", "types"] > table.loc["iLISI", "batches"] + 0.3
    assert table.loc["PCR comparison", "types"] > 0.9
    assert table.loc["PCR comparison", "batches"] == pytest.approx(0, abs=1e-6)
    silhouette = float(scib_metrics.silhouette_label(x["types"].astype(np.float32), labels))
    assert table.loc["Silhouette label", "types"] == pytest.approx(silhouette, abs=1e-5)
    bio = found[(found["kind"] == "bio conservation") & (found["embedding"] == "noise")]["value"].mean()
    assert table.loc["Bio conservation", "noise"] == pytest.approx(bio)
    total = 0.6 * table.loc["Bio conservation"] + 0.4 * table.loc["Batch correction"]
    pd.testing.assert_series_equal(table.loc["Total"], total, check_names=False)
    assert found.attrs["versions"]["scib-metrics"] == scib_metrics.__version__
    assert {"BRAS", "PCR comparison"} <= {*found.attrs["metrics"]}
    few = integration({"types": x["types"]}, batch, labels, max_cells=120, seed=3)
    assert (few.attrs["n_cells"], few.attrs["of_cells"]) == (120, 240)
    assert "PCR comparison" not in few.attrs["metrics"]
    assert few.equals(integration({"types": x["types"]}, batch, labels, max_cells=120, seed=3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scvi_leaves_the_random_states_alone():
    pytest.importorskip("scvi")
    adata = ch.datasets.toy()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    found = [
        reference_embeddings(adata.X, adata.obs["donor"], methods=["scVI"], counts=adata.layers["counts"])["scVI"]
        for _ in range(2)
    ]
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-3)
