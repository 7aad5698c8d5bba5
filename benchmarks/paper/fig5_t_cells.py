"""Figure 5d to h, T cells and their reasons: ``python -m benchmarks.paper.fig5_t_cells --model mini``.

What T cells answer, how well that is told for cells and groups that were never seen, and which genes decide. In order:

1. The melanoma T cells of the paper, if they are in the cache (``ch.cache.fetch("melanoma-t-cells")``); cells of
   your own with ``--cells FILE.h5ad --label COLUMN --group clone_id``; else a stand-in, and the report says so: T cells
   of Kang 2018, with or without interferon beta.
2. Splits by cell, and by group: clonotypes, or the two donors of the stand-in. No group is on both sides.
3. Without the most differentially expressed genes (``--drop``), which are found on training cells alone. Interferon is
   near the ceiling otherwise.
4. What needs no language model (majority, logistic regressions), the model untuned, and tuned on the training cells.
5. Explanations of test cells by attention and occlusion, their tests, recurrent genes and what these are enriched for.

Adapters stay in ``OUT/fig5``, and the same command goes on from them.
"""

from __future__ import annotations

import time
import warnings
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cellhermes as ch

from ._run import main, normalise

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from ._run import Run

HERE = Path(__file__).parent
T_CELLS = ("CD4 T cells", "CD8 T cells")
FRACTIONS = (0.6, 0, 0.4)
METHODS = {
    "majority": "#BBBBBB",
    "logistic, expression": "#333333",
    "logistic, sentence": "#0072B2",
    "logistic, embedding": "#56B4E9",
    "zero-shot": "#E69F00",
    "instruct": "#D55E00",
}
STEPS = (1, 2, 5, 10)
PANELS = {
    "5d": "tuning above a linear model, by cell and by receptor; lower by receptor",
    "5e": "genes with much attention in one cell",
    "5f": "genes that come back in many cells",
    "5g": "these are enriched for activation of T cells",
    "5h": "the model's own words (`tl.reasons`); mini has none worth printing",
}
QUICK = {"drop": [50], "tune": [50], "steps": 1, "genes": 10, "occluded": 3}


@dataclass(frozen=True)
class Source:
    """Cells with counts (or none: then sentences), and what is asked about them.

    ``group`` is the column of ``obs`` whose values stay on one side, ``""`` where the split is fixed in ``obs``.
    """

    adata: ad.AnnData
    task: ch.text.Task
    group: str
    positive: str
    about: str


# ----------------------------------------------------------------------------------------------------------- cells


def source_of(options: Namespace) -> Source:
    if options.cells:
        adata = ad.read_h5ad(options.cells)
        task = ch.text.Task.load(options.task)
        adata.obs[task.label] = adata.obs[options.label]
        known = adata.obs[[options.label, options.group]].notna().all(axis=1)
        about = (
            f"{options.cells.name}: {known.sum():,} of {adata.n_obs:,} cells have {options.label} and {options.group}."
        )
        return Source(adata[known].copy(), task, options.group, task.answers[0], about)
    if ch.cache.list().loc["melanoma-t-cells", "cached"]:
        return melanoma()
    return stand_in(options.data)


def stand_in(folder: Path) -> Source:
    adata = ad.read_h5ad(folder / "kang_labelled_1267genes.h5ad")
    adata = adata[adata.obs["cell_type"].isin(T_CELLS)].copy()
    about = (
        f"**Stand-in, not the paper's data.** The melanoma T cells are not in the cache. These are {adata.n_obs} T "
        f"cells of Kang 2018 ({adata.n_vars} genes), asked whether they were stimulated with interferon beta; "
        "groups are the two donors."
    )
    return Source(adata, ch.text.Task.load(HERE / "stimulation.toml"), "donor", "Yes", about)


