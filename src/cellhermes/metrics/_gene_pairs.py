"""Whether the vectors of two genes tell that they belong together; and what of a test stands in training data."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from .._streams import seed_of
from . import _classifiers, _vectors
from ._gene_property import areas

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import networkx as nx
    from sklearn.base import ClassifierMixin

logger = logging.getLogger("cellhermes")
Features = Literal["sum", "product", "difference", "concatenated"]
ENDS = ["gene_a", "gene_b"]


def gene_pairs(
    embeddings: pd.DataFrame | Mapping[str, pd.DataFrame],
    train: pd.DataFrame,
    test: pd.DataFrame | None = None,
    *,
    features: Features | Sequence[Features] = "sum",
    classifier: _classifiers.Name | ClassifierMixin = "rf",
    positive: object = None,
    label: str = "answer",
    n_splits: int = 5,
    max_pairs: int | None = None,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Tell pairs of genes that interact from pairs that do not, by the vectors of both genes.

    Of the vectors a and b, a classifier reads a + b, a * b and abs(a - b), element by element, or both vectors behind
    each other. The first three do not depend on which gene is named first.

    A classifier that has seen a gene in pairs can answer from that gene alone. So without a test part, folds are
    disjoint in genes: genes are dealt into ``n_splits`` parts; a fold tests the pairs inside of one part and trains on
    the pairs outside of it, and pairs between the two are left out. How many genes of the test pairs are in training
    pairs stands beside each result.

    Parameters
    ----------
    embeddings
        Vectors with one row a gene, or several such frames by name.
    train
        Pairs with the columns ``gene_a``, ``gene_b`` and ``label``.
    test
        Pairs to test; None makes folds of ``train``.
    features
        ``"sum"``, ``"product"``, ``"difference"`` (absolute) or ``"concatenated"``, or several, behind each other.
    classifier
        As in :func:`cellhermes.metrics.gene_property`.
    positive
        The class whose areas are asked for; None takes ``"Yes"``, True or 1, whichever is there.
    label
        Column with the class of a pair; two classes.
    n_splits
        Number of folds.
    max_pairs
        Train on so many pairs, drawn at random; None trains on all.
    rng
        Seed or generator of draws, folds and classifier.

    Returns
    -------
    A row for each embedding and fold: ``embedding``, ``fold`` (0 for a given test part), ``roc_auc``, ``pr_auc``,
    ``n_positive`` and ``n`` (tested pairs), ``n_train``, ``gene_overlap`` (share of the genes of tested pairs that
    occur in training pairs). ``attrs["dropped"]`` counts pairs with ``"no vector"`` for a gene in some embedding, and
    those ``"between folds"`` (mean over folds); ``attrs["missing"]`` genes without a vector, by embedding.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If a part has not two classes, features are not known, or no pair has vectors.
    ImportError
        If ``"xgb"`` is asked for and xgboost is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from cellhermes.metrics import gene_pairs
    >>> rng = np.random.default_rng(0)
    >>> genes = [f"GENE{i}" for i in range(60)]
    >>> vectors = pd.DataFrame(rng.choice([-1.0, 1.0], (60, 1)), index=genes)
    >>> pairs = pd.DataFrame(rng.choice(genes, (900, 2)), columns=["gene_a", "gene_b"])
    >>> same = vectors[0][pairs["gene_a"]].to_numpy() == vectors[0][pairs["gene_b"]].to_numpy()
    >>> pairs["answer"] = np.where(same, "Yes", "No")
    >>> table = gene_pairs(vectors, pairs, features="product", n_splits=3)
    >>> table["roc_auc"].tolist(), table["gene_overlap"].tolist()
    ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    """
    kinds = [features] if isinstance(features, str) else list(features)
    if not kinds or not {*kinds} <= {*get_args(Features)}:
        msg = f"features={features!r}; expected one or several of {get_args(Features)}."
        raise ValueError(msg)
    tables = _vectors.by_name(embeddings)
    given = [train] if test is None else [train, test]
    for part in given:
        _check(part, label)
    ends = np.concatenate([part[ENDS].to_numpy(object) for part in given])
    genes, missing = _vectors.shared(tables, ends.ravel())
    yes = _positive(pd.concat([part[label] for part in given]), positive)
    parts = [(genes.get_indexer(part[ENDS].to_numpy(object).ravel()).reshape(-1, 2), part[label]) for part in given]
    parts = [(pairs[(pairs >= 0).all(1)], (y == yes).to_numpy()[(pairs >= 0).all(1)]) for pairs, y in parts]
    seed = seed_of(rng)
    n_usable = sum(len(pairs) for pairs, _ in parts)
    folds = list(_disjoint(*parts[0], len(genes), n_splits, seed)) if test is None else [(*parts[0], *parts[1])]
    rows = []
    for fold, (pairs, y, asked, truth) in enumerate(folds):
        _check_part(y, "training", fold)
        _check_part(truth, "test", fold)
        if max_pairs is not None and max_pairs < len(pairs):
            chosen = np.random.default_rng(seed).choice(len(pairs), max_pairs, replace=False)
            pairs, y = pairs[chosen], y[chosen]
        about = {"n_train": len(pairs), "gene_overlap": float(np.isin(np.unique(asked), pairs).mean())}
        for name, table in tables.items():
            x = _vectors.vectors_of(table, genes)
            model = _classifiers.make(classifier, seed).fit(_features(x, pairs, kinds), y)
            score = model.predict_proba(_features(x, asked, kinds))[:, 1]
            rows.append({"embedding": name, "fold": fold, **areas(truth, score), **about})
    dropped = {"no vector": len(ends) - n_usable}
    if test is None:
        dropped["between folds"] = round(n_usable - float(np.mean([len(f[1]) + len(f[3]) for f in folds])))
    table = pd.DataFrame(rows).sort_values(["embedding", "fold"], key=_order(tables), ignore_index=True)
    table.attrs = {"dropped": dropped, "missing": missing, "features": kinds, "seed": seed}
    logger.info("gene_pairs: %s pairs, %d embeddings; dropped: %s", f"{n_usable:,}", len(tables), dropped)
    return table


