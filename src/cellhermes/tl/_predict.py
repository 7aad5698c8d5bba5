"""Answers of a task for cells, written into the object."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import _adata
from .._keys import SENTENCE, read_params, write_params
from ..model import CellHermes
from ..text import Task
from ._answer import ABSTAINED, PROBABILITY, UNPARSED, Decode, Question, ask, counted
from ._embed_cells import sentences_of

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger("cellhermes")


def predict(
    data: "AnnData | MuData",
    model: str | Path | CellHermes,
    task: str | Path | Task,
    *,
    answers: Sequence[str] | None = None,
    expression: bool | None = None,
    variant: int = 0,
    decode: Decode | None = None,
    normalize: Literal["sum", "mean"] = "sum",
    prior: str | None = None,
    calibration: float = 1.0,
    abstain_below: float | None = None,
    max_new_tokens: int = 100,
    sentence_key: str = SENTENCE,
    batch_size: int | None = None,
    checkpoint: str | Path | None = None,
    key_added: str | None = None,
    mod: str | None = None,
) -> None:
    """Answer one question of a task for each cell.

    The fields of the task are columns of ``obs``, and ``cell_sentence`` is the cell's genes, ranked by expression. How
    answers are scored or generated is told in :func:`cellhermes.tl.answer`.

    Parameters
    ----------
    data
        Annotated data with the task's columns in ``obs``, and for most tasks with cell sentences
        (:func:`cellhermes.pp.cell_sentences`).
    model
        A name of :func:`cellhermes.model.list_models`, a folder, a hub id, or a loaded :class:`~cellhermes.CellHermes`.
    task
        A key of :func:`cellhermes.text.tasks`, the path of a TOML file, or a :class:`~cellhermes.text.Task`.
    answers
        Answers to choose from, such as your cell types, in place of the task's.
    expression
        Show the cell's genes (the paper's "w/ GE"). None shows them only where the question can't do without.
    variant
        Which wording of the task is asked.
    decode
        ``"score"`` or ``"generate"``; None scores where the answers are known, and generates where they are not.
    normalize
        ``"sum"`` or ``"mean"``: how the lengths of answers count.
    prior
        Text that stands in all fields of a question that says nothing, such as ``"N/A"``; what each answer gets there
        is taken off (see :func:`cellhermes.tl.answer`).
    calibration
        Temperature from :func:`cellhermes.metrics.fit_temperature`; 1 takes probabilities as they are.
    abstain_below
        No answer where the likeliest one has a lower probability than this.
    max_new_tokens
        Longest generated text.
    sentence_key
        Column of ``obs`` with the sentences.
    batch_size
        Questions per forward pass; None chooses from the memory that is free.
    checkpoint
        Folder that keeps finished blocks; the same call after an interruption goes on from there.
    key_added
        Entry of ``obs``, ``obsm`` and ``uns`` that is written; None takes the name of the task.
    mod
        Modality of a MuData.

    Returns
    -------
    Nothing; writes

    ``obs[key_added]`` : category
        The answers; NaN where the model abstained, its text was not parsed, or the cell has no genes.
    ``obsm[key_added]`` : DataFrame (cells x answers)
        Scored: the probabilities. ``/`` in an answer becomes ``_`` in its column.
    ``obs[f"{key_added}_text"]`` : str
        Generated: the texts.
    ``uns[key_added]["params"]`` : dict
        Model, task, version, answers (in the order of the columns), how they were asked, and how many cells have no
        answer: ``n_abstained``, ``n_unparsed``, ``n_without_genes``.

    Raises
    ------
    KeyError
        If the task, a column of ``obs`` or the sentences are not there.
    ValueError
        If ``obs[key_added]`` is a column of yours, or as for :func:`cellhermes.tl.answer`.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata)
    >>> ch.tl.predict(adata, "mini", "cell_type", answers=["B cell", "NK cell"], key_added="predicted")
    >>> list(adata.obsm["predicted"])
    ['B cell', 'NK cell']
    """
    adata = _adata.resolve(data, mod)
    _adata.check_writable(adata)
    question = Question.of(
        task,
        answers,
        decode,
        expression=expression,
        variant=variant,
        normalize=normalize,
        prior=prior,
        calibration=calibration,
        abstain_below=abstain_below,
        max_new_tokens=max_new_tokens,
    )
    key = key_added or question.task.name
    _check_key(adata, key)
    _columns(question)
    frame = _frame(adata, question, sentence_key)
    filled = (frame[SENTENCE] != "").to_numpy() if SENTENCE in frame else np.ones(adata.n_obs, dtype=bool)
    found, about = ask(question, frame[filled], model, batch_size, checkpoint)
    found = found.set_axis(np.flatnonzero(filled)).reindex(np.arange(adata.n_obs)).set_axis(adata.obs_names)
    _write(adata, key, found, question)
    n_of = found["status"].value_counts()
    options = {"prior": prior, "calibration": calibration, "abstain_below": abstain_below, "sentence_key": sentence_key}
    counts = {f"n_{status}": int(n_of.get(status, 0)) for status in (ABSTAINED, UNPARSED)}
    n_without = int((~filled).sum())
    fields = list(frame)
    write_params(adata, key, {**about, "fields": fields, **options, **counts, "n_without_genes": n_without})
    if n_without:
        msg = f"{n_without:,} of {adata.n_obs:,} cells have an empty sentence and get no answer."
        warnings.warn(msg, UserWarning, stacklevel=2)
    logger.info("%s cells in obs[%r]: %s.", f"{adata.n_obs:,}", key, counted(found))


def _check_key(adata: AnnData, key: str) -> None:
    """Refuse to write over columns that no call of ours made, such as the true cell types."""
    if (key in adata.obs or key in adata.obsm) and "fields" not in read_params(adata, key):
        msg = f"obs or obsm has an entry {key!r} already, which is not of ch.tl.predict. Pass another key_added=."
        raise ValueError(msg)


def _frame(adata: AnnData, question: Question, sentence_key: str) -> pd.DataFrame:
    """Columns that the questions need, under the names of the task."""
    task = question.task
    hint = f"Task {task.name!r} asks with the columns {list(task.fields)} of obs; rename yours, or use ch.tl.answer."
    columns = {name: _adata.require_obs(adata, name, hint) for name in task.fields if name != SENTENCE}
    frame = pd.DataFrame(columns, index=adata.obs_names)
    if question.expression or SENTENCE in task.fields:
        frame[SENTENCE] = sentences_of(adata, sentence_key)
    return frame


def _columns(question: Question) -> list[str]:
    """Names of answers that h5ad and zarr can store as columns, where ``/`` would open a folder."""
    names = [answer.replace("/", "_") for answer in question.task.answers or ()]
    if len(set(names)) < len(names):
        twice = [a for a, name in zip(question.task.answers, names, strict=True) if names.count(name) > 1]
        msg = f"The answers {twice} would be stored under the same name, as / becomes _; rename one of them."
        raise ValueError(msg)
    return names


def _write(adata: AnnData, key: str, found: pd.DataFrame, question: Question) -> None:
    """Answers and what they come from; what an earlier call wrote and this one does not is taken away."""
    categories = question.task.answers or sorted(found["answer"].dropna().unique())
    adata.obs[key] = pd.Categorical(found["answer"], categories=categories)
    if f"{key}_text" in adata.obs:
        del adata.obs[f"{key}_text"]
    adata.obsm.pop(key, None)
    if question.decode == "score":
        probability = found[[f"{PROBABILITY}{answer}" for answer in question.task.answers]]
        adata.obsm[key] = probability.set_axis(_columns(question), axis=1)
    else:
        adata.obs[f"{key}_text"] = found["text"].fillna("").astype(str)
