"""What answers without a language model reach: from nothing, from frequencies, from linear models and trees.

A baseline is fitted on the rows of the training split alone and returns what :func:`cellhermes.tl.answer` returns, so
that both are measured alike.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from scipy import sparse

from .._symbols import joined_genes
from ._classification import PROBABILITY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sklearn.base import ClassifierMixin

Method = Literal["constant", "majority", "frequency", "profile", "logistic", "trees"]
PRIOR = 5.0  # rows of the overall frequencies that are added to those of a gene
RANK = 8  # dimensions of genes in the products of :func:`deg_then_direction`


def baseline(
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
    >>> from cellhermes.metrics import baseline, classification
    >>> frame = pd.DataFrame({"gene": ["TP53", "TP53", "LYZ", "LYZ", "TP53", "LYZ"]})
    >>> frame["answer"], frame["split"] = ["Yes", "Yes", "No", "No", "Yes", "No"], ["train"] * 4 + ["test"] * 2
    >>> baseline(frame, "logistic", genes=["gene"])["answer"].tolist()
    ['Yes', 'No']
    """
    _check(frame, method, [*genes, *others], constant, label, split, on)
    train, test = frame[frame[split] == "train"], frame[frame[split] == on]
    labels = pd.Index(sorted({*frame[label]}, key=str))
    codes = labels.get_indexer(train[label])
    overall = np.bincount(codes, minlength=len(labels)) / len(codes)
    rng = np.random.default_rng(rng)
    if method == "constant":
        return _answers(np.tile(labels == constant, (len(test), 1)).astype(float), labels, test.index)
    if method == "majority":
        return _answers(np.tile(overall, (len(test), 1)), labels, test.index)
    if method == "frequency":
        drawn = rng.choice(len(labels), len(test), p=overall)
        return _answers(np.tile(overall, (len(test), 1)), labels, test.index, drawn)
    blocks = [[*genes], *([name] for name in others)] if unordered else [[name] for name in (*genes, *others)]
    words = [(_words(train, block, genes), _words(test, block, genes)) for block in blocks if block]
    if method == "profile":
        found = [_profile(*block, codes, overall) for block in words]
        return _answers(np.mean(found, axis=0), labels, test.index)
    if vectors is None and method == "trees":
        made = [_crossed(*block, codes, overall, rng) for block in words]
    elif vectors is None:
        made = [_one_hot(*block) for block in words]
    else:
        _warn_without_vectors(frame, genes, vectors)
        made = _vectors(train, test, genes, vectors, unordered=unordered)
        made += [_one_hot(*block) for block in words[len(words) - len(others) :]]
    is_linear = method == "logistic"
    model = _logistic(balanced=balanced) if is_linear else _trees(len(labels), rng, balanced=balanced)
    rows, asked = (_joined(parts, is_dense=not is_linear) for parts in zip(*made, strict=True))
    return _answers(_probability(model.fit(rows, codes), asked, len(labels)), labels, test.index)


