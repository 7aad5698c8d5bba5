"""Rationales in the model's own words, and the genes that they name."""

import logging
import re
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import _adata
from .._explained import explanation_of
from .._keys import EXPLAIN, REASONS, SENTENCE
from ..model import CellHermes
from ..text import Prompt, Question, Task, Template
from ..text._reason import read_reasoned, reason_prompt
from ._explain import check_model, drawn, explained_question
from ._importance import Listed
from ._model import as_model
from ._predict import rows_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger("cellhermes")

WORD = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?")


def reasons(
    data: "AnnData | MuData",
    model: str | Path | CellHermes,
    task: str | Path | Task | Question,
    *,
    cells: int | Sequence[str] | None = None,
    reason_first: bool = False,
    batch_size: int | None = None,
    rng: int | np.random.Generator | None = 0,
    key: str = EXPLAIN,
    mod: str | None = None,
) -> None:
    """Let the model say why it gives the answers that were explained.

    A fluent text is no evidence: compare the genes that it names by :func:`cellhermes.tl.faithfulness`.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.explain` done.
    model, task
        What was explained: the task is enough, and how it was asked stands in the explanation. The longest rationale is
        ``max_new_tokens`` of a :class:`~cellhermes.text.Question`.
    cells
        Names of explained cells, or how many of them are drawn; None takes all.
    reason_first
        The model gives reason and answer (``<reason>``, ``<output>``), rather than a reason for the answer it is told.
    batch_size
        Questions per forward pass; None chooses from the memory that is free.
    rng
        Seed or generator of what is drawn.
    key
        The explanation.
    mod
        Modality of a MuData.

    Returns
    -------
    Nothing; writes

    ``uns[key]["reasons"]`` : DataFrame
        ``cell``, ``answer`` (explained), ``given`` (answer that the text itself gives, ``""`` without one), ``reason``,
        ``text``, ``genes`` (named, joined by ``;``), ``n_genes``, ``n_absent`` (named, but not in the sentence).

    Raises
    ------
    KeyError
        If there is no explanation, or not of a cell.
    ValueError
        If model or question are not those of the explanation.

    Warns
    -----
    UserWarning
        If the bundled model is asked, which cannot reason.

    See Also
    --------
    cellhermes.get.explain, cellhermes.tl.faithfulness

    Examples
    --------
    >>> import warnings
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> question = ch.text.Question("t_cell_reactivity", max_new_tokens=5)
    >>> ch.tl.explain(adata, "mini", question)
    >>> with warnings.catch_warnings(action="ignore"):  # the bundled model says that its words mean nothing
    ...     ch.tl.reasons(adata, "mini", question, cells=2)
    >>> len(ch.get.explain(adata, "reasons"))
    2
    """
    adata = _adata.writable(data, mod)
    answer = explanation_of(adata, key).answer
    question = explained_question(adata, task, key)
    sentence_key = question.column_of(SENTENCE)
    rows = drawn(adata.obs_names, np.flatnonzero(answer.notna()), cells, np.random.default_rng(rng))
    frame, answers = rows_of(data, mod, question).read(slice(None)).iloc[rows], answer.iloc[rows].astype(str)
    symbols = {*Listed.of(adata, frame[sentence_key], sentence_key).symbols}
    prompts = _prompts(question, frame, answers, reason_first=reason_first)
    model = as_model(model)
    check_model(model, adata, key)
    if model.card.base.startswith("bundled:"):
        msg = (
            f"{model.card.name!r} has never learnt to give reasons; what it writes shows how reasons are stored, and "
            "says nothing about the cells. Use a model that was tuned on rationales."
        )
        warnings.warn(msg, UserWarning, stacklevel=2)
    texts = model.generate(prompts, max_new_tokens=question.max_new_tokens, batch_size=batch_size)
    lines = [
        (cell, given, *read_reason(text, question.task, symbols, sentence.split(), reason_first=reason_first))
        for cell, given, text, sentence in zip(frame.index, answers, texts, frame[sentence_key], strict=True)
    ]
    columns = ["cell", "answer", "given", "reason", "text", "genes", "n_genes", "n_absent"]
    adata.uns[key] = {**adata.uns[key], REASONS: pd.DataFrame(lines, columns=columns)}
    logger.info("Reasons of %s cells in uns[%r]['reasons'].", f"{len(lines):,}", key)


def _prompts(question: Question, frame: pd.DataFrame, answers: Sequence[str], *, reason_first: bool) -> list[Prompt]:
    asked = question.prompts(frame)
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
        reasoned = read_reasoned(text)
        given, reason = task.parse(reasoned.output) or "", reasoned.reason
    answers = "|".join(map(re.escape, sorted(task.answers or (), key=len, reverse=True)))
    bare = re.sub(rf"(?<!\w)(?:{answers})(?!\w)", " ", reason) if answers else reason
    genes = [word for word in dict.fromkeys(WORD.findall(bare)) if word in symbols]
    return given, reason, text, ";".join(genes), len(genes), len([gene for gene in genes if gene not in {*listed}])
