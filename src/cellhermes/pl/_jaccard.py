"""Which modules of two groups are the same."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.transforms import ScaledTranslation

from .. import get
from .._keys import MODULES
from ._canvas import ACCENT, HEAT, canvas, color_bar, legend, settled, wrapped

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

TICKS = 40  # more modules than this: every second, third, ... gets its number


def jaccard(
    data: "AnnData | MuData",
    *,
    key: str = MODULES,
    mod: str | None = None,
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw the Jaccard index of every module of a group with every module of the reference as a heat map.

    Rows are the modules of the group, by number. Columns are those of the reference, each below the row that it agrees
    with most, so that pairs that agree stand along the diagonal. A mark at the left says that a module is specific to
    the group: all of its row is below the limit (0.4 in the paper).

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.modules` done for a group and a reference.
    key
        Entry of ``uns`` with the modules.
    mod
        Modality of a MuData.
    ax
        Axes to draw on; None makes a figure.
    style
        Options of :meth:`matplotlib.axes.Axes.pcolormesh`.

    Returns
    -------
    The axes.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, use_rep="expression", groupby="cell_type", groups=["B", "NK"])
    >>> ch.tl.modules(adata, "B", "NK")
    >>> ax = ch.pl.jaccard(adata)
    """
    table = get.modules(data, "jaccard", key=key, mod=mod)
    values = table.to_numpy(float)
    order = np.lexsort((-values.max(axis=0), values.argmax(axis=0)))  # of columns: by their best row
    side = 0.8 + 0.125 * np.clip(values.shape, 12, 45)
    ax = canvas(ax, side[1] + 1.0, side[0] + 0.3)
    options = {"cmap": HEAT, "vmin": 0, "vmax": 1, "edgecolors": "white", "linewidth": 0.3}
    drawn = ax.pcolormesh(values[:, order], **{**options, **(style or {})})
    ax.set_aspect("equal")
    ax.invert_yaxis()
    specific = get.modules(data, key=key, mod=mod).set_index("module")["specific"].fillna(value=False)
    rows = np.flatnonzero(specific.reindex(table.index, fill_value=False).to_numpy(bool))
    beside = ax.get_yaxis_transform() + ScaledTranslation(-5 / 72, 0, ax.figure.dpi_scale_trans)
    mark = {"marker": "s", "s": 9, "color": ACCENT, "clip_on": False, "label": f"specific to {table.index.name}"}
    ax.scatter(np.zeros(len(rows)), rows + 0.5, transform=beside, **mark)
    legend(ax, above=True, fontsize=7, borderpad=0, handletextpad=0)
    _number(ax.xaxis, table.columns[order].astype(str))
    _number(ax.yaxis, table.index.astype(str))
    ax.set_ylabel(wrapped(f"modules of {table.index.name}"))
    ax.set_xlabel(wrapped(f"modules of {table.columns.name}"))
    ax.tick_params(length=0, labelsize=7)
    ax.tick_params(axis="y", pad=9)
    ax.spines[:].set_visible(False)
    color_bar(ax, drawn, "Jaccard index")
    return settled(ax)


def _number(axis: object, names: list[str]) -> None:
    step = -(-len(names) // TICKS)
    axis.set_ticks(np.arange(0, len(names), step) + 0.5, names[::step])
