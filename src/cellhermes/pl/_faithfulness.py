"""Deletion and insertion curves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from .. import get
from .._keys import EXPLAIN
from ._canvas import ACCENT, QUIET, canvas, ink, legend, open_frame, settled, wrapped

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

LOOKS = {
    "importance": {"color": ACCENT, "linewidth": 1.8},
    "equal rank": {"linewidth": 1.2},  # in the colour of letters
    "any rank": {"color": QUIET, "linewidth": 1.2, "linestyle": "--"},
}
LABELS = {
    "importance": "most important genes",
    "equal rank": "others, equally expressed",
    "any rank": "random genes",
}


def faithfulness(
    data: "AnnData | MuData",
    test: Literal["deletion", "insertion"] = "deletion",
    *,
    answer: str | None = None,
    key: str = EXPLAIN,
    mod: str | None = None,
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw the probability of the explained answer against the number of genes that are taken away, or are left alone.

    Deletion is good where the coloured curve falls faster than the dark one, insertion where it rises faster. Bands are
    one standard error over cells.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.faithfulness` done.
    test
        ``"deletion"`` or ``"insertion"``.
    answer
        Only cells with this answer; None draws the mean of all.
    key
        Entry of ``uns`` with the explanation.
    mod
        Modality of a MuData.
    ax
        Axes to draw on; None makes a figure.
    style
        Options of :meth:`matplotlib.axes.Axes.plot`.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If the explanation was not tested, or not for this answer.
    ValueError
        If there is no such test.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> ch.tl.faithfulness(adata, "mini", "t_cell_reactivity", steps=[1, 3], cells=5)
    >>> ax = ch.pl.faithfulness(adata)
    """
    if test not in ("deletion", "insertion"):
        msg = f"test={test!r} is not known; expected 'deletion' or 'insertion'."
        raise ValueError(msg)
    table = get.faithfulness(data, key=key, mod=mod)
    if (answer or "") not in {*table["answer"]}:
        msg = f"No tested cell has the answer {answer!r}; known: {sorted({*table['answer']} - {''})}."
        raise KeyError(msg)
    table = table[(table["test"] == test) & (table["answer"] == (answer or ""))]
    ax = canvas(ax, 3.8, 3.0)
    for order, curve in table.groupby("order", sort=False):
        look = {"color": ink(ax), "marker": "o", "markersize": 3, **LOOKS[order], "label": LABELS[order]}
        look |= style or {}
        ax.plot(curve["k"], curve["probability"], **look)
        low, high = (curve["probability"] + sign * curve["error"] for sign in (-1, 1))
        ax.fill_between(curve["k"], low, high, color=look["color"], alpha=0.15, linewidth=0)
    steps = sorted({*table["k"]})
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xticks(steps, [str(k) for k in steps])
    ax.minorticks_off()
    ax.ticklabel_format(axis="y", useOffset=False)
    ax.set_xlabel("genes taken away" if test == "deletion" else "genes left")
    ax.set_ylabel(wrapped(f"probability of {answer or 'the answer'}"))
    legend(ax, above=True)
    open_frame(ax)
    return settled(ax)