def overlap(
    tested: pd.DataFrame | Sequence[str], trained: pd.DataFrame | nx.Graph | Sequence[str], *, label: str = "answer"
) -> pd.DataFrame:
    """Share of the genes and pairs of a test that occur in training data, by their answer.

    An embedding that was trained on an interaction graph has seen the pairs of that graph. What a test of pairs
    measures is then memory, to the extent of ``share``, and the more so if positives overlap more than negatives. The
    order of two genes does not count.

    Parameters
    ----------
    tested
        Pairs with the columns ``gene_a`` and ``gene_b``, a frame with the column ``gene``, or a list of genes.
    trained
        Pairs with the columns ``gene_a`` and ``gene_b`` (or just two columns), a graph, or a list of genes.
    label
        Column of ``tested`` with the answer, if there is one.

    Returns
    -------
    A row for ``"genes"`` and, where both have pairs, for ``"pairs"``, in all and by answer: ``of``, ``answer``
    (``"all"``, or an answer), ``n`` (different ones in the test), ``n_shared``, ``share``.

    Raises
    ------
    KeyError
        If a frame has no columns with genes.
    ValueError
        If the test is empty.

    Examples
    --------
    >>> import pandas as pd
    >>> from cellhermes.metrics import overlap
    >>> tested = pd.DataFrame({"gene_a": ["CD3D", "LYZ"], "gene_b": ["CD3E", "MS4A1"], "answer": ["Yes", "No"]})
    >>> trained = pd.DataFrame({"gene_a": ["CD3E", "CD3E"], "gene_b": ["CD3D", "LYZ"]})
    >>> overlap(tested, trained).query("of == 'pairs'")[["answer", "n_shared", "share"]].to_dict("list")
    {'answer': ['all', 'Yes', 'No'], 'n_shared': [1, 1, 0], 'share': [0.5, 1.0, 0.0]}
    """
    ends, known = _ends(tested, "tested"), _ends(trained, "trained")
    if not len(ends):
        msg = "tested is empty; expected pairs or genes."
        raise ValueError(msg)
    answers = tested[label] if isinstance(tested, pd.DataFrame) and label in tested else None
    both_pairs = ends.shape[1] == known.shape[1] == 2
    genes, pairs = {*known.ravel()}, ({*map(tuple, np.sort(known, axis=1))} if both_pairs else set())
    groups = {"all": np.ones(len(ends), dtype=bool)}
    if answers is not None:
        groups |= {answer: (answers == answer).to_numpy() for answer in answers.dropna().unique()}
    rows = []
    for of, seen in {"genes": genes, "pairs": pairs}.items() if both_pairs else [("genes", genes)]:
        for answer, here in groups.items():
            asked = {*ends[here].ravel()} if of == "genes" else {*map(tuple, np.sort(ends[here], axis=1))}
            n_shared = len(asked & seen)
            rows.append((of, answer, len(asked), n_shared, n_shared / len(asked)))
    return pd.DataFrame(rows, columns=["of", "answer", "n", "n_shared", "share"])


