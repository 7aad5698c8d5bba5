"""ROC curves of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._keys import PROBABILITY

if TYPE_CHECKING:
    from collections.abc import Sequence


def roc(truth: Sequence[str] | pd.Series | np.ndarray, predicted: pd.DataFrame) -> pd.DataFrame:
    """ROC curve of each answer against the rest.

    Parameters
    ----------
    truth
        True answer of each row.
    predicted
        What :func:`cellhermes.tl.answer`, :func:`cellhermes.get.answers` or :func:`cellhermes.baselines.answer`
        returned, with probabilities.

    Returns
    -------
    One row a point: ``answer``, ``threshold`` (probability from which on the answer is given; infinity at the first
    point), ``false_positive_rate``, ``true_positive_rate``, ``auc`` (the same for all points of an answer). Answers
    that no row or every row has are left out.

    Raises
    ------
    ValueError
        If lengths differ, there are no probabilities, one is missing, or no answer has a curve.

    Examples
    --------
    >>> import pandas as pd
    >>> from cellhermes.metrics import roc
    >>> curve = roc(["Yes", "No", "Yes"], pd.DataFrame({"probability:Yes": [0.9, 0.2, 0.4]}))
    >>> float(curve["auc"].iloc[0])
    1.0
    """
    from sklearn.metrics import auc, roc_curve

    truth = np.asarray(truth, dtype=object)
    columns = [name for name in predicted if str(name).startswith(PROBABILITY)]
    if len(truth) != len(predicted) or not columns or predicted[columns].isna().any(axis=None) or pd.isna(truth).any():
        msg = (
            f"There are {len(truth):,} true answers and {len(predicted):,} rows with the columns {[*predicted][:10]}; "
            f"expected as many, with columns {PROBABILITY}<answer>, and nothing missing."
        )
        raise ValueError(msg)
    parts = []
    for column in columns:
        answer = column.removeprefix(PROBABILITY)
        if 0 < (truth == answer).sum() < len(truth):
            false, true, threshold = roc_curve(truth == answer, predicted[column])
            curve = {"threshold": threshold, "false_positive_rate": false, "true_positive_rate": true}
            parts.append(pd.DataFrame({"answer": answer, **curve, "auc": auc(false, true)}))
    if not parts:
        msg = f"All rows have the same true answer, or none of {columns}; a ROC curve needs two kinds of rows."
        raise ValueError(msg)
    return pd.concat(parts, ignore_index=True)
