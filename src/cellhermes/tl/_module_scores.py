"""Expression of modules in cells, and how it differs between two sets of cells.

Scores and the Wilcoxon test are scanpy's, called on objects that are thrown away, with every option spelled out.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from tqdm.auto import tqdm

from ._louvain import OUTSIDE

SCORE = {"ctrl_as_ref": True, "ctrl_size": 50, "gene_pool": None, "n_bins": 25}  # of sc.tl.score_genes
TESTS = ["mean_score", "mean_score_reference", "score_difference", "pval", "pval_adj"]


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


def compare(scores: np.ndarray, group: np.ndarray, reference: np.ndarray) -> pd.DataFrame:
    """Mean scores of two sets of cells, and the test between them; NaN where there is nothing to compare.

    Parameters
    ----------
    scores
        (cells, modules).
    group, reference
        Rows of the cells of each set; none without a group.

    Returns
    -------
    A row a module, with the columns ``TESTS``.
    """
    table = pd.DataFrame(np.nan, index=range(scores.shape[1]), columns=TESTS)
    if len(group):
        table["mean_score"] = scores[group].mean(axis=0)
    if len(reference):
        table["mean_score_reference"] = scores[reference].mean(axis=0)
    table["score_difference"] = table["mean_score"] - table["mean_score_reference"]
    if min(len(group), len(reference)) > 1:
        table["pval"], table["pval_adj"] = wilcoxon(scores[group], scores[reference])
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
