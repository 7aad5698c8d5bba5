"""Rationales in the model's own words, and the genes that they name."""

import re
import warnings
from collections.abc import Collection, Sequence

import pandas as pd

from .._keys import SENTENCE
from ..model import CellHermes
from ..text import Prompt, Task, Template
from ..text._reason import read_reasoned, reason_prompt
from ._answer import Question

WORD = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?")


def write_reasons(
    model: CellHermes,
    question: Question,
    frame: pd.DataFrame,
    answers: Sequence[str],
    *,
    symbols: Collection[str],
    reason_first: bool,
    max_new_tokens: int,
    batch_size: int | None,
) -> pd.DataFrame:
    """Ask for the reason of each cell's answer, as :func:`cellhermes.tl.explain` stores it."""
    if model.card.base.startswith("bundled:"):
        msg = (
            f"{model.card.name!r} has never learnt to give reasons; what it writes shows how reasons are stored, and "
            "says nothing about the cells. Use a model that was tuned on rationales."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    prompts = _prompts(question, frame, answers, reason_first=reason_first)
    texts = model.generate(prompts, max_new_tokens=max_new_tokens, batch_size=batch_size)
    known = {*symbols}
    rows = [
        (cell, answer, *read_reason(text, question.task, known, sentence.split(), reason_first=reason_first))
        for cell, answer, text, sentence in zip(frame.index, answers, texts, frame[SENTENCE], strict=True)
    ]
    columns = ["cell", "answer", "given", "reason", "text", "genes", "n_genes", "n_absent"]
    return pd.DataFrame(rows, columns=columns)


def _prompts(question: Question, frame: pd.DataFrame, answers: Sequence[str], *, reason_first: bool) -> list[Prompt]:
    asked = question.prompts(frame, slice(None))
    if reason_first:
        return [reason_prompt(prompt) for prompt in asked]
    fill = Template.load("reason").fill
    return [fill(question=prompt.text, answer=answer) for prompt, answer in zip(asked, answers, strict=True)]


def read_reason(
    text: str, task: Task, symbols: Collection[str], listed: Collection[str], *, reason_first: bool
) -> tuple[str, str, str, str, int, int]:
    """Answer that a text gives, its reason, the text, genes that it names, their number, and how many are not listed.

    A gene is a whole word in the spelling of a symbol. Answers are no genes, though they may name one (CD4 T cell).
    """
    given, reason = "", text
    if reason_first:
        found = read_reasoned(text)
        given, reason = task.parse(found.output) or "", found.reason
    answers = "|".join(map(re.escape, sorted(task.answers or (), key=len, reverse=True)))
    bare = re.sub(rf"(?<!\w)(?:{answers})(?!\w)", " ", reason) if answers else reason
    genes = [word for word in dict.fromkeys(WORD.findall(bare)) if word in symbols]
    return given, reason, text, ";".join(genes), len(genes), len([gene for gene in genes if gene not in {*listed}])
