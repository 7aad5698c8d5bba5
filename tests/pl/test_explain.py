"""Plots of explanations show the numbers of their tables."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

import cellhermes as ch


def test_heat_map_has_the_layer_of_recurrent_genes_by_answer(drawn):
    ax = ch.pl.importance(drawn, n_genes=4)
    genes = [label.get_text() for label in ax.get_xticklabels()]
    recurrent = ch.get.explain(drawn)
    assert genes == [*recurrent.groupby("answer", sort=False).head(4)["gene"].unique()]
    answers = drawn.obs["explain_answer"].dropna()
    cells = [cell for name in recurrent["answer"].unique() for cell in answers.index[answers == name]]
    expected = drawn[cells, genes].layers["explain"].toarray()
    np.testing.assert_allclose(ax.images[0].get_array(), expected)


def test_bars_are_the_frequencies(drawn):
    ax = ch.pl.recurrence(drawn, n_genes=3)
    genes = [label.get_text() for label in ax.get_yticklabels()]
    table = ch.get.explain(drawn).set_index(["answer", "gene"])["frequency"]
    for bars in ax.containers:
        answer = bars.get_label().rpartition(" (")[0]
        assert [bar.get_width() for bar in bars] == [table.get((answer, gene), 0) for gene in genes]


@pytest.mark.parametrize("test", ["deletion", "insertion"])
def test_curves_are_those_of_the_table(drawn, test):
    ax = ch.pl.faithfulness(drawn, test)
    table = ch.get.faithfulness(drawn)
    table = table[(table["test"] == test) & (table["answer"] == "")]
    for line, (_, curve) in zip(ax.lines, table.groupby("order", sort=False), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), curve[["k", "probability"]])
    assert len(ax.lines) == 3


def test_sentence_is_written_in_order_within_its_lines_with_shades_of_importance(drawn):
    cell = drawn.obs_names[0]
    ax = ch.pl.sentence(drawn, cell)
    assert [text.get_text() for text in ax.texts] == drawn.obs["cell_sentence"][cell].split()
    values = ch.get.importance(drawn, cell).sort_values("position")["importance"].to_numpy()
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    np.testing.assert_allclose([box.get_alpha() for box in boxes], 0.8 * values / values.max(), rtol=1e-5)
    renderer = ax.figure.canvas.get_renderer()
    widths = [text.get_window_extent(renderer) for text in ax.texts]
    for left, right in pairwise(widths):
        assert right.x0 > left.x1 or right.y1 < left.y0


def test_roc_draws_a_curve_for_each_answer_and_its_area():
    truth = ["a", "b", "a", "c", "b", "c"]
    rng = np.random.default_rng(0)
    predicted = pd.DataFrame(rng.dirichlet([1, 1, 1], 6), columns=[f"probability:{x}" for x in "abc"])
    table = ch.metrics.roc(truth, predicted)
    ax = ch.pl.roc(table)
    for line, (answer, curve) in zip(ax.lines[1:], table.groupby("answer"), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), curve[["false_positive_rate", "true_positive_rate"]])
        assert line.get_label() == f"{answer} ({curve['auc'].iloc[0]:.2f})"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: ch.pl.faithfulness(a, "removal"), ValueError, "test='removal' is not known"),
        (lambda a: ch.pl.faithfulness(a, answer="Maybe"), KeyError, "No tested cell has the answer 'Maybe'"),
        (lambda a: ch.pl.roc(ch.get.explain(a)), KeyError, "Make it with ch.metrics.roc"),
    ],
)
def test_what_cannot_be_drawn_is_explained(drawn, call, error, message):
    with pytest.raises(error, match=message):
        call(drawn)
