"""The reward of a text with a reason and an answer: a part for its format, a part for being right. Strings only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from ..text import Question
from ..text._reason import read_reasoned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..text import Task


FORMAT = 0.3  # of the release
FINAL = r"final answer\W*(?:is\b\W*)?"
RULES = (None, "release")


def reason_reward(
    texts: Sequence[str],
    truths: Sequence[str],
    task: str | Path | Task | Question,
    *,
    format_reward: float = FORMAT,
    class_weights: Mapping[str, float] | None = None,
    compat: Literal["release"] | None = None,
) -> pd.DataFrame:
    """Reward texts for giving a reason and an answer in their tags, and for being right.

    A text is formatted if it is ``<reason>...</reason>``, then ``<output>...</output>``, neither empty, each once, and
    nothing around them. That earns ``format_reward``. A right answer earns the weight of its class on top, if the text
    is formatted and the output can be read as one answer (:meth:`cellhermes.text.Task.parse`); who names both classes
    has answered neither.

    ``compat="release"`` is the reward of the released reasoning model, as far as its description fixes it: any text
    with a reason and an ``<output>`` tag counts as formatted, and a right answer earns its weight in any text. It is
    the last answer that stands in the last output, else behind "final answer", else anywhere in the text; upper and
    lower case count as the same, and longer answers come first, so that ``Non-Reactive`` is not taken for ``Reactive``.

    Parameters
    ----------
    texts
        What a model wrote.
    truths
        The true answer of each.
    task
        Name of a task, path of a TOML file, a :class:`~cellhermes.text.Task`, or a :class:`~cellhermes.text.Question`,
        which may name answers, columns and whether the cell's genes are shown.
    format_reward
        Reward of the format; 0.3 in the release.
    class_weights
        Answer to the reward of giving it when it is true; 1 for those that are not named.
    compat
        ``"release"`` for the released reward; None for the rule above.

    Returns
    -------
    One row a text: ``answer`` (as read, None without one), ``format``, ``correctness`` and their sum ``reward``.

    Raises
    ------
    KeyError
        If there is no such task.
    ValueError
        If the answers are not known, a truth or a class is none of them, the numbers of texts and truths differ, or a
        reward is negative or not finite.

    Examples
    --------
    >>> import cellhermes as ch
    >>> texts = ["<reason>It has CXCL13.</reason><output>Reactive</output>", "Reactive"]
    >>> ch.train.reason_reward(texts, ["Reactive"] * 2, "t_cell_reactivity")["reward"].tolist()
    [1.3, 0.0]
    >>> ch.train.reason_reward(texts, ["Reactive"] * 2, "t_cell_reactivity", compat="release")["reward"].tolist()
    [1.3, 1.0]
    """
    question = closed(task)
    check_rule(format_reward, class_weights or {}, compat)
    check_classes(question, class_weights or {})
    if len(texts) != len(truths):
        msg = f"There are {len(texts):,} texts and {len(truths):,} truths; expected one for each."
        raise ValueError(msg)
    if outside := sorted(set(truths) - set(question.answers)):
        msg = f"truths has {outside[:5]}; expected answers of task {question.task.name!r}, {list(question.answers)}."
        raise ValueError(msg)
    weights = dict.fromkeys(question.answers, 1.0) | dict(class_weights or {})
    read = _released if compat == "release" else _strict
    rows = []
    for text, truth in zip(texts, truths, strict=True):
        is_formatted, answer = read(text, question.task)
        rows.append((answer, format_reward * is_formatted, weights[truth] * (answer == truth)))
    rewards = pd.DataFrame(rows, columns=["answer", "format", "correctness"])
    rewards = rewards.astype({"answer": object, "format": float, "correctness": float})
    return rewards.assign(reward=rewards["format"] + rewards["correctness"])


def closed(task: str | Path | Task | Question) -> Question:
    """Make a question whose answers are known, so that a text can be right or wrong."""
    question = Question.of(task)
    if question.answers is None:
        msg = f"Task {question.task.name!r} has no answers, so that none can be rewarded: pass Question(answers=)."
        raise ValueError(msg)
    return question


def check_rule(format_reward: float, class_weights: Mapping[str, float], compat: str | None) -> None:
    """Raise where the numbers make no reward."""
    if compat not in RULES:
        msg = f"compat={compat!r}; expected 'release' or None."
        raise ValueError(msg)
    numbers = {f"class weight of {name!r}": value for name, value in class_weights.items()}
    for name, value in {"format_reward": format_reward, **numbers}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
            msg = f"{name} is {value!r}; expected a number of at least 0."
            raise ValueError(msg)


def check_classes(question: Question, class_weights: Mapping[str, float]) -> None:
    """Raise where a class is no answer."""
    if unknown := sorted(set(class_weights) - set(question.answers)):
        answers = list(question.answers)
        msg = f"class_weights has {unknown}; expected answers of task {question.task.name!r}, {answers}."
        raise ValueError(msg)


def _strict(text: str, task: Task) -> tuple[bool, str | None]:
    """Tell whether a text is formatted, and the answer that it gives in this form."""
    parts = read_reasoned(text)
    return parts.is_formatted, task.parse(parts.output) if parts.is_formatted else None


def _released(text: str, task: Task) -> tuple[bool, str | None]:
    """Tell the same by the rule of the release, which looks in the output, behind a phrase, and anywhere."""
    parts = read_reasoned(text)
    words = "|".join(map(re.escape, sorted(task.answers, key=len, reverse=True)))
    spelling = {answer.casefold(): answer for answer in task.answers}
    places = ((parts.output, ""), (text, FINAL), (text, ""))
    named = (re.findall(rf"{before}(?<!\w)({words})(?!\w)", place, re.IGNORECASE) for place, before in places)
    last = next((matches[-1] for matches in named if matches), "")
    return bool(parts.reason) and "<output>" in text, spelling.get(last.casefold())
