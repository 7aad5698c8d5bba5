"""Answers that were predicted for cells."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import _adata
from .._keys import PROBABILITY, read_params

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def answers(data: "AnnData | MuData", key: str, *, mod: str | None = None) -> pd.DataFrame:
    """Answers of a task and their probabilities, in the form that metrics take.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.predict` done.
    key
        Entry of ``obs`` with the answers: the name of the task, or what was given as ``key_added``.
    mod
        Modality of a MuData.

    Returns
    -------
    One row a cell: ``answer`` (None without one) and, where answers were scored, ``confidence`` and
    ``probability:<answer>`` under the true names of the answers; a cell without genes has NaN there.

    Raises
    ------
    KeyError
        If nothing was predicted under this key.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata)
    >>> ch.tl.predict(adata, "mini", "t_cell_reactivity")
    >>> list(ch.get.answers(adata, "t_cell_reactivity"))[:3]
    ['answer', 'confidence', 'probability:Reactive']
    """
    adata = _adata.resolve(data, mod)
    column = _adata.require_obs(adata, key, "Run `ch.tl.predict(adata, model, task)` first, or pass another key.")
    params = read_params(adata, key)
    if "fields" not in params:
        msg = f"`adata.obs[{key!r}]` is not of `ch.tl.predict`; pass the task's name, or what was its key_added."
        raise KeyError(msg)
    frame = pd.DataFrame({"answer": np.where(column.isna(), None, column.astype(object))}, index=adata.obs_names)
    if key in adata.obsm:
        probability = adata.obsm[key].set_axis([f"{PROBABILITY}{name}" for name in params["answers"]], axis=1)
        frame = pd.concat([frame, probability.max(axis=1).rename("confidence"), probability], axis=1)
    return frame
