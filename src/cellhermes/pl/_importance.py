"""Importance of genes in cells."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .. import get
from .._keys import EXPLAIN
from ._canvas import DIVERGING, HEAT, INK, canvas, color_bar, settled, wrapped

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


def importance(
    data: "AnnData | MuData",
    *,
    n_genes: int = 10,
    key: str = EXPLAIN,
    mod: str | None = None,
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw importances as a heat map.

    Cells stand from top to bottom, by answer, and the recurrent genes of each answer side by side. White is a gene that
    is not in the cell's sentence, or does not matter. Colours end at the 99th percentile of what is shown. Where
    importances have a sign (occlusion), red speaks for the answer and blue against it.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.explain` done.
    n_genes
        Genes of each answer, the most frequent ones of :func:`cellhermes.get.explain`.
    key
        Entry of ``layers`` and ``uns`` with the explanation.
    mod
        Modality of a MuData.
    ax
        Axes to draw on; None makes a figure.
    style
        Options of :meth:`matplotlib.axes.Axes.imshow`.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If there is no explanation.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> ax = ch.pl.importance(adata)
    """
    recurrent = get.explain(data, key=key, mod=mod)
    genes = recurrent.groupby("answer", sort=False).head(n_genes)["gene"].unique()
    rows = get.importance(data, key=key, mod=mod)
    cells = rows.drop_duplicates("cell").set_index("cell")["answer"]
    answers = recurrent["answer"].unique()
    order = np.concatenate([cells.index[cells == name] for name in answers])
    shown = rows[rows["gene"].isin(genes)].pivot_table("importance", "cell", "gene", aggfunc="sum")
    values = shown.reindex(index=order, columns=genes).fillna(0).to_numpy(float)
    signed = bool((rows["importance"] < 0).any())
    most = np.percentile(np.abs(values), 99) or np.abs(values).max() or 1
    options = {"cmap": DIVERGING if signed else HEAT, "vmin": -most if signed else 0, "vmax": most}
    options |= {"aspect": "auto", "interpolation": "nearest", **(style or {})}
    ax = canvas(ax, 2.2 + 0.17 * len(genes), 3.6)
    drawn = ax.imshow(values, **options)
    ends = np.cumsum([(cells == name).sum() for name in answers])
    ax.hlines(ends[:-1] - 0.5, -0.5, len(genes) - 0.5, color=INK, linewidth=0.8)
    starts = np.concatenate([[0], ends[:-1]])
    labels = [wrapped(f"{name} ({n:,})", 20) for name, n in zip(answers, ends - starts, strict=True)]
    ax.set_yticks((starts + ends) / 2 - 0.5, labels)
    ax.set_xticks(np.arange(len(genes)), genes, rotation=90, fontsize=7)
    ax.tick_params(length=0)
    over = (np.abs(values) > most).any()
    color_bar(ax, drawn, "importance", extend=("both" if signed else "max") if over else "neither")
    return settled(ax)
