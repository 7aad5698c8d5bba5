"""Bars of scores: their lengths, intervals, order and colours are those of the table."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import cellhermes as ch
from cellhermes.pl._canvas import CYCLE
from cellhermes.pl._scores import GREYS

ROWS = [
    ("fitness", "joint", 0.71, 0.66, 0.75),
    ("fitness", "majority", 0.5, 0.5, 0.5),
    ("fitness", "logistic", 0.74, 0.7, 0.78),
    ("gene_set", "joint", 0.4, 0.3, 0.45),
    ("gene_set", "majority", 0.05, 0.05, 0.05),
]
BASELINES = ["majority", "logistic"]


@pytest.fixture
def table():
    table = pd.DataFrame(ROWS, columns=["task", "method", "value", "low", "high"])
    other = table.assign(metric="kappa", value=0.9)
    return pd.concat([table.assign(metric="accuracy"), other], ignore_index=True).assign(over="rows")


def bars(ax):
    """(method, task) to the bar, without those of no width."""
    return {
        (group.get_label(), i): bar
        for group in ax.containers
        if hasattr(group, "patches")
        for i, bar in enumerate(group.patches)
        if np.isfinite(bar.get_width())
    }


def test_bars_and_intervals_are_those_of_the_table(table):
    ax = ch.pl.scores(table, metric="accuracy", baselines=BASELINES)
    drawn = bars(ax)
    tasks = ["fitness", "gene_set"]
    assert {(m, tasks[i]): bar.get_width() for (m, i), bar in drawn.items()} == {(m, t): v for t, m, v, _, _ in ROWS}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fitness", "gene set"]
    ends = [
        tuple(line[:, 0])
        for group in ax.collections
        for line in group.get_segments()
        if np.isfinite(line).all() and len(line)
    ]
    np.testing.assert_allclose(sorted(ends), sorted((low, high) for _, _, _, low, high in ROWS))


def test_bars_of_a_task_stand_together_in_the_order_of_the_table(table):
    drawn = bars(ch.pl.scores(table, metric="accuracy"))
    centre = {key: bar.get_y() + bar.get_height() / 2 for key, bar in drawn.items()}
    assert centre["joint", 0] < centre["majority", 0] < centre["logistic", 0] < centre["joint", 1]
    assert all(abs(y - task) < 0.5 for (_, task), y in centre.items())


def test_models_have_colours_and_baselines_are_grey(table):
    ax = ch.pl.scores(table, metric="accuracy", baselines=BASELINES)
    colours = {method: to_hex(bar.get_facecolor()).upper() for (method, _), bar in bars(ax).items()}
    assert colours == {"joint": CYCLE[0], "majority": GREYS[0], "logistic": GREYS[1]}
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["joint", "majority", "logistic"]


def test_synthetic_tasks_and_means_over_groups_are_marked(table):
    table = table.assign(synthetic=table["task"] == "gene_set", over="groups")
    ax = ch.pl.scores(table, metric="accuracy", over="groups")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fitness", "gene set (synthetic)"]
    assert ax.get_xlabel() == "accuracy (mean over groups)"


@pytest.mark.parametrize(
    ("change", "options", "error", "text"),
    [
        (lambda t: t.drop(columns="task"), {}, KeyError, r"has no columns \['task'\].*Add task and method"),
        (lambda t: t, {"metric": "f1"}, ValueError, r"no 'f1' over rows; it has \['accuracy', 'kappa'\]"),
        (lambda t: t, {"over": "groups"}, ValueError, "no 'accuracy' over groups"),
        (lambda t: t, {"baselines": ["trees"]}, ValueError, r"no methods \['trees'\]"),
        (lambda t: pd.concat([t, t]), {}, ValueError, "'joint' has several values of 'accuracy' for task 'fitness'"),
    ],
)
def test_a_table_that_cannot_be_drawn_is_explained(table, change, options, error, text):
    with pytest.raises(error, match=text):
        ch.pl.scores(change(table), **{"metric": "accuracy"} | options)
