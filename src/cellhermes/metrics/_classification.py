"""How good answers are: one table of measures with intervals, over rows and as means over groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from .._keys import PROBABILITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOM = 4_000_000  # weights held at once: 32 MB


def classification(
    truth: Sequence[str] | pd.Series | np.ndarray,
    predicted: pd.DataFrame | Sequence[str | None] | pd.Series | np.ndarray,
    *,
    positive: str | None = None,
    groups: Sequence[object] | pd.Series | np.ndarray | None = None,
    n_bins: int = 15,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Measure predicted answers against the true ones.

    ``accuracy``, ``balanced_accuracy`` (mean recall of the answers that occur), ``macro_f1`` (mean over the answers
    that occur or are given), ``kappa`` (Cohen's) and ``unparsed`` (share of rows without an answer) come from the
    answers. A row without an answer, because it was not parsed or the model abstained, counts as wrong. From
    probabilities come ``roc_auc`` and ``pr_auc`` (average precision; both one answer against the rest, mean over the
    answers that occur), and ``calibration_error``: the difference between the confidence in the likeliest answer and
    how often it is right, in bins of equal width, weighted by their rows.

    Parameters
    ----------
    truth
        True answer of each row.
    predicted
        What :func:`cellhermes.tl.answer` or :func:`cellhermes.baselines.answer` returned, or only the answers; None or
        NaN where there is none.
    positive
        The answer whose ``roc_auc`` and ``pr_auc`` are asked for; None takes the mean over answers.
    groups
        Group of each row, such as its perturbation. Then there are also means over groups, in which each group counts
        once, and intervals come from drawing whole groups.
    n_bins
        Bins of the calibration error.
    n_bootstrap
        Draws of rows (or groups) with replacement behind the intervals; 0 leaves them out.
    level
        What part of the draws an interval holds.
    rng
        Seed or generator of the draws.

    Returns
    -------
    One row a measure: ``metric``, ``over`` (``"rows"`` or ``"groups"``), ``value``, ``low``, ``high``, and ``n``, the
    rows, or the groups in which the measure exists (a group of one answer has no ROC curve).

    Raises
    ------
    ValueError
        If lengths differ, a true answer is missing or has no probability, or ``positive`` is not an answer.

    Examples
    --------
    >>> import pandas as pd
    >>> from cellhermes.metrics import classification
    >>> predicted = pd.DataFrame({"answer": ["Yes", "No", None], "probability:Yes": [0.9, 0.2, 0.5]})
    >>> predicted["probability:No"] = 1 - predicted["probability:Yes"]
    >>> table = classification(["Yes", "No", "No"], predicted, n_bootstrap=100)
    >>> float(table.set_index("metric")["value"].round(2)["balanced_accuracy"])
    0.75
    """
    rows = _Rows.of(truth, predicted, positive, n_bins)
    drawn = np.arange(rows.n) if groups is None else _groups(groups, rows.n)
    rng = np.random.default_rng(rng)
    parts = [("rows", *_over_rows(rows, drawn, n_bootstrap, rng), rows.n)]
    if groups is not None:
        members = lambda first, last: (drawn == np.arange(first, last)[:, None]).astype(float)
        each = _measure(rows, members, drawn.max() + 1)
        parts.append(("groups", *_over_groups(each, n_bootstrap, rng), np.isfinite(each).sum(0)))
    edges = [(1 - level) / 2, (1 + level) / 2]
    tables = []
    for over, value, draws, n in parts:
        low, high = _quantiles(draws, edges)
        tables.append(
            pd.DataFrame({"metric": rows.metrics, "over": over, "value": value, "low": low, "high": high, "n": n})
        )
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Codes of true and given answers (-1 for none), and what probabilities say, ready to be weighted.

    ``curves`` has for each answer of interest the rows by falling probability, where ties end, and which are true.
    ``gaps`` is (rows, bins): hit minus confidence, in the bin of the confidence.
    """

    true: sparse.csr_array
    given: sparse.csr_array
    hits: sparse.csr_array
    curves: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    gaps: np.ndarray | None

    @classmethod
    def of(cls, truth: object, predicted: object, positive: str | None, n_bins: int) -> _Rows:
        truth = pd.Series(np.asarray(truth, dtype=object))
        is_frame = isinstance(predicted, pd.DataFrame)
        given = pd.Series(np.asarray(predicted["answer"] if is_frame else predicted, dtype=object))
        probability = _probabilities(predicted) if is_frame else pd.DataFrame(index=given.index)
        _check(truth, given, probability, positive)
        labels = pd.Index(sorted({*truth, *given.dropna(), *probability.columns}, key=str))
        true, said = labels.get_indexer(truth), np.where(given.isna(), -1, labels.get_indexer(given))
        of_interest = [label for label in probability if label in ({*truth} if positive is None else {positive})]
        curves = [_curve(probability[label].to_numpy(float), (truth == label).to_numpy()) for label in of_interest]
        gaps = _gaps(probability, truth, n_bins) if len(probability.columns) else None
        hot = [_one_hot(codes, len(labels)) for codes in (true, said, np.where(true == said, true, -1))]
        return cls(*hot, curves, gaps)

    @property
    def n(self) -> int:
        return self.true.shape[0]

    @property
    def metrics(self) -> list[str]:
        names = ["accuracy", "balanced_accuracy", "macro_f1", "kappa", "unparsed"]
        return names + (["roc_auc", "pr_auc", "calibration_error"] if self.gaps is not None else [])


def _probabilities(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns with probabilities under the names of the answers; rows as they are numbered."""
    columns = [name for name in frame if str(name).startswith(PROBABILITY)]
    return frame[columns].rename(columns=lambda name: name.removeprefix(PROBABILITY)).reset_index(drop=True)


