from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold

from cellhermes.metrics import knn_accuracy


def clouds(distance, n=40):
    rng = np.random.default_rng(0)
    centres = distance * np.eye(3)
    return np.concatenate([rng.normal(c, 1, (n, 3)) for c in centres]), np.repeat(["B", "NK", "T"], n)


def test_separate_clouds_are_told_and_shuffled_labels_are_not():
    embedding, labels = clouds(30)
    assert knn_accuracy(embedding, labels) == 1
    assert knn_accuracy(embedding, np.random.default_rng(0).permutation(labels)) < 0.5


def test_accuracy_is_the_vote_of_the_nearest_by_cosine():
    embedding, labels = clouds(2)
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    seed = int(np.random.default_rng(3).integers(2**32))
    hits = 0
    for train, test in StratifiedKFold(4, shuffle=True, random_state=seed).split(embedding, labels):
        for i in test:
            nearest = labels[train[np.argsort(-unit[train] @ unit[i], kind="stable")[:7]]]
            names, votes = np.unique(nearest, return_counts=True)
            hits += names[votes.argmax()] == labels[i]
    assert knn_accuracy(embedding, labels, n_neighbors=7, n_splits=4, rng=3) == pytest.approx(hits / len(labels))


def test_length_of_the_vectors_does_not_count():
    embedding, labels = clouds(2)
    scale = np.random.default_rng(0).uniform(0.1, 10, (len(embedding), 1))
    assert knn_accuracy(embedding * scale, labels) == knn_accuracy(embedding, labels)


def test_labels_may_be_a_categorical_column_of_any_index():
    embedding, labels = clouds(2)
    column = pd.Series(pd.Categorical(labels), index=np.arange(len(labels))[::-1])
    assert knn_accuracy(embedding, column) == knn_accuracy(embedding, labels)


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        (lambda e, y: (e[:5], y), {}, r"shape \(5, 3\) and there are 120 labels; expected one row a label"),
        (lambda e, y: (np.where(np.arange(120)[:, None] < 2, np.nan, e), y), {}, "2 of 120 rows have NaN or infinite"),
        (lambda e, y: (e, [None, *y[1:]]), {}, "1 of 120 labels are missing"),
        (lambda e, y: (e, ["rare"] * 3 + ["T"] * 117), {}, r"of which 'rare' has the fewest rows \(3\)"),
        (lambda e, y: (e, ["T"] * 120), {}, "expected two labels or more"),
        (lambda e, y: (e, y), {"n_splits": 1}, "at least two folds"),
        (lambda e, y: (e, y), {"n_neighbors": 0}, "n_neighbors=0; expected 1 to 96"),
        (lambda e, y: (e, y), {"n_neighbors": 97}, "n_neighbors=97; expected 1 to 96"),
    ],
)
def test_what_cannot_be_scored_is_explained(change, options, text):
    with pytest.raises(ValueError, match=text):
        knn_accuracy(*change(*clouds(2)), **options)
