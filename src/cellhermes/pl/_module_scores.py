"""Where the genes of a module are expressed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .. import get
from .._keys import MODULES
from ._canvas import canvas, color_bar, points, settled

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


def module_scores(
    data: "AnnData | MuData",
    module: str | int,
    *,
    basis: str = "X_umap",
    key: str = MODULES,
    mod: str | None = None,
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw the score of a module in every cell, on a UMAP or another embedding of the cells.

    Cells with the highest scores are drawn last. The colours end at the first and the 99th percentile.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.modules` and, for example, ``sc.tl.umap`` done.
    module
        Number of the module.
    basis
        Entry of ``obsm`` with the coordinates; ``"umap"`` stands for ``"X_umap"``, as in scanpy.
    key
        Entry of ``obsm`` and ``uns`` with the modules.
    mod
        Modality of a MuData.
    ax
        Axes to draw on; None makes a figure.
    style
        Options of :meth:`matplotlib.axes.Axes.scatter`.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If the module or the coordinates are not there.

    Examples
    --------
    >>> import cellhermes as ch
    >>> import scanpy as sc
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, use_rep="expression", groupby="cell_type", groups=["B", "NK"])
    >>> ch.tl.modules(adata, "B", "NK")
    >>> sc.pp.pca(adata)
    >>> ax = ch.pl.module_scores(adata, 0, basis="X_pca")
    """
    scores = get.modules(data, "scores", key=key, mod=mod)
    if str(module) not in scores:
        msg = f"Module {module!r} has no scores; known: {list(scores.columns)}."
        raise KeyError(msg)
    slots = (data if mod is None else data.mod[mod]).obsm
    basis = f"X_{basis}" if basis not in slots and f"X_{basis}" in slots else basis
    if basis not in slots:
        msg = f"`adata.obsm[{basis!r}]` not found; it has {list(slots)}. Run `sc.tl.umap(adata)` first, or pass basis=."
        raise KeyError(msg)
    ax = canvas(ax, 3.9, 3.2)
    values = scores[str(module)].to_numpy(float)
    at = np.asarray(slots[basis])[:, :2]
    order = np.argsort(values, kind="stable")
    low, high = np.nanpercentile(values, [1, 99])
    options = {"cmap": points(ax), "vmin": low, "vmax": high, "s": min(12, 18_000 / len(at)), "linewidth": 0}
    options |= {"c": values[order], "rasterized": True, **(style or {})}
    drawn = ax.scatter(at[order, 0], at[order, 1], **options)
    ax.set_xticks([])
    ax.set_yticks([])
    name = basis.removeprefix("X_")
    name = name.upper() if name in {"umap", "pca"} else name
    ax.set_xlabel(f"{name}1", loc="left")
    ax.set_ylabel(f"{name}2", loc="bottom")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(f"module {module}", fontsize="medium")
    color_bar(ax, drawn, "module score")
    return settled(ax)
