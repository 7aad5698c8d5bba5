"""Groups, answers, tasks and methods have names of 8 letters, or of 40, as CELLxGENE's cell types: all can be read."""

import dataclasses
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Annotation

import cellhermes as ch

NAMES = {
    8: ("B memory", "NK dim", "baseline"),
    40: (
        "CD14-positive, CD16-negative classical monocyte",
        "effector memory CD8-positive, alpha-beta T cell",
        "the most frequent answer of the training data",
    ),
}
SETS = {
    "T cell activation (GO:0042110)": ["CD3D", "CD3E", "CD3G", "CD2", "CD5", "CD27", "LCK", "ITK"],
    "B cell activation (GO:0042113)": ["CD79A", "CD79B", "MS4A1", "CD19", "CD22", "BLK", "PAX5"],
    "monocyte chemotaxis and much else that makes the name of this gene set long": ["LYZ", "CD14", "S100A8", "S100A9"],
}
SLACK = 1.5  # pixels by which boxes of letters may touch: a box is as high as the highest letter could be


@pytest.fixture(scope="module", params=NAMES)
def calls(request, folders):
    """What draws each plot, with names of a length, and with two answers, of which one is rare."""
    names = NAMES[request.param]
    group, reference, _ = names
    data = ch.datasets.toy()
    data.obs["cell_type"] = data.obs["cell_type"].astype(str).replace({"B": group, "NK": reference})
    ch.tl.split_groups(data, "cell_type", groups=[group])
    ch.tl.gene_network(data, use_rep="expression", groupby="cell_type", groups=[group, reference])
    ch.tl.gene_network(data, use_rep="expression", groupby="half")
    ch.tl.modules(data, group, reference)
    genes = [*SETS.values()]
    ch.tl.enrich(data, SETS, of={group: genes[0], reference: genes[2], "B": genes[1][:3]}, group=group)
    ch.pp.cell_sentences(data, n_genes=15)
    tiny = ch.CellHermes.from_pretrained(folders("llama"), device="cpu", wrap="llama3-chat")
    tiny.card = dataclasses.replace(tiny.card, tasks=("t_cell_reactivity",))
    ch.tl.explain(data, tiny, "t_cell_reactivity", cells=[*data.obs_names[:12]])
    ch.tl.faithfulness(data, tiny, "t_cell_reactivity", steps=[1, 5], cells=2)
    data.obs["explain_answer"] = pd.Categorical([reference] + [group] * 11 + [None] * (data.n_obs - 12))
    tested = data.uns["explain"]["faithfulness"]["curves"]
    tested["answer"] = tested["answer"].where(tested["answer"] == "", group)
    data.obsm["X_two"] = np.random.default_rng(0).normal(size=(data.n_obs, 2))
    return _plots(data, names)


def _plots(data, names):
    group, reference, method = names
    rows = [(task, who, 0.6, 0.5, 0.7) for task in names for who in (group, method)]
    scores = pd.DataFrame(rows, columns=["task", "method", "value", "low", "high"]).assign(metric="balanced_accuracy")
    probability = {f"probability:{name}": np.linspace(i, 3, 9) % 1 for i, name in enumerate(names)}
    roc = ch.metrics.roc([*names] * 3, pd.DataFrame(probability))
    log = pd.DataFrame({"step": [1, 2, 3], "eval_accuracy": [0.2, 0.4, 0.5]})
    log = log.assign(**{f"eval_accuracy/{name}": [0.1, 0.2, 0.6] for name in names})
    return {
        "degree_change": lambda ax: ch.pl.degree_change(data, group, reference, n_genes=10, ax=ax),
        "enrich": lambda ax: ch.pl.enrich(data, ax=ax),
        "enrich, one list": lambda ax: ch.pl.enrich(data, group, ax=ax),
        "faithfulness": lambda ax: ch.pl.faithfulness(data, answer=group, ax=ax),
        "gene_network": lambda ax: ch.pl.gene_network(data, "CD79A", group, reference=reference, ax=ax),
        "gene_network, module": lambda ax: ch.pl.gene_network(data, 0, group, color="module", n_labels=5, ax=ax),
        "importance": lambda ax: ch.pl.importance(data, n_genes=5, ax=ax),
        "jaccard": lambda ax: ch.pl.jaccard(data, ax=ax),
        "module_scores": lambda ax: ch.pl.module_scores(data, 0, basis="X_two", ax=ax),
        "modules": lambda ax: ch.pl.modules(data, ax=ax),
        "recurrence": lambda ax: ch.pl.recurrence(data, n_genes=5, ax=ax),
        "roc": lambda ax: ch.pl.roc(roc, ax=ax),
        "scores": lambda ax: ch.pl.scores(scores, baselines=[method], ax=ax),
        "sentence": lambda ax: ch.pl.sentence(data, "cell_0", ax=ax),
        "training": lambda ax: ch.pl.training(log, y="accuracy", ax=ax),
    }


