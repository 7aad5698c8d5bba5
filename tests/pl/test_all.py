"""What holds for every plot: it draws on the axes it is given, returns them, leaves the data alone, can be read on
light and on dark ground, and looks as it did.

``CELLHERMES_NEW_BASELINE=1 python -m pytest tests/pl/test_all.py -k looks`` accepts pictures that were changed on
purpose: look at them first.
"""

import inspect
import os
import re
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from mudata import MuData
from PIL import Image

import cellhermes as ch

LOG = pd.DataFrame({"step": [1, 2, 3], "loss": [2.5, 2.1, 2.0], "learning_rate": [5e-5, 4e-5, 1e-5]})
SCORES = pd.DataFrame(
    [
        ("cell_fitness", "mini", 0.7, 0.6, 0.8),
        ("cell_fitness", "majority", 0.5, 0.5, 0.5),
        ("gene", "mini", 0.6, 0.5, 0.7),
    ],
    columns=["task", "method", "value", "low", "high"],
).assign(metric="balanced_accuracy", over="rows")
ROC = ch.metrics.roc(["a", "b", "a", "b"], pd.DataFrame({"probability:a": [0.9, 0.4, 0.3, 0.1]}))
TABLES = {"roc": ROC, "scores": SCORES, "training": LOG}  # plots of a table, without AnnData
CALLS = {
    "degree_change": (("B", "NK"), {}),
    "enrich": (("T",), {}),
    "faithfulness": ((), {}),
    "gene_network": (("CD79A", "B"), {"reference": "NK"}),
    "importance": ((), {}),
    "jaccard": ((), {}),
    "module_scores": ((0,), {"basis": "X_two"}),
    "modules": ((), {}),
    "recurrence": ((), {}),
    "roc": ((), {}),
    "scores": ((), {"baselines": ["majority"]}),
    "sentence": (("cell_0",), {}),
    "training": ((), {}),
}


BASELINE = Path(__file__).parent / "baseline"
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
DRAWN_WITH = re.search(r"^matplotlib==(\S+)", CONSTRAINTS.read_text("utf-8"), re.M)[1]  # others place letters otherwise
BLOCK = 8  # pixels; fine details such as the hinting of fonts are lost in the mean of a block


@pytest.fixture
def draw(drawn):
    data = drawn.copy()
    data.obsm["X_two"] = np.random.default_rng(0).normal(size=(data.n_obs, 2))

    def draw(name, **options):
        positional, named = CALLS[name]
        return getattr(ch.pl, name)(TABLES.get(name, data), *positional, **{**named, **options})

    draw.data = data
    return draw


def test_every_plot_is_tested_here():
    assert sorted(CALLS) == sorted(ch.pl.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_axes_that_are_given_are_drawn_on_and_returned(draw, name):
    _, (left, right) = plt.subplots(1, 2)
    assert draw(name, ax=right) is right
    assert right.has_data()
    assert not left.has_data()
    assert plt.get_fignums() == [1]


@pytest.mark.parametrize("name", CALLS)
def test_without_axes_there_is_a_new_figure_that_can_be_saved(draw, name, tmp_path):
    ax = draw(name)
    assert isinstance(ax, Axes)
    ax.figure.savefig(tmp_path / "figure.pdf")
    texts = [t for t in ax.figure.findobj(plt.Text) if t.get_text() and t.get_visible()]
    assert texts
    # nothing that is written is cut off at the border
    box = ax.figure.get_tightbbox().padded(-0.02)
    assert box.x0 > -0.1
    assert box.x1 < ax.figure.get_figwidth() + 0.1


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_written(draw, name):
    before = draw.data.copy()
    draw(name)
    assert list(draw.data.obs) == list(before.obs)
    assert list(draw.data.uns) == list(before.uns)
    assert list(draw.data.obsm) == list(before.obsm)
    pd.testing.assert_frame_equal(draw.data.uns["modules"]["table"], before.uns["modules"]["table"])


@pytest.mark.parametrize("name", [name for name in CALLS if name not in TABLES])
def test_a_modality_of_a_mudata_is_drawn(draw, name):
    positional, named = CALLS[name]
    data = MuData({"rna": draw.data})
    assert getattr(ch.pl, name)(data, *positional, **named, mod="rna").has_data()


@pytest.mark.parametrize("name", CALLS)
def test_options_reach_the_drawing_call(draw, name):
    assert any(artist.get_alpha() == 0.125 for artist in draw(name, style={"alpha": 0.125}).get_children())


@pytest.mark.parametrize("name", CALLS)
def test_arguments_are_few_and_named_alike(name):
    parameters = inspect.signature(getattr(ch.pl, name)).parameters
    assert len(parameters) <= 13
    assert [*parameters][-2:] == ["ax", "style"]


def contrast(color, ground):
    """Ratio of WCAG 2: 1 is invisible, 3 is the least for large letters and lines, 21 is black on white."""
    light, dark = sorted((_luminance(color), _luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


def test_contrast_is_that_of_the_standard():
    assert contrast("black", "white") == pytest.approx(21)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.01)  # the well-known grey below 4.5


@pytest.mark.parametrize("look", ["default", "dark_background"])
@pytest.mark.parametrize("name", CALLS)
def test_letters_and_lines_stand_out_from_their_ground(draw, name, look):
    with plt.style.context(look):
        ax = draw(name)
        ground = plt.rcParams["axes.facecolor"]
    texts = [t for t in ax.figure.findobj(plt.Text) if t.get_text().strip() and t.get_visible()]
    assert [t.get_text() for t in texts if contrast(t.get_color(), ground) < 3] == []
    thin = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert [line.get_color() for line in thin if contrast(line.get_color(), ground) < 1.9] == []


def coarse(figure):
    """The figure as means of blocks of pixels, (rows, columns, 3) from 0 to 255."""
    figure.set_dpi(80)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())
    width, height = (-(-side // BLOCK) for side in picture.size)
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def changed(now, before):
    """Share of blocks that differ clearly, 1 for another size."""
    if now.shape != before.shape:
        return 1.0
    return (np.abs(now.astype(int) - before).max(axis=2) > 25).mean()


@pytest.mark.skipif(mpl.__version__ != DRAWN_WITH, reason=f"pictures were drawn with matplotlib {DRAWN_WITH}")
@pytest.mark.parametrize("name", CALLS)
def test_it_looks_as_it_did(draw, name, tmp_path, monkeypatch):
    monkeypatch.setattr(nx, "spring_layout", lambda graph, **_: nx.circular_layout(graph))  # the other one may drift
    now = coarse(draw(name).figure)
    if os.environ.get("CELLHERMES_NEW_BASELINE"):
        Image.fromarray(now).save(BASELINE / f"{name}.png", optimize=True)
    before = np.asarray(Image.open(BASELINE / f"{name}.png"))
    Image.fromarray(now).save(tmp_path / f"{name}.png")
    assert changed(now, before) < 0.01, f"{tmp_path / name}.png differs from {BASELINE / name}.png"


@pytest.mark.parametrize("change", ["colour", "legend", "labels"])
def test_a_changed_picture_is_seen(draw, change):
    ax = draw("recurrence", **({"style": {"color": "#E69F00"}} if change == "colour" else {}))
    if change == "legend":
        ax.get_legend().remove()
    if change == "labels":
        ax.tick_params(labelleft=False)
    assert changed(coarse(ax.figure), np.asarray(Image.open(BASELINE / "recurrence.png"))) > 0.01


def test_baseline_has_no_picture_of_a_plot_that_is_gone():
    assert sorted(path.stem for path in BASELINE.iterdir()) == sorted(CALLS)
