"""Accuracy of labels read from the neighbours in an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence


def knn_accuracy(
    embedding: np.ndarray,
    labels: Sequence[str] | pd.Series | np.ndarray,
    *,
    n_neighbors: int = 15,
    n_splits: int = 5,
    rng: int | np.random.Generator | None = 0,
) -> float:
    """Share of rows whose label is the one most frequent among their nearest neighbours of other folds.

    Rows are split into ``n_splits`` folds that keep the shares of the labels; each row is given the majority label of
    its ``n_neighbors`` nearest rows (cosine distance, exact search) outside its own fold. 1 is perfect; always naming
    the most frequent label gives that label's share.

    Parameters
    ----------
    embedding
        Rows x dimensions. A row with NaN (a cell without a sentence) is an error: leaving rows out silently would make
        two embeddings of one data set incomparable.
    labels
        One label a row, none missing; every label has at least ``n_splits`` rows.
    n_neighbors
        Number of neighbours that vote.
    n_splits
        Number of folds.
    rng
        Seed or generator of the folds.

    Returns
    -------
    The accuracy over all rows, each counted once.

    Examples
    --------
    >>> import numpy as np
    >>> from cellhermes.metrics import knn_accuracy
    >>> knn_accuracy(np.repeat(np.eye(2), 20, axis=0), ["B"] * 20 + ["NK"] * 20)
    1.0
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    embedding, labels = np.asarray(embedding), pd.Series(np.asarray(labels))
    _check(embedding, labels, n_neighbors, n_splits)
    seed = int(np.random.default_rng(rng).integers(2**32))
    folds = StratifiedKFold(n_splits, shuffle=True, random_state=seed)
    classifier = KNeighborsClassifier(n_neighbors, metric="cosine", algorithm="brute")
    codes = pd.factorize(labels)[0]
    return float(np.mean(cross_val_predict(classifier, embedding, codes, cv=folds) == codes))


def _check(embedding: np.ndarray, labels: pd.Series, n_neighbors: int, n_splits: int) -> None:
    if embedding.ndim != 2 or len(embedding) != len(labels):
        msg = f"embedding has the shape {embedding.shape} and there are {len(labels)} labels; expected one row a label."
        raise ValueError(msg)
    bad = ~np.isfinite(embedding).all(axis=1)
    if bad.any():
        msg = f"{bad.sum():,} of {len(bad):,} rows have NaN or infinite values; leave these rows and their labels out."
        raise ValueError(msg)
    if labels.isna().any():
        msg = f"{labels.isna().sum():,} of {len(labels):,} labels are missing; leave these rows out."
        raise ValueError(msg)
    sizes = labels.value_counts()
    if n_splits < 2 or len(sizes) < 2 or sizes.min() < n_splits:
        msg = (
            f"n_splits={n_splits} with {len(sizes)} labels, of which {sizes.idxmin() if len(sizes) else None!r} has the"
        )
        msg += (
            f" fewest rows ({sizes.min() if len(sizes) else 0}); expected two labels or more, at least two folds, and a"
        )
        msg += " row of each label in each fold. Leave small labels out, or lower n_splits."
        raise ValueError(msg)
    n_train = len(labels) - -(-len(labels) // n_splits)
    if not 1 <= n_neighbors <= n_train:
        msg = f"n_neighbors={n_neighbors}; expected 1 to {n_train}, the number of rows outside a fold."
        raise ValueError(msg)
