"""Baselines against slow versions, on data where it is known what can be learnt, seen from training rows only."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from cellhermes.baselines import answer as baseline
from cellhermes.baselines import deg_then_direction
from cellhermes.metrics import classification

GENES = [f"G{i}" for i in range(12)]
METHODS = {
    "constant": {"constant": "No"}, "majority": {}, "frequency": {}, "profile": {}, "logistic": {}, "trees": {},
}  # fmt: skip


def questions(n=600, seed=0):
    """Whether a gene is needed depends on the gene, and somewhat on the line."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"gene": rng.choice(GENES, n), "line": rng.choice(["x", "y", "z"], n)})
    p = 0.15 + 0.7 * (frame["gene"].str[1:].astype(int) % 3 == 0) + 0.1 * (frame["line"] == "x")
    frame["answer"] = np.where(rng.random(n) < p, "Yes", "No")
    frame["split"] = np.where(np.arange(n) % 4 == 0, "test", np.where(np.arange(n) % 7 == 0, "valid", "train"))
    return frame.set_axis([f"q{i}" for i in range(n)])


def vectors(dim=5, seed=1):
    found = np.random.default_rng(seed).normal(size=(len(GENES), dim))
    found[:, 0] = [int(gene[1:]) % 3 == 0 for gene in GENES]
    return pd.DataFrame(found, index=GENES)


def answer(frame, method, **options):
    return baseline(frame, method, genes=["gene"], others=["line"], **METHODS[method], **options)


def probability(found):
    return found.filter(like="probability:").to_numpy()


@pytest.mark.parametrize("on", ["test", "valid"])
@pytest.mark.parametrize("method", METHODS)
def test_rows_of_one_split_are_answered_and_can_be_measured(method, on):
    frame = questions()
    found = answer(frame, method, on=on)
    asked = frame[frame["split"] == on]
    assert found.index.equals(asked.index)
    assert list(found) == ["answer", "status", "confidence", "probability:No", "probability:Yes"]
    np.testing.assert_allclose(probability(found).sum(1), 1)
    assert len(classification(asked["answer"], found, n_bootstrap=0)) == 8


