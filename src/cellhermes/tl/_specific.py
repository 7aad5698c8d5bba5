"""When a module is specific: it has enough genes, and a low Jaccard index with every module of the reference."""

from dataclasses import dataclass

import numpy as np

from ._louvain import OUTSIDE


@dataclass(frozen=True)
class Rule:
    """What decides over modules, for groups and nulls alike.

    ``max_jaccard`` and ``min_genes`` say which are specific; ``resolution`` and ``seed`` are of the clustering.
    """

    max_jaccard: float
    min_genes: int
    resolution: float
    seed: int


def specific(modules: np.ndarray, reference: np.ndarray, rule: Rule) -> np.ndarray:
    """Whether each module is large enough and below the limit with every module of the reference."""
    return large(modules, rule) & (jaccard(modules, reference).max(axis=1) < rule.max_jaccard)


def large(modules: np.ndarray, rule: Rule) -> np.ndarray:
    """Whether each module has the genes that it needs to be called specific."""
    return np.bincount(modules[modules != OUTSIDE]) >= rule.min_genes


def jaccard(modules: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Jaccard index |A and B| / |A or B| of each module A with each module B of a reference (eq. 7 of the paper).

    Parameters
    ----------
    modules, reference
        (genes,) numbers of modules, -1 outside.

    Returns
    -------
    (modules, modules of the reference) float64.
    """
    n, m = modules.max(initial=-1) + 1, reference.max(initial=-1) + 1
    both = (modules != OUTSIDE) & (reference != OUTSIDE)
    shared = np.bincount(modules[both] * m + reference[both], minlength=n * m).reshape(n, m)
    size = np.bincount(modules[modules != OUTSIDE], minlength=n)
    size_reference = np.bincount(reference[reference != OUTSIDE], minlength=m)
    return shared / (size[:, None] + size_reference - shared)
