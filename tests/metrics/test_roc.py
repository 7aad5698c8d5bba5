"""ROC curves against a count at each threshold."""

import numpy as np
import pandas as pd
import pytest

from cellhermes.metrics import classification, roc


def test_points_are_the_rates_at_their_thresholds_and_areas_those_of_the_scores():
    rng = np.random.default_rng(0)
    truth = rng.choice(["a", "b", "c"], 60)
    p = rng.dirichlet([1, 1, 1], 60).round(2)
    predicted = pd.DataFrame(p, columns=[f"probability:{x}" for x in "abc"]).assign(answer="a")
    table = roc(truth, predicted)
    for row in table.itertuples():
        given = predicted[f"probability:{row.answer}"] >= row.threshold
        assert row.true_positive_rate == pytest.approx(given[truth == row.answer].mean())
        assert row.false_positive_rate == pytest.approx(given[truth != row.answer].mean())
    mean = classification(truth, predicted, n_bootstrap=0).set_index("metric")["value"]["roc_auc"]
    assert table.groupby("answer")["auc"].first().mean() == pytest.approx(mean)


@pytest.mark.parametrize(
    ("truth", "columns", "message"),
    [
        (["a"], {"probability:a": [0.1, 0.2]}, "1 true answers and 2 rows"),
        (["a", "b"], {"answer": ["a", "b"]}, "expected as many, with columns probability:"),
        (["a", "b"], {"probability:a": [0.1, np.nan]}, "nothing missing"),
        (["a", "a"], {"probability:a": [0.1, 0.2]}, "two kinds of rows"),
    ],
)
def test_what_has_no_curve_is_explained(truth, columns, message):
    with pytest.raises(ValueError, match=message):
        roc(truth, pd.DataFrame(columns))
