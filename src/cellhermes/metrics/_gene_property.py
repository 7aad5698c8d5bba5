"""Whether the vectors of genes tell a property of genes: two classes in cross-validation."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._streams import seed_of
from . import _classifiers, _vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sklearn.base import ClassifierMixin

logger = logging.getLogger("cellhermes")


def gene_property(
    embeddings: pd.DataFrame | Mapping[str, pd.DataFrame],
    labels: pd.DataFrame,
    *,
    classifier: _classifiers.Name | ClassifierMixin = "rf",
    positive: str | None = None,
    gene: str = "gene",
    label: str = "answer",
    n_splits: int = 5,
    pooled: bool = False,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Tell two classes of genes apart by their vectors, in stratified cross-validation.

    The paper's gene-level tasks (dosage sensitivity, bivalent promoters, range of transcription factors): five folds
    that keep the shares of the classes, a classifier with the defaults of its library, and areas under the ROC curve
    (0.5 without knowledge) and under the precision-recall curve (average precision; without knowledge the share of the
    positive class). All embeddings are measured on the same genes and folds.

    Parameters
    ----------
    embeddings
        Vectors with one row a gene, or several such frames by name.
    labels
        Genes and their class, such as :func:`cellhermes.io.read_gene_labels` and
        :func:`cellhermes.datasets.gene_properties` (with ``gene="ensembl_id"``) return them. With a column ``task``,
        each task is measured for itself.
    classifier
        ``"rf"`` (random forest), ``"xgb"`` (gradient-boosted trees; needs xgboost), ``"logistic"`` (on standardised
        dimensions), or a classifier of scikit-learn, which is copied and seeded.
    positive
        The class whose areas are asked for; None takes the first of a task.
    gene, label
        Columns with the gene and its class.
    n_splits
        Number of folds.
    pooled
        Measure once over the probabilities of all folds, rather than in each fold.
    rng
        Seed or generator of folds and classifier.

    Returns
    -------
    A row for each task, embedding and fold: ``task``, ``embedding``, ``fold`` (-1 if pooled), ``roc_auc``, ``pr_auc``,
    ``positive``, ``n_positive``, ``n`` (genes that were tested). ``attrs["dropped"]`` counts by task: ``"repeated"``
    rows, genes ``"in both classes"``, genes with ``"no vector"`` in some embedding; ``attrs["missing"]`` the latter by
    embedding.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If a task has not two classes, a class has fewer genes than there are folds, or no gene has vectors.
    ImportError
        If ``"xgb"`` is asked for and xgboost is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from cellhermes.metrics import gene_property
    >>> genes = [f"GENE{i}" for i in range(40)]
    >>> labels = pd.DataFrame({"gene": genes, "answer": ["bivalent", "Lys4-only"] * 20})
    >>> vectors = pd.DataFrame(np.tile(np.eye(2), (20, 1)), index=genes)
    >>> gene_property(vectors, labels)["roc_auc"].tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    tables = _vectors.by_name(embeddings)
    if absent := [name for name in (gene, label) if name not in labels]:
        msg = f"labels has no columns {absent}; it has {list(labels)}. Name them with gene= and label=."
        raise KeyError(msg)
    tasks = dict(iter(labels.groupby("task", sort=False))) if "task" in labels else {"genes": labels}
    seed, parts, dropped, missing = seed_of(rng), [], {}, {}
    for task, frame in tasks.items():
        known, dropped[task] = _one_class_each(frame[[gene, label]].set_axis(["gene", "label"], axis=1))
        genes, missing[task] = _vectors.shared(tables, known.index)
        dropped[task]["no vector"] = len(known) - len(genes)
        yes = _classes(str(task), known[genes], positive, n_splits)
        is_positive = (known[genes] == yes).to_numpy()
        for name, table in tables.items():
            x = _vectors.vectors_of(table, genes)
            rows = pd.DataFrame(_folds(x, is_positive, classifier, n_splits, seed, pooled=pooled))
            parts.append(rows.assign(task=task, embedding=name, positive=yes))
    table = pd.concat(parts, ignore_index=True)
    table = table[["task", "embedding", "fold", "roc_auc", "pr_auc", "positive", "n_positive", "n"]]
    table.attrs = {"dropped": dropped, "missing": missing, "classifier": str(classifier), "seed": seed}
    logger.info("gene_property: %d tasks, %d embeddings; dropped: %s", len(tasks), len(tables), dropped)
    return table


def _one_class_each(frame: pd.DataFrame) -> tuple[pd.Series, dict[str, int]]:
    """Class by gene, without the genes that are in several, and what was left out."""
    frame = frame.dropna()
    pairs = frame.drop_duplicates()
    in_both = pairs["gene"].duplicated(keep=False)
    dropped = {
        "repeated": len(frame) - len(pairs),
        "in both classes": int(pairs.loc[in_both, "gene"].nunique()),
    }
    return pairs[~in_both].set_index("gene")["label"], dropped


def _classes(task: str, labels: pd.Series, positive: str | None, n_splits: int) -> object:
    """Return the positive class of a task that can be cross-validated."""
    sizes = labels.value_counts(sort=False)
    if len(sizes) != 2:
        msg = f"Task {task!r} has the classes {sizes.to_dict()} among genes with vectors; expected two classes."
        raise ValueError(msg)
    if n_splits < 2 or sizes.min() < n_splits:
        msg = (
            f"Task {task!r} has the classes {sizes.to_dict()} among genes with vectors, for n_splits={n_splits}; "
            "expected two folds or more, and a gene of each class in each fold."
        )
        raise ValueError(msg)
    if positive is not None and positive not in sizes:
        msg = f"positive={positive!r} is no class of task {task!r}; it has {list(sizes.index)}."
        raise ValueError(msg)
    return sizes.index[0] if positive is None else positive


def _folds(
    x: np.ndarray, y: np.ndarray, classifier: _classifiers.Name | ClassifierMixin, n_splits: int, seed: int, *,
    pooled: bool,
) -> Iterator[dict[str, float]]:  # fmt: skip
    """Areas in each fold, or over all."""
    from sklearn.model_selection import StratifiedKFold

    score, place = np.empty(len(y)), np.empty(len(y), dtype=int)
    for fold, (train, test) in enumerate(StratifiedKFold(n_splits, shuffle=True, random_state=seed).split(x, y)):
        score[test] = _classifiers.make(classifier, seed).fit(x[train], y[train]).predict_proba(x[test])[:, 1]
        place[test] = fold
    for fold in [-1] if pooled else range(n_splits):
        here = slice(None) if pooled else place == fold
        yield {"fold": fold, **areas(y[here], score[here])}


def areas(y: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """Areas under both curves, and of how many."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {
        "roc_auc": float(roc_auc_score(y, score)),
        "pr_auc": float(average_precision_score(y, score)),
        "n_positive": int(y.sum()),
        "n": len(y),
    }