@pytest.mark.parametrize("with_vectors", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_only_training_rows_are_learnt_from(method, with_vectors):
    frame = questions()
    options = {"vectors": vectors() if with_vectors else None}
    others = frame["split"] != "train"
    changed = frame.copy()
    changed.loc[others, "answer"] = changed.loc[others, "answer"].map({"Yes": "No", "No": "Yes"})
    pd.testing.assert_frame_equal(answer(frame, method, **options), answer(changed, method, **options))
    fewer = frame[~others | (np.arange(len(frame)) % 8 == 0)]
    found = answer(frame, method, **options)
    if method != "frequency":  # whose draws go on from row to row
        pd.testing.assert_frame_equal(
            answer(fewer, method, **options), found.loc[fewer.index[fewer["split"] == "test"]]
        )


def test_answers_from_nothing():
    frame = questions()
    share = (frame.loc[frame["split"] == "train", "answer"] == "Yes").mean()
    assert set(answer(frame, "constant")["answer"]) == {"No"}
    assert set(answer(frame, "majority")["answer"]) == {"Yes" if share > 0.5 else "No"}
    drawn = answer(pd.concat([frame] * 20, ignore_index=True), "frequency")
    assert (drawn["answer"] == "Yes").mean() == pytest.approx(share, abs=0.03)
    for method in ("majority", "frequency"):
        np.testing.assert_allclose(answer(frame, method)["probability:Yes"], share)


def test_profile_is_the_smoothed_frequency_by_hand():
    frame = questions()
    found = answer(frame, "profile")
    train = frame[frame["split"] == "train"]
    overall = (train["answer"] == "Yes").mean()
    for name, row in frame[frame["split"] == "test"].iterrows():
        shares = []
        for column in ("gene", "line"):
            mine = train.loc[train[column] == row[column], "answer"] == "Yes"
            shares.append((mine.sum() + 5 * overall) / (len(mine) + 5))
        assert found.loc[name, "probability:Yes"] == pytest.approx(np.mean(shares))


def test_profile_of_a_list_is_the_mean_over_its_genes_and_of_a_new_gene_the_overall_frequency():
    lists = pd.DataFrame({"genes": ["A", "A B", ["B"], "C+A", "A NEW", "NEW"], "answer": list("xxyyxy")})
    lists["split"] = ["train"] * 4 + ["test"] * 2
    found = baseline(lists, "profile", genes=["genes"])["probability:x"].to_numpy()
    of_a = (2 + 5 * 0.5) / (3 + 5)
    np.testing.assert_allclose(found, [(of_a + 0.5) / 2, 0.5])


def test_logistic_on_identity_is_that_of_scikit_learn():
    frame = questions()
    train, test = frame[frame["split"] == "train"], frame[frame["split"] == "test"]
    encoder = OneHotEncoder().fit(train[["gene", "line"]])
    model = LogisticRegression(max_iter=2000).fit(encoder.transform(train[["gene", "line"]]), train["answer"])
    expected = model.predict_proba(encoder.transform(test[["gene", "line"]]))
    np.testing.assert_allclose(probability(answer(frame, "logistic")), expected, atol=1e-4)


def test_logistic_on_vectors_is_that_of_scikit_learn():
    frame, table = questions(), vectors()
    train, test = frame[frame["split"] == "train"], frame[frame["split"] == "test"]
    scaler = StandardScaler().fit(table.loc[train["gene"]])
    rows = [
        np.hstack([scaler.transform(table.loc[part["gene"]]), pd.get_dummies(part["line"]).to_numpy(float)])
        for part in (train, test)
    ]
    expected = LogisticRegression(max_iter=2000).fit(rows[0], train["answer"]).predict_proba(rows[1])
    np.testing.assert_allclose(probability(answer(frame, "logistic", vectors=table)), expected, atol=1e-4)


@pytest.mark.parametrize("method", ["logistic", "trees"])
def test_vectors_tell_about_genes_that_were_never_seen_and_identity_does_not(method):
    frame = questions(2000)
    frame["split"] = np.where(frame["gene"].isin(["G0", "G1", "G5", "G9"]), "test", "train")
    truth = frame.loc[frame["split"] == "test", "answer"]
    auc = {
        with_vectors: classification(
            truth, baseline(frame, method, genes=["gene"], vectors=vectors() if with_vectors else None), n_bootstrap=0
        ).set_index("metric")["value"]["roc_auc"]
        for with_vectors in (False, True)
    }
    assert auc[False] == pytest.approx(0.5, abs=0.01)
    assert auc[True] > 0.75


def test_trees_on_identity_learn_what_can_be_learnt_and_do_not_memorise():
    frame = questions(2000)
    truth = frame.loc[frame["split"] == "test", "answer"]
    found = answer(frame, "trees")
    best = answer(frame, "profile")
    accuracy = [(one["answer"] == truth).mean() for one in (found, best)]
    assert accuracy[0] > accuracy[1] - 0.03
    noise = frame.assign(gene=[f"own{i}" for i in range(len(frame))], line="x")  # one row a gene: nothing to learn
    confidence = answer(noise, "trees")["confidence"].mean()
    assert confidence < 0.85


def test_pairs_may_be_unordered():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.choice(GENES, (400, 2)), columns=["a", "b"])
    frame["answer"] = np.where((frame["a"] == "G0") | (frame["b"] == "G0") | (rng.random(400) < 0.1), "Yes", "No")
    frame["split"] = np.where(np.arange(400) < 300, "train", "test")
    turned = frame.copy()
    is_test = frame["split"] == "test"
    turned.loc[is_test, ["a", "b"]] = frame.loc[is_test, ["b", "a"]].to_numpy()
    for options in ({}, {"vectors": vectors()}):
        one, other, ordered, ordered_other = (
            probability(baseline(f, "logistic", genes=["a", "b"], unordered=unordered, **options))
            for unordered in (True, False) for f in (frame, turned)
        )  # fmt: skip
        np.testing.assert_allclose(one, other, atol=1e-9)
        assert not np.allclose(ordered, ordered_other, atol=1e-6)


def test_rare_answers_may_weigh_the_same():
    frame = questions()
    frame.loc[frame.index[frame["answer"] == "Yes"][::2], "answer"] = "No"
    plain, even = (answer(frame, "logistic", balanced=balanced) for balanced in (False, True))
    assert even["probability:Yes"].mean() > plain["probability:Yes"].mean() + 0.1


def test_genes_without_a_vector_are_counted_and_kept():
    frame = questions()
    with pytest.warns(UserWarning, match="2 of 12 genes have no vector, such as 'G0'"):
        found = answer(frame, "logistic", vectors=vectors().drop(index=["G0", "G3"]))
    assert len(found) == (frame["split"] == "test").sum()
    assert np.isfinite(probability(found)).all()


def test_hundreds_of_answers_with_lists_of_genes():
    rng = np.random.default_rng(0)
    names = [f"category {i}" for i in range(120)]
    members = {name: rng.choice(500, 12) for name in names}
    rows = [(" ".join(f"G{g}" for g in rng.choice(members[name], 6)), name) for name in names * 4]
    frame = pd.DataFrame(rows, columns=["genes", "answer"])
    frame["split"] = np.where(np.arange(len(frame)) < 360, "train", "test")
    truth = frame.loc[frame["split"] == "test", "answer"]
    for method, least in (("logistic", 0.8), ("profile", 0.5)):
        assert (baseline(frame, method, genes=["genes"])["answer"] == truth).mean() > least


