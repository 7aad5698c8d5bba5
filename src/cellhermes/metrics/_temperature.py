"""One number that makes confidence honest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import softmax

from .._keys import PROBABILITY

if TYPE_CHECKING:
    from collections.abc import Sequence

RANGE = (0.05, 20.0)  # temperatures that are looked at


def fit_temperature(
    truth: Sequence[str] | pd.Series | np.ndarray, predicted: pd.DataFrame, *, bounds: tuple[float, float] = RANGE
) -> float:
    """Fit the temperature that makes probabilities of answers fit how often they are right.

    Log-probabilities are divided by one number T before they are normalised, p_i = exp(s_i / T) / sum_j exp(s_j / T),
    where T minimises the mean negative log-likelihood of the true answers (Guo et al., 2017). The likeliest answer
    stays the likeliest; above 1, a model was too sure of itself. Fit on rows that neither trained nor test the model.

    Parameters
    ----------
    truth
        True answer of each row.
    predicted
        What :func:`cellhermes.tl.answer` returned for validation questions, with the default ``calibration=1``.
    bounds
        Lowest and highest temperature. The fit ends there when a model is always right, or knows nothing.

    Returns
    -------
    The temperature, for ``calibration=`` of :func:`cellhermes.tl.answer` and :func:`cellhermes.tl.predict`.

    Raises
    ------
    ValueError
        If there are no probabilities, or a true answer has none.

    Examples
    --------
    >>> import pandas as pd
    >>> from cellhermes.metrics import fit_temperature
    >>> sure = pd.DataFrame({"probability:Yes": [0.99, 0.99, 0.01, 0.99], "probability:No": [0.01, 0.01, 0.99, 0.01]})
    >>> fit_temperature(["Yes", "Yes", "No", "No"], sure) > 1
    True
    """
    columns = [name for name in predicted if str(name).startswith(PROBABILITY)]
    values = predicted[columns].to_numpy(float)
    true = pd.Index(columns).get_indexer([f"{PROBABILITY}{answer}" for answer in truth])
    _check(values, true, truth)
    scores = np.log(np.maximum(values, np.finfo(float).tiny))
    of_true = scores[np.arange(len(true)), true]

    def slope(inverse: float) -> float:
        """Of the loss, which is convex in 1 / T."""
        return float(np.mean((softmax(scores * inverse, axis=1) * scores).sum(1) - of_true))

    low, high = 1 / bounds[1], 1 / bounds[0]
    if slope(low) >= 0:
        return bounds[1]
    if slope(high) <= 0:
        return bounds[0]
    return 1 / brentq(slope, low, high, xtol=1e-10)


def _check(values: np.ndarray, true: np.ndarray, truth: Sequence[str]) -> None:
    if values.shape[1] < 2 or len(values) != len(true) or not len(true):
        msg = (
            f"predicted has {len(values):,} rows and {values.shape[1]} columns {PROBABILITY}<answer>, for "
            f"{len(true):,} true answers; expected one row each, and at least two answers."
        )
        raise ValueError(msg)
    if bad := int((~np.isfinite(values)).any(axis=1).sum()):
        msg = f"{bad:,} of {len(values):,} rows have no probabilities; leave these rows out."
        raise ValueError(msg)
    if outside := sorted({str(answer) for answer, code in zip(truth, true, strict=True) if code < 0}):
        msg = f"True answers without a probability: {outside[:5]} ({len(outside)} in all)."
        raise ValueError(msg)
