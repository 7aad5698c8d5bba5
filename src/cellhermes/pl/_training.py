"""How a training run goes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from ..get import training_log
from ._canvas import ACCENT, CYCLE, QUIET, SECOND, canvas, ink, legend, open_frame, settled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def training(
    log: str | Path | pd.DataFrame,
    *,
    y: Literal["loss", "accuracy"] = "loss",
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw the loss of a training run with its learning rate, or the accuracy of each task on held-out pairs.

    The loss is the mean negative log-likelihood of the answers' tokens (the paper's eq. 5). Single steps are pale;
    the line is a running mean over a fiftieth of them.

    Parameters
    ----------
    log
        Folder of the run, or the table that :func:`cellhermes.get.training_log` reads from it.
    y
        ``"loss"``, of training and held-out pairs, with the learning rate on an axis of its own; or ``"accuracy"`` of
        held-out pairs, over all and for each task.
    ax
        Axes to draw on; None makes a figure.
    style
        Options of :meth:`matplotlib.axes.Axes.plot` of all lines but the learning rate.

    Returns
    -------
    The axes.

    Raises
    ------
    FileNotFoundError
        If the folder has no log.
    ValueError
        If the log has no such values (yet).

    Examples
    --------
    >>> import cellhermes as ch
    >>> import pandas as pd
    >>> log = pd.DataFrame({"step": [1, 2, 3], "loss": [2.5, 2.1, 2.0], "learning_rate": [5e-5, 4e-5, 1e-5]})
    >>> ax = ch.pl.training(log)
    """
    if y not in ("loss", "accuracy"):
        msg = f"y={y!r} is not known; expected 'loss' or 'accuracy'."
        raise ValueError(msg)
    if not isinstance(log, pd.DataFrame):
        log = training_log(log)
    lines = _loss_lines(log) if y == "loss" else _accuracy_lines(log)
    if not lines:
        msg = f"The log has no {'losses' if y == 'loss' else 'accuracies of held-out pairs'} yet; it has {list(log)}."
        raise ValueError(msg)
    ax = canvas(ax, 4.8, 3.0)
    for values, options in lines:
        ax.plot(values.index, values, **{"color": ink(ax), **options, **(style or {})})
    ax.set_xlabel("step")
    ax.set_ylabel("loss of the answers' tokens" if y == "loss" else "accuracy of held-out answers")
    open_frame(ax)
    if y == "loss" and "learning_rate" in log:
        _learning_rate(ax, log.set_index("step")["learning_rate"].dropna())
    legend(ax, above=True)
    return settled(ax)


def _loss_lines(log: pd.DataFrame) -> list[tuple[pd.Series, dict[str, object]]]:
    """Values by step, and how each line looks."""
    lines: list[tuple[pd.Series, dict[str, object]]] = []
    if "loss" in log and len(loss := _by_step(log, "loss")):
        window = max(1, len(loss) // 50)
        if window > 1:
            lines.append((loss, {"color": SECOND, "alpha": 0.25, "linewidth": 0.6}))
        label = "training" if window == 1 else f"training, mean of {window} values"
        mean = loss.rolling(window, min_periods=1).mean()
        lines.append((mean, {"color": SECOND, "linewidth": 1.4, "label": label}))
    if "eval_loss" in log and len(held_out := _by_step(log, "eval_loss")):
        lines.append(
            (held_out, {"color": ACCENT, "marker": "o", "markersize": 4, "linewidth": 1.2, "label": "held out"})
        )
    return lines


def _accuracy_lines(log: pd.DataFrame) -> list[tuple[pd.Series, dict[str, object]]]:
    """All pairs in the colour of letters, then each task."""
    start = "eval_accuracy"
    lines: list[tuple[pd.Series, dict[str, object]]] = []
    tasks = [name for name in log if name.startswith(f"{start}/")]
    if start in log and len(total := _by_step(log, start)):
        lines.append((total, {"marker": "o", "markersize": 4, "linewidth": 1.6, "label": "all"}))
    for i, name in enumerate(tasks):
        look = {"color": CYCLE[i % len(CYCLE)], "marker": "o", "markersize": 3, "linewidth": 1}
        lines.append((_by_step(log, name), {**look, "label": name.removeprefix(f"{start}/").replace("_", " ")}))
    return lines


def _by_step(log: pd.DataFrame, name: str) -> pd.Series:
    return log.set_index("step")[name].dropna()


def _learning_rate(ax: "Axes", rate: pd.Series) -> None:
    """Draw the learning rate on an axis of its own at the right and behind the losses."""
    other = ax.twinx()
    other.plot(rate.index, rate, color=QUIET, linewidth=1, zorder=0)
    other.set_ylabel("learning rate", color="#888888")
    other.set_ylim(bottom=0)
    other.tick_params(axis="y", colors="#888888")
    other.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    other.spines[["top", "left"]].set_visible(False)
    other.spines["right"].set_color(QUIET)
    ax.set_zorder(other.get_zorder() + 1)
    ax.patch.set_visible(False)