def perturbed(n=4000, seed=0):
    """Genes respond when their vector meets that of the perturbed gene; the direction is in the perturbed gene's."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(80, 3)), index=[f"G{i}" for i in range(80)])
    frame = pd.DataFrame(rng.choice(table.index, (n, 2)), columns=["perturbation", "gene"])
    p, g = table.loc[frame["perturbation"]].to_numpy(), table.loc[frame["gene"]].to_numpy()
    frame["split"] = np.where(frame["perturbation"].isin([f"G{i}" for i in range(60, 80)]), "test", "train")
    frame["answer"] = np.where(3 * (p * g).sum(1) + rng.normal(size=n) > 0, "Yes", "No")
    frame["direction"] = np.where(3 * p[:, 0] + rng.normal(size=n) > 0, "Up", "Down")
    frame.loc[frame["answer"] == "No", "direction"] = None
    return frame, table


def auc(frame, found, label="answer"):
    truth = frame.loc[found.index, label]
    return classification(truth, found, n_bootstrap=0).set_index("metric")["value"]["roc_auc"]


def test_products_of_vectors_tell_which_genes_a_new_perturbation_changes():
    frame, table = perturbed(2500)
    changes, directions = deg_then_direction(frame, vectors=table)
    plain = baseline(frame, "logistic", genes=["perturbation", "gene"], vectors=table)
    assert changes.index.equals(frame.index[frame["split"] == "test"])
    assert directions.index.equals(frame.index[(frame["split"] == "test") & (frame["answer"] == "Yes")])
    assert auc(frame, changes) > 0.9
    assert auc(frame, plain) < 0.65
    assert auc(frame, directions, "direction") > 0.9


def test_the_first_step_helps_the_second():
    frame, table = perturbed(1500)
    p, g = table.loc[frame["perturbation"]].to_numpy(), table.loc[frame["gene"]].to_numpy()
    rng = np.random.default_rng(1)
    # what changes strongly rises; few directions are known, and too few to learn products from them alone
    frame["direction"] = np.where((p * g).sum(1) + 0.3 * rng.normal(size=1500) > 0, "Up", "Down")
    frame.loc[(frame["split"] == "train") & (np.arange(1500) % 40 > 0), "direction"] = None
    _, found = deg_then_direction(frame, vectors=table)
    other = frame.assign(answer=np.where(rng.random(1500) < 0.5, "Yes", "No"))  # a first step that learns nothing
    _, without = deg_then_direction(other, vectors=table)
    assert auc(frame, found, "direction") > auc(frame, without, "direction") + 0.05


def test_the_two_steps_see_training_rows_only():
    frame, table = perturbed(600)
    found = deg_then_direction(frame, vectors=table)
    is_test = frame["split"] == "test"
    turned = {"Yes": "No", "No": "Yes", "Up": "Down", "Down": "Up"}
    other = frame.copy()
    for column in ("answer", "direction"):
        other.loc[is_test, column] = frame.loc[is_test, column].map(turned, na_action="ignore")
    for one, two in zip(found, deg_then_direction(other, vectors=table), strict=True):
        pd.testing.assert_frame_equal(one, two)


def test_one_direction_only_is_explained():
    frame, table = perturbed(600)
    with pytest.raises(ValueError, match="the answer 'Up' only"):
        deg_then_direction(frame.assign(direction="Up"), vectors=table)


@pytest.mark.parametrize(
    ("method", "change", "options", "error", "text"),
    [
        ("forest", {}, {}, ValueError, "method='forest' is not known"),
        ("profile", {}, {"genes": []}, ValueError, "needs columns to learn from"),
        ("profile", {}, {"genes": ["symbol"]}, KeyError, r"has no columns \['symbol'\]"),
        ("majority", {}, {"on": "dev"}, ValueError, r"'split' has no rows \['dev'\]"),
        ("majority", {"split": "test"}, {}, ValueError, r"'split' has no rows \['train'\]"),
        ("majority", {"answer": None}, {}, ValueError, "600 of 600 rows have no answer"),
        ("logistic", {"answer": "Yes"}, {}, ValueError, "the answer 'Yes' only"),
        ("constant", {}, {"constant": "none"}, ValueError, "constant='none' is none of the answers"),
    ],
)
def test_what_cannot_be_fitted_is_explained(method, change, options, error, text):
    with pytest.raises(error, match=text):
        baseline(questions().assign(**change), method, **{"genes": ["gene"]} | options)