def _ends(data: pd.DataFrame | nx.Graph | Sequence[str], what: str) -> np.ndarray:
    """(n, 2) pairs or (n, 1) genes."""
    if isinstance(data, pd.DataFrame):
        for columns in (ENDS, ["gene"], list(data)[:2] if data.shape[1] == 2 else [None]):
            if {*columns} <= {*data}:
                return data[columns].astype(str).to_numpy(object)
        msg = f"{what} has the columns {list(data)}; expected gene_a and gene_b, or gene."
        raise KeyError(msg)
    if hasattr(data, "edges"):
        return np.array([(str(a), str(b)) for a, b in data.edges], dtype=object).reshape(-1, 2)
    return np.array([str(gene) for gene in data], dtype=object).reshape(-1, 1)


def _order(tables: dict[str, pd.DataFrame]):  # noqa: ANN202
    """Sort key: embeddings as they were given, folds by number."""
    place = {name: i for i, name in enumerate(tables)}
    return lambda column: column.map(place) if column.name == "embedding" else column


def _check(part: pd.DataFrame, label: str) -> None:
    if absent := [name for name in (*ENDS, label) if name not in part]:
        msg = f"The pairs have no columns {absent}; they have {list(part)}."
        raise KeyError(msg)
    if n := int(part[label].isna().sum()):
        msg = f"{n:,} of {len(part):,} pairs have no class in {label!r}; leave these pairs out."
        raise ValueError(msg)


def _positive(labels: pd.Series, positive: object) -> object:
    classes = labels.unique().tolist()
    wanted = ["Yes", True, 1, "1"] if positive is None else [positive]
    fitting = [value for value in wanted if value in classes]
    if len(classes) != 2 or not fitting:
        msg = f"The pairs have the classes {classes[:5]}; expected two, one of them {wanted}. Pass positive=."
        raise ValueError(msg)
    return fitting[0]


def _check_part(y: np.ndarray, what: str, fold: int) -> None:
    if len(np.unique(y)) < 2:
        msg = (
            f"Of fold {fold}, the {what} pairs with vectors have {int(y.sum()):,} positives and "
            f"{int((~y).sum()):,} negatives; expected both. Use fewer folds, or more pairs."
        )
        raise ValueError(msg)


def _disjoint(
    pairs: np.ndarray, y: np.ndarray, n_genes: int, n_splits: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Folds without a common gene: training pairs and classes, test pairs and classes."""
    if n_splits < 2:
        msg = f"n_splits={n_splits}; expected two or more."
        raise ValueError(msg)
    part = np.random.default_rng(seed).permutation(np.arange(n_genes) % n_splits)
    for fold in range(n_splits):
        inside = part[pairs] == fold
        test, train = inside.all(1), ~inside.any(1)
        yield pairs[train], y[train], pairs[test], y[test]


def _features(x: np.ndarray, pairs: np.ndarray, kinds: Sequence[Features]) -> np.ndarray:
    """(pairs, features); both genes of a pair are rows of x."""
    a, b = x[pairs[:, 0]], x[pairs[:, 1]]
    make = {
        "sum": lambda: a + b,
        "product": lambda: a * b,
        "difference": lambda: np.abs(a - b),
        "concatenated": lambda: np.hstack([a, b]),
    }
    return np.hstack([make[kind]() for kind in kinds])
