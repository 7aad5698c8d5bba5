"""Genes that are important in many cells."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .. import get
from .._keys import EXPLAIN
from ._canvas import canvas, cycle, legend, open_frame, settled

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


def recurrence(
    data: "AnnData | MuData",
    answer: str | None = None,
    *,
    n_genes: int = 10,
    key: str = EXPLAIN,
    mod: str | None = None,
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw in what part of the cells each gene is among the most important ones, as bars, by answer.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.explain` done.
    answer
        Only cells with this answer; None draws the genes of all answers, each with a bar for every answer.
    n_genes
        Genes of each answer, the most frequent ones.
    key
        Entry of ``uns`` with the explanation.
    mod
        Modality of a MuData.
    ax
        Axes to draw on; None makes a figure.
    style
        Options of :meth:`matplotlib.axes.Axes.barh`.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If there is no explanation, or no cell with the answer.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> ax = ch.pl.recurrence(adata, n_genes=5)
    """
    table = get.explain(data, answer=answer, key=key, mod=mod)
    answers = table["answer"].unique()
    genes = table.groupby("answer", sort=False).head(n_genes)["gene"].unique()
    thick = 0.8 / len(answers)
    ax = canvas(ax, 4.2, 1.0 + 0.17 * len(genes) * max(1, 0.5 * len(answers)))
    colors = cycle(ax)
    for i, name in enumerate(answers):
        mine = table[table["answer"] == name].set_index("gene")
        share = mine["frequency"].reindex(genes).fillna(0)
        look = {"height": 0.9 * thick, "color": colors[i % len(colors)], "linewidth": 0}
        look |= {"label": f"{name} ({mine['n_cells'].iloc[0]:,} cells)", **(style or {})}
        ax.barh(np.arange(len(genes)) - 0.4 + thick * (i + 0.5), share, **look)
    ax.set_yticks(np.arange(len(genes)), genes, fontsize=8)
    ax.set_ylim(len(genes) - 0.5, -0.5)
    ax.set_xlabel("share of cells with the gene\namong the top genes")
    ax.tick_params(axis="y", length=0)
    legend(ax)
    open_frame(ax)
    return settled(ax)
