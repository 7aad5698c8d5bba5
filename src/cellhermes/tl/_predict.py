"""Answers of a task for cells, written into the object."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import _adata
from .._blocks import fill
from .._chunks import Chunks, Numbers, TextCodec
from .._entries import check_free, is_ours, written
from .._hash import hashed
from .._keys import PROBABILITY, SENTENCE, text_key, write_params
from .._result import Result
from ..model import CellHermes
from ..text import Question, Task
from ._ask import (
    ABSTAINED,
    ANSWERED,
    BLOCK,
    UNPARSED,
    Asked,
    Rows,
    ask,
    counted,
    of_sentences,
    warn_of_collapse,
)
from ._embed_cells import SentenceColumn

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger("cellhermes")

TOGETHER = 64  # blocks whose columns are written at once


def predict(
    data: "AnnData | MuData | str | Path",
    model: str | Path | CellHermes,
    task: str | Path | Task | Question,
    *,
    batch_size: int | None = None,
    out: str | Path | None = None,
    key_added: str | None = None,
    mod: str | None = None,
) -> None:
    """Answer one question of a task for each cell.

    The fields of the task are columns of ``obs``, under their own names or those that the question gives them, and
    ``cell_sentence`` is the cell's genes, ranked by expression. How answers are scored or generated is told in
    :func:`cellhermes.tl.answer`.

    Parameters
    ----------
    data
        Annotated data with the task's columns in ``obs``, and for most tasks with cell sentences
        (:func:`cellhermes.pp.cell_sentences`). Backed and lazily read data are read in blocks. With ``out``, the path
        of such a file will do.
    model
        A name of :func:`cellhermes.cache.list`, a folder, a hub id, or a loaded :class:`~cellhermes.CellHermes`.
    task
        A name of :meth:`cellhermes.text.Task.names`, the path of a TOML file, a :class:`~cellhermes.text.Task`; or a
        :class:`~cellhermes.text.Question`, which also says how it is asked and answered, from which columns.
    batch_size
        Questions per forward pass; None chooses from the memory that is free.
    out
        A zarr store to write, ``"answers.zarr"``, instead of writing into the object: only some blocks are in memory.
        The same call after an interruption goes on where it stopped, and the store has its name once it is whole.
        Several processes may share the work (see :doc:`/scale`). anndata reads it.
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
        Model, question (:attr:`cellhermes.text.Question.about`; answers in the order of the columns), whether it was
        asked ``zero_shot``, and how many cells have no answer: ``n_abstained``, ``n_unparsed``, ``n_without_genes``.

    With ``out``, the object stays as it is, and the store has the names of the cells and these entries.

    Raises
    ------
    KeyError
        If the task, a column of ``obs`` or the sentences are not there.
    ValueError
        If ``obs[key_added]`` or another entry is yours, ``out`` belongs to another call, or as for
        :func:`cellhermes.tl.answer`.
    BlockingIOError
        If another process is writing to the same place.
    OSError
        If a file is damaged, the disk is full, or ``out`` may not be written; what is finished stays.

    Warns
    -----
    UserWarning
        If cells have no genes, and as for :func:`cellhermes.tl.answer`.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata)
    >>> question = ch.text.Question("cell_type", answers=["B cell", "NK cell"])
    >>> ch.tl.predict(adata, "mini", question, key_added="predicted")
    >>> list(adata.obsm["predicted"])
    ['B cell', 'NK cell']
    """
    data = data if out is None else _adata.opened(data, out)
    adata = _adata.source(data, mod, out)
    question = of_sentences(Question.of(task), adata)
    key = key_added or question.task.name
    _columns(question)
    rows = rows_of(data, mod, question)
    if out is None:
        entries = [f"obs/{key}", f"obsm/{key}" if question.decode == "score" else f"obs/{text_key(key)}"]
        check_free(adata, key, entries)
        table, asked = ask(question, rows, model, batch_size)
        if asked.is_zero_shot:
            warn_of_collapse(table["answer"].value_counts().to_dict(), question, stacklevel=3)
        counts = _counts(table["status"].value_counts(), adata.n_obs)
        with written(adata, key, entries):
            _write(adata, key, table, question)
            write_params(adata, key, {**asked.how, **counts})
        logger.info("%s cells in obs[%r]: %s.", f"{adata.n_obs:,}", key, counted(table))
    else:
        counts = _to_store(question, rows, model, batch_size, out, key)
        if Path(out).exists():  # else other shares are missing, which was told
            logger.info("%s cells in %s.", f"{adata.n_obs:,}", out)
    if n_without := counts["n_without_genes"]:
        msg = f"{n_without:,} of {adata.n_obs:,} cells have an empty sentence and get no answer."
        warnings.warn(msg, UserWarning, stacklevel=2)


def _counts(n_of: "pd.Series | Counter", n_cells: int) -> dict[str, int]:
    """How many cells have no answer, and why."""
    counts = {f"n_{status}": int(n_of.get(status, 0)) for status in (ABSTAINED, UNPARSED)}
    return {**counts, "n_without_genes": n_cells - int(sum(n_of.values() if isinstance(n_of, Counter) else n_of))}


def rows_of(data: "AnnData | MuData", mod: str | None, question: Question) -> Rows:
    """Return the cells with the columns that a question shows."""
    adata, shown = _adata.resolve(data, mod), question.shown
    hint = f"Task {question.task.name!r} asks with {[*shown]}; name your columns of obs by `Question(fields=)`."
    columns = {name: _adata.obs_column(data, name, hint, mod=mod) for field, name in shown.items() if field != SENTENCE}
    if SENTENCE in shown:
        columns[shown[SENTENCE]] = SentenceColumn(adata, shown[SENTENCE])

    def read(part: slice) -> pd.DataFrame:
        return pd.DataFrame({name: column[part] for name, column in columns.items()}).set_axis(adata.obs_names[part])

    return Rows(adata.obs_names, read, sentence=shown.get(SENTENCE, ""))


def _columns(question: Question) -> list[str]:
    """Names of answers that h5ad and zarr can store as columns, where ``/`` would open a folder."""
    names = [answer.replace("/", "_") for answer in question.answers or ()]
    if len(set(names)) < len(names):
        twice = [a for a, name in zip(question.answers, names, strict=True) if names.count(name) > 1]
        msg = f"The answers {twice} would be stored under the same name, as / becomes _; rename one of them."
        raise ValueError(msg)
    return names


def _write(adata: AnnData, key: str, table: pd.DataFrame, question: Question) -> None:
    """Answers and what they come from; what an earlier call wrote and this one does not is taken away."""
    categories = question.answers or sorted(table["answer"].dropna().unique())
    adata.obs[key] = pd.Categorical(table["answer"], categories=categories)
    if text_key(key) in adata.obs and is_ours(adata, key, f"obs/{text_key(key)}"):
        del adata.obs[text_key(key)]
    if key in adata.obsm and is_ours(adata, key, f"obsm/{key}"):
        del adata.obsm[key]
    if question.decode == "score":
        probability = table[[f"{PROBABILITY}{answer}" for answer in question.answers]]
        adata.obsm[key] = probability.set_axis(_columns(question), axis=1)
    else:
        adata.obs[text_key(key)] = table["text"].fillna("").astype(str)


def _to_store(
    question: Question,
    rows: Rows,
    model: str | Path | CellHermes,
    batch_size: int | None,
    out: str | Path,
    key: str,
) -> dict[str, int]:
    """Write what :func:`_write` writes into a store, and return how many cells have no answer."""
    with Result(out, rows.index) as result:
        asked = Asked(question, rows, model, batch_size)
        about = {**asked.how, "key": key, "block": BLOCK, "data_sha256": hashed(asked.texts())}
        counts = _counts(Counter({ANSWERED: int(asked.filled.sum())}), len(rows))
        scored = question.decode == "score"
        width = len(question.answers or ()) if scored else question.max_new_tokens
        if not result.begin(about, needed=(16 if scored else 4) * len(rows) * width):
            return counts
        codec = Numbers("<f8", width) if scored else TextCodec()
        kept = result.staged("blocks", BLOCK, codec)
        fill(kept, kept.n, asked.block, result.shard, desc=question.task.name, of=BLOCK)
        result.finish(kept, kept.n, lambda: _complete(result, asked, kept, key))
    return counts


def _complete(result: Result, asked: Asked, kept: Chunks, key: str) -> None:
    """From blocks of log-probabilities or texts to the columns of the store, some blocks at a time."""
    question = asked.question

    def parts() -> Iterator[pd.DataFrame]:
        for first in range(0, kept.n, TOGETHER):
            blocks = range(first, min(first + TOGETHER, kept.n))
            part = slice(kept.rows(blocks[0]).start, kept.rows(blocks[-1]).stop)
            yield asked.found(part, [np.asarray(kept.load(i)) for i in blocks])

    n_of: Counter = Counter()
    n_given: Counter = Counter()
    for table in parts():
        n_of.update(table["status"].dropna())
        n_given.update(table["answer"].dropna())
    categories = list(question.answers or sorted(n_given))
    size = TOGETHER * kept.size
    columns = {f"obs/{key}/codes": Numbers(np.min_scalar_type(-max(1, len(categories))).newbyteorder("<").str)}
    if question.decode == "score":
        names = dict(zip(_columns(question), question.answers, strict=True))
        columns |= {f"obsm/{key}/{name}": Numbers("<f8") for name in names}
        result.frame(f"obsm/{key}", list(names))
    else:
        columns[f"obs/{text_key(key)}"] = TextCodec()
    arrays = {name: result.array(name, size, codec) for name, codec in columns.items()}
    result.categories(f"obs/{key}", categories)
    result.columns([key, text_key(key)] if question.decode == "generate" else [key])
    for i, table in enumerate(parts()):
        codes = pd.Categorical(table["answer"], categories=categories).codes
        values = [table[f"{PROBABILITY}{name}"] for name in question.answers or () if question.decode == "score"]
        texts = [table["text"].fillna("").astype(str)] if question.decode == "generate" else []
        for array, column in zip(arrays.values(), [codes, *values, *texts], strict=True):
            array.save(i, column)
    result.params(key, {**asked.how, **_counts(n_of, len(asked.rows))})
    if asked.is_zero_shot:
        warn_of_collapse(n_given, question, stacklevel=6)
