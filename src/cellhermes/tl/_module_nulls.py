"""What chance gives where modules are called specific: another seed, and two halves of the same cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from tqdm.auto import trange

from .._networks import degrees_of_both
from ._louvain import partition
from ._specific import Rule, large, specific

N_RESEEDED = 10  # how often a network is clustered again with another seed


@dataclass(frozen=True)
class Null:
    """One null: ``specific``, how often each module of the group is called so (0 to 1, NaN where not computed).

    ``shares`` and ``n_modules`` have a value for each comparison: the share of specific modules among those that are
    large enough, and their number. ``networks`` are compared for their degrees.
    """

    specific: np.ndarray | float
    shares: Sequence[float] = ()
    n_modules: Sequence[int] = ()
    networks: Sequence[sparse.csr_matrix] = ()


def reseeded(weights: sparse.csr_matrix, own: np.ndarray, rule: Rule) -> Null:
    """Hold the group's modules against those of the same network under other seeds."""
    called = np.empty((N_RESEEDED, own.max() + 1))
    for i in trange(N_RESEEDED, desc="null: other seeds", delay=2, leave=False):
        again = partition(weights, resolution=rule.resolution, seed=(rule.seed + 1 + i) % 2**32)
        called[i] = specific(own, again, rule)
    enough = large(own, rule)
    shares = [_mean(row) for row in called[:, enough]]
    return Null(called.mean(axis=0), shares, [enough.sum()] * N_RESEEDED, [weights, weights])


def halved(halves: Sequence[sparse.csr_matrix], own: np.ndarray, rule: Rule) -> Null:
    """Hold the modules of one half of the group's cells against the other's, and the group's against both."""
    if not halves:
        return Null(np.nan)
    first, second = (partition(weights, resolution=rule.resolution, seed=rule.seed) for weights in halves)
    called = np.mean([specific(own, half, rule) for half in (first, second)], axis=0)
    shares = [_share(first, second, rule), _share(second, first, rule)]
    return Null(called, shares, [large(half, rule).sum() for half in (first, second)], halves)


def summary(
    own: np.ndarray,
    other: np.ndarray | None,
    networks: Sequence[sparse.csr_matrix],
    reseed: Null,
    halves: Null,
    rule: Rule,
) -> pd.DataFrame:
    """Return a row for what was observed and for each null: modules, share of specific ones, changes of degree."""
    enough = large(own, rule)
    share = [] if other is None else [_share(own, other, rule)]
    rows = {"observed": Null(np.nan, share, [enough.sum()], networks), "reseed": reseed, "halves": halves}
    frame = pd.DataFrame({"comparison": list(rows)})
    frame["n_modules"] = [_mean(null.n_modules) for null in rows.values()]
    frame["share_specific"] = [_mean(null.shares) for null in rows.values()]
    changes = [_changes(null.networks) for null in rows.values()]
    frame["median_degree_change"] = [np.median(c) if len(c) else np.nan for c in changes]
    frame["largest_degree_change"] = [c.max() if len(c) else np.nan for c in changes]
    return frame


def _share(modules: np.ndarray, reference: np.ndarray, rule: Rule) -> float:
    """Share of specific modules among those that are large enough."""
    return _mean(specific(modules, reference, rule)[large(modules, rule)])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def _changes(networks: Sequence[sparse.csr_matrix]) -> np.ndarray:
    """Sizes of the changes of degree between two networks."""
    if len(networks) < 2:
        return np.array([])
    _, degree, degree_reference = degrees_of_both(*networks)
    return np.abs(degree - degree_reference).astype(float)