def melanoma() -> Source:
    """The authors' questions: ranked genes and labels without counts, donors or receptors, in their own split."""
    frames = [ch.datasets.questions("melanoma", part).assign(split=part) for part in ("train", "test")]
    obs = pd.concat(frames, ignore_index=True)
    obs.index = [f"cell {i}" for i in obs.index]
    obs["cell_sentence"] = obs["input"].str.rpartition(":")[2].str.split().str.join(" ")
    genes = [sentence.split() for sentence in obs["cell_sentence"]]
    names = pd.Index(sorted({gene for one in genes for gene in one}))
    ranks = sparse.lil_matrix((len(obs), len(names)), dtype=np.float32)
    for row, one in enumerate(genes):
        ranks[row, names.get_indexer(one)] = np.arange(len(one), 0, -1)  # the first gene has the highest value
    adata = ad.AnnData(ranks.tocsr(), obs=obs, var=pd.DataFrame(index=names))
    about = "T cells of melanoma patients as the authors released them: ranked genes, labels, and their own split."
    return Source(adata, ch.text.Task.load("t_cell_reactivity"), "", "Reactive", about)


def splits_of(source: Source, seed: int) -> dict[str, pd.Series]:
    """Part of each cell by name of the split."""
    obs = source.adata.obs
    if not source.group:
        return {"the authors'": obs["split"]}
    rows = pd.DataFrame({"cell": obs.index, source.group: obs[source.group].astype(str).to_numpy()}, index=obs.index)
    made = {
        "cell": ch.train.questions.split(rows, "random", fractions=FRACTIONS, seed=seed),
        source.group: ch.train.questions.split(rows, "groups", columns=source.group, fractions=FRACTIONS, seed=seed),
    }
    ch.train.questions.check_split(made[source.group], source.group)
    return {f"by {name}": frame["split"].reindex(obs.index) for name, frame in made.items()}


def prepared(source: Source, split: pd.Series, drop: int, n_genes: int) -> tuple[ad.AnnData, list[str]]:
    """Normalised cells with sentences, less the genes that differ most in training; genes by that difference."""
    adata = source.adata.copy()
    adata.obs["split"] = split
    adata.obs["truth"] = source.task.answers_of(adata.obs)
    is_counts = source.group != ""
    by_difference = differing(adata, is_counts=is_counts)
    adata = adata[:, ~adata.var_names.isin(by_difference[:drop])].copy()
    if is_counts:  # after the genes are gone, or the total of the others would tell of them
        normalise(adata)
        ch.pp.cell_sentences(adata, n_genes=n_genes)
    else:
        keep = {*adata.var_names}
        adata.obs["cell_sentence"] = [" ".join(g for g in s.split() if g in keep) for s in adata.obs["cell_sentence"]]
    return adata, [gene for gene in by_difference[drop:] if gene in adata.var_names]


def differing(adata: ad.AnnData, *, is_counts: bool) -> list[str]:
    """Genes by how much they differ between the answers in training cells (Wilcoxon), the most different first."""
    train = adata[adata.obs["split"] == "train"].copy()
    if is_counts:
        normalise(train)
    train.obs["truth"] = train.obs["truth"].astype("category")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        sc.tl.rank_genes_groups(train, "truth", method="wilcoxon")
    table = sc.get.rank_genes_groups_df(train, train.obs["truth"].cat.categories[0])
    return table.loc[table["scores"].abs().sort_values(ascending=False).index, "names"].tolist()


# --------------------------------------------------------------------------------------------------------- answers


def baselines(adata: ad.AnnData) -> dict[str, pd.DataFrame]:
    frame = adata.obs[["cell_sentence", "split"]].assign(answer=adata.obs["truth"])
    values = adata.X.toarray() if sparse.issparse(adata.X) else adata.X
    return {
        "majority": ch.baselines.answer(frame, "majority"),
        "logistic, expression": logistic(values, adata.obs, 0.01),
        "logistic, sentence": ch.baselines.answer(frame, "logistic", genes=["cell_sentence"]),
    }


def logistic(values: np.ndarray, obs: pd.DataFrame, c: float) -> pd.DataFrame:
    """Answers of a logistic regression on standardised values (L2, stronger than usual: more genes than cells)."""
    train, test = (obs["split"] == "train").to_numpy(), (obs["split"] == "test").to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))
    p = model.fit(values[train], obs["truth"][train]).predict_proba(values[test])
    names = model.classes_
    found = pd.DataFrame(p, index=obs.index[test], columns=[f"probability:{name}" for name in names])
    return found.assign(answer=names[p.argmax(1)])


