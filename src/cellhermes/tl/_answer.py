"""Questions of a task, answered by a language model: scored where the answers are known, else generated."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import softmax

from .._blocks import Shard, fill, wait
from .._keys import SENTENCE, Param
from ..model import CellHermes, PromptLengthError
from ..text import Prompt, Task
from ..text import task as task_of
from ._checkpoint import checkpoint as checkpoint_of
from ._model import as_model, provenance

logger = logging.getLogger("cellhermes")

BLOCK = 1_000  # questions in memory at once, and which are kept together on disk
PROBABILITY, LOG_PROBABILITY = "probability:", "log_probability:"  # columns, one for each answer
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
    normalize: Literal["sum", "mean"] = "sum",
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

    Parameters
    ----------
    frame
        Rows with the fields of the task, such as ``gene_a`` and ``gene_b``.
    model
        A name of :func:`cellhermes.model.list_models`, a folder, a hub id, or a loaded :class:`~cellhermes.CellHermes`.
    task
        A key of :func:`cellhermes.text.tasks`, the path of a TOML file, or a :class:`~cellhermes.text.Task`.
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
        tokens, where long answers should not fall behind short ones (see :meth:`cellhermes.CellHermes.score`).
    prior
        Text that stands in all fields of a question that says nothing, such as ``"N/A"``: what each answer gets there
        is taken off, so that none wins because it is short or frequent in any text. This is contextual calibration
        (Zhao et al., 2021) with one such text and, normalised over the answers, the domain-conditional mutual
        information of Holtzman et al. (2021). It is for models that were not tuned on the task. None takes nothing off.
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
    found, _ = ask(question, Rows.of(frame), model, batch_size, checkpoint, Shard.here() if checkpoint else None)
    logger.info("%s questions: %s.", f"{len(found):,}", counted(found))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A task and how it is asked and answered: the arguments of :func:`answer`."""

    task: Task
    decode: Decode
    expression: bool | None
    variant: int
    normalize: Literal["sum", "mean"]
    prior: str | None = None
    calibration: float
    abstain_below: float | None
    max_new_tokens: int

    @classmethod
    def of(
        cls, task: str | Path | Task, answers: Sequence[str] | None, decode: Decode | None, **options: object
    ) -> "Question":
        """Check what can be checked without a model and a frame."""
        task = task_of(task) if answers is None else task_of(task).with_answers(answers)
        question = cls(task=task, decode=decode or ("generate" if task.answers is None else "score"), **options)
        if wrong := question._wrong():
            raise ValueError(wrong)
        return question

    def _wrong(self) -> str:
        if self.decode not in ("score", "generate"):
            return f"decode={self.decode!r} is not known; expected 'score' or 'generate'."
        if self.decode == "score" and self.task.answers is None:
            return f"Task {self.task.name!r} has no answers to score. Pass answers=, or decode='generate'."
        if self.normalize not in ("sum", "mean"):
            return f"normalize={self.normalize!r} is not known; expected 'sum' or 'mean'."
        if self.prior is not None and (self.decode == "generate" or not self.prior.strip()):
            return f"prior={self.prior!r}, decode={self.decode!r}; expected a text such as 'N/A', and decode='score'."
        if not 0 < self.calibration < np.inf:
            return f"calibration={self.calibration}; expected a temperature above 0."
        if not self.max_new_tokens >= 1:
            return f"max_new_tokens={self.max_new_tokens}; expected at least 1."
        if self.abstain_below is not None and (self.decode == "generate" or not 0 <= self.abstain_below <= 1):
            return f"abstain_below={self.abstain_below}, decode={self.decode!r}; expected 0 to 1, and decode='score'."
        return ""

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
        self.question, self.rows, self.batch_size = question, rows, batch_size
        self.model = as_model(model)
        self.about = question.about(self.model)
        self.filled = np.zeros(len(rows), dtype=bool)  # known after :meth:`texts`

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
        if question.prior is None:
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
    return asked.found(slice(0, len(rows)), blocks), asked.about


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
