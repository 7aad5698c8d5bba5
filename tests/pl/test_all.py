"""What holds for every plot: it draws on the axes it is given, returns them, and leaves the data alone."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from mudata import MuData

import cellhermes as ch

LOG = pd.DataFrame({"step": [1, 2, 3], "loss": [2.5, 2.1, 2.0], "learning_rate": [5e-5, 4e-5, 1e-5]})
SCORES = pd.DataFrame(
    [
        ("cell_fitness", "mini", 0.7, 0.6, 0.8),
        ("cell_fitness", "majority", 0.5, 0.5, 0.5),
        ("gene", "mini", 0.6, 0.5, 0.7),
    ],
    columns=["task", "method", "value", "low", "high"],
).assign(metric="balanced_accuracy", over="rows")
ROC = ch.metrics.roc(["a", "b", "a", "b"], pd.DataFrame({"probability:a": [0.9, 0.4, 0.3, 0.1]}))
TABLES = {"roc": ROC, "scores": SCORES, "training": LOG}  # plots of a table, without AnnData
CALLS = {
    "degree_change": (("B", "NK"), {}),
    "enrich": (("T",), {}),
    "faithfulness": ((), {}),
    "gene_network": (("CD79A", "B"), {"reference": "NK"}),
    "importance": ((), {}),
    "jaccard": ((), {}),
    "module_scores": ((0,), {"basis": "X_two"}),
    "modules": ((), {}),
    "recurrence": ((), {}),
    "roc": ((), {}),
    "scores": ((), {"baselines": ["majority"]}),
    "sentence": (("cell_0",), {}),
    "training": ((), {}),
}


@pytest.fixture
def draw(drawn):
    data = drawn.copy()
    data.obsm["X_two"] = np.random.default_rng(0).normal(size=(data.n_obs, 2))

    def draw(name, **options):
        positional, named = CALLS[name]
        return getattr(ch.pl, name)(TABLES.get(name, data), *positional, **{**named, **options})

    draw.data = data
    return draw


def test_every_plot_is_tested_here():
    assert sorted(CALLS) == sorted(ch.pl.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_axes_that_are_given_are_drawn_on_and_returned(draw, name):
    _, (left, right) = plt.subplots(1, 2)
    assert draw(name, ax=right) is right
    assert right.has_data()
    assert not left.has_data()
    assert plt.get_fignums() == [1]


@pytest.mark.parametrize("name", CALLS)
def test_without_axes_there_is_a_new_figure_that_can_be_saved(draw, name, tmp_path):
    ax = draw(name)
    assert isinstance(ax, Axes)
    ax.figure.savefig(tmp_path / "figure.pdf")
    texts = [t for t in ax.figure.findobj(plt.Text) if t.get_text() and t.get_visible()]
    assert texts
    # nothing that is written is cut off at the border
    box = ax.figure.get_tightbbox().padded(-0.02)
    assert box.x0 > -0.1
    assert box.x1 < ax.figure.get_figwidth() + 0.1


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_written(draw, name):
    before = draw.data.copy()
    draw(name)
    assert list(draw.data.obs) == list(before.obs)
    assert list(draw.data.uns) == list(before.uns)
    assert list(draw.data.obsm) == list(before.obsm)
    pd.testing.assert_frame_equal(draw.data.uns["modules"]["table"], before.uns["modules"]["table"])


@pytest.mark.parametrize("name", [name for name in CALLS if name not in TABLES])
def test_a_modality_of_a_mudata_is_drawn(draw, name):
    positional, named = CALLS[name]
    data = MuData({"rna": draw.data})
    assert getattr(ch.pl, name)(data, *positional, **named, mod="rna").has_data()


@pytest.mark.parametrize("name", CALLS)
def test_options_reach_the_drawing_call(draw, name):
    assert any(artist.get_alpha() == 0.125 for artist in draw(name, style={"alpha": 0.125}).get_children())


@pytest.mark.parametrize("name", CALLS)
def test_arguments_are_few_and_named_alike(name):
    parameters = inspect.signature(getattr(ch.pl, name)).parameters
    assert len(parameters) <= 13
    assert [*parameters][-2:] == ["ax", "style"]
