"""ROC curves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ._canvas import QUIET, canvas, cycle, legend, open_frame, settled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NEEDED = ("answer", "false_positive_rate", "true_positive_rate", "auc")


def roc(
    table: "pd.DataFrame",
    answer: str | None = None,
    *,
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw ROC curves, with the area below each in the legend.

    Parameters
    ----------
    table
        What :func:`cellhermes.metrics.roc` returned; with a column ``method``, there is a curve for each method, too.
    answer
        Only this answer; None draws all.
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
        If the table lacks a column, or has no curve of the answer.

    Examples
    --------
    >>> import cellhermes as ch
    >>> import pandas as pd
    >>> predicted = pd.DataFrame({"probability:Yes": [0.9, 0.2, 0.4, 0.3]})
    >>> ax = ch.pl.roc(ch.metrics.roc(["Yes", "No", "Yes", "Yes"], predicted))
    """
    if missing := [name for name in NEEDED if name not in table]:
        msg = f"The table has no columns {missing}; it has {list(table)}. Make it with ch.metrics.roc."
        raise KeyError(msg)
    if answer is not None and answer not in {*table["answer"]}:
        msg = f"The table has no curve of {answer!r}; it has {[*table['answer'].unique()]}."
        raise KeyError(msg)
    table = table if answer is None else table[table["answer"] == answer]
    by = [name for name in ("method", "answer") if name in table and (name == "answer" or table[name].nunique() > 1)]
    if len(by) > 1 and table["answer"].nunique() == 1:
        by = ["method"]
    ax = canvas(ax, 4.4, 3.0)
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle="--")
    colors = cycle(ax)
    for i, (names, curve) in enumerate(table.groupby(by, sort=False)):
        look = {"color": colors[i % len(colors)], "label": f"{', '.join(names)} ({curve['auc'].iloc[0]:.2f})"}
        ax.plot(curve["false_positive_rate"], curve["true_positive_rate"], **{**look, **(style or {})})
    ax.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.set_aspect("equal")
    legend(ax, title="area")
    open_frame(ax)
    return settled(ax)