def deg_then_direction(
    frame: pd.DataFrame,
    *,
    vectors: pd.DataFrame,
    perturbation: str = "perturbation",
    gene: str = "gene",
    others: Sequence[str] = (),
    label: str = "answer",
    direction: str = "direction",
    split: str = "split",
    on: str = "test",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answer both perturbation tasks with one linear model after the other, in the manner of STAMP.

    Whether a gene changes is a logistic regression on which gene it is, which value the other columns have, the vectors
    of the gene g and of what was perturbed p (mean over several), and their products: logit = b_gene + b_other + v g +
    w p + sum_ij U_ij p_i g_j, where products take the first eight principal components. Whether it rises or falls is a
    second one on the same terms and on the logit of the first.

    Parameters
    ----------
    frame
        Rows with their true answers and the column ``split``, such as :func:`cellhermes.io.read_perturbation_effects`
        or :func:`cellhermes.pp.perturbation_effects` makes them; both steps are fitted on ``"train"``.
    vectors
        One row a gene, such as its embedding; genes without one get the mean, and their number is given in one warning.
    perturbation
        Column with the perturbed gene, or several with ``+`` between them.
    gene
        Column with the gene that may change.
    others
        Columns with other values, such as a cell line.
    label
        Column that says whether the gene changes.
    direction
        Column that says how, missing where it does not.
    split, on
        Column of the split, and which of its values to answer.

    Returns
    -------
    Whether genes change, and how those do that have a direction, as :func:`baseline` returns answers.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If a split is empty, or training rows have one answer or one direction only.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from cellhermes.metrics import deg_then_direction
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame(rng.choice(list("ABCDEF"), (60, 2)), columns=["perturbation", "gene"])
    >>> frame["answer"] = np.where(frame["gene"] < "D", "Yes", "No")
    >>> frame["direction"] = np.where(frame["perturbation"] < "C", "Up", "Down")
    >>> frame.loc[frame["answer"] == "No", "direction"] = None
    >>> frame["split"] = np.where(np.arange(60) < 40, "train", "test")
    >>> vectors = pd.DataFrame(rng.normal(size=(6, 4)), index=list("ABCDEF"))
    >>> changes, directions = deg_then_direction(frame, vectors=vectors)
    >>> len(changes), list(directions.filter(like="probability"))
    (20, ['probability:Down', 'probability:Up'])
    """
    _check(frame, "logistic", [perturbation, gene, *others, direction], None, label, split, on)
    changed = frame[frame[direction].notna()]
    _check(changed, "logistic", [perturbation], None, direction, split, on)
    _warn_without_vectors(frame, [perturbation, gene], vectors)
    known = frame[frame[split] == "train"]  # its vocabulary and scale serve both steps

    def terms(rows: pd.DataFrame) -> sparse.csr_array:
        return _terms(known, rows, vectors, perturbation, gene, others)

    def terms_and_logit(rows: pd.DataFrame) -> sparse.csr_array:
        found = terms(rows)
        return sparse.hstack([found, first.decision_function(found).reshape(len(rows), -1)], "csr")

    first, changes = _step(frame, terms, label, split, on)
    _, directions = _step(changed, terms_and_logit, direction, split, on)
    return changes, directions


def _step(
    frame: pd.DataFrame, terms: Callable[[pd.DataFrame], sparse.csr_array], label: str, split: str, on: str
) -> tuple[ClassifierMixin, pd.DataFrame]:
    train, test = frame[frame[split] == "train"], frame[frame[split] == on]
    labels = pd.Index(sorted({*frame[label]}, key=str))
    model = _logistic().fit(terms(train), labels.get_indexer(train[label]))
    return model, _answers(_probability(model, terms(test), len(labels)), labels, test.index)


def _check(
    frame: pd.DataFrame, method: str, columns: list[str], constant: str | None, label: str, split: str, on: str
) -> None:
    if method not in get_args(Method):
        msg = f"method={method!r} is not known; expected one of {get_args(Method)}."
        raise ValueError(msg)
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
    if method in ("profile", "logistic", "trees"):
        if not columns:
            msg = f"method={method!r} needs columns to learn from; pass genes= or others=."
            raise ValueError(msg)
        found = frame.loc[frame[split] == "train", label].unique()
        if len(found) < 2:
            msg = f"Training rows have the answer {found[0]!r} only; expected two or more, or method='majority'."
            raise ValueError(msg)
    if method == "constant" and constant not in {*frame[label]}:
        msg = f"constant={constant!r} is none of the answers {sorted({*frame[label]}, key=str)[:5]}."
        raise ValueError(msg)


def _answers(
    probability: np.ndarray, labels: pd.Index, index: pd.Index, drawn: np.ndarray | None = None
) -> pd.DataFrame:
    best = probability.argmax(axis=1)
    found = {
        "answer": labels.to_numpy(object)[best if drawn is None else drawn],
        "status": "answered",
        "confidence": probability.max(axis=1),
        **{f"{PROBABILITY}{name}": column for name, column in zip(labels, probability.T, strict=True)},
    }
    return pd.DataFrame(found, index=index)


# What a row has


def _split_genes(value: object) -> list[str]:
    """Genes of a value: one, several in a string, or a list."""
    if not isinstance(value, str):
        return [*map(str, value)]
    return [gene for word in value.split() for gene in joined_genes(word)]


def _words(frame: pd.DataFrame, block: Sequence[str], genes: Sequence[str]) -> list[list[str]]:
    """What each row has in some columns: genes, or one other value."""
    columns = [map(_split_genes, frame[name]) if name in genes else ([str(v)] for v in frame[name]) for name in block]
    return [[word for words in row for word in words] for row in zip(*columns, strict=True)]


def _counts(words: list[list[str]], vocabulary: pd.Index) -> sparse.csr_array:
    """(rows, words) share of a row's words; those outside the vocabulary count in the share and have no column."""
    codes = [vocabulary.get_indexer(row) if row else np.empty(0, int) for row in words]
    rows = np.repeat(np.arange(len(words)), [len(row) for row in codes])
    values = np.repeat([1 / max(len(row), 1) for row in codes], [len(row) for row in codes])
    flat = np.concatenate([*codes, np.empty(0, int)]).astype(int)
    known = flat >= 0
    found = sparse.csr_array((values[known], (rows[known], flat[known])), shape=(len(words), len(vocabulary)))
    found.sum_duplicates()
    return found


def _vocabulary(words: list[list[str]]) -> pd.Index:
    return pd.Index(sorted({word for row in words for word in row}))


def _one_hot(train: list[list[str]], test: list[list[str]]) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Which words a row has, of those in training rows, each row of length 1."""
    from sklearn.preprocessing import normalize

    vocabulary = _vocabulary(train)
    return normalize(_counts(train, vocabulary)), normalize(_counts(test, vocabulary))


def _profile(train: list[list[str]], test: list[list[str]], codes: np.ndarray, overall: np.ndarray) -> np.ndarray:
    """(test rows, answers) mean frequency of answers over the words of a row."""
    vocabulary = _vocabulary(train)
    has = (_counts(train, vocabulary) > 0).astype(float)
    answers = sparse.csr_array((np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), len(overall)))
    n = has.sum(0)[:, None]
    of_word = ((has.T @ answers).toarray() + PRIOR * overall) / (n + PRIOR)
    share = _counts(test, vocabulary)
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


def _means(words: list[list[str]], vectors: pd.DataFrame) -> np.ndarray:
    """(rows, dim) mean vector of a row's words that have one; NaN where none has."""
    there = _counts(words, vectors.index)
    total = there.sum(1)[:, None]
    values = there @ vectors.to_numpy(float)
    return np.divide(values, total, out=np.full(values.shape, np.nan), where=total > 0)


def _vectors(
    train: pd.DataFrame, test: pd.DataFrame, genes: Sequence[str], vectors: pd.DataFrame, *, unordered: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Standardised vectors of each column of genes, or their sum and product."""
    rows = [[_means(_words(part, [name], genes), vectors) for name in genes] for part in (train, test)]
    if unordered:
        rows = [[sum(part), np.prod(part, axis=0)] for part in rows]
    return [_standard(*pair) for pair in zip(*rows, strict=True)]


def _warn_without_vectors(frame: pd.DataFrame, genes: Sequence[str], vectors: pd.DataFrame) -> None:
    asked = {word for row in _words(frame, genes, genes) for word in row}
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


def _terms(
    known: pd.DataFrame,
    rows: pd.DataFrame,
    vectors: pd.DataFrame,
    perturbation: str,
    gene: str,
    others: Sequence[str],
) -> sparse.csr_array:
    """Terms of the structured model for some rows, with vocabulary and scale from ``known``."""
    genes = [perturbation, gene]
    hot = [_one_hot(_words(known, [name], genes), _words(rows, [name], genes))[1] for name in (gene, *others)]
    dense = [part for _, part in _vectors(known, rows, genes, vectors, unordered=False)]
    values = vectors.to_numpy(float) - vectors.to_numpy(float).mean(0)
    u, s, _ = np.linalg.svd(values, full_matrices=False)
    small = pd.DataFrame(u[:, :RANK] * s[:RANK], index=vectors.index)
    p, g = (part for _, part in _vectors(known, rows, genes, small, unordered=False))
    products = (p[:, :, None] * g[:, None, :]).reshape(len(rows), -1)
    return sparse.hstack([*hot, *map(sparse.csr_array, (*dense, products))], "csr")


# Models


def _logistic(*, balanced: bool = False) -> ClassifierMixin:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=2000, class_weight="balanced" if balanced else None)


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


def _probability(model: ClassifierMixin, rows: np.ndarray | sparse.csr_array, n_labels: int) -> np.ndarray:
    """(rows, answers), 0 for answers that training rows do not have."""
    out = np.zeros((rows.shape[0], n_labels))
    out[:, model.classes_] = model.predict_proba(rows)
    return out