def tuned(adata: ad.AnnData, task: ch.text.Task, out: Path, options: Namespace) -> ch.CellHermes:
    changes = {"max_steps": options.steps, "seed": options.seed, "batch_size": 8, "accumulation": 1}
    changes |= {"save_every": 25, "eval_every": 25}
    if options.model == "mini":
        # All weights, in larger steps: an adapter cannot teach the token table words that it has hardly read.
        changes |= {"method": "full", "learning_rate": 1e-3, "attention": "eager"}
    config = ch.train.TrainConfig.preset("instruct", **changes)
    pairs = ch.train.questions.task_pairs(adata.obs, task, seed=options.seed)
    return ch.CellHermes.from_pretrained(ch.train.fit(pairs, config, base=options.model, out=out))


def measured(found: pd.DataFrame, test: pd.DataFrame, positive: str) -> pd.DataFrame:
    return ch.metrics.classification(test["truth"], found.reindex(test.index), positive=positive)


# ----------------------------------------------------------------------------------------------------- explanations


def explained(
    test: ad.AnnData, model: ch.CellHermes, task: ch.text.Task, markers: list[str], options: Namespace
) -> pd.DataFrame:
    """Explain test cells in both ways and test that; the table of both."""
    some = test.obs_names[np.sort(np.random.default_rng(options.seed).permutation(test.n_obs)[: options.occluded])]
    ch.tl.explain(test, model, task, key_added="attention")
    ch.tl.explain(test, model, task, method="occlusion", cells=[*some], key_added="occlusion")
    parts = []
    for key, other in (("attention", "occlusion"), ("occlusion", "attention")):
        how = {"steps": STEPS, "cells": [*some], "markers": markers, "others": [other], "key": key}
        ch.tl.faithfulness(test, model, task, **how)
        parts.append(ch.get.faithfulness(test, "quality", key=key).assign(explanation=key))
    return pd.concat(parts, ignore_index=True)


def enriched(test: ad.AnnData, gmt: Path, n: int = 20) -> pd.DataFrame:
    """Gene sets of the recurrent genes of each answer, against all genes that were listed."""
    parts = []
    for key in ("attention", "occlusion"):
        table = ch.get.explain(test, key=key)
        table = table[table["n_top"] > 0]
        lists = {str(answer): rows["gene"].head(n).tolist() for answer, rows in table.groupby("answer", observed=True)}
        background = sorted({*ch.get.explain(test, key=key)["gene"]})
        ch.tl.enrich(test, gmt, of=lists, background=background)
        parts.append(ch.get.enrich(test).assign(explanation=key))
    return pd.concat(parts, ignore_index=True)


# --------------------------------------------------------------------------------------------------------- figures


