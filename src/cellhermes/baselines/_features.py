"""What baselines share: what the rows of a frame have, as words, counts and vectors, and answers as a frame."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from .._symbols import joined_genes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sklearn.base import ClassifierMixin


def check(frame: pd.DataFrame, columns: list[str], label: str, split: str, on: str, *, is_fitted: bool) -> None:
    """Refuse a frame without what is asked for, and one that nothing can be learnt from."""
    if missing := [name for name in (*columns, label, split) if name not in frame]:
        msg = f"The frame has no columns {missing}; it has {list(frame)}."
        raise KeyError(msg)
    sizes = frame[split].value_counts()
    if empty := [name for name in ("train", on) if not sizes.get(name, 0)]:
        msg = f"Column {split!r} has no rows {empty}; it has {sizes.to_dict()}."
        raise ValueError(msg)
    if frame[label].isna().any():
        msg = f"{frame[label].isna().sum():,} of {len(frame):,} rows have no answer in {label!r}; leave these rows out."
        raise ValueError(msg)
    if is_fitted:
        answers = frame.loc[frame[split] == "train", label].unique()
        if len(answers) < 2:
            msg = f"Training rows have the answer {answers[0]!r} only; expected two or more, or method='majority'."
            raise ValueError(msg)


def as_answers(
    probability: np.ndarray, labels: pd.Index, index: pd.Index, drawn: np.ndarray | None = None
) -> pd.DataFrame:
    """Make the frame of answers from (rows, answers) probabilities; of the best, or of those that were drawn."""
    best = probability.argmax(axis=1)
    columns = {
        "answer": labels.to_numpy(object)[best if drawn is None else drawn],
        "status": "answered",
        "confidence": probability.max(axis=1),
        **{f"probability:{name}": column for name, column in zip(labels, probability.T, strict=True)},
    }
    return pd.DataFrame(columns, index=index)


def _split_genes(value: object) -> list[str]:
    """List the genes of a value: one, several in a string, or a list."""
    if not isinstance(value, str):
        return [*map(str, value)]
    return [gene for word in value.split() for gene in joined_genes(word)]


def words_of(frame: pd.DataFrame, block: Sequence[str], genes: Sequence[str]) -> list[list[str]]:
    """List what each row has in some columns: genes, or one other value."""
    columns = [map(_split_genes, frame[name]) if name in genes else ([str(v)] for v in frame[name]) for name in block]
    return [[word for words in row for word in words] for row in zip(*columns, strict=True)]


def counts_of(words: list[list[str]], vocabulary: pd.Index) -> sparse.csr_array:
    """Give each row (rows, words) shares of its words; those outside the vocabulary count, but have no column."""
    codes = [vocabulary.get_indexer(row) if row else np.empty(0, int) for row in words]
    rows = np.repeat(np.arange(len(words)), [len(row) for row in codes])
    values = np.repeat([1 / max(len(row), 1) for row in codes], [len(row) for row in codes])
    flat = np.concatenate([*codes, np.empty(0, int)]).astype(int)
    known = flat >= 0
    shares = sparse.csr_array((values[known], (rows[known], flat[known])), shape=(len(words), len(vocabulary)))
    shares.sum_duplicates()
    return shares


def vocabulary_of(words: list[list[str]]) -> pd.Index:
    """List all words, each once, sorted."""
    return pd.Index(sorted({word for row in words for word in row}))


def one_hot(train: list[list[str]], test: list[list[str]]) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Mark the words that a row has, of those in training rows; each row has length 1."""
    from sklearn.preprocessing import normalize

    vocabulary = vocabulary_of(train)
    return normalize(counts_of(train, vocabulary)), normalize(counts_of(test, vocabulary))


def _means(words: list[list[str]], vectors: pd.DataFrame) -> np.ndarray:
    """(rows, dim) mean vector of a row's words that have one; NaN where none has."""
    there = counts_of(words, vectors.index)
    total = there.sum(1)[:, None]
    values = there @ vectors.to_numpy(float)
    return np.divide(values, total, out=np.full(values.shape, np.nan), where=total > 0)


def standard_vectors(
    train: pd.DataFrame, test: pd.DataFrame, genes: Sequence[str], vectors: pd.DataFrame, *, unordered: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Standardise the vectors of each column of genes, or their sum and product."""
    rows = [[_means(words_of(part, [name], genes), vectors) for name in genes] for part in (train, test)]
    if unordered:
        rows = [[sum(part), np.prod(part, axis=0)] for part in rows]
    return [_standard(*pair) for pair in zip(*rows, strict=True)]


def warn_without_vectors(frame: pd.DataFrame, genes: Sequence[str], vectors: pd.DataFrame) -> None:
    """Warn of genes that have no vector."""
    asked = {word for row in words_of(frame, genes, genes) for word in row}
    if missing := asked - {*vectors.index}:
        msg = f"{len(missing):,} of {len(asked):,} genes have no vector, such as {min(missing)!r}, and get the mean."
        warnings.warn(msg, UserWarning, stacklevel=3)


def _standard(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean 0 and standard deviation 1 over training rows, then 0 for rows without a vector."""
    if np.isnan(train).all():
        return np.zeros_like(train), np.zeros_like(test)
    mean, deviation = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    scale = np.where(deviation > 0, deviation, 1)
    return np.nan_to_num((train - mean) / scale), np.nan_to_num((test - mean) / scale)


def logistic(*, balanced: bool = False) -> ClassifierMixin:
    """Make a logistic regression (L2, C = 1)."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=2000, class_weight="balanced" if balanced else None)


def probabilities(model: ClassifierMixin, rows: np.ndarray | sparse.csr_array, n_labels: int) -> np.ndarray:
    """Predict (rows, answers), 0 for answers that training rows do not have."""
    out = np.zeros((rows.shape[0], n_labels))
    out[:, model.classes_] = model.predict_proba(rows)
    return out
