"""Answers to the questions of a table: scored where the answers are known, else generated."""

import logging
from pathlib import Path

import pandas as pd

from .._blocks import Shard
from ..model import CellHermes
from ..text import Question, Task
from ._ask import Rows, ask, counted, warn_of_collapse

logger = logging.getLogger("cellhermes")


def answer(
    frame: pd.DataFrame,
    model: str | Path | CellHermes,
    task: str | Path | Task | Question,
    *,
    batch_size: int | None = None,
    checkpoint: str | Path | None = None,
) -> pd.DataFrame:
    """Answer one question for each row of a frame.

    A question that is scored (``decode="score"``) reads the log-probability s_i of every answer of a closed task behind
    the question, closed by the end token, and gives p_i = exp((s_i - b_i) / T) / sum_j exp((s_j - b_j) / T), where T is
    ``calibration`` and b_i is 0, or the log-probability of the answer behind a question that says nothing (``prior``).
    The question is computed once for all answers, and so is what answers begin alike. ``decode="generate"`` writes the
    likeliest text and looks for an answer in it; a text without one, or with several, has no answer and is counted.

    A model that was tuned on the task has learnt how long and how frequent its answers are: their log-probability
    counts as it is. Any other is asked *zero-shot*: by default the log-probability counts per token, less that behind
    the question that says nothing. Its card or the record of its training decides which it is.

    Parameters
    ----------
    frame
        Rows with the fields of the task, such as ``gene_a`` and ``gene_b``.
    model
        A name of :func:`cellhermes.cache.list`, a folder, a hub id, or a loaded :class:`~cellhermes.CellHermes`.
    task
        A name of :meth:`cellhermes.text.Task.names`, the path of a TOML file, a :class:`~cellhermes.text.Task`; or a
        :class:`~cellhermes.text.Question`, which also says how it is asked and answered, and what columns are called.
    batch_size
        Questions per forward pass; None chooses from the memory that is free.
    checkpoint
        Folder that keeps finished blocks of 1,000 questions. The same call after an interruption goes on from there;
        delete the folder when the result is saved. Processes that a launcher started together (torchrun, accelerate)
        share the blocks, and each returns all rows.

    Returns
    -------
    A row for each row of ``frame``, under the same index: ``answer`` (None without one) and ``status`` (``"answered"``,
    ``"abstained"`` or ``"unparsed"``). Scored, there are ``confidence`` (probability of the likeliest answer) and, for
    each answer, ``log_probability:<answer>`` (s_i: natural logarithm, as ``normalize`` of the question says) and
    ``probability:<answer>``; generated, there is ``text``.

    Raises
    ------
    KeyError
        If the task or a column is not there.
    ValueError
        If a field has no value in some row, answers can't be told apart by their tokens, an open task is to be scored,
        a checkpoint belongs to other questions, or a question is longer than the model's context.

    Warns
    -----
    UserWarning
        If the model was not tuned on the task; then also if one answer is given to more than 90% of at least ten rows,
        or one to none of at least ten rows for each answer.

    Examples
    --------
    >>> import cellhermes as ch
    >>> import pandas as pd
    >>> pairs = pd.DataFrame({"gene_a": ["BRCA1", "TP53"], "gene_b": ["PARP1", "MDM2"]})
    >>> table = ch.tl.answer(pairs, "mini", "genetic_interaction_synthetic")
    >>> list(table)[:3], bool(table["answer"].isin(["Yes", "No"]).all())
    (['answer', 'status', 'confidence'], True)
    """
    if not isinstance(frame, pd.DataFrame):
        msg = f"frame is a {type(frame).__name__}; expected a DataFrame (for an AnnData there is `ch.tl.predict`)."
        raise TypeError(msg)
    question, rows = Question.of(task), Rows.of(frame)
    table, asked = ask(question, rows, model, batch_size, checkpoint, Shard.here() if checkpoint else None)
    if asked.is_zero_shot:
        warn_of_collapse(table["answer"].value_counts().to_dict(), question, stacklevel=3)
    logger.info("%s questions: %s.", f"{len(table):,}", counted(table))
    return table