def draw_scores(scores: pd.DataFrame, metric: str = "roc_auc") -> plt.Figure:
    """Area under the ROC curve against the number of genes that are gone, a panel for each split."""
    scores = scores[scores["metric"] == metric]
    names = scores["split"].unique()
    figure, axes = plt.subplots(1, len(names), figsize=(3.4 * len(names) + 1.6, 3.2), sharey=True, layout="constrained")
    drops = sorted(scores["dropped"].unique())
    shown = [method for method in METHODS if (scores["method"] == method).any()]
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        for i, method in enumerate(shown):
            rows = scores[(scores["split"] == name) & (scores["method"] == method)].sort_values("dropped")
            at = np.array([drops.index(drop) for drop in rows["dropped"]]) + 0.09 * (i - (len(shown) - 1) / 2)
            value, low, high = (rows[column].to_numpy() for column in ("value", "low", "high"))
            ax.errorbar(
                at, value, yerr=[value - low, high - value], fmt="o", ms=4, color=METHODS[method], lw=1, label=method
            )
        ax.axhline(0.5, color="#BBBBBB", lw=0.8, ls="--", zorder=0)
        ax.set_xticks(range(len(drops)), [str(drop) for drop in drops])
        ax.set_xlabel("most different genes left out")
        ax.set_title(f"split {name}", fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(axes)[0].set_ylabel("area under the ROC curve")
    np.atleast_1d(axes)[-1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_roc(curves: dict[tuple[str, int], pd.DataFrame], positive: str) -> plt.Figure:
    figure, axes = plt.subplots(1, len(curves), figsize=(3.5 * len(curves), 3.5), layout="constrained")
    for ax, ((name, drop), table) in zip(np.atleast_1d(axes), curves.items(), strict=True):
        ch.pl.roc(table, positive, ax=ax)
        ax.set_title(f"{name}, {drop} genes left out" if drop else f"{name}, all genes", fontsize=10)
    return figure


def draw_faithfulness(test: ad.AnnData) -> plt.Figure:
    figure, axes = plt.subplots(2, 2, figsize=(7.4, 5.6), sharey=True, layout="constrained")
    for row, key in zip(axes, ("attention", "occlusion"), strict=True):
        for ax, kind in zip(row, ("deletion", "insertion"), strict=True):
            ch.pl.faithfulness(test, kind, key=key, ax=ax)
            ax.set_title(f"{key}, {kind}", fontsize=10)
            ax.set_ylim(-0.02, 1.02)
    for ax in axes.ravel()[1:]:
        ax.get_legend().remove()
    for ax in axes[:, 1]:
        ax.set_ylabel("")
    return figure


def draw_recurrence(test: ad.AnnData) -> plt.Figure:
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 4.4), layout="constrained")
    for ax, key in zip(axes, ("attention", "occlusion"), strict=True):
        ch.pl.recurrence(test, key=key, ax=ax)
        ax.set_title(key, fontsize=10)
        ax.get_legend().set_loc("lower right")
        ax.get_legend().set_bbox_to_anchor((1, 0))
    return figure


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """A row for each method and split, a column for each number of genes left out: area and interval."""
    rows = scores[scores["metric"] == "roc_auc"].copy()
    rows["shown"] = [f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in rows.itertuples()]
    rows["method"] = pd.Categorical(rows["method"], [*METHODS])
    wide = rows.pivot_table("shown", ["split", "method"], "dropped", aggfunc="first", observed=True, sort=False)
    wide = wide.sort_index(level=["split", "method"]).fillna("")
    return wide.rename(columns=lambda n: f"{n} genes left out" if n else "all genes").reset_index()


# ------------------------------------------------------------------------------------------------------------ runs


def make(run: Run) -> None:
    """Everything for every split and number of genes left out; explanations of the last split."""
    options = Namespace(**vars(run.options) | (QUICK if run.options.quick else {}))
    source = source_of(options)
    splits = splits_of(source, options.seed)
    model = run.model()
    scores, curves, tables = [], {}, {}
    start = time.monotonic()
    n_steps = options.steps if options.tune else 0
    run.notes += [source.about, f"{n_steps} steps of tuning, sentences of {options.genes} genes."]
    for name, split in splits.items():
        counts = split.value_counts()
        run.notes.append(f"Split {name}: {counts['train']} training cells, {counts['test']} test cells.")
        for drop in options.drop:
            adata, markers = prepared(source, split, drop, options.genes)
            answers = baselines(adata)
            test = adata[adata.obs["split"] == "test"].copy()
            if drop in options.tune:
                answers |= {"logistic, embedding": embedded(adata, model, options.seed)}
                answers |= {"zero-shot": answered(test, model, source.task)}
                if options.steps:
                    folder = run.out / "fig5" / "adapters" / f"{name.replace(' ', '-')}-without-{drop}-{options.steps}"
                    adapter = tuned(adata, source.task, folder, options)
                    answers |= {"instruct": answered(test, adapter, source.task)}
                curves[name, drop] = curves_of(answers, test)
                if options.steps and name == [*splits][-1]:
                    for key, table in explain_and_draw(run, test, adapter, source, markers, drop, options).items():
                        tables.setdefault(key, []).append(table.assign(split=name, dropped=drop))
            for method, table in answers.items():
                values = measured(table, test.obs, source.positive)
                scores.append(values.assign(split=name, dropped=drop, method=method))
                auc = values.set_index("metric").loc["roc_auc", "value"]
                print(
                    f"{(time.monotonic() - start) / 60:6.1f} min  {name:10} {drop:4} {method:22} {auc:.3f}", flush=True
                )
    write(run, {"scores": pd.concat(scores), **{key: pd.concat(parts) for key, parts in tables.items()}})
    run.figure("5d", draw_scores(pd.concat(scores)))
    if curves:
        run.figure("5d, curves", draw_roc(curves, source.positive))