def _check(truth: pd.Series, given: pd.Series, probability: pd.DataFrame, positive: str | None) -> None:
    if len(truth) != len(given) or not len(truth):
        msg = f"There are {len(truth):,} true and {len(given):,} predicted answers; expected as many, and at least one."
        raise ValueError(msg)
    if n := int(truth.isna().sum()):
        msg = f"{n:,} of {len(truth):,} true answers are missing; leave these rows out."
        raise ValueError(msg)
    known = [*probability] or [*dict.fromkeys(truth)]
    if outside := sorted({*truth} - {*known}, key=str):
        msg = f"True answers without a probability: {outside[:5]} ({len(outside)} in all). There are {known[:5]}..."
        raise ValueError(msg)
    if len(probability.columns) and (bad := int((~np.isfinite(probability.to_numpy(float))).any(axis=1).sum())):
        msg = f"{bad:,} of {len(truth):,} rows have no probabilities; leave these rows out, or the columns."
        raise ValueError(msg)
    if positive is not None and positive not in known:
        msg = f"positive={positive!r} is none of the answers {known[:5]}."
        raise ValueError(msg)


def _one_hot(codes: np.ndarray, n: int) -> sparse.csr_array:
    """(rows, labels) with a 1 at each code; an empty row for -1."""
    rows = np.flatnonzero(codes >= 0)
    return sparse.csr_array((np.ones(len(rows)), (rows, codes[rows])), shape=(len(codes), n))


def _curve(score: np.ndarray, is_true: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.inf))
    return order, starts, is_true[order]


def _gaps(probability: pd.DataFrame, truth: pd.Series, n_bins: int) -> np.ndarray:
    values = probability.to_numpy(float)
    best = values.argmax(axis=1)
    confidence = values[np.arange(len(values)), best]
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    out = np.zeros((len(values), n_bins))
    out[np.arange(len(values)), bins] = (probability.columns.to_numpy()[best] == truth.to_numpy()) - confidence
    return out


