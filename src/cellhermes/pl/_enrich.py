"""Gene sets that are over-represented."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .. import get
from .._keys import ENRICH
from ._canvas import QUIET, canvas, color_bar, ink, legend, open_frame, paper, points, settled, wrapped

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

ALPHA = 0.05
LEAST = 1e-300
DARKEST = 10  # −log10 p
LONGEST = 60  # characters of a term
LINE = 32  # of its lines


def enrich(
    data: "AnnData | MuData",
    of: str | int | None = None,
    *,
    n_terms: int | None = None,
    key: str = ENRICH,
    mod: str | None = None,
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw the most over-represented gene sets as dots: larger where more genes are shared, darker where p is smaller.

    For one list, dots stand at the share of its genes that are in the gene set, and those with an adjusted p-value of
    0.05 or more are hollow. For several lists, each has a column, of which only enriched gene sets are drawn. All
    p-values below 1e-10 have the same colour.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.enrich` done.
    of
        A module, a gene or the name of a list; None draws all lists that have an enriched gene set, or the only list.
    n_terms
        Gene sets to draw, of each list; None is ten for one list and three for several.
    key
        Entry of ``uns`` with the result.
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
        If no gene set shares a gene with a list, or, for several lists, if none is enriched.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, use_rep="expression")
    >>> ch.tl.enrich(adata, {"T cell receptor": ["CD3D", "CD3E", "CD3G", "CD247"]}, of="CD3E")
    >>> ax = ch.pl.enrich(adata)
    """
    table = get.enrich(data, of, key=key, mod=mod)
    if table.empty:
        msg = f"Nothing to draw: no gene set shares a gene with {'a list' if of is None else repr(of)}."
        raise ValueError(msg)
    if table["of"].nunique() == 1:
        return _one(table.head(n_terms or 10), ax, style)
    return _several(table, n_terms or 3, ax, style)


def _one(table: "pd.DataFrame", ax: "Axes | None", style: Mapping[str, object] | None) -> "Axes":
    """Gene sets of one list, by p-value from the top."""
    terms = [wrapped(_short(term), LINE) for term in table["term"]]
    ax = canvas(ax, 5.4, 1.1 + _height(terms))
    share = (table["overlap"] / table["n_genes"]).to_numpy(float)
    _dots(ax, share, np.arange(len(table)), table, style)
    ax.set_yticks(range(len(terms)), terms, fontsize=8)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlabel(wrapped(f"share of the {table['n_genes'].iloc[0]} genes of {_name(table['of'].iloc[0])}", 34))
    ax.set_xlim(0, 1.15 * share.max())
    ax.grid(axis="y", color=QUIET, linewidth=0.4, alpha=0.6)
    ax.set_axisbelow(True)
    open_frame(ax)
    return settled(ax)


def _several(table: "pd.DataFrame", n_terms: int, ax: "Axes | None", style: Mapping[str, object] | None) -> "Axes":
    """Arrange lists as columns, the best gene sets of each as rows."""
    enriched = table[table["pval_adj"] < ALPHA]
    if enriched.empty:
        msg = f"No list has a gene set with an adjusted p below {ALPHA}; pass of= to see the best ones of one list."
        raise ValueError(msg)
    lists = enriched["of"].unique().tolist()
    terms = enriched.groupby("of", sort=False).head(n_terms)["term"].unique().tolist()
    shown = enriched[enriched["term"].isin(terms)]
    names, labels = [wrapped(name) for name in lists], [wrapped(_short(term), LINE) for term in terms]
    ax = canvas(ax, 3.4 + 0.24 * "\n".join(names).count("\n") + 0.24 * len(lists), 1.1 + _height(labels))
    x, y = ([names.index(name) for name in shown[column]] for names, column in ((lists, "of"), (terms, "term")))
    _dots(ax, np.array(x), np.array(y), shown, style)
    numbers = all(name.isdigit() for name in lists)
    ax.set_xticks(range(len(lists)), names, fontsize=8, rotation=0 if numbers else 90)
    ax.set_yticks(range(len(terms)), labels, fontsize=8)
    ax.set_xlim(-0.7, len(lists) - 0.3)
    ax.set_ylim(len(terms) - 0.4, -0.6)
    ax.set_xlabel("module" if numbers else "")
    ax.grid(color=QUIET, linewidth=0.4, alpha=0.5)
    ax.set_axisbelow(True)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return settled(ax)


def _dots(ax: "Axes", x: np.ndarray, y: np.ndarray, table: "pd.DataFrame", style: Mapping[str, object] | None) -> None:
    """Dots, their colour bar and the legend of their sizes."""
    strength = -np.log10(np.maximum(table["pval_adj"].to_numpy(float), LEAST))
    overlap = table["overlap"].to_numpy(float)
    area = lambda n_genes: 12 + 110 * n_genes / overlap.max()
    enriched = table["pval_adj"].to_numpy(float) < ALPHA
    hollow = {"facecolor": paper(ax), "edgecolor": QUIET, "linewidth": 0.8, "zorder": 2}
    ax.scatter(x[~enriched], y[~enriched], area(overlap[~enriched]), **hollow)
    highest = np.clip(strength.max(), -np.log10(ALPHA), DARKEST)
    options = {"cmap": points(ax), "vmin": 0, "vmax": highest, "linewidth": 0, "zorder": 3}
    options |= {"c": strength[enriched], **(style or {})}
    drawn = ax.scatter(x[enriched], y[enriched], area(overlap[enriched]), **options)
    color_bar(ax, drawn, "−log$_{10}$ adjusted p", extend="max" if strength.max() > highest else "neither")
    sizes = sorted({max(1, round(overlap.max() * part)) for part in (0.2, 0.6, 1)})
    handles = [ax.scatter([], [], area(size), color=ink(ax), label=f"{size}") for size in sizes]
    legend(ax, handles=handles, title="shared genes", fontsize=7, title_fontsize=7, labelspacing=0.8)


def _height(terms: list[str]) -> float:
    """Inches of these rows, all as high as the one with most lines."""
    return len(terms) * (0.1 + 0.13 * max(term.count("\n") + 1 for term in terms))


def _short(term: str) -> str:
    """Strip a term of its accession; a long one is cut in its middle, as many names differ at their ends."""
    term = re.sub(r"\s*\(GO:\d+\)$", "", term)
    if len(term) <= LONGEST:
        return term
    end = LONGEST // 2 - 2
    return f"{term[: LONGEST - end - 2].rstrip()} … {term[-end:].lstrip()}"


def _name(of: str) -> str:
    return f"module {of}" if of.isdigit() else of
