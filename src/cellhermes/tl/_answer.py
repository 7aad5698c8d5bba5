"""Questions of a task, answered by a language model: scored where the answers are known, else generated."""

import logging
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import softmax

from .._blocks import Shard, fill, wait
from .._keys import SENTENCE, Param, modality_of
from ..model import CellHermes, PromptLengthError
from ..text import Prompt, Task
from ._checkpoint import checkpoint as checkpoint_of
from ._model import as_model, provenance

logger = logging.getLogger("cellhermes")

BLOCK = 1_000  # questions in memory at once, and which are kept together on disk
PROBABILITY, LOG_PROBABILITY = "probability:", "log_probability:"  # columns, one for each answer
NOTHING = "N/A"  # stands in the fields of a question that says nothing
MOST, FEW = 0.9, 10  # share of rows above which one answer is told of; rows, for each answer, below which nothing is
ANSWERED, ABSTAINED, UNPARSED = "answered", "abstained", "unparsed"

Decode = Literal["score", "generate"]


def answer(
    frame: pd.DataFrame,
    model: str | Path | CellHermes,
    task: str | Path | Task,
    *,
    answers: Sequence[str] | None = None,
    expression: bool | None = None,
    variant: int = 0,
    decode: Decode | None = None,
    normalize: Literal["sum", "mean"] | None = None,
    prior: str | None = None,
    calibration: float = 1.0,
    abstain_below: float | None = None,
    max_new_tokens: int = 100,
    batch_size: int | None = None,
    checkpoint: str | Path | None = None,
) -> pd.DataFrame:
    """Answer one question for each row of a frame.

    ``decode="score"`` reads the log-probability s_i of every answer of a closed task behind the question, closed by the
    end token, and gives p_i = exp((s_i - b_i) / T) / sum_j exp((s_j - b_j) / T), where T is ``calibration`` and b_i is
    0, or the log-probability of the answer behind a question that says nothing (``prior``). The question is computed
    once for all answers, and so is what answers begin alike. ``decode="generate"`` writes the likeliest text and looks
    for an answer in it; a text without one, or with several, has no answer and is counted.

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
        A name of :meth:`cellhermes.text.Task.names`, the path of a TOML file, or a :class:`~cellhermes.text.Task`.
    answers
        Answers to choose from, in place of the task's.
    expression
        Show the genes of the cell, from the column ``cell_sentence`` (the paper's "w/ GE"). None shows them only where
        the question can't do without.
    variant
        Which wording of the task is asked.
    decode
        ``"score"`` or ``"generate"``; None scores where the answers are known, and generates where they are not.
    normalize
        How the lengths of answers count. ``"sum"``: the log-probability as it is; ``"mean"``: divided by the number of
        tokens, where long answers should not fall behind short ones (see :meth:`cellhermes.CellHermes.score`). None
        takes ``"sum"`` for a model that was tuned on the task, and ``"mean"`` for others.
    prior
        Text that stands in all fields of a question that says nothing, such as ``"N/A"``: what each answer gets there
        is taken off, so that none wins because it is short or frequent in any text. This is contextual calibration
        (Zhao et al., 2021) with one such text and, normalised over the answers, the domain-conditional mutual
        information of Holtzman et al. (2021). ``""`` takes nothing off. None does so for a model that was tuned on the
        task, and takes ``"N/A"`` for others.
    calibration
        Temperature T from :func:`cellhermes.metrics.fit_temperature`; 1 takes probabilities as they are.
    abstain_below
        No answer where the likeliest one has a lower probability than this.
    max_new_tokens
        Longest generated text.
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
    each answer, ``log_probability:<answer>`` (s_i: natural logarithm, as ``normalize`` says) and
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
    >>> found = ch.tl.answer(pairs, "mini", "genetic_interaction_synthetic")
    >>> list(found)[:3], bool(found["answer"].isin(["Yes", "No"]).all())
    (['answer', 'status', 'confidence'], True)
    """
    if not isinstance(frame, pd.DataFrame):
        msg = f"frame is a {type(frame).__name__}; expected a DataFrame (for an AnnData there is `ch.tl.predict`)."
        raise TypeError(msg)
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
    found, how = ask(question, Rows.of(frame), model, batch_size, checkpoint, Shard.here() if checkpoint else None)
    if how["zero_shot"]:
        warn_of_collapse(found["answer"].value_counts().to_dict(), question.task, stacklevel=3)
    logger.info("%s questions: %s.", f"{len(found):,}", counted(found))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A task and how it is asked and answered: the arguments of :func:`answer`."""

    task: Task
    decode: Decode
    expression: bool | None
    variant: int
    normalize: Literal["sum", "mean"] | None
    prior: str | None = ""
    calibration: float
    abstain_below: float | None
    max_new_tokens: int

    @classmethod
    def of(
        cls, task: str | Path | Task, answers: Sequence[str] | None, decode: Decode | None, **options: object
    ) -> "Question":
        """Check what can be checked without a model and a frame."""
        task = Task.load(task) if answers is None else Task.load(task).with_answers(answers)
        question = cls(task=task, decode=decode or ("generate" if task.answers is None else "score"), **options)
        if wrong := question._wrong():
            raise ValueError(wrong)
        return question

    def of_sentences(self, adata: AnnData, sentence_key: str) -> "Question":
        """The question in the words of the modality that the sentences of some cells are of."""
        of = modality_of(adata, sentence_key)
        return replace(self, task=self.task.in_words(of)) if of else self

    def _wrong(self) -> str:
        if self.decode not in ("score", "generate"):
            return f"decode={self.decode!r} is not known; expected 'score' or 'generate'."
        if self.decode == "score" and self.task.answers is None:
            return f"Task {self.task.name!r} has no answers to score. Pass answers=, or decode='generate'."
        if self.normalize not in ("sum", "mean", None):
            return f"normalize={self.normalize!r} is not known; expected 'sum' or 'mean'."
        if self.prior and (self.decode == "generate" or not self.prior.strip()):
            return f"prior={self.prior!r}, decode={self.decode!r}; expected a text such as 'N/A', and decode='score'."
        if not 0 < self.calibration < np.inf:
            return f"calibration={self.calibration}; expected a temperature above 0."
        if not self.max_new_tokens >= 1:
            return f"max_new_tokens={self.max_new_tokens}; expected at least 1."
        if self.abstain_below is not None and (self.decode == "generate" or not 0 <= self.abstain_below <= 1):
            return f"abstain_below={self.abstain_below}, decode={self.decode!r}; expected 0 to 1, and decode='score'."
        return ""

    def is_zero_shot(self, model: CellHermes) -> bool:
        """Whether a model was not tuned on the task."""
        return self.task.name not in model.card.tasks

    def asked_of(self, model: CellHermes) -> "Question":
        """The question with what is None decided by whether the model was tuned on the task."""
        is_zero_shot = self.is_zero_shot(model) and self.decode == "score"
        normalize, prior = ("mean", NOTHING) if is_zero_shot else ("sum", "")
        return replace(self, normalize=self.normalize or normalize, prior=prior if self.prior is None else self.prior)

    def prompts(self, frame: pd.DataFrame, rows: slice) -> list[Prompt]:
        """Texts of some rows; an error counts rows in the whole frame."""
        return self.texts(Rows.of(frame), rows)

    def texts(self, rows: "Rows", part: slice) -> list[Prompt]:
        """Texts of some rows; an error counts all rows."""
        options = {"expression": self.expression, "variant": self.variant}
        try:
            return self.task.prompts(rows.asked(part), **options)
        except ValueError:
            self.task.prompts(rows.asked(slice(None)), **options)
            raise

    def about(self, model: CellHermes) -> dict[str, Param | None]:
        """What log-probabilities and texts depend on, besides the rows."""
        how = {"normalize": self.normalize} if self.decode == "score" else {"max_new_tokens": self.max_new_tokens}
        return {
            **provenance(model, self.task.template),
            "task_sha256": self.task.fingerprint(),
            "answers": list(self.task.answers or ()),
            "expression": self.expression,
            "variant": self.variant,
            "decode": self.decode,
            **how,
        }


@dataclass(frozen=True)
class Rows:
    """Rows that questions are about, read when they are needed."""

    index: pd.Index
    """Their names."""
    read: Callable[[slice], pd.DataFrame]
    """Reads some of them, with the columns that are shown."""
    skips: bool = False
    """Leave out cells whose sentence is empty."""

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Rows":
        """All rows of a frame."""
        return cls(frame.index, lambda part: frame.iloc[part])

    def __len__(self) -> int:
        return len(self.index)

    @property
    def parts(self) -> list[slice]:
        """Blocks of rows."""
        return [slice(start, min(start + BLOCK, len(self))) for start in range(0, len(self), BLOCK)]

    def asked(self, part: slice) -> pd.DataFrame:
        """Those of some rows that are asked about."""
        frame = self.read(part)
        return frame[self.filled(frame)] if self.skips else frame

    def filled(self, frame: pd.DataFrame) -> np.ndarray:
        """Which rows of a part are asked about."""
        if self.skips and SENTENCE in frame:
            return (frame[SENTENCE] != "").to_numpy()
        return np.ones(len(frame), dtype=bool)


class Asked:
    """Questions to a model: what is computed for each block of rows, and what becomes of it."""

    def __init__(self, question: Question, rows: Rows, model: str | Path | CellHermes, batch_size: int | None) -> None:
        question.texts(rows, slice(0, 1))  # what is missing is said before a model is loaded
        self.rows, self.batch_size = rows, batch_size
        self.model = as_model(model)
        self.question = question.asked_of(self.model)
        self.about = self.question.about(self.model)
        self.is_zero_shot = question.is_zero_shot(self.model)
        if self.is_zero_shot:
            warn_of_zero_shot(self.model, question.task.name)
        self.filled = np.zeros(len(rows), dtype=bool)  # known after :meth:`texts`

    @property
    def how(self) -> dict[str, Param | None]:
        """How answers were made of what the model gave."""
        return {**self.about, "prior": self.question.prior, "zero_shot": self.is_zero_shot}

    def texts(self) -> Iterator[str]:
        """Texts of all questions. Those that may be too long are tokenised: a text has at most as many tokens as bytes.

        A row that is not asked about has no text.
        """
        question, model = self.question, self.model
        if question.decode == "score":
            follows = {"answers": question.task.answers}
            longest = max(len(answer.encode()) for answer in question.task.answers)
        else:
            follows, longest = {"max_new_tokens": question.max_new_tokens}, question.max_new_tokens
        model.check([], **follows)
        for part in self.rows.parts:
            self.filled[part] = filled = self.rows.filled(self.rows.read(part))
            prompts = question.texts(self.rows, part)
            risky = [i for i, one in enumerate(prompts) if len(one.text.encode()) + longest > model.max_tokens - 64]
            try:
                model.check([prompts[i] for i in risky], **follows)
            except PromptLengthError as error:
                row = part.start + np.flatnonzero(filled)[risky[error.index]]
                error.add_note(f"It is the question of row {self.rows.index[row]!r}.")
                raise
            texts = iter(prompts)
            yield from (next(texts).text if is_asked else "" for is_asked in filled)

    def block(self, i: int) -> np.ndarray:
        """(rows, answers) log-probabilities, or (rows,) texts; NaN, or nothing, where nothing is asked."""
        part = self.rows.parts[i]
        found = _compute(self.question, self.question.texts(self.rows, part), self.model, self.batch_size)
        filled = self.filled[part]
        if filled.all():
            return found
        whole = np.full((len(filled), *found.shape[1:]), np.nan if found.dtype.kind == "f" else "", found.dtype)
        whole[filled] = found
        return whole

    def found(self, part: slice, blocks: list[np.ndarray]) -> pd.DataFrame:
        """Answers to the rows of some blocks, as :func:`answer` returns them; missing where nothing was asked."""
        filled = self.filled[part]
        if self.question.decode == "generate":
            made = _generated(self.question, np.concatenate([np.empty(0, dtype=str), *blocks])[filled])
        else:
            empty = np.empty((0, len(self.question.task.answers)))
            made = _scored(self.question, np.concatenate([empty, *blocks])[filled], self.prior)
        if not filled.all():
            made = made.set_axis(np.flatnonzero(filled)).reindex(np.arange(len(filled)))
        return made.set_axis(self.rows.index[part])

    @cached_property
    def prior(self) -> np.ndarray:
        """(answers,) log-probabilities behind the question that says nothing; 0 where it is not asked."""
        question = self.question
        if not question.prior:
            return np.zeros(len(question.task.answers))
        nothing = {name: [question.prior] for name in (*question.task.fields, SENTENCE)}
        prompts = question.task.prompts(nothing, expression=question.expression, variant=question.variant)
        return _compute(question, prompts, self.model, self.batch_size)[0]


def ask(
    question: Question,
    rows: Rows,
    model: str | Path | CellHermes,
    batch_size: int | None,
    checkpoint: str | Path | None,
    shard: Shard | None = None,
) -> tuple[pd.DataFrame, dict[str, Param | None]]:
    """Answers of all rows, as :func:`answer` returns them, and how they were made."""
    asked, shard = Asked(question, rows, model, batch_size), shard or Shard()
    texts, n = asked.texts(), len(rows.parts)
    with checkpoint_of(checkpoint, {**asked.about, "block": BLOCK}, texts, shard) as kept:
        deque(texts, maxlen=0)  # without a checkpoint nobody has read them, and lengths are still to be checked
        fill(kept, n, asked.block, shard, desc=question.task.name, of=BLOCK)
        wait(kept, n, shard)
        blocks = [kept.load(i) for i in range(n)]
    return asked.found(slice(0, len(rows)), blocks), asked.how


def warn_of_zero_shot(model: CellHermes, task: str) -> None:
    """Warn, before anything is computed, that a model was not tuned on what it is asked."""
    named = ", ".join(model.card.tasks) or "none"
    msg = (
        f"{model.card.name} was not tuned on the task {task!r} (its card and training record name: {named}). "
        "Its answers are zero-shot: measure them where answers are known (ch.metrics.classification, with "
        "ch.baselines.answer beside), or tune it (ch.train.questions.task_pairs, ch.train.fit)."
    )
    warnings.warn(msg, UserWarning, stacklevel=5)


def warn_of_collapse(counts: Mapping[str, int], task: Task, *, stacklevel: int) -> None:
    """Warn where zero-shot answers hardly depend on the questions; ``counts`` is how often each was given."""
    n, known = sum(counts.values()), task.answers or ()
    if n < FEW or len(known) < 2:
        return
    top = max(counts, key=counts.__getitem__)
    never = [answer for answer in known if not counts.get(answer)] if n >= FEW * len(known) else []
    told = [f"{top!r} is the answer to {counts[top]:,} of them"] if counts[top] > MOST * n else []
    told += [f"never an answer: {', '.join(map(repr, never))}"] if never else []
    if told:
        msg = (
            f"{n:,} questions of {task.name!r} were answered zero-shot, and {'; '.join(told)}. "
            "They may say more of the words of the answers than of the questions: do not use them unmeasured."
        )
        warnings.warn(msg, UserWarning, stacklevel=stacklevel)


def _compute(question: Question, prompts: list[Prompt], model: CellHermes, batch_size: int | None) -> np.ndarray:
    """(rows, answers) log-probabilities, or (rows,) texts."""
    if question.decode == "score":
        return model.score(prompts, question.task.answers, normalize=question.normalize, batch_size=batch_size)
    return np.array(model.generate(prompts, max_new_tokens=question.max_new_tokens, batch_size=batch_size), dtype=str)


def _scored(question: Question, scores: np.ndarray, prior: np.ndarray) -> pd.DataFrame:
    answers = np.array(question.task.answers, dtype=object)
    probability = softmax((scores - prior) / question.calibration, axis=1)
    best = probability.argmax(axis=1)
    confidence = probability[np.arange(len(best)), best]
    sure = confidence >= (question.abstain_below or 0)
    found = {
        "answer": np.where(sure, answers[best], None),
        "status": np.where(sure, ANSWERED, ABSTAINED),
        "confidence": confidence,
        **{f"{LOG_PROBABILITY}{name}": column for name, column in zip(answers, scores.T, strict=True)},
        **{f"{PROBABILITY}{name}": column for name, column in zip(answers, probability.T, strict=True)},
    }
    return pd.DataFrame(found)


def _generated(question: Question, texts: np.ndarray) -> pd.DataFrame:
    texts = [str(text) for text in texts]
    found = [question.task.parse(text) for text in texts]
    status = [UNPARSED if one is None else ANSWERED for one in found]
    return pd.DataFrame({"answer": np.array(found, dtype=object), "status": status, "text": texts})


def counted(found: pd.DataFrame) -> str:
    """How many rows have an answer, and why others have none."""
    return ", ".join(f"{n:,} {status}" for status, n in found["status"].value_counts().items())
