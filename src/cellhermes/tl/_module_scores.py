"""Expression of modules in cells, and how it differs between two sets of cells.

Scores and the Wilcoxon test are scanpy's, called on objects that are thrown away, with every option spelled out.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse, stats
from tqdm.auto import tqdm

from ._louvain import OUTSIDE

SCORE = {"ctrl_as_ref": True, "ctrl_size": 50, "gene_pool": None, "n_bins": 25}  # of sc.tl.score_genes
TESTS = ["mean_score", "mean_score_reference", "score_difference", "pval", "pval_adj"]
TESTS += ["donor_difference", "donor_pval", "donor_pval_adj", "n_donors"]
MIN_DONORS = 2  # of each group; a variance needs two


def module_scores(
    expression: sparse.csr_matrix, modules: np.ndarray, *, seed: int
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Score of each module in each cell by :func:`scanpy.tl.score_genes`.

    Parameters
    ----------
    expression
        (cells, genes) log-normalised.
    modules
        (genes,) number of the module, -1 outside.
    seed
        Fixes the control genes.

    Returns
    -------
    (cells, modules) scores, NaN for modules that have none; how many genes of each module are expressed in any cell;
    the modules for which there are no control genes left, because they hold all genes of their level of expression.
    """
    import scanpy as sc

    n_modules = modules.max() + 1
    names = np.arange(expression.shape[1]).astype(str)  # positions: symbols may occur twice
    table = AnnData(expression, var=pd.DataFrame(index=names))
    expressed = np.asarray((expression != 0).sum(axis=0)).ravel() > 0
    n_expressed = np.bincount(modules[expressed & (modules != OUTSIDE)], minlength=n_modules)
    scores = np.full((expression.shape[0], n_modules), np.nan)
    without_control = []
    for number in tqdm(np.flatnonzero(n_expressed), desc="module scores", delay=2, leave=False):
        with _global_state_kept():
            try:
                sc.tl.score_genes(table, names[modules == number], random_state=seed, use_raw=False, **SCORE)
            except RuntimeError as error:  # scanpy's only sign that it has no control genes
                if "No control genes" not in str(error):
                    raise
                without_control.append(int(number))
                continue
        scores[:, number] = table.obs["score"]
    return scores, n_expressed, without_control


@contextmanager
def _global_state_kept() -> Iterator[None]:
    """Give numpy's global random state back as it was: score_genes seeds it."""
    state = np.random.get_state()  # noqa: NPY002 # what scanpy uses
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def compare(
    scores: np.ndarray, group: np.ndarray | None, reference: np.ndarray | None, donors: np.ndarray | None
) -> pd.DataFrame:
    """Mean scores of two sets of cells, and the tests between them; NaN where there is nothing to compare.

    Parameters
    ----------
    scores
        (cells, modules).
    group, reference
        Rows of the cells of each set; None without a group.
    donors
        (cells,) donor of each cell, or None.

    Returns
    -------
    A row a module, with the columns ``TESTS``.
    """
    table = pd.DataFrame(np.nan, index=range(scores.shape[1]), columns=TESTS)
    table["n_donors"] = 0
    if group is None or reference is None:
        return table
    table["mean_score"] = scores[group].mean(axis=0)
    if len(reference) == 0:
        return table
    table["mean_score_reference"] = scores[reference].mean(axis=0)
    table["score_difference"] = table["mean_score"] - table["mean_score_reference"]
    if min(len(group), len(reference)) > 1:
        table["pval"], table["pval_adj"] = wilcoxon(scores[group], scores[reference])
    if donors is not None:
        by_donor = donor_test(scores[group], scores[reference], donors[group], donors[reference])
        table[by_donor.columns] = by_donor
    return table


def wilcoxon(scores: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilcoxon rank-sum test of each module by :func:`scanpy.tl.rank_genes_groups`, group against reference.

    Parameters
    ----------
    scores, reference
        (cells, modules), at least two cells each; columns with NaN are not tested.

    Returns
    -------
    p-values, and p-values adjusted by Benjamini and Hochberg over the modules; NaN where not tested.
    """
    import scanpy as sc

    n = scores.shape[1]
    pvals = np.full((2, n), np.nan)
    tested = np.flatnonzero(~np.isnan(scores).any(axis=0))
    if len(tested) == 0:
        return pvals[0], pvals[1]
    side = pd.Categorical(["group"] * len(scores) + ["reference"] * len(reference))
    table = AnnData(
        np.vstack([scores, reference])[:, tested],
        obs=pd.DataFrame({"side": side}, index=np.arange(len(side)).astype(str)),
        var=pd.DataFrame(index=tested.astype(str)),
    )
    options = {"reference": "reference", "corr_method": "benjamini-hochberg", "use_raw": False, "pts": False}
    with np.errstate(all="ignore"):  # it also takes logs of the scores, which have no meaning
        # tie_correct: scores of small modules are equal in many cells
        sc.tl.rank_genes_groups(table, "side", groups=["group"], method="wilcoxon", tie_correct=True, **options)
    tests = sc.get.rank_genes_groups_df(table, "group").set_index("names")
    pvals[:, tested] = tests.loc[tested.astype(str), ["pvals", "pvals_adj"]].to_numpy(float).T
    return pvals[0], pvals[1]


def donor_test(
    scores: np.ndarray, reference: np.ndarray, donors: np.ndarray, donors_reference: np.ndarray
) -> pd.DataFrame:
    """Test of each module over donors, since cells of one donor are no replicates of each other.

    The mean score over a donor's cells is the score of the donor's mean profile (pseudobulk), because a score is linear
    in the expression. Donors with cells on both sides are compared with themselves (paired t-test); where fewer than
    two are, the donors of both sides are compared by Welch's t-test.

    Parameters
    ----------
    scores, reference
        (cells, modules).
    donors, donors_reference
        (cells,) donor of each cell.

    Returns
    -------
    A row a module: ``donor_difference`` (of the means over donors), ``donor_pval``, ``donor_pval_adj``, ``n_donors``.

    Raises
    ------
    ValueError
        If a side has fewer than two donors.
    """
    group, other = (pd.DataFrame(x).groupby(d).mean() for x, d in ((scores, donors), (reference, donors_reference)))
    both = group.index.intersection(other.index)
    paired = len(both) >= MIN_DONORS
    if paired:
        group, other = group.loc[both], other.loc[both]
    elif min(len(group), len(other)) < MIN_DONORS:
        msg = (
            f"The group has cells of {len(group)} donors and the reference of {len(other)}; a test over donors needs "
            f"{MIN_DONORS} or more of each. Leave donor_key= out."
        )
        raise ValueError(msg)
    with np.errstate(all="ignore"):  # constant or missing scores: p is NaN
        test = stats.ttest_rel(group, other) if paired else stats.ttest_ind(group, other, equal_var=False)
    pval = np.asarray(test.pvalue, float)
    adjusted = np.full(len(pval), np.nan)
    known = ~np.isnan(pval)
    adjusted[known] = stats.false_discovery_control(pval[known]) if known.any() else []
    return pd.DataFrame(
        {
            "donor_difference": (group.mean() - other.mean()).to_numpy(float),
            "donor_pval": pval,
            "donor_pval_adj": adjusted,
            "n_donors": len(both) if paired else len(group) + len(other),
        }
    )
