"""Questions to a model, some rows at a time: what is computed for them, and what becomes of it."""

import logging
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import softmax

from .._blocks import Shard, fill, wait
from .._keys import LOG_PROBABILITY, PROBABILITY, Param, modality_of
from ..model import CellHermes, PromptLengthError
from ..text import Prompt, Question
from ..text._columns import SENTENCE
from ._checkpoint import checkpoint as checkpoint_of
from ._model import as_model, provenance

logger = logging.getLogger("cellhermes")

BLOCK = 1_000  # questions in memory at once, and which are kept together on disk
NOTHING = "N/A"  # stands in the fields of a question that says nothing
MOST, FEW = 0.9, 10  # share of rows above which one answer is told of; rows, for each answer, below which nothing is
ANSWERED, ABSTAINED, UNPARSED = "answered", "abstained", "unparsed"
READING = ("fields", "prior", "calibration", "abstain_below", "zero_shot")  # blocks do not depend on these


def of_sentences(question: Question, adata: AnnData) -> Question:
    """Ask in the words of the modality that the sentences of some cells are of."""
    modality = modality_of(adata, question.column_of(SENTENCE))
    return question.in_words(modality) if modality else question


def is_zero_shot(question: Question, model: CellHermes) -> bool:
    """Whether a model was not tuned on the task."""
    return question.task.name not in model.card.tasks


def settled(question: Question, model: CellHermes) -> Question:
    """Decide what is None by whether the model was tuned on the task."""
    if question.decode == "generate":
        return question
    normalize, prior = ("mean", NOTHING) if is_zero_shot(question, model) else ("sum", "")
    prior = prior if question.prior is None else question.prior
    return replace(question, normalize=question.normalize or normalize, prior=prior)


@dataclass(frozen=True)
class Rows:
    """Rows that questions are about, read when they are needed."""

    index: pd.Index
    """Their names."""
    read: Callable[[slice], pd.DataFrame]
    """Reads some of them, with the columns that are shown."""
    sentence: str = ""
    """The column with the sentences, where cells whose sentence is empty are left out."""

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
        return frame[self.filled(frame)] if self.sentence else frame

    def filled(self, frame: pd.DataFrame) -> np.ndarray:
        """Which rows of a part are asked about."""
        return (frame[self.sentence] != "").to_numpy() if self.sentence else np.ones(len(frame), dtype=bool)


class Asked:
    """Questions to a model: what is computed for each block of rows, and what becomes of it."""

    def __init__(self, question: Question, rows: Rows, model: str | Path | CellHermes, batch_size: int | None) -> None:
        self.question, self.rows, self.batch_size = question, rows, batch_size
        self._prompts(slice(0, 1))  # what is missing is said before a model is loaded
        self.model = as_model(model)
        self.question = settled(question, self.model)
        self.is_zero_shot = is_zero_shot(question, self.model)
        if self.is_zero_shot:
            warn_of_zero_shot(self.model, question.task.name)
        self.filled = np.zeros(len(rows), dtype=bool)  # known after :meth:`texts`

    @property
    def how(self) -> dict[str, Param | None]:
        """How answers are made: by which model, of which question."""
        return {**provenance(self.model), **self.question.about, "zero_shot": self.is_zero_shot}

    def _prompts(self, part: slice) -> list[Prompt]:
        """Texts of some rows; an error counts all rows."""
        try:
            return self.question.prompts(self.rows.asked(part))
        except ValueError:
            self.question.prompts(self.rows.asked(slice(None)))
            raise

    def texts(self) -> Iterator[str]:
        """Texts of all questions. Those that may be too long are tokenised: a text has at most as many tokens as bytes.

        A row that is not asked about has no text.
        """
        question, model = self.question, self.model
        if question.decode == "score":
            follows = {"answers": question.answers}
            longest = max(len(answer.encode()) for answer in question.answers)
        else:
            follows, longest = {"max_new_tokens": question.max_new_tokens}, question.max_new_tokens
        model.check([], **follows)
        for part in self.rows.parts:
            self.filled[part] = filled = self.rows.filled(self.rows.read(part))
            prompts = self._prompts(part)
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
        values = _compute(self.question, self._prompts(part), self.model, self.batch_size)
        filled = self.filled[part]
        if filled.all():
            return values
        whole = np.full((len(filled), *values.shape[1:]), np.nan if values.dtype.kind == "f" else "", values.dtype)
        whole[filled] = values
        return whole

    def found(self, part: slice, blocks: list[np.ndarray]) -> pd.DataFrame:
        """Answers to the rows of some blocks, as :func:`answer` returns them; missing where nothing was asked."""
        filled = self.filled[part]
        if self.question.decode == "generate":
            table = _generated(self.question, np.concatenate([np.empty(0, dtype=str), *blocks])[filled])
        else:
            empty = np.empty((0, len(self.question.answers)))
            table = _scored(self.question, np.concatenate([empty, *blocks])[filled], self.prior)
        if not filled.all():
            table = table.set_axis(np.flatnonzero(filled)).reindex(np.arange(len(filled)))
        return table.set_axis(self.rows.index[part])

    @cached_property
    def prior(self) -> np.ndarray:
        """(answers,) log-probabilities behind the question that says nothing."""
        return prior_of(self.question, self.model)


