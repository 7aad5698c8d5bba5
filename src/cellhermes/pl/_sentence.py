"""The sentence of one cell."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.patches import Rectangle

from .. import get
from .._keys import EXPLAIN
from ._canvas import ACCENT, LEAST, SECOND, canvas, settled, wrapped

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

COLUMNS = 72  # characters of a line
WIDE, HIGH = 0.602, 1.7  # of a character of the monospaced font, and of a line, in font sizes


def sentence(
    data: "AnnData | MuData",
    cell: str,
    *,
    key: str = EXPLAIN,
    mod: str | None = None,
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Write the sentence of a cell with its genes shaded by importance.

    Orange speaks for the answer, blue against it (occlusion only), as strongly as the importance stands to the largest
    one of the cell. :func:`cellhermes.get.sentence_html` is the same for a notebook.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.explain` done.
    cell
        Name of the cell.
    key
        Entry of ``layers`` and ``uns`` with the explanation.
    mod
        Modality of a MuData.
    ax
        Axes to draw on; None makes a figure.
    style
        Options of the shades, :class:`matplotlib.patches.Rectangle`.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If the cell is not explained.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> ax = ch.pl.sentence(adata, adata.obs_names[0])
    """
    table = get.importance(data, cell, key=key, mod=mod).sort_values("position", kind="stable")
    places = _places([*table["gene"]])
    n_lines = places[-1][1] + 1
    ax = canvas(ax, 6.4, 0.5 + n_lines * 6.2 / COLUMNS / WIDE * HIGH)
    ax.set_title(wrapped(f"{cell}: {table['answer'].iloc[0]}", 44), fontsize="medium", loc="left")
    ax.set_axis_off()
    points = settled(ax, (LEAST[0], 0)).get_window_extent().width / ax.figure.dpi * 72
    size = points / COLUMNS / WIDE
    most = table["importance"].abs().max() or 1
    for (x, y), gene, value in zip(places, table["gene"], table["importance"], strict=True):
        look = {"color": ACCENT if value > 0 else SECOND, "alpha": 0.8 * abs(value) / most, "linewidth": 0}
        ax.add_patch(Rectangle((x - 0.3, y - 0.4), len(gene) + 0.6, 0.8, **{**look, **(style or {})}))
        ax.text(x + len(gene) / 2, y, gene, family="monospace", fontsize=size, ha="center", va="center")
    ax.set(xlim=(-0.5, COLUMNS + 0.5), ylim=(n_lines - 0.4, -0.6))
    ax.set_aspect(HIGH / WIDE, anchor="NW")
    return ax


def _places(genes: list[str]) -> list[tuple[int, int]]:
    """(character, line) of each gene, in lines of limited width."""
    places, x, y = [], 0, 0
    for gene in genes:
        if x and x + len(gene) > COLUMNS:
            x, y = 0, y + 1
        places.append((x, y))
        x += len(gene) + 1
    return places