def write(run: Run, parts: dict[str, pd.DataFrame]) -> None:
    """What is read of each table, and all of it."""
    run.table("5d", summary(parts["scores"]))
    run.table("5d, all values", parts["scores"])
    if "quality" in parts:
        quality = parts["quality"]
        order = ["dropped", "explanation", "test", "against", "n_cells", "value", "expected", "gain", "low", "high"]
        run.table("5e", quality.loc[quality["answer"] == "", order])
        run.table("5e, all values", quality)
        run.table("5f", parts["recurrence"])
    if "enriched" in parts:
        best = parts["enriched"].groupby(["dropped", "explanation", "of"], observed=True).head(2)
        columns = ["dropped", "explanation", "of", "term", "overlap", "n_genes", "set_size", "pval_adj"]
        run.table("5g", best[columns].assign(pval_adj=best["pval_adj"].map("{:.1e}".format)))
        run.table("5g, all values", parts["enriched"])


def answered(test: ad.AnnData, model: ch.CellHermes, task: ch.text.Task) -> pd.DataFrame:
    return ch.tl.answer(test.obs, model, task).set_axis(test.obs_names)


def embedded(adata: ad.AnnData, model: ch.CellHermes, seed: int) -> pd.DataFrame:
    ch.tl.embed_cells(adata, model)
    return logistic(adata.obsm["X_cellhermes"], adata.obs, 0.01)


def curves_of(found: dict[str, pd.DataFrame], test: ad.AnnData) -> pd.DataFrame:
    shown = [method for method in found if method != "majority"]
    tables = [ch.metrics.roc(test.obs["truth"], found[m].reindex(test.obs_names)).assign(method=m) for m in shown]
    return pd.concat(tables, ignore_index=True)


def explain_and_draw(
    run: Run, test: ad.AnnData, model: ch.CellHermes, source: Source, markers: list[str], drop: int, options: Namespace
) -> dict[str, pd.DataFrame]:
    quality = explained(test, model, source.task, markers[:50], options)
    keys = ("attention", "occlusion")
    recurrent = pd.concat([ch.get.explain(test, key=key).assign(explanation=key) for key in keys])
    run.figure(f"5e, tests without {drop}", draw_faithfulness(test))
    run.figure(f"5e, without {drop}", ch.pl.importance(test, key="occlusion"))
    run.figure(f"5f, without {drop}", draw_recurrence(test))
    gmt = run.file("hallmark_msigdb2025.gmt.gz")
    return {"quality": quality, "recurrence": recurrent} | ({"enriched": enriched(test, gmt)} if gmt else {})


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--cells", type=Path, help="h5ad file with counts, in place of the data above")
    parser.add_argument("--label", default="reactivity", help="column of --cells with the true answers")
    parser.add_argument("--group", default="clone_id", help="column of --cells whose values stay on one side")
    parser.add_argument("--task", default="t_cell_reactivity", help="task that is asked about --cells")
    parser.add_argument(
        "--drop", type=int, nargs="+", default=[0, 20, 50, 100, 200], help="most different genes left out"
    )
    parser.add_argument("--tune", type=int, nargs="*", default=[0, 50], help="of these, where the model is asked")
    parser.add_argument("--steps", type=int, default=120, help="of tuning; 0 neither tunes nor explains")
    parser.add_argument("--genes", type=int, default=50, help="genes of a sentence")
    parser.add_argument("--occluded", type=int, default=30, help="cells that are explained by occlusion, and tested")


if __name__ == "__main__":
    main("fig5_t_cells")
