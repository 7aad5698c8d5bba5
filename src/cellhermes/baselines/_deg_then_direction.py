"""Both perturbation tasks by one linear model after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from ._features import (
    as_answers,
    check,
    logistic,
    one_hot,
    probabilities,
    standard_vectors,
    warn_without_vectors,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sklearn.base import ClassifierMixin

RANK = 8  # dimensions of genes in the products


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
    Whether genes change, and how those do that have a direction, as :func:`answer` returns answers.

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
    >>> import cellhermes as ch
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame(rng.choice(list("ABCDEF"), (60, 2)), columns=["perturbation", "gene"])
    >>> frame["answer"] = np.where(frame["gene"] < "D", "Yes", "No")
    >>> frame["direction"] = np.where(frame["perturbation"] < "C", "Up", "Down")
    >>> frame.loc[frame["answer"] == "No", "direction"] = None
    >>> frame["split"] = np.where(np.arange(60) < 40, "train", "test")
    >>> vectors = pd.DataFrame(rng.normal(size=(6, 4)), index=list("ABCDEF"))
    >>> changes, directions = ch.baselines.deg_then_direction(frame, vectors=vectors)
    >>> len(changes), list(directions.filter(like="probability"))
    (20, ['probability:Down', 'probability:Up'])
    """
    check(frame, [perturbation, gene, *others, direction], label, split, on, is_fitted=True)
    changed = frame[frame[direction].notna()]
    check(changed, [perturbation], direction, split, on, is_fitted=True)
    warn_without_vectors(frame, [perturbation, gene], vectors)
    known = frame[frame[split] == "train"]  # its vocabulary and scale serve both steps

    def terms(rows: pd.DataFrame) -> sparse.csr_array:
        return _terms(known, rows, vectors, perturbation, gene, others)

    def terms_and_logit(rows: pd.DataFrame) -> sparse.csr_array:
        parts = terms(rows)
        return sparse.hstack([parts, first.decision_function(parts).reshape(len(rows), -1)], "csr")

    first, changes = _step(frame, terms, label, split, on)
    _, directions = _step(changed, terms_and_logit, direction, split, on)
    return changes, directions


def _step(
    frame: pd.DataFrame, terms: Callable[[pd.DataFrame], sparse.csr_array], label: str, split: str, on: str
) -> tuple[ClassifierMixin, pd.DataFrame]:
    train, test = frame[frame[split] == "train"], frame[frame[split] == on]
    labels = pd.Index(sorted({*frame[label]}, key=str))
    model = logistic().fit(terms(train), labels.get_indexer(train[label]))
    return model, as_answers(probabilities(model, terms(test), len(labels)), labels, test.index)


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
    hot = [one_hot(words_of(known, [name], genes), words_of(rows, [name], genes))[1] for name in (gene, *others)]
    dense = [part for _, part in standard_vectors(known, rows, genes, vectors, unordered=False)]
    values = vectors.to_numpy(float) - vectors.to_numpy(float).mean(0)
    u, s, _ = np.linalg.svd(values, full_matrices=False)
    small = pd.DataFrame(u[:, :RANK] * s[:RANK], index=vectors.index)
    p, g = (part for _, part in standard_vectors(known, rows, genes, small, unordered=False))
    products = (p[:, :, None] * g[:, None, :]).reshape(len(rows), -1)
    return sparse.hstack([*hot, *map(sparse.csr_array, (*dense, products))], "csr")
