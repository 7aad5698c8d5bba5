"""What answers without a language model reach: from nothing, from frequencies, from linear models and trees.

A baseline is fitted on the rows of the training split alone and returns what :func:`cellhermes.tl.answer` returns, so
that both are measured alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from scipy import sparse

from ._features import (
    as_answers,
    check,
    counts_of,
    logistic,
    one_hot,
    probabilities,
    standard_vectors,
    vocabulary_of,
    warn_without_vectors,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sklearn.base import ClassifierMixin

Method = Literal["constant", "majority", "frequency", "profile", "logistic", "trees"]
PRIOR = 5.0  # rows of the overall frequencies that are added to those of a gene


def answer(
    frame: pd.DataFrame,
    method: Method,
    *,
    genes: Sequence[str] = (),
    others: Sequence[str] = (),
    unordered: bool = False,
    vectors: pd.DataFrame | None = None,
    constant: str | None = None,
    balanced: bool = False,
    label: str = "answer",
    split: str = "split",
    on: str = "test",
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Answer the rows of one split from those of the training split, without a language model.

    ``"constant"``
        Always the answer ``constant``; with the answer for "not changed", the no-change baseline of perturbations.
    ``"majority"``
        Always the most frequent answer.
    ``"frequency"``
        An answer drawn as often as it occurs.
    ``"profile"``
        How often each answer was given for the row's genes and other values, f = (n_answer + 5 f_all) / (n + 5), mean
        over them; with the measured gene alone this is the mean profile of perturbations. Something never seen has the
        frequencies over all rows, f_all.
    ``"logistic"``
        Logistic regression (L2, C = 1) on which genes and other values a row has or, with ``vectors``, on the vectors
        of the genes (for a list their mean) and which other values it has.
    ``"trees"``
        Gradient-boosted trees on the frequencies f of each column (for the training rows, counted in other folds) or,
        with ``vectors``, on the vectors.

    Parameters
    ----------
    frame
        Rows with their true answers and the column ``split``, in which training rows are ``"train"``.
    method
        One of the above.
    genes
        Columns with a gene, or with several: a list, or a string with blanks or ``+`` between them.
    others
        Columns with other values, such as a cell line.
    unordered
        The columns of ``genes`` are interchangeable, as in pairs of genes: what is learnt of a gene in one column
        counts in all; of vectors, sum and product are taken.
    vectors
        One row a gene, such as its embedding. Genes without one get the mean, and their number is given in one warning.
    constant
        The answer of ``"constant"``.
    balanced
        Let every answer weigh the same in ``"logistic"`` and ``"trees"``, however rare it is.
    label
        Column with the true answers.
    split, on
        Column of the split, and which of its values to answer.
    rng
        Seed or generator of ``"frequency"`` and of folds and trees.

    Returns
    -------
    A row for each row with ``split == on``, under its index: ``answer``, ``status``, ``confidence`` and for each answer
    of the frame ``probability:<answer>``, 0 for those that training rows do not have.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If the method is unknown or lacks what it needs, a split is empty, or training rows have one answer only.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame({"gene": ["TP53", "TP53", "LYZ", "LYZ", "TP53", "LYZ"]})
    >>> frame["answer"], frame["split"] = ["Yes", "Yes", "No", "No", "Yes", "No"], ["train"] * 4 + ["test"] * 2
    >>> ch.baselines.answer(frame, "logistic", genes=["gene"])["answer"].tolist()
    ['Yes', 'No']
    """
    if method not in get_args(Method):
        msg = f"method={method!r} is not known; expected one of {get_args(Method)}."
        raise ValueError(msg)
    is_fitted = method in ("profile", "logistic", "trees")
    check(frame, [*genes, *others], label, split, on, is_fitted=is_fitted)
    if is_fitted and not [*genes, *others]:
        msg = f"method={method!r} needs columns to learn from; pass genes= or others=."
        raise ValueError(msg)
    if method == "constant" and constant not in {*frame[label]}:
        msg = f"constant={constant!r} is none of the answers {sorted({*frame[label]}, key=str)[:5]}."
        raise ValueError(msg)
    train, test = frame[frame[split] == "train"], frame[frame[split] == on]
    labels = pd.Index(sorted({*frame[label]}, key=str))
    codes = labels.get_indexer(train[label])
    overall = np.bincount(codes, minlength=len(labels)) / len(codes)
    rng = np.random.default_rng(rng)
    if method == "constant":
        return as_answers(np.tile(labels == constant, (len(test), 1)).astype(float), labels, test.index)
    if method == "majority":
        return as_answers(np.tile(overall, (len(test), 1)), labels, test.index)
    if method == "frequency":
        drawn = rng.choice(len(labels), len(test), p=overall)
        return as_answers(np.tile(overall, (len(test), 1)), labels, test.index, drawn)
    blocks = [[*genes], *([name] for name in others)] if unordered else [[name] for name in (*genes, *others)]
    words = [(words_of(train, block, genes), words_of(test, block, genes)) for block in blocks if block]
    if method == "profile":
        profiles = [_profile(*block, codes, overall) for block in words]
        return as_answers(np.mean(profiles, axis=0), labels, test.index)
    if vectors is None and method == "trees":
        features = [_crossed(*block, codes, overall, rng) for block in words]
    elif vectors is None:
        features = [one_hot(*block) for block in words]
    else:
        warn_without_vectors(frame, genes, vectors)
        features = standard_vectors(train, test, genes, vectors, unordered=unordered)
        features += [one_hot(*block) for block in words[len(words) - len(others) :]]
    is_linear = method == "logistic"
    model = logistic(balanced=balanced) if is_linear else _trees(len(labels), rng, balanced=balanced)
    rows, asked = (_joined(parts, is_dense=not is_linear) for parts in zip(*features, strict=True))
    return as_answers(probabilities(model.fit(rows, codes), asked, len(labels)), labels, test.index)


