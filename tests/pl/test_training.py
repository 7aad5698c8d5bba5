"""Curves of a training run."""

import numpy as np
import pandas as pd
import pytest

import cellhermes as ch


@pytest.fixture
def log():
    steps = np.arange(1, 201)
    train = pd.DataFrame({"step": steps, "loss": 3 / steps, "learning_rate": np.linspace(5e-5, 0, 200)})
    held = pd.DataFrame({"step": [100, 200], "eval_loss": [1.0, 0.5], "eval_accuracy": [0.5, 0.6]})
    held["eval_accuracy/masked_link"] = [0.7, np.nan]
    return pd.concat([train, held]).sort_values("step", kind="stable", ignore_index=True)


def test_losses_of_training_and_held_out_pairs_over_steps(log):
    raw, mean, held_out = ch.pl.training(log).lines
    np.testing.assert_allclose(raw.get_xydata()[:, 1], 3 / np.arange(1, 201))
    window = 4
    assert mean.get_ydata()[9] == pytest.approx(np.mean([3 / step for step in range(10 - window + 1, 11)]))
    assert held_out.get_xydata().tolist() == [[100, 1.0], [200, 0.5]]


def test_a_folder_is_read(log, tmp_path):
    log.to_json(tmp_path / "log.jsonl", orient="records", lines=True)
    drawn, expected = ch.pl.training(tmp_path).lines, ch.pl.training(log).lines
    for line, same in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(line.get_xydata(), same.get_xydata(), atol=1e-9)


def test_the_learning_rate_has_an_axis_of_its_own(log):
    ax = ch.pl.training(log)
    other = next(a for a in ax.figure.axes if a is not ax)
    np.testing.assert_allclose(other.lines[0].get_ydata(), np.linspace(5e-5, 0, 200))
    assert other.get_ylabel() == "learning rate"


def test_accuracies_of_all_and_of_each_task(log):
    ax = ch.pl.training(log, y="accuracy")
    everything, link = ax.lines
    assert everything.get_xydata().tolist() == [[100, 0.5], [200, 0.6]]
    assert link.get_xydata().tolist() == [[100, 0.7]]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["all", "masked link"]


def test_a_short_run_has_one_line_without_a_mean(log):
    ax = ch.pl.training(log.head(5)[["step", "loss"]])
    assert len(ax.lines) == 1
    assert len(ax.figure.axes) == 1


@pytest.mark.parametrize(
    ("columns", "y", "message"),
    [
        (["step", "eval_accuracy"], "loss", "no losses yet"),
        (["step", "loss"], "accuracy", "no accuracies of held-out pairs yet"),
        (["step", "loss"], "speed", "expected 'loss' or 'accuracy'"),
    ],
)
def test_bad_input_says_what_is_there(log, columns, y, message):
    with pytest.raises(ValueError, match=message):
        ch.pl.training(log[columns], y=y)
