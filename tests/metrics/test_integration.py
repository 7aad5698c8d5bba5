"""Integration: what is refused; and (slow) what scib-metrics gives."""

import sys

import numpy as np
import pandas as pd
import pytest

from cellhermes.metrics import integration

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
def test_what_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scib_metrics.benchmark", None)
    with pytest.raises(ImportError, match=r"cellhermes\[metrics\]"):
        integration(*planted())


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
    few = integration({"types": x["types"]}, batch, labels, max_cells=120, rng=3)
    assert (few.attrs["n_cells"], few.attrs["of_cells"]) == (120, 240)
    assert "PCR comparison" not in few.attrs["metrics"]
    assert few.equals(integration({"types": x["types"]}, batch, labels, max_cells=120, rng=3))