def _profile(train: list[list[str]], test: list[list[str]], codes: np.ndarray, overall: np.ndarray) -> np.ndarray:
    """(test rows, answers) mean frequency of answers over the words of a row."""
    vocabulary = vocabulary_of(train)
    has = (counts_of(train, vocabulary) > 0).astype(float)
    answers = sparse.csr_array((np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), len(overall)))
    n = has.sum(0)[:, None]
    of_word = ((has.T @ answers).toarray() + PRIOR * overall) / (n + PRIOR)
    share = counts_of(test, vocabulary)
    return share @ of_word + (1 - share.sum(1))[:, None] * overall


def _crossed(
    train: list[list[str]], test: list[list[str]], codes: np.ndarray, overall: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Profiles as features; those of a training row are counted in other folds, or they would tell its answer."""
    fold = rng.permutation(len(train)) % 5
    mine = np.empty((len(train), len(overall)))
    for k in range(5):
        inside = np.flatnonzero(fold == k)
        outside = np.flatnonzero(fold != k)
        if len(inside):
            mine[inside] = _profile([train[i] for i in outside], [train[i] for i in inside], codes[outside], overall)
    return mine, _profile(train, test, codes, overall)


def _trees(n_labels: int, rng: np.random.Generator, *, balanced: bool) -> ClassifierMixin:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # a round grows one tree for each answer: fewer rounds where there are hundreds of answers
    n_rounds = int(np.clip(2000 // n_labels, 5, 100))
    weight = "balanced" if balanced else None
    seed = int(rng.integers(2**32))
    return HistGradientBoostingClassifier(max_iter=n_rounds, random_state=seed, class_weight=weight)


def _joined(parts: Sequence[np.ndarray | sparse.csr_array], *, is_dense: bool) -> np.ndarray | sparse.csr_array:
    if is_dense or not any(map(sparse.issparse, parts)):
        return np.hstack([part.toarray() if sparse.issparse(part) else part for part in parts])
    return sparse.hstack([sparse.csr_array(part) for part in parts], "csr")
