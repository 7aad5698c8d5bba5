"""Scores of a model and of what needs none on the test questions of a frame; both are measured alike."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tune import SENTENCE, task_of

import cellhermes as ch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GENES = ("gene", "gene_a", "gene_b", "genes", "perturbation", SENTENCE)  # columns of genes
NOTHING = "N/A"  # a question that says nothing
MIN_GROUPS = 5  # perturbations below this have no interval
BASELINES = {
    "majority": {"method": "majority"},
    "frequency": {"method": "frequency"},
    "no change": {"method": "constant", "constant": "No"},
    "profile": {"method": "profile"},
    "logistic": {"method": "logistic"},
    "trees": {"method": "trees"},
    "logistic, vectors": {"method": "logistic"},
    "trees, vectors": {"method": "trees"},
}
LINEAR = "linear, DEG then direction"


def questions(frame: pd.DataFrame, part: str) -> pd.DataFrame:
    return frame[frame["split"] == part].reset_index(drop=True)


def answered(
    model: ch.CellHermes, frame: pd.DataFrame, out: Path, *, expression: bool, prior: bool, calibrate: bool
) -> tuple[pd.DataFrame, float]:
    """Answers to the test questions, and the temperature that was fitted on the validation questions (or 1)."""
    task = task_of(frame)
    how = {"expression": True if expression else None, "normalize": "sum", "prior": NOTHING if prior else ""}
    question, temperature = ch.text.Question(task, **how), 1.0
    valid = questions(frame, "valid")
    if calibrate and len(valid):
        found = ch.tl.answer(valid, model, question, checkpoint=out / "valid")
        temperature = ch.metrics.fit_temperature(task.answers_of(valid), found)
    return ch.tl.answer(questions(frame, "test"), model, question, checkpoint=out / "test"), temperature


def measured(frame: pd.DataFrame, found: pd.DataFrame, temperature: float, *, n_bootstrap: int) -> pd.DataFrame:
    """All measures with intervals, over questions and, where there are enough, over perturbations."""
    test = questions(frame, "test")
    truth = task_of(frame).answers_of(test)
    columns = [name for name in ("perturbation", "cell_line") if name in test]
    groups = test.groupby(columns, sort=False).ngroup() if "perturbation" in columns else None
    groups = None if groups is None or groups.nunique() < MIN_GROUPS else groups
    table = ch.metrics.classification(truth, found, groups=groups, n_bootstrap=n_bootstrap)
    if temperature == 1:
        return table.assign(temperature=temperature)
    columns = [name for name in found if name.startswith("probability:")]
    tempered = found[columns].clip(lower=np.finfo(float).tiny) ** (1 / temperature)
    cooled = found.assign(**tempered.div(tempered.sum(axis=1), axis=0))
    row = ch.metrics.classification(truth, cooled, n_bootstrap=0).query("metric == 'calibration_error'")
    row = row.assign(metric="calibration_error, calibrated")
    return pd.concat([table, row], ignore_index=True).assign(temperature=temperature)


def baselines_of(name: str, frames: Mapping[str, pd.DataFrame]) -> list[str]:
    """Names of the baselines that a setting allows."""
    task = task_of(frames[name]).name
    names = [title for title in BASELINES if title != "no change" or task == "perturbation_deg"]
    return [*names, LINEAR] if task.startswith("perturbation") and _first(name) in frames else names


def baseline(
    title: str, name: str, frames: Mapping[str, pd.DataFrame], vectors: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Answers of a baseline that was fitted on the training questions of the same frame."""
    frame = frames[name]
    task = task_of(frame)
    genes = [field for field in task.fields if field in GENES]
    others = [field for field in task.fields if field not in GENES]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* genes have no vector", UserWarning)  # such as "interferon"
        if title == LINEAR:
            return _linear(name, frames, vectors, others)
        columns = {"genes": genes, "others": others, "unordered": "gene_a" in genes, "label": task.label}
        options = {"vectors": vectors} if title.endswith("vectors") else {}
        return ch.baselines.answer(frame, rng=seed, **columns, **BASELINES[title], **options)


def _linear(
    name: str, frames: Mapping[str, pd.DataFrame], vectors: pd.DataFrame, others: Sequence[str]
) -> pd.DataFrame:
    """One linear model for both tasks: fitted on the rows of the first, asked about those of either."""
    is_first = name.startswith("perturbation_deg")
    first = frames[_first(name)]
    rows = [first[first["split"] == "train"], frames[name][frames[name]["split"] == "test"]]
    both = pd.concat(rows, ignore_index=True)
    return ch.baselines.deg_then_direction(both, vectors=vectors, others=others)[0 if is_first else 1]


def _first(name: str) -> str:
    """The setting that asks whether genes change, for one that asks how."""
    return name.replace("perturbation_direction", "perturbation_deg")


def vectors_of(model: ch.CellHermes, frames: Mapping[str, pd.DataFrame], file: Path) -> pd.DataFrame:
    """Embeddings of all genes that are asked about, kept in a file."""
    if not file.is_file():
        texts = {text for frame in frames.values() for field in GENES if field in frame for text in frame[field]}
        names = sorted({word for text in texts for word in re.split(r"[\s+]+", text) if word})
        gene = ch.text.Template.load("gene")
        found = model.embed([gene.fill(gene=name) for name in names])
        part = file.with_name(f"part-{file.name}")
        np.savez(part, names=np.array(names), vectors=found)
        part.replace(file)
    with np.load(file) as kept:
        return pd.DataFrame(kept["vectors"], index=kept["names"].astype(object))