def ask(
    question: Question,
    rows: Rows,
    model: str | Path | CellHermes,
    batch_size: int | None,
    checkpoint: str | Path | None = None,
    shard: Shard | None = None,
) -> tuple[pd.DataFrame, Asked]:
    """Answers of all rows, as :func:`answer` returns them, and what was asked."""
    asked, shard = Asked(question, rows, model, batch_size), shard or Shard()
    texts, n = asked.texts(), len(rows.parts)
    about = {name: value for name, value in asked.how.items() if name not in READING}
    with checkpoint_of(checkpoint, {**about, "block": BLOCK}, texts, shard) as kept:
        deque(texts, maxlen=0)  # without a checkpoint nobody has read them, and lengths are still to be checked
        fill(kept, n, asked.block, shard, desc=question.task.name, of=BLOCK)
        wait(kept, n, shard)
        blocks = [kept.load(i) for i in range(n)]
    return asked.found(slice(0, len(rows)), blocks), asked


def warn_of_zero_shot(model: CellHermes, task: str) -> None:
    """Warn, before anything is computed, that a model was not tuned on what it is asked."""
    named = ", ".join(model.card.tasks) or "none"
    msg = (
        f"{model.card.name} was not tuned on the task {task!r} (its card and training record name: {named}). "
        "Its answers are zero-shot: measure them where answers are known (ch.metrics.classification, with "
        "ch.baselines.answer beside), or tune it (ch.train.questions.task_pairs, ch.train.fit)."
    )
    warnings.warn(msg, UserWarning, stacklevel=5)


def warn_of_collapse(counts: Mapping[str, int], question: Question, *, stacklevel: int) -> None:
    """Warn where zero-shot answers hardly depend on the questions; ``counts`` is how often each was given."""
    n, known = sum(counts.values()), question.answers or ()
    if n < FEW or len(known) < 2:
        return
    top = max(counts, key=counts.__getitem__)
    never = [answer for answer in known if not counts.get(answer)] if n >= FEW * len(known) else []
    signs = [f"{top!r} is the answer to {counts[top]:,} of them"] if counts[top] > MOST * n else []
    signs += [f"never an answer: {', '.join(map(repr, never))}"] if never else []
    if signs:
        msg = (
            f"{n:,} questions of {question.task.name!r} were answered zero-shot, and {'; '.join(signs)}. "
            "They may say more of the words of the answers than of the questions: do not use them unmeasured."
        )
        warnings.warn(msg, UserWarning, stacklevel=stacklevel)


def prior_of(question: Question, model: CellHermes) -> np.ndarray:
    """(answers,) log-probabilities behind the question that says nothing; 0 where it is not asked."""
    if not question.prior:
        return np.zeros(len(question.answers))
    prompts = question.prompts({column: [question.prior] for column in question.shown.values()})
    return _compute(question, prompts, model, None)[0]


def _compute(question: Question, prompts: list[Prompt], model: CellHermes, batch_size: int | None) -> np.ndarray:
    """(rows, answers) log-probabilities, or (rows,) texts."""
    if question.decode == "score":
        return model.score(prompts, question.answers, normalize=question.normalize, batch_size=batch_size)
    return np.array(model.generate(prompts, max_new_tokens=question.max_new_tokens, batch_size=batch_size), dtype=str)


def _scored(question: Question, scores: np.ndarray, prior: np.ndarray) -> pd.DataFrame:
    answers = np.array(question.answers, dtype=object)
    probability = softmax((scores - prior) / question.calibration, axis=1)
    best = probability.argmax(axis=1)
    confidence = probability[np.arange(len(best)), best]
    sure = confidence >= (question.abstain_below or 0)
    scored = {
        "answer": np.where(sure, answers[best], None),
        "status": np.where(sure, ANSWERED, ABSTAINED),
        "confidence": confidence,
        **{f"{LOG_PROBABILITY}{name}": column for name, column in zip(answers, scores.T, strict=True)},
        **{f"{PROBABILITY}{name}": column for name, column in zip(answers, probability.T, strict=True)},
    }
    return pd.DataFrame(scored)


def _generated(question: Question, texts: np.ndarray) -> pd.DataFrame:
    texts = [str(text) for text in texts]
    parsed = [question.task.parse(text) for text in texts]
    status = [UNPARSED if one is None else ANSWERED for one in parsed]
    return pd.DataFrame({"answer": np.array(parsed, dtype=object), "status": status, "text": texts})


def counted(table: pd.DataFrame) -> str:
    """How many rows have an answer, and why others have none."""
    return ", ".join(f"{n:,} {status}" for status, n in table["status"].value_counts().items())
