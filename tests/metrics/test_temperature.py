"""The fitted temperature against a general optimiser, and where it ends."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from cellhermes.metrics import classification, fit_temperature

LABELS = ["a", "b", "c"]


def sample(temperature, n=4000, seed=0):
    """True answers drawn from softmax(scores), while the model claims softmax(scores * temperature)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (n, 3))
    truth = np.array(LABELS)[(softmax(scores, 1).cumsum(1) < rng.random((n, 1))).sum(1).clip(0, 2)]
    claimed = softmax(scores * temperature, 1)
    frame = pd.DataFrame(claimed, columns=[f"probability:{label}" for label in LABELS])
    return truth, frame.assign(answer=np.array(LABELS)[claimed.argmax(1)])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_it_is_the_minimum_of_the_likelihood_and_finds_what_was_made(temperature):
    truth, frame = sample(temperature)
    scores = np.log(frame[[f"probability:{label}" for label in LABELS]].to_numpy())
    codes = np.array([LABELS.index(answer) for answer in truth])
    loss = lambda log_t: -log_softmax(scores / np.exp(log_t), 1)[np.arange(len(codes)), codes].mean()
    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    found = fit_temperature(truth, frame)
    assert found == pytest.approx(np.exp(best.x), rel=1e-4)
    assert found == pytest.approx(temperature, rel=0.1)


def test_it_lowers_the_calibration_error():
    truth, frame = sample(3)
    columns = [f"probability:{label}" for label in LABELS]
    cooled = frame.copy()
    cooled[columns] = softmax(np.log(frame[columns]) / fit_temperature(truth, frame), 1)
    before, after = (
        classification(truth, f, n_bootstrap=0).set_index("metric")["value"]["calibration_error"]
        for f in (frame, cooled)
    )
    assert after < 0.03 < 0.1 < before


def test_it_ends_at_the_bounds():
    frame = pd.DataFrame({"probability:a": [0.9, 0.1], "probability:b": [0.1, 0.9]})
    assert fit_temperature(["a", "b"], frame) == 0.05
    assert fit_temperature(["b", "a"], frame, bounds=(0.5, 8.0)) == 8.0


def test_a_probability_of_zero_is_no_error():
    frame = pd.DataFrame({"probability:a": [1.0, 1.0, 0.0], "probability:b": [0.0, 0.0, 1.0]})
    assert 1 < fit_temperature(["a", "b", "b"], frame, bounds=(0.05, 1e4)) < 1e4


@pytest.mark.parametrize(
    ("truth", "frame", "text"),
    [
        (["a"], {"answer": ["a"]}, "0 columns probability:<answer>"),
        (["a"], {"probability:a": [0.5, 0.5], "probability:b": [0.5, 0.5]}, "2 rows .* for 1 true"),
        (["d", "a"], {"probability:a": [0.5, 0.5], "probability:b": [0.5, 0.5]}, r"without a probability: \['d'\]"),
        (["a", "a"], {"probability:a": [0.5, None], "probability:b": [0.5, None]}, "1 of 2 rows have no prob"),
    ],
)
def test_what_cannot_be_fitted_is_explained(truth, frame, text):
    with pytest.raises(ValueError, match=text):
        fit_temperature(truth, pd.DataFrame(frame))
