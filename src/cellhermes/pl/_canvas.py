"""Axes to draw on and the room around them, colours, legends, and labels beside points. Touches no global style."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING
from weakref import WeakSet

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

# Okabe and Ito's colours, which stay apart for colour-blind readers, without yellow, which is lost on white
ACCENT, SECOND, THIRD = "#D55E00", "#0072B2", "#009E73"
CYCLE = (SECOND, ACCENT, THIRD, "#CC79A7", "#E69F00", "#56B4E9")
QUIET, INK, LIGHT_INK = "#BBBBBB", "#333333", "#DDDDDD"
DIVERGING = "RdBu_r"
POINTS = LinearSegmentedColormap.from_list("points", ["#DDDDDD", "#7FB8DA", SECOND, "#00263D"])  # grey is still seen
DARK_POINTS = LinearSegmentedColormap.from_list("dark points", ["#444444", SECOND, "#7FB8DA", "#F2F9FD"])
HEAT = LinearSegmentedColormap.from_list("heat", [(0, "white"), (0.2, "#A6CEE6"), (0.6, SECOND), (1, "#00263D")])


LETTERS = 26  # of a line of a name; longer ones are wrapped
LEAST = (1.9, 1.5)  # inches of the axes that names and legends leave in a figure of ours
MARGIN = 0.2  # of the figure

_ours: WeakSet[Figure] = WeakSet()


def canvas(ax: Axes | None, width: float = 4.0, height: float = 3.2) -> Axes:
    """Return ``ax``, or the axes of a new figure of that size in inches, which leaves room for names."""
    if ax is None:
        figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
        _ours.add(figure)
    return ax


def settled(ax: Axes, least: tuple[float, float] = LEAST) -> Axes:
    """Lay out the figure; one of ours is widened where names and legends leave too little for the axes, in inches."""
    figure = _figure(ax)
    if figure in _ours:
        around = ax.get_tightbbox().size - ax.get_window_extent().size
        explained = ax.get_legend().get_window_extent().size if ax.get_legend() else np.zeros(2)
        needed = [least[0] + around[0] / figure.dpi, max(least[1] + around[1] / figure.dpi, explained[1] / figure.dpi)]
        figure.set_size_inches(np.maximum(figure.get_size_inches(), np.array(needed) + MARGIN))
    figure.draw_without_rendering()
    return ax


def _figure(ax: Axes) -> Figure:
    """Return the whole figure, also of axes in a part of one."""
    return ax.figure.canvas.figure


def wrapped(text: str, letters: int = LETTERS) -> str:
    """Break a text into lines at blanks and hyphens, or within a word that is longer than a line."""
    return "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, letters) or [""])


def legend(ax: Axes, *, above: bool = False, **look: object) -> Legend:
    """Explain beside the axes, or above them, what is drawn, so that it covers nothing; long names are wrapped."""
    place = (
        {"loc": "lower left", "bbox_to_anchor": (0, 1)} if above else {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    )
    drawn = ax.legend(**{"frameon": False, "fontsize": 8, "title_fontsize": 8, "alignment": "left", **place, **look})
    for text in (*drawn.get_texts(), drawn.get_title()):
        text.set_text(wrapped(text.get_text()))
    return drawn


def is_dark(ax: Axes) -> bool:
    """Whether the style writes light letters, also where the background itself is transparent."""
    return sum(to_rgb(ax.xaxis.label.get_color())) > 1.5


def ink(ax: Axes) -> str:
    """Colour of letters and thin lines."""
    return LIGHT_INK if is_dark(ax) else INK


def paper(ax: Axes) -> str:
    """Colour of what is hollow, and of rims that set things apart."""
    return "black" if is_dark(ax) else "white"


def points(ax: Axes) -> LinearSegmentedColormap:
    """Colours of points by value: low ones fade into the background, high ones stand out from it."""
    return DARK_POINTS if is_dark(ax) else POINTS


def cycle(ax: Axes) -> tuple[str, ...]:
    """Colours of categories, the last one black or white."""
    return (*CYCLE, "white" if is_dark(ax) else "black")


def open_frame(ax: Axes) -> None:
    """Leave only the lines of the axes that carry ticks."""
    ax.spines[["top", "right"]].set_visible(False)


def color_bar(ax: Axes, drawn: object, label: str, *, extend: str = "neither") -> None:
    """Put a slim colour bar beside the lower right corner of the axes; above it is room for a legend."""
    inches = ax.figure.dpi_scale_trans + ScaledTranslation(1, 0, ax.transAxes)  # from that corner
    place = blended_transform_factory(inches, ax.transAxes)
    bar = ax.figure.colorbar(drawn, cax=ax.inset_axes((0.16, 0, 0.09, 0.42), transform=place), extend=extend)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize="small")
    bar.set_label(wrapped(label), fontsize="small")


def label_points(
    ax: Axes, xy: np.ndarray, labels: Sequence[str], *, others: np.ndarray, fontsize: float = 7.0, gap: float = 5.0
) -> None:
    """Write each label beside its point, where it covers least of the other labels and points (``others``).

    Places are tried in turn (right, left, above, below, and between); sizes of texts are estimated, so that nothing has
    to be rendered. ``gap`` is the distance from the point's centre in typographic points.
    """
    scale = ax.figure.dpi / 72
    at, around = ax.transData.transform(xy), ax.transData.transform(others)
    frame = ax.get_window_extent()
    taken: list[tuple[float, float, float, float]] = []
    for (x, y), label in zip(at, labels, strict=True):
        width, height = 0.62 * fontsize * scale * len(label), 1.15 * fontsize * scale
        best = None
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            reach = gap * scale * (0.75 if right and up else 1)
            start = x + right * reach - width * (1 - right) / 2
            low = y + up * reach - height * (1 - up) / 2
            box = (start, low, start + width, low + height)
            cost = sum(_overlap(box, other) for other in taken) * 3
            inside = (around > box[:2]).all(axis=1) & (around < box[2:]).all(axis=1)
            cost += inside.sum() * height**2 + _outside(box, frame.extents) * 4
            if best is None or cost < best[0]:
                best = (cost, box, right, up, reach / scale)
            if cost == 0:
                break
        _, box, right, up, reach = best
        taken.append(box)
        ax.annotate(
            label,
            ax.transData.inverted().transform((x, y)),
            xytext=(right * reach, up * reach),
            textcoords="offset points",
            fontsize=fontsize,
            ha=("right", "center", "left")[right + 1],
            va=("top", "center", "bottom")[up + 1],
            color=ink(ax),
            zorder=5,
            path_effects=[withStroke(linewidth=1.5, foreground=paper(ax))],
        )


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Area that two boxes (left, low, right, high) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Sequence[float], frame: Sequence[float]) -> float:
    """Area of a box outside the frame."""
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, frame)
