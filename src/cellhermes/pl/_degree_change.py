"""Genes whose number of neighbours differs most between two groups."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .. import get
from .._keys import NETWORK
from ._canvas import ACCENT, SECOND, canvas, ink, legend, open_frame, settled, wrapped

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


def degree_change(
    data: "AnnData | MuData",
    group: str,
    reference: str,
    *,
    n_genes: int = 20,
    key: str = NETWORK,
    mod: str | None = None,
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw the genes with the largest change of node degree between two groups as bars (the paper's Fig. 2g).

    The numbers at a bar are the degrees in the reference and in the group. Where networks of two halves of the group's
    own cells were made, a thin dark bar shows the change of the same gene between them: what is to be expected of cells
    of the same kind.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.gene_network` done for both groups.
    group
        Group whose degrees are the later ones.
    reference
        Group that is subtracted.
    n_genes
        Genes to draw, by size of the change.
    key
        Entry of ``varp`` and ``uns`` with the networks.
    mod
        Modality of a MuData.
    ax
        Axes to draw on; None makes a figure.
    style
        Options of :meth:`matplotlib.axes.Axes.barh`.

    Returns
    -------
    The axes.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, use_rep="expression", groupby="cell_type", groups=["B", "NK"])
    >>> ax = ch.pl.degree_change(adata, "B", "NK", n_genes=10)
    """
    table = get.degree_change(data, group, reference, key=key, mod=mod).head(n_genes)
    table = table.sort_values(["change", "degree"], kind="stable")
    ax = canvas(ax, 3.8, 0.7 + 0.19 * len(table))
    y, change = np.arange(len(table)), table["change"].to_numpy(float)
    colors = np.where(change > 0, ACCENT, SECOND)
    ax.barh(y, change, **{"color": colors, "height": 0.7, "zorder": 2, **(style or {})})
    if "null_change" in table and table["null_change"].notna().any():
        null = table["null_change"].to_numpy(float)
        ax.barh(y, null, height=0.25, color=ink(ax), alpha=0.75, zorder=3, label=f"between halves of {group}")
        legend(ax, above=True, fontsize=7, borderpad=0)
    for at, (_, row) in zip(y, table.iterrows(), strict=True):
        text = f"{row['degree_reference']:.0f} → {row['degree']:.0f}"
        side = 1 if row["change"] >= 0 else -1
        ax.annotate(text, (row["change"], at), (3 * side, 0), textcoords="offset points", fontsize=6.5, color=ink(ax),
                    ha="left" if side > 0 else "right", va="center")  # fmt: skip
    ax.axvline(0, color=ink(ax), linewidth=0.7, zorder=4)
    ax.set_yticks(y, table.index, fontsize=8, fontstyle="italic")
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.margins(x=0.25)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(wrapped(f"change of degree, {reference} → {group}", 34))
    open_frame(ax)
    ax.spines["left"].set_visible(False)
    return settled(ax)
