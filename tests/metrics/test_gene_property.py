"""Properties of genes: against scikit-learn's own cross-validation, and on planted and shuffled labels."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score

import cellhermes as ch
from cellhermes.metrics import gene_property

GENES = [f"GENE{i}" for i in range(120)]
SMALL = RandomForestClassifier(8)  # for speed


def vectors(seed=0, shift=0.0, y=None):
    x = np.random.default_rng(seed).normal(size=(len(GENES), 8))
    return pd.DataFrame(x + (0 if y is None else shift * y[:, None]), index=GENES)


def labels(seed=0):
    y = np.random.default_rng(seed).permutation(np.arange(len(GENES)) % 3 == 0)
    return y, pd.DataFrame({"gene": GENES, "answer": np.where(y, "bivalent", "Lys4-only")})


@pytest.mark.parametrize(("metric", "scoring"), [("roc_auc", "roc_auc"), ("pr_auc", "average_precision")])
def test_areas_are_those_of_sklearn_in_each_fold(metric, scoring):
    y, frame = labels()
    x = vectors(shift=0.4, y=y)
    found = gene_property(x, frame, positive="bivalent", rng=3)
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    expected = cross_val_score(RandomForestClassifier(random_state=3), x, y, cv=folds, scoring=scoring)
    np.testing.assert_allclose(found[metric], expected)
    assert found["n"].sum() == len(GENES)
    assert found["n_positive"].sum() == y.sum()


@pytest.mark.parametrize("classifier", ["rf", "logistic", "xgb"])
def test_planted_property_is_found_and_shuffled_labels_are_not(classifier):
    if classifier == "xgb":
        pytest.importorskip("xgboost")
    y, frame = labels()
    perfect = pd.DataFrame(np.column_stack([y, ~y]).astype(float), index=GENES)
    planted = gene_property(perfect, frame, classifier=classifier)
    assert (planted[["roc_auc", "pr_auc"]] > 0.99).all(axis=None)
    chance = [
        gene_property(vectors(seed), frame, classifier=classifier, pooled=True, rng=seed)["roc_auc"][0]
        for seed in range(3)
    ]
    error = np.std(chance, ddof=1) / np.sqrt(len(chance))
    assert abs(np.mean(chance) - 0.5) < 3 * error + 0.02


def test_same_seed_gives_the_same_and_several_embeddings_do_not_change_each_other():
    _, frame = labels()
    alone = gene_property(vectors(), frame, classifier=SMALL, rng=1)
    pd.testing.assert_frame_equal(alone, gene_property(vectors(), frame, classifier=SMALL, rng=1))
    both = gene_property({"other": vectors(1), "embedding": vectors()}, frame, classifier=SMALL, rng=1)
    pd.testing.assert_frame_equal(both[both["embedding"] == "embedding"].reset_index(drop=True), alone)
    assert not alone["roc_auc"].equals(gene_property(vectors(), frame, classifier=SMALL, rng=2)["roc_auc"])


def test_pooled_area_ranks_the_genes_of_all_folds():
    _, frame = labels()
    constant = gene_property(vectors(), frame, classifier=DummyClassifier(), pooled=True)
    assert constant["roc_auc"].tolist() == [0.5]
    assert constant[["fold", "n"]].to_numpy().tolist() == [[-1, len(GENES)]]


def test_genes_in_both_classes_and_without_vectors_are_dropped_and_counted():
    _, frame = labels()
    more = pd.DataFrame({"gene": ["GENE0", "GENE0", "GENE1", "ABSENT"], "answer": ["bivalent", "Lys4-only"] * 2})
    more.loc[2, "answer"] = frame.set_index("gene").loc["GENE1", "answer"]
    x = vectors()
    x.loc["GENE2"] = np.nan
    found = gene_property({"a": x, "b": vectors()}, pd.concat([frame, more]), classifier=DummyClassifier())
    assert found.attrs["dropped"] == {"genes": {"repeated": 2, "in both classes": 1, "no vector": 2}}
    assert found.attrs["missing"] == {"genes": {"a": 2, "b": 1}}
    assert set(found.groupby("embedding")["n"].sum()) == {len(GENES) - 2}


def test_tasks_are_measured_each_for_itself():
    _, frame = labels()
    _, other = labels(1)
    both = gene_property(vectors(), pd.concat([frame.assign(task="one"), other.assign(task="two")]), classifier=SMALL)
    for task, part in (("one", frame), ("two", other)):
        alone = gene_property(vectors(), part, classifier=SMALL)
        assert both.loc[both["task"] == task, "roc_auc"].tolist() == alone["roc_auc"].tolist()


@pytest.mark.parametrize(
    ("change", "options", "error", "text"),
    [
        (lambda x, y: (x, y.assign(answer="bivalent")), {}, ValueError, "expected two classes"),
        (lambda x, y: (x, pd.concat([y[y["answer"] == "bivalent"][:4], y[y["answer"] != "bivalent"]])), {}, ValueError,
         "'bivalent': 4.*a gene of each class in each fold"),
        (lambda x, y: (x.set_axis([f"ENSG{i}" for i in range(120)]), y), {}, ValueError, "same symbols or ids"),
        (lambda x, y: (x.to_numpy(), y), {}, TypeError, "is a ndarray; expected a frame"),
        (lambda x, y: (pd.concat([x, x]), y), {}, ValueError, "120 genes more than once"),
        (lambda x, y: (x.assign(name="a"), y), {}, TypeError, "columns that are not numbers"),
        (lambda x, y: (x, y.drop(columns="answer")), {}, KeyError, "no columns"),
        (lambda x, y: (x, y), {"positive": "trivalent"}, ValueError, "is no class of task"),
        (lambda x, y: (x, y), {"classifier": "svm"}, ValueError, "expected 'rf', 'xgb'"),
        (lambda x, y: ({}, y), {}, ValueError, "There is no embedding"),
    ],
)  # fmt: skip
def test_bad_input_is_named(change, options, error, text):
    embeddings, frame = change(vectors(), labels()[1])
    with pytest.raises(error, match=text):
        gene_property(embeddings, frame, **options)


def test_missing_xgboost_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xgboost", None)
    with pytest.raises(ImportError, match=r"cellhermes\[metrics\]"):
        gene_property(vectors(), labels()[1], classifier="xgb")


def test_released_label_files_are_read(data_dir):
    frame = ch.io.read_gene_labels(data_dir / "gene_labels" / "gene_classification_labels.tsv")
    random = ch.baselines.embed_genes(frame["gene"].unique(), "random", n_components=4)
    found = gene_property(random, frame, classifier=DummyClassifier(), pooled=True)
    assert found.set_index("task")["n_positive"].to_dict() == {
        "dosage_sensitive_vs_insensitive_tf": 122, "bivalent_vs_non_methylated": 94, "bivalent_vs_lys4_only": 95,
    }  # fmt: skip
    dropped = {task: counts["in both classes"] for task, counts in found.attrs["dropped"].items()}
    assert dropped == {
        "dosage_sensitive_vs_insensitive_tf": 0, "bivalent_vs_non_methylated": 2, "bivalent_vs_lys4_only": 1,
    }  # fmt: skip
