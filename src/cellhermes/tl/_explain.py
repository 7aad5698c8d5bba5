"""Importance of the genes of a cell for its answer: from attention, or by leaving each gene out."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from .. import _adata
from .._entries import check_free, written
from .._hash import hashed
from .._keys import EXPLAIN, HEADS, MODEL_HASH, PROBABILITY, SENTENCE, answer_key, raw_key, read_params, write_params
from ..model import CellHermes
from ..text import Question, Task
from ._ask import Rows, ask, of_sentences
from ._importance import Attention, Listed, Occlusion
from ._model import as_model, provenance
from ._predict import rows_of

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger("cellhermes")

LITTLE = 0.05  # of a head's attention on genes, below which it is said


def explain(
    data: "AnnData | MuData",
    model: str | Path | CellHermes,
    task: str | Path | Task | Question,
    *,
    method: Literal["attention", "occlusion"] = "attention",
    head: int | Literal["data", "cell"] = "data",
    over: Literal["genes", "all"] = "genes",
    cells: int | Sequence[str] | None = None,
    batch_size: int | None = None,
    checkpoint: str | Path | None = None,
    rng: int | np.random.Generator | None = 0,
    key_added: str = EXPLAIN,
    mod: str | None = None,
) -> None:
    r"""Say how much each gene of a cell weighs in the answer to a question of a task.

    ``method="attention"`` reads the last layer. Of head :math:`h`, :math:`A_{tj}` is the attention of the token at
    :math:`t` to the one at :math:`j`. Its entropy is the mean of

    .. math:: -\frac{1}{\log n_t} \sum_j A_{tj} \log A_{tj}

    over the positions that see at least two tokens (:math:`n_t` of them; paper, equation 9, divided by its largest
    value, since early positions see little), and the head with the lowest one is read. A gene's importance is the sum
    over its sub-tokens of the attention from the last token before the answer, whose state predicts it (equation 10).

    ``method="occlusion"`` needs no attention: :math:`\log \frac{p}{1 - p}` of the answer, less the same without the
    gene. It is positive where the gene speaks for the answer, and takes a forward pass for each gene of each cell. It
    is the yardstick for attention, which may look at genes that decide nothing (:func:`cellhermes.tl.faithfulness`).

    Parameters
    ----------
    data
        Annotated data with cell sentences (:func:`cellhermes.pp.cell_sentences`), and the task's columns in ``obs``.
    model
        A name of :func:`cellhermes.cache.list`, a folder, a hub id, or a loaded :class:`~cellhermes.CellHermes`.
    task
        A name of :meth:`cellhermes.text.Task.names`, the path of a TOML file, a :class:`~cellhermes.text.Task`; or a
        :class:`~cellhermes.text.Question`, which also says how it is asked, from which columns. It shows the cell's
        genes; the answers must be known. The likeliest answer is explained, as :func:`cellhermes.tl.predict` gives it,
        also where the question would abstain.
    method
        ``"attention"`` (the paper's) or ``"occlusion"``.
    head
        ``"data"`` reads one head, chosen by its mean over 2,000 random cells (all, if there are fewer), so that cells
        can be compared; ``"cell"`` chooses for each cell; a number takes that head.
    over
        ``"genes"`` renormalises attention over the tokens of genes, for entropy and importance, because a head that
        only looks at the first token has a low entropy, too; importances of a cell then add up to 1. ``"all"`` is the
        literal formula.
    cells
        Names of cells, or how many are drawn; None explains all.
    batch_size
        Questions per forward pass; None chooses from the memory that is free.
    checkpoint
        Folder that keeps finished blocks; the same call after an interruption goes on from there.
    rng
        Seed or generator of what is drawn.
    key_added
        Where results are written.
    mod
        Modality of a MuData.

    Returns
    -------
    Nothing; writes

    ``layers[key_added]`` : CSR
        Importance of the genes in each cell's sentence; rows of cells that are not explained are empty. Where
        sentences are of a ``raw`` with other genes, it is ``obsm[f"{key_added}_raw"]``, along the genes of ``raw``.
    ``obs[f"{key_added}_answer"]`` : category
        The answer that is explained, the likeliest one; NaN for other cells.
    ``obsm[key_added]`` : DataFrame
        ``confidence`` in the answer; for attention ``head``, and ``gene_share``, the part of its attention that falls
        on genes. NaN for other cells.
    ``uns[key_added]["heads"]`` : DataFrame
        For attention, of each head: ``entropy``, ``gene_share`` (means over cells), ``n_cells`` (where it was read).
    ``uns[key_added]["params"]`` : dict
        Model, question (:attr:`cellhermes.text.Question.about`), arguments, numbers of cells.

    Raises
    ------
    KeyError
        If the task, a column of ``obs``, the sentences or a cell are not there.
    ValueError
        If answers are not known, a sentence names a gene that is not in ``var``, the slots hold something of yours, a
        question is longer than the model's context, or a checkpoint belongs to other questions.

    See Also
    --------
    cellhermes.get.importance, cellhermes.get.explain, cellhermes.tl.reasons, cellhermes.tl.faithfulness

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> round(float(ch.get.importance(adata, adata.obs_names[0])["importance"].sum()), 4)
    1.0
    """
    adata = _adata.writable(data, mod)
    _check_options(method, head, over)
    question = of_sentences(_explainable(Question.of(task)), adata)
    sentence_key = question.column_of(SENTENCE)
    entries = [f"layers/{key_added}", f"obsm/{key_added}", f"obsm/{raw_key(key_added)}", f"obs/{answer_key(key_added)}"]
    check_free(adata, key_added, entries)
    frame = rows_of(data, mod, question).read(slice(None))
    rng = np.random.default_rng(rng)
    rows = drawn(adata.obs_names, np.flatnonzero(frame[sentence_key] != ""), cells, rng)
    listed = Listed.of(adata, frame[sentence_key].iloc[rows], sentence_key)
    n_without = int((frame[sentence_key] == "").sum()) if cells is None else 0
    frame = frame.iloc[rows]
    question.prompts(frame.iloc[:1])  # what is missing is said before a model is loaded
    model = as_model(model)
    _check_head(head, model)
    parts = {name: None if checkpoint is None else Path(checkpoint, name) for name in ("answers", method)}
    answers, asked = ask(question, Rows.of(frame), model, batch_size, parts["answers"])

    if method == "attention":
        way = Attention(asked.question, model, head, over, batch_size)
    else:
        way = Occlusion(asked.question, model, answers, asked.prior, batch_size)
    prompts = question.prompts(frame) if checkpoint else []
    on = {**asked.how, "method": method, "questions_sha256": hashed(prompt.text for prompt in prompts)}
    values, beside = way.importance(frame, listed, on, parts[method], rng)

    arguments = {"method": method, "gene_symbols": listed.gene_symbols, **way.about()}
    counts = {"n_explained": len(rows), "n_without_genes": n_without}
    with written(adata, key_added, entries):
        _write(adata, key_added, rows, listed, values, beside, answers)
        if (heads := way.heads()) is not None:
            adata.uns[key_added][HEADS] = heads
        write_params(adata, key_added, {**asked.how, **arguments, **counts})
    if n_without:
        msg = f"{n_without:,} of {adata.n_obs:,} cells have an empty sentence and are not explained."
        warnings.warn(msg, UserWarning, stacklevel=2)
    if method == "attention" and (share := beside["gene_share"].mean()) < LITTLE:
        message = "Genes get %.2g%% of the attention that is read; importances divide up that little. Test them."
        logger.warning(message, 100 * share)
    where = f"obsm[{raw_key(key_added)!r}]" if listed.use_raw else f"layers[{key_added!r}]"
    logger.info("%s cells explained by %s in %s.", f"{len(rows):,}", method, where)


# --------------------------------------------------------------------------------------------------------- checks


def _check_options(method: str, head: int | str, over: str) -> None:
    for name, value, known in (("method", method, ("attention", "occlusion")), ("over", over, ("genes", "all"))):
        if value not in known:
            msg = f"{name}={value!r} is not known; expected {known[0]!r} or {known[1]!r}."
            raise ValueError(msg)
    if isinstance(head, str) and head not in ("data", "cell"):
        msg = f"head={head!r} is not known; expected 'data', 'cell' or the number of a head."
        raise ValueError(msg)


def _check_head(head: int | str, model: CellHermes) -> None:
    n = model.n_heads
    if not isinstance(head, str) and not 0 <= head < n:
        msg = f"head={head}; the last layer of {model.card.name!r} has the heads 0 to {n - 1}."
        raise ValueError(msg)


def _explainable(question: Question) -> Question:
    """Return the question with known answers that shows the genes of the cell, and gives an answer to each."""
    if not question.task.takes_expression or question.expression is False:
        msg = f"Task {question.task.name!r} has no place for the genes of a cell, or expression=False hides them, so "
        msg += "that there is nothing to explain."
        raise ValueError(msg)
    return replace(question, decode="score", expression=True, abstain_below=None)


def explained_question(adata: AnnData, task: str | Path | Task | Question, key: str) -> Question:
    """Return the question that was explained: a task is enough, and a question has to be the same."""
    params = read_params(adata, key)
    kinds = {"variant": int, "normalize": str, "prior": str, "calibration": float}
    stored = {name: kind(params[name]) for name, kind in kinds.items()} | {"answers": [*map(str, params["answers"])]}
    name = task.task if isinstance(task, Question) else task
    question = of_sentences(Question(name, fields=dict(params["fields"]), expression=True, **stored), adata)
    unlike = [] if question.task.fingerprint() == params["task_sha256"] else ["task"]
    if isinstance(task, Question):
        asked = _explainable(task)
        unlike += [name for name in stored if getattr(asked, name) not in (None, getattr(question, name))]
        unlike += [] if asked.shown == question.shown else ["fields"]
        question = replace(question, max_new_tokens=task.max_new_tokens)
    if unlike:
        msg = f"The question of task {question.task.name!r} is not the one of explanation {key!r}, of task "
        msg += f"{params['task']!r}: {', '.join(unlike)} differ. Pass that task, or explain again."
        raise ValueError(msg)
    return question


def check_model(model: CellHermes, adata: AnnData, key: str) -> None:
    """Refuse another model than the one whose answers were explained."""
    about, params = provenance(model), read_params(adata, key)
    names = ["wrap", "wrap_parts", "dtype", "quantize"]
    if about[MODEL_HASH] != params.get(MODEL_HASH):  # else it may be called otherwise
        names = ["model", "base", "revision", "adapters", MODEL_HASH, *names]
    if other := [name for name in names if about[name] != params.get(name, about[name])]:
        what = ", ".join(f"{name} {about[name]!r} and {params[name]!r}" for name in other)
        msg = f"The model is not the one of explanation {key!r}: {what}. Pass that one, or explain again."
        raise ValueError(msg)


def drawn(names: pd.Index, rows: np.ndarray, cells: int | Sequence[str] | None, rng: np.random.Generator) -> np.ndarray:
    """Rows of the cells that are named, or of as many random ones, out of some rows; in rising order."""
    if not len(rows):
        msg = "No cell has genes in its sentence, so that there is nothing to explain."
        raise ValueError(msg)
    if cells is None:
        return rows
    if isinstance(cells, str):
        msg = f"cells is the single string {cells!r}; expected a number, or a list of names of cells."
        raise TypeError(msg)
    if isinstance(cells, int | np.integer):
        if cells < 1:
            msg = f"cells={cells}; expected at least 1."
            raise ValueError(msg)
        return np.sort(rng.choice(rows, min(cells, len(rows)), replace=False))
    at = names.get_indexer(pd.Index(cells))
    if missing := [name for name, row in zip(cells, at, strict=True) if row not in set(rows)]:
        msg = f"cells: {len(missing)} cells are not there, or have no genes, such as {missing[0]!r}."
        raise KeyError(msg)
    return np.unique(at)


# -------------------------------------------------------------------------------------------------------- writing


def _write(
    adata: AnnData,
    key: str,
    rows: np.ndarray,
    listed: Listed,
    values: list[np.ndarray],
    beside: pd.DataFrame,
    answers: pd.DataFrame,
) -> None:
    matrix = _matrix((adata.n_obs, len(listed.symbols)), rows, listed.columns, values)
    names = [name.removeprefix(PROBABILITY) for name in answers if name.startswith(PROBABILITY)]
    answer = pd.Categorical(answers["answer"], categories=names)
    adata.layers.pop(key, None)
    adata.obsm.pop(raw_key(key), None)
    slot, name = (adata.obsm, raw_key(key)) if listed.use_raw else (adata.layers, key)
    slot[name] = matrix
    adata.obs[answer_key(key)] = pd.Series(answer, index=adata.obs_names[rows]).reindex(adata.obs_names)
    beside = pd.concat([answers["confidence"].reset_index(drop=True), beside.reset_index(drop=True)], axis=1)
    adata.obsm[key] = beside.set_axis(adata.obs_names[rows]).reindex(adata.obs_names).astype(float)
    adata.uns[key] = {}


def _matrix(
    shape: tuple[int, int], rows: np.ndarray, columns: list[np.ndarray], values: list[np.ndarray]
) -> sparse.csr_matrix:
    """CSR with an entry for each gene of each sentence, zeros too: which genes were there can be seen from it."""
    counts = np.zeros(shape[0], np.int64)
    counts[rows] = [len(one) for one in columns]
    order = [np.argsort(one) for one in columns]
    indices = np.concatenate([np.empty(0, int), *(one[o] for one, o in zip(columns, order, strict=True))])
    filled = np.concatenate([np.empty(0), *(one[o] for one, o in zip(values, order, strict=True))])
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return sparse.csr_matrix((filled.astype(np.float32), indices, indptr), shape=shape)
