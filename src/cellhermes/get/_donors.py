"""Whether modules differ between two groups over donors, since cells of one donor are no replicates of each other."""

import numpy as np
import pandas as pd
from scipy import stats

MIN_DONORS = 2  # of each group; a variance needs two


def donor_test(
    scores: np.ndarray, reference: np.ndarray, donors: np.ndarray, donors_reference: np.ndarray
) -> pd.DataFrame:
    """Test each module over donors.

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
            f"{MIN_DONORS} or more of each."
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
