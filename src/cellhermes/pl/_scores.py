"""How well tasks are answered, beside what trivial methods reach."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from ._canvas import canvas, cycle, ink, legend, open_frame, settled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEEDED = ("task", "method", "metric", "value", "low", "high")
GREYS = ("#555555", "#777777", "#999999", "#B4B4B4", "#CCCCCC", "#E0E0E0")


def scores(
    table: pd.DataFrame,
    *,
    metric: str = "balanced_accuracy",
    over: Literal["rows", "groups"] = "rows",
    baselines: Sequence[str] = (),
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw one measure of several methods on several tasks as bars with their intervals.

    Tasks stand from top to bottom and methods within a task, both in the order of the table. Models have colours,
    baselines are grey. A task without a value for a method has a gap there.

    Parameters
    ----------
    table
        Tables of :func:`cellhermes.metrics.classification` below each other, with the columns ``task`` and ``method``;
        where a column ``synthetic`` is True, the task is marked as such.
    metric
        Which measure is drawn.
    over
        Over rows, or as the mean over groups (a table without the column ``over`` has one kind only).
    baselines
        Methods that are drawn in grey.
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
        If the table lacks a column.
    ValueError
        If it has no such measure, a baseline is not in it, or a method has two values for a task.

    Examples
    --------
    >>> import cellhermes as ch
    >>> import pandas as pd
    >>> rows = [("fitness", "mini", 0.71, 0.65, 0.77), ("fitness", "majority", 0.5, 0.5, 0.5)]
    >>> table = pd.DataFrame(rows, columns=["task", "method", "value", "low", "high"])
    >>> ax = ch.pl.scores(table.assign(metric="balanced_accuracy"), baselines=["majority"])
    """
    rows = _rows(table, metric, over, baselines)
    tasks, methods = rows["task"].unique(), rows["method"].unique()
    thick = 0.8 / len(methods)
    ax = canvas(ax, 6.2, 1.1 + 0.16 * len(tasks) * (len(methods) + 1.5))
    looks = dict(zip([m for m in methods if m not in baselines], cycle(ax) * len(methods), strict=False))
    looks |= dict(zip([m for m in methods if m in baselines], GREYS * len(methods), strict=False))
    for i, method in enumerate(methods):
        mine = rows[rows["method"] == method].set_index("task").reindex(tasks)
        y = np.arange(len(tasks)) - 0.4 + thick * (i + 0.5)
        reach = np.abs(mine[["low", "high"]].to_numpy(float) - mine[["value"]].to_numpy(float)).T
        look = {"height": 0.9 * thick, "color": looks[method], "label": method, "linewidth": 0}
        look |= {"xerr": reach, "error_kw": {"elinewidth": 0.8, "ecolor": ink(ax)}}
        ax.barh(y, mine["value"], **{**look, **(style or {})})
    ax.set_yticks(np.arange(len(tasks)), [wrapped(_name(rows, task)) for task in tasks])
    ax.set_ylim(len(tasks) - 0.5, -0.5)
    ax.set_xlabel(metric.replace("_", " ") + (" (mean over groups)" if over == "groups" else ""))
    ax.tick_params(axis="y", length=0, labelsize=9)
    open_frame(ax)
    legend(ax)
    return settled(ax)


def _rows(table: pd.DataFrame, metric: str, over: str, baselines: Sequence[str]) -> pd.DataFrame:
    if missing := [name for name in NEEDED if name not in table]:
        msg = (
            f"The table has no columns {missing}; it has {list(table)}. Add task and method to the tables of "
            "ch.metrics.classification, and put them below each other."
        )
        raise KeyError(msg)
    rows = table[table["metric"] == metric]
    rows = rows[rows["over"] == over] if "over" in rows else rows
    if not len(rows):
        msg = f"The table has no {metric!r} over {over}; it has {sorted(table['metric'].unique())}."
        raise ValueError(msg)
    if unknown := [name for name in baselines if name not in {*rows["method"]}]:
        msg = f"The table has no methods {unknown}; it has {[*rows['method'].unique()]}."
        raise ValueError(msg)
    if (twice := rows.duplicated(["task", "method"])).any():
        task, method = rows.loc[twice, ["task", "method"]].iloc[0]
        msg = f"Method {method!r} has several values of {metric!r} for task {task!r}; expected one."
        raise ValueError(msg)
    return rows


def _name(rows: pd.DataFrame, task: str) -> str:
    is_synthetic = "synthetic" in rows and bool((rows.loc[rows["task"] == task, "synthetic"] == True).any())  # noqa: E712
    return str(task).replace("_", " ") + (" (synthetic)" if is_synthetic else "")
