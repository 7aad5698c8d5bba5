"""The table of measures against scikit-learn, with and without weights, and what its intervals promise."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from cellhermes.metrics import classification

LABELS = ["CD4 T", "CD8 T", "NK", "rare"]


def predictions(n=200, k=4, seed=0, share_unparsed=0.1, step=None):
    """Answers drawn with some skill; ``step`` rounds probabilities, which makes ties."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(LABELS[:k], n, p=np.array([0.5, 0.3, 0.15, 0.05])[:k] / sum([0.5, 0.3, 0.15, 0.05][:k]))
    score = rng.gumbel(size=(n, k)) + 1.2 * (truth[:, None] == np.array(LABELS[:k]))
    p = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    p = p if step is None else np.round(p / step) * step
    frame = pd.DataFrame(p, columns=[f"probability:{label}" for label in LABELS[:k]], index=np.arange(n)[::-1])
    frame.insert(0, "answer", np.array(LABELS, object)[p.argmax(1)])
    frame.loc[frame.index[rng.random(n) < share_unparsed], "answer"] = None
    return truth, frame


def values(table, over="rows"):
    return table[table["over"] == over].set_index("metric")["value"]


def by_sklearn(truth, frame):
    said = frame["answer"].fillna("?").to_numpy()
    labels = sorted({*truth, *said} - {"?"})
    roc, pr = [], []
    for label in sorted(set(truth)):
        p, y = frame[f"probability:{label}"].to_numpy(), truth == label
        if 0 < y.sum() < len(y):
            roc.append(sk.roc_auc_score(y, p))
            pr.append(sk.average_precision_score(y, p))
    return {
        "accuracy": sk.accuracy_score(truth, said),
        "balanced_accuracy": np.mean([np.mean(said[truth == label] == label) for label in set(truth)]),
        "macro_f1": sk.f1_score(truth, said, labels=labels, average="macro", zero_division=0),
        "kappa": sk.cohen_kappa_score(truth, said),
        "unparsed": np.mean(said == "?"),
        "roc_auc": np.mean(roc),
        "pr_auc": np.mean(pr),
    }


@given(seed=st.integers(0, 10_000), n=st.integers(25, 80), k=st.integers(2, 4), step=st.sampled_from([None, 0.25]))
@settings(max_examples=40, deadline=None)
def test_measures_equal_those_of_scikit_learn(seed, n, k, step):
    truth, frame = predictions(n, k, seed, step=step)
    found = values(classification(truth, frame, n_bootstrap=0))
    for metric, value in by_sklearn(truth, frame).items():
        assert found[metric] == pytest.approx(value, abs=1e-12), metric


def test_balanced_accuracy_is_that_of_scikit_learn_where_all_rows_have_an_answer():
    truth, frame = predictions(share_unparsed=0)
    found = values(classification(truth, frame, n_bootstrap=0))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, frame["answer"]))


def test_one_positive_answer_has_its_own_curves():
    truth, frame = predictions(k=2)
    found = values(classification(truth, frame, positive="CD8 T", n_bootstrap=0))
    p = frame["probability:CD8 T"]
    assert found["pr_auc"] == pytest.approx(sk.average_precision_score(truth == "CD8 T", p))
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(truth == "CD8 T", p))
    other = values(classification(truth, frame, positive="CD4 T", n_bootstrap=0))
    assert other["pr_auc"] != pytest.approx(found["pr_auc"])


def test_calibration_error_by_hand():
    p = [0.95, 0.9, 0.6, 0.55]  # of the likeliest answer; the bins of ten are 10, 9, 6 and 6
    frame = pd.DataFrame({"answer": "a", "probability:a": p, "probability:b": 1 - np.array(p)})
    found = values(classification(["a", "b", "a", "b"], frame, n_bins=10, n_bootstrap=0))
    expected = (abs(1 - 0.95) + abs(0 - 0.9) + abs(1 - (0.6 + 0.55))) / 4
    assert found["calibration_error"] == pytest.approx(expected)


