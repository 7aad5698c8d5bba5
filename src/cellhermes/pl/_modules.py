"""Modules of a group: how much more they are expressed than in the reference, and how sure that is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .. import get
from .._keys import MODULES
from ._canvas import ACCENT, QUIET, canvas, ink, label_points, legend, open_frame, paper, settled, wrapped

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

ALPHA = 0.05
BY_CHANCE = 0.5  # of the null's clusterings in which a module is specific as well
KINDS = {  # faces and rims; None is the background
    "specific": (ACCENT, None),
    "specific, also by chance": (None, ACCENT),
    "shared": (QUIET, None),
}
LEAST = 1e-300  # smaller p-values, and those that are 0 in floating point, are drawn here


def modules(
    data: "AnnData | MuData",
    *,
    n_labels: int = 10,
    key: str = MODULES,
    mod: str | None = None,
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw the modules of a group as a volcano: difference of mean scores against its adjusted p-value.

    A point is a module; its area grows with the number of genes. Modules that are *specific* to the group, with a low
    Jaccard index with every module of the reference, are coloured (the paper's Fig. 2i). They are hollow where a null
    finds them specific as well, at least every second time: with another seed, or between two halves of the group's own
    cells. The dashed line is an adjusted p of 0.05. Cells are no replicates, so that many cells make high points: read
    the x-axis first. Modules without a score are left out.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.modules` done for a group and a reference.
    n_labels
        Modules that get their number beside them: those with the largest differences.
    key
        Entry of ``uns`` with the modules.
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
    ValueError
        If no module was compared with a reference.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, use_rep="expression", groupby="cell_type", groups=["B", "NK"])
    >>> ch.tl.modules(adata, "B", "NK")
    >>> ax = ch.pl.modules(adata)
    """
    table = get.modules(data, key=key, mod=mod)
    table = table[table["pval_adj"].notna() & table["score_difference"].notna()]
    if table.empty:
        msg = f"No module under {key!r} has a p-value. Run `ch.tl.modules(adata, group, reference)` with a reference."
        raise ValueError(msg)
    ax = canvas(ax, 4.4, 3.4)
    x = table["score_difference"].to_numpy(float)
    y = -np.log10(np.maximum(table["pval_adj"].to_numpy(float), LEAST))
    area = 6 + 90 * table["n_genes"].to_numpy(float) / max(table["n_genes"].max(), 1)
    specific = table["specific"].fillna(value=False).to_numpy(bool)
    chance = table[["reseed_specific", "halves_specific"]].max(axis=1).ge(BY_CHANCE).to_numpy(bool)
    kinds = {"specific": specific & ~chance, "specific, also by chance": specific & chance, "shared": ~specific}
    for kind, chosen in kinds.items():
        options = {**_look(ax, kind), "linewidth": 0.8, "zorder": 2 + (kind != "shared")}
        ax.scatter(x[chosen], y[chosen], area[chosen], **{**options, **(style or {})})
    ax.axhline(-np.log10(ALPHA), color=ink(ax), linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
    ax.axvline(0, color=ink(ax), linewidth=0.7, zorder=1)
    group, reference = table["group"].iloc[0], table["reference"].iloc[0]
    ax.set_xlabel(f"difference of mean module score\n{wrapped(f'{group} − {reference}', 34)}")
    ax.set_ylabel("−log$_{10}$ adjusted p")
    ax.margins(0.12)
    ax.set_ylim(bottom=-0.05 * max(y.max(), -np.log10(ALPHA)))
    open_frame(ax)
    _legend(ax, group, table["n_genes"].to_numpy(), area)
    first = np.argsort(-np.abs(x), kind="stable")[:n_labels]
    points = np.column_stack([x, y])
    label_points(settled(ax), points[first], table["module"].astype(str).to_numpy()[first], others=points)
    return ax


def _look(ax: "Axes", kind: str) -> dict[str, str]:
    face, edge = (color or paper(ax) for color in KINDS[kind])
    return {"facecolor": face, "edgecolor": edge}


def _legend(ax: "Axes", group: str, n_genes: np.ndarray, area: np.ndarray) -> None:
    """Explain what colours and areas mean."""
    for kind in KINDS:
        ax.scatter([], [], 35, **_look(ax, kind), linewidth=0.8, label=kind)
    for at in dict.fromkeys([int(n_genes.argmin()), int(n_genes.argmax())]):
        rim = {"facecolor": paper(ax), "edgecolor": ink(ax), "linewidth": 0.7}
        ax.scatter([], [], area[at], **rim, label=f"{n_genes[at]} genes")
    legend(ax, title=f"modules of {group}")
