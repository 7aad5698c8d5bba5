"""What adapters are tuned on: the training questions of one setting, or those of all together.

Settings of one kind of question are splits of the same table, so that what one trains on may be what another one tests.
Together, they train on what none of them tests or validates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
from data import APART

import cellhermes as ch

if TYPE_CHECKING:
    from pathlib import Path

Frames = Mapping[str, pd.DataFrame]

SENTENCE = "cell_sentence"
SCALED = {"perturbation_deg/unseen_gene": ["perturbation"], "genetic_interaction_general": ["gene_a", "gene_b"]}
SHARES = (0.125, 0.25, 0.5, 1.0)  # of the perturbations of the settings above: genes, and pairs of genes


def task_of(frame: pd.DataFrame) -> ch.text.Task:
    """The task of a frame, closed: with the categories of the frame where it has no answers of its own."""
    task = ch.text.Task.load(frame.attrs["task"])
    return task if task.answers else task.with_answers(sorted(frame[task.label].unique()))


def may_show(frame: pd.DataFrame) -> bool:
    """Whether the questions can be asked both with the genes of a cell and without."""
    return task_of(frame).expression is not None and SENTENCE in frame


def pairs(frame: pd.DataFrame, *, expression: bool, seed: int) -> ch.train.corpus.Pairs:
    """Training questions with their answers, each in a wording that is drawn."""
    shown = True if expression and may_show(frame) else None
    return ch.train.questions.task_pairs(frame, ch.text.Question(task_of(frame), expression=shown), seed=seed)


def without_leaks(frames: Frames) -> dict[str, pd.DataFrame]:
    """The frames, less the training rows that another setting of the same kind tests or validates."""
    found = {}
    for name, frame in frames.items():
        leaks = pd.Series(data=False, index=frame.index)
        for other in frames.values():
            if other.attrs["setting"] != frame.attrs["setting"] and _kind(other) == _kind(frame):
                leaks |= _asked(frame, other)
        found[name] = frame[~(leaks & (frame["split"] == "train"))].reset_index(drop=True)
        found[name].attrs = dict(frame.attrs)
    return {name: frame for name, frame in found.items() if (frame["split"] == "train").any()}


def share_of(frame: pd.DataFrame, columns: list[str], share: float, seed: int) -> tuple[pd.DataFrame, int]:
    """All but the training rows of some perturbations, and how many of these are left."""
    is_train = frame["split"] == "train"
    groups = frame[is_train].drop_duplicates(columns)[columns]
    kept = groups.sample(max(1, round(share * len(groups))), random_state=seed)
    among = pd.MultiIndex.from_frame(frame[columns].astype(str)).isin(pd.MultiIndex.from_frame(kept.astype(str)))
    found = frame[~is_train | among].reset_index(drop=True)
    found.attrs = dict(frame.attrs)
    return found, len(kept)


def fit(
    sources: Mapping[str, ch.train.corpus.Pairs], out: Path, *, model: str, n_steps: int, method: str,
    rate: float | None, seed: int, device: str | None,
) -> Path:  # fmt: skip
    """Tune an adapter (or all weights) by the preset for one task or for many, or take what is there already.

    Many have the same share of an epoch each, and as many steps as all of them have alone.
    """
    joint = len(sources) > 1
    changes = {"method": method, "seed": seed, "max_steps": n_steps * len(sources)} | (
        {} if rate is None else {"learning_rate": rate}
    )
    config = ch.train.TrainConfig.preset("multitask" if joint else "instruct", **changes)
    weights = dict.fromkeys(sources, 1.0) if joint else None
    return ch.train.fit(dict(sources), config, base=model, out=out, weights=weights, device=device)


def _kind(frame: pd.DataFrame) -> str:
    return frame.attrs["setting"].partition("/")[0]


def _asked(frame: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """Rows that have what another setting keeps from its training: its groups and, of perturbations, each gene."""
    columns = list(APART[other.attrs["setting"]] or task_of(frame).fields)
    is_train = other["split"] == "train"
    keys = [pd.MultiIndex.from_frame(rows[columns].astype(str)) for rows in (frame, other[~is_train])]
    found = pd.Series(keys[0].isin(keys[1]), index=frame.index)
    if columns == ["perturbation"]:
        held, trained = ({*"+".join(other.loc[part, "perturbation"]).split("+")} for part in (~is_train, is_train))
        found |= frame["perturbation"].map(lambda names: not (held - trained).isdisjoint(names.split("+")))
    return found
