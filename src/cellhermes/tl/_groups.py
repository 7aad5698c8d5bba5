"""Which group each cell belongs to."""

import numpy as np
from anndata import AnnData

from .. import _adata


def group_of_cells(adata: AnnData, groupby: str) -> np.ndarray:
    """Labels of ``obs[groupby]`` as text, None where a cell has none (a group may well be called "nan")."""
    column = _adata.require_obs(adata, groupby, f"Its columns are {list(adata.obs.columns)}.")
    return column.astype(str).astype(object).where(column.notna(), None).to_numpy(object)