def _groups(groups: object, n: int) -> np.ndarray:
    groups = pd.Series(np.asarray(groups, dtype=object))
    if len(groups) != n or groups.isna().any():
        msg = (
            f"groups has {len(groups):,} values, {groups.isna().sum():,} missing; expected one for each of {n:,} rows."
        )
        raise ValueError(msg)
    return pd.factorize(groups)[0]


# Measures of weighted rows: one line of weights is the data set, a draw from it, or one group.


def _measure(rows: _Rows, weights: Callable[[int, int], np.ndarray], n: int) -> np.ndarray:
    """(weightings, measures), some weightings at a time; ``weights(first, last)`` makes their (lines, rows)."""
    step = max(1, ROOM // rows.n)
    return np.concatenate([_measures(rows, weights(i, min(i + step, n))) for i in range(0, n, step)])


def _measures(rows: _Rows, weights: np.ndarray) -> np.ndarray:
    support, given, hits = ((part.T @ weights.T).T for part in (rows.true, rows.given, rows.hits))  # (lines, labels)
    total = weights.sum(1)
    accuracy = hits.sum(1) / total
    chance = (support * given).sum(1) / total**2
    measures = [
        accuracy,
        _mean_of(hits, support),
        _mean_of(2 * hits, support + given),
        _ratio(accuracy - chance, 1 - chance),
        1 - given.sum(1) / total,
    ]
    if rows.gaps is not None:
        areas = np.array([_areas(weights[:, order], *rest) for order, *rest in rows.curves])  # (answers, 2, lines)
        measures += [*_nan_mean(areas, axis=0), np.abs(weights @ rows.gaps).sum(1) / total]
    return np.stack(measures, axis=1)


def _areas(weights: np.ndarray, starts: np.ndarray, is_true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the ROC curve and (average precision) the precision-recall curve, by falling probability."""
    true = np.add.reduceat(weights * is_true, starts, axis=1)
    false = np.add.reduceat(weights * ~is_true, starts, axis=1)
    above = true.cumsum(1)
    n_true, n_false = above[:, -1], false.sum(1)
    roc = _ratio((false * (above - true / 2)).sum(1), n_true * n_false)
    pr = _ratio((true * _ratio(above, above + false.cumsum(1), empty=0)).sum(1), n_true)
    return roc, np.where(n_false > 0, pr, np.nan)


def _ratio(a: np.ndarray, b: np.ndarray, empty: float = np.nan) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.shape(a), empty, float), where=b != 0)


def _mean_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean of a / b over the labels where b is not zero."""
    return _ratio(_ratio(a, b, empty=0).sum(1), (b != 0).sum(1))


def _nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    there = np.isfinite(values)
    return _ratio(np.where(there, values, 0).sum(axis), there.sum(axis))


def _counts(n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n is drawn in n draws with replacement."""
    return np.bincount(rng.integers(n, size=n), minlength=n)


def _over_rows(rows: _Rows, drawn: np.ndarray, n_draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Measures of all rows, and of draws of what ``drawn`` numbers: rows, or groups of them."""
    n = drawn.max() + 1
    value = _measures(rows, np.ones((1, rows.n)))[0]
    if not n_draws:
        return value, np.empty((0, len(value)))
    draw = lambda first, last: np.stack([_counts(n, rng)[drawn] for _ in range(first, last)]).astype(float)
    return value, _measure(rows, draw, n_draws)


def _over_groups(each: np.ndarray, n_draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mean over groups, and over draws of groups."""
    draws = [_nan_mean(each[rng.integers(len(each), size=len(each))], axis=0) for _ in range(n_draws)]
    return _nan_mean(each, axis=0), np.array(draws).reshape(n_draws, each.shape[1])


def _quantiles(draws: np.ndarray, edges: list[float]) -> Iterator[np.ndarray]:
    """Return ends of the intervals, NaN where no draw has the measure."""
    for edge in edges:
        yield np.array([np.quantile(d, edge) if len(d := c[np.isfinite(c)]) else np.nan for c in draws.T])