PLOTS = (
    "degree_change", "enrich", "enrich, one list", "faithfulness", "gene_network", "gene_network, module", "importance",
    "jaccard", "module_scores", "modules", "recurrence", "roc", "scores", "sentence", "training",
)  # fmt: skip


def written_in(figure):
    """Text to its box in pixels, of all that is drawn."""
    figure.canvas.draw()
    texts = []
    for ax in figure.findobj(plt.Axes):
        texts += [*ax.texts, ax.title, ax._left_title]
        texts += [] if ax.get_legend() is None else [ax.get_legend().get_title(), *ax.get_legend().get_texts()]
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            ticks = [label for tick in axis._update_ticks() for label in (tick.label1, tick.label2)]  # those in view
            texts += [axis.label, axis.offsetText, *ticks]
    return [(text, text.get_window_extent()) for text in texts if text.get_visible() and text.get_text().strip()]


def overlaps(a, b):
    """Whether two boxes share more than their rims."""
    return min(a.x1, b.x1) - max(a.x0, b.x0) > SLACK and min(a.y1, b.y1) - max(a.y0, b.y0) > SLACK


def faults(figure):
    """Texts that leave the figure or lie upon each other, and legends that lie upon axes."""
    boxes = written_in(figure)
    page = figure.bbox.padded(1)
    outside = [text.get_text() for text, box in boxes if not (page.contains(*box.min) and page.contains(*box.max))]
    genes = lambda *texts: all(isinstance(text, Annotation) for text in texts)  # crowded where a graph is
    upon = [(a.get_text(), b.get_text()) for (a, at), (b, other) in combinations(boxes, 2)
            if overlaps(at, other) and not genes(a, b)]  # fmt: skip
    axes = figure.get_axes()
    legends = [ax.get_legend().get_window_extent() for ax in axes if ax.get_legend() is not None]
    covered = [ax.get_title() for ax in axes for box in legends if overlaps(box, ax.get_window_extent())]
    return {"outside": outside, "upon each other": upon, "covered": covered}


NONE = {"outside": [], "upon each other": [], "covered": []}


def test_every_plot_is_here():
    assert {name.partition(",")[0] for name in PLOTS} == {*ch.pl.__all__}


@pytest.mark.parametrize("plot", PLOTS)
def test_names_are_read_in_a_figure_of_its_own(calls, plot):
    assert faults(calls[plot](None).figure) == NONE


@pytest.mark.parametrize("plot", PLOTS)
def test_names_are_read_in_a_grid(calls, plot):
    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    for ax in axes.flat:
        calls[plot](ax)
    assert faults(figure) == NONE


def test_faults_are_seen():
    figure, ax = plt.subplots(figsize=(3, 3))
    ax.set_xlabel(NAMES[40][0])
    ax.plot([0, 1], label="line")
    ax.text(0, 0, "one")
    ax.text(0, 0, "other")
    ax.legend()
    found = faults(figure)
    assert found["outside"] == [NAMES[40][0]]
    assert ("one", "other") in found["upon each other"]
    assert found["covered"] == [""]