def test_groups_count_alike_and_equal_a_table_for_each_group():
    truth, frame = predictions(300, 2)
    groups = np.random.default_rng(1).choice(list("abcdef"), 300, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    found = classification(truth, frame, groups=groups, n_bootstrap=0)
    each = pd.DataFrame(
        [values(classification(truth[groups == g], frame[groups == g], n_bootstrap=0)) for g in sorted(set(groups))]
    )
    pd.testing.assert_series_equal(values(found, "groups"), each.mean(), check_names=False)
    assert values(found, "groups")["accuracy"] != pytest.approx(values(found)["accuracy"])
    assert set(found[found["over"] == "groups"]["n"]) == {6}


def test_a_group_of_one_answer_has_no_curve_and_is_not_counted():
    truth, frame = predictions(60, 2, share_unparsed=0)
    groups = np.where(truth == "CD4 T", np.where(np.arange(60) % 2, "x", "only CD4 T"), "x")
    found = classification(truth, frame, groups=groups, n_bootstrap=0)
    counted = found[found["over"] == "groups"].set_index("metric")["n"]
    assert counted["roc_auc"] == counted["pr_auc"] == 1
    assert counted["accuracy"] == 2


def test_answers_alone_give_no_curves():
    table = classification(["a", "b", "a"], ["a", None, "b"], n_bootstrap=0)
    assert values(table).round(3).to_dict() == {
        "accuracy": 0.333, "balanced_accuracy": 0.25, "macro_f1": 0.333, "kappa": 0.0, "unparsed": 0.333,
    }  # fmt: skip


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = []
    for seed in range(150):
        said = rng.choice(["a", "b"], 120)
        truth = np.where(rng.random(120) < 0.7, said, np.where(said == "a", "b", "a"))
        row = classification(truth, said, n_bootstrap=200, rng=seed).set_index("metric").loc["accuracy"]
        held.append(row["low"] <= 0.7 <= row["high"])
    assert 0.88 <= np.mean(held) <= 0.995


def test_intervals_over_groups_are_wider_where_rows_of_a_group_are_alike():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 50)
    right = (rng.random(20) < 0.6)[groups]
    truth, said = np.full(1000, "a"), np.where(right, "a", "b")
    alone = classification(truth, said, rng=0).set_index("metric").loc["accuracy"]
    grouped = classification(truth, said, groups=groups, rng=0).set_index(["metric", "over"]).loc["accuracy"]
    for over in ("rows", "groups"):
        row = grouped.loc[over]
        assert row["value"] == pytest.approx(alone["value"])
        assert row["high"] - row["low"] > 4 * (alone["high"] - alone["low"])


def test_draws_depend_on_the_seed_and_not_on_how_many_are_held_at_once(monkeypatch):
    from cellhermes.metrics import _classification

    truth, frame = predictions()
    first = classification(truth, frame, n_bootstrap=60, rng=0)
    assert not classification(truth, frame, n_bootstrap=60, rng=1)["low"].equals(first["low"])
    monkeypatch.setattr(_classification, "ROOM", 1000)
    pd.testing.assert_frame_equal(classification(truth, frame, n_bootstrap=60, rng=0), first)


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        (lambda y, f: (y[:5], f), {}, "5 true and 200 predicted"),
        (lambda y, f: ([None, *y[1:]], f), {}, "1 of 200 true answers are missing"),
        (lambda y, f: (["B", *y[1:]], f), {}, r"True answers without a probability: \['B'\] \(1 in all\)"),
        (lambda y, f: (y, f.assign(**{"probability:NK": np.nan})), {}, "200 of 200 rows have no probabilities"),
        (lambda y, f: (y, f), {"positive": "B"}, "positive='B' is none of the answers"),
        (lambda y, f: (y, f), {"groups": ["a"]}, "groups has 1 values, 0 missing"),
        (lambda y, f: (y, f), {"groups": [None] * 200}, "groups has 200 values, 200 missing"),
    ],
)
def test_what_cannot_be_measured_is_explained(change, options, text):
    with pytest.raises(ValueError, match=text):
        classification(*change(*predictions()), **options)
