"""Two random halves of each group's cells, from which the nulls of networks and modules are made."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import _adata
from .._entries import check_free, written
from .._groups import groups_of
from .._keys import HALF, half_labels, write_params

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger("cellhermes")


def split_groups(
    data: "AnnData | MuData",
    groupby: str,
    *,
    groups: Sequence[str] | None = None,
    rng: int | np.random.Generator | None = 0,
    key_added: str = HALF,
    mod: str | None = None,
) -> None:
    """Split the cells of each group at random into two halves.

    Two halves of one group differ by chance alone. Networks made of both, in the same way as those of two groups, show
    how many "specific" modules and how large changes of degree chance gives. :func:`cellhermes.tl.modules` and
    :func:`cellhermes.get.degree_change` find such networks by their names.

    Parameters
    ----------
    data
        Annotated data.
    groupby
        Column of ``obs`` with the groups; of a MuData, also a joint one.
    groups
        Groups to split; None takes all.
    rng
        Seed or generator.
    key_added
        Column of ``obs`` and entry of ``uns`` that is written.
    mod
        Modality of a MuData.

    Returns
    -------
    Nothing; writes

    ``obs[key_added]`` : category
        ``"<group> (half 1)"`` or ``"<group> (half 2)"``, missing for cells of other groups. With an odd number of cells
        the first half has one more.
    ``uns[key_added]["params"]`` : dict
        The arguments and the version.

    Raises
    ------
    KeyError
        If the column or a group is not there.
    ValueError
        If ``obs[key_added]`` is yours, ``groups`` is empty, or a group has fewer than two cells.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.split_groups(adata, "cell_type", groups=["B"])
    >>> adata.obs["half"].value_counts().to_dict()
    {'B (half 1)': 21, 'B (half 2)': 21}
    >>> ch.tl.gene_network(adata, groupby="half", use_rep="expression")
    """
    adata = _adata.writable(data, mod)
    entry = f"obs/{key_added}"
    check_free(adata, key_added, [entry])
    grouping = groups_of(data, groupby, groups, mod=mod)
    cells = {label: np.flatnonzero(grouping.codes == i) for i, label in enumerate(grouping.labels)}
    if small := [label for label, at in cells.items() if len(at) < 2]:
        msg = f"Groups {small} of obs[{groupby!r}] have fewer than two cells and can't be split; leave them out."
        raise ValueError(msg)
    generator = np.random.default_rng(rng)
    halves = np.full(adata.n_obs, None, dtype=object)
    for label, at in cells.items():
        mixed, middle = generator.permutation(at), (len(at) + 1) // 2
        halves[mixed[:middle]], halves[mixed[middle:]] = half_labels(label)
    names = [half for label in cells for half in half_labels(label)]
    seed = int(rng) if isinstance(rng, int | np.integer) else "unknown"
    with written(adata, key_added, [entry]):
        adata.obs[key_added] = pd.Categorical(halves, categories=names)
        write_params(adata, key_added, {"groupby": groupby, "groups": list(cells), "seed": seed})
    logger.info("%d groups in two halves each, obs[%r].", len(cells), key_added)
