"""A question as it travels: a task, what it shows of a frame, and how it is asked and answered.

What can be checked without a model and a frame is checked when a question is made. What depends on the model stays
None here.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ._columns import SENTENCE, check_column
from ._task import ANSWERS, Task
from ._template import Prompt

if TYPE_CHECKING:
    from ._columns import Frame

Decode = Literal["score", "generate"]


@dataclass(frozen=True)
class Question:
    """A task, and how it is asked and answered.

    Everything that asks takes a question, or a task for a question with its defaults: :func:`cellhermes.tl.predict`,
    :func:`cellhermes.tl.answer`, :func:`cellhermes.tl.explain`, :func:`cellhermes.tl.faithfulness`,
    :func:`cellhermes.tl.reasons`, and training.

    Parameters
    ----------
    task
        A name of :meth:`Task.names`, the path of a TOML file, or a :class:`Task`.
    answers
        Answers to choose from, such as your cell types, in place of the task's.
    fields
        Field of the task to the column that holds it, ``{"gene_a": "source"}``, where they are called otherwise.
        ``"cell_sentence"`` and the column with the true answer may be named, too.
    variant
        Which wording of the task is asked.
    expression
        Show the genes of the cell, from the column ``cell_sentence`` (the paper's "w/ GE"). None shows them only where
        the question can't do without.
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

    Raises
    ------
    KeyError
        If there is no such task, or it has no such field.
    ValueError
        If a value is none of those above, answers are unfit, an open task is to be scored, or the task can't be asked
        with or without expression as wished.

    Examples
    --------
    >>> import cellhermes as ch
    >>> question = ch.text.Question("genetic_interaction_synthetic", fields={"gene_a": "source", "gene_b": "target"})
    >>> question.answers, question.decode
    (('Yes', 'No'), 'score')
    >>> print(question.prompts({"source": ["BRCA1"], "target": ["PARP1"]})[0].text)
    Do these two genes have a synthetic genetic interaction? Answer Yes or No.
    Gene BRCA1 and Gene PARP1
    """

    task: Task | str | Path
    _: KW_ONLY
    answers: Sequence[str] | None = None
    fields: Mapping[str, str] | None = None
    variant: int = 0
    expression: bool | None = None
    decode: Decode | None = None
    normalize: Literal["sum", "mean"] | None = None
    prior: str | None = None
    calibration: float = 1.0
    abstain_below: float | None = None
    max_new_tokens: int = 100

    def __post_init__(self) -> None:
        task = Task.load(self.task)
        task = task if self.answers is None else task.with_answers(self.answers)
        decode = self.decode or ("generate" if task.answers is None else "score")
        settled = {"task": task, "answers": task.answers, "decode": decode, "fields": dict(self.fields or {})}
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        task.wordings(expression=self.expression)
        if unknown := sorted({*self.fields} - {*task.fields, task.label, SENTENCE}):
            msg = f"Task {task.name!r} has no field {unknown}; fields= may name {[*task.fields, SENTENCE, task.label]}."
            raise KeyError(msg)
        if wrong := self._wrong():
            raise ValueError(wrong)

    @classmethod
    def of(cls, question: "str | Path | Task | Question") -> "Question":
        """Return a question as it is, or that of a task with its defaults.

        Parameters
        ----------
        question
            A question, or whatever :meth:`Task.load` takes.

        Returns
        -------
        The question.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Question.of("t_cell_reactivity").answers
        ('Reactive', 'Non-Reactive')
        """
        return question if isinstance(question, cls) else cls(question)

    def in_words(self, modality: str) -> "Question":
        """Return the same question about cells whose sentences are of a modality; see :meth:`Task.in_words`."""
        return replace(self, task=self.task.in_words(modality))

    @property
    def shown(self) -> dict[str, str]:
        """Fields that the question shows, and the column of each."""
        slots = self.task.wordings(expression=self.expression).slots
        return {slot: self.column_of(slot) for slot in slots if slot != ANSWERS}

    def column_of(self, field: str) -> str:
        """Return the column of a field."""
        return self.fields.get(field, field)

    def prompts(self, frame: "Frame", *, variant: int | Sequence[int] | None = None) -> list[Prompt]:
        """Write the question for each row.

        Parameters
        ----------
        frame
            A data frame or a mapping of columns.
        variant
            Number of the wording, one for all rows or one for each; None takes the question's.

        Returns
        -------
        One :class:`Prompt` a row; see :meth:`Task.prompts`, also for errors.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Question("gene_set_disease").prompts({"genes": ["TP53 MDM2"]})[0].kind
        'gene_set_disease'
        """
        variant = self.variant if variant is None else variant
        return self.task.prompts(self._named(frame, *self.shown), expression=self.expression, variant=variant)

    def columns(self, frame: "Frame") -> dict[str, list[str | list[str]]]:
        """Return what questions are made of, by field; see :meth:`Task.columns`."""
        return self.task.columns(self._named(frame, *self.shown), expression=self.expression)

    def answers_of(self, frame: "Frame") -> list[str]:
        """Return the true answer of each row; see :meth:`Task.answers_of`."""
        return self.task.answers_of(self._named(frame, self.task.label))

    @property
    def about(self) -> dict[str, str | int | float | bool | list[str] | dict[str, str] | None]:
        """The record that is stored beside answers, and decides them for a model and a frame."""
        if self.decode == "score":
            how = {"normalize": self.normalize, "prior": self.prior, "calibration": self.calibration}
            how |= {"abstain_below": self.abstain_below}
        else:
            how = {"max_new_tokens": self.max_new_tokens}
        return {
            "task": self.task.name,
            "task_version": self.task.version,
            "task_sha256": self.task.fingerprint(),
            "answers": list(self.answers or ()),
            "fields": self.shown,
            "variant": self.variant,
            "expression": self.expression,
            "decode": self.decode,
            **how,
        }

    def fingerprint(self) -> str:
        """Hash the record of the question.

        Returns
        -------
        SHA-256.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Question("cell_fitness").fingerprint() == ch.text.Question("cell_fitness", variant=1).fingerprint()
        False
        """
        return hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()

    def _named(self, frame: "Frame", *names: str) -> "Frame":
        """Columns of a frame under the names of the task."""
        if not self.fields:
            return frame
        for name in names:
            check_column(frame, self.column_of(name), self.task.name)
        return {name: frame[self.column_of(name)] for name in names}

    def _wrong(self) -> str:
        """Say what can't be asked, ``""`` if all can."""
        if not 0 <= self.variant < (n_variants := len(self.task.template.variants)):
            return f"variant={self.variant}; task {self.task.name!r} has the wordings 0 to {n_variants - 1}."
        if ANSWERS in self.task.wordings(expression=self.expression).slots and self.answers is None:
            return f"Task {self.task.name!r} lists its answers, and has none yet. Pass answers=."
        if self.decode not in ("score", "generate"):
            return f"decode={self.decode!r} is not known; expected 'score' or 'generate'."
        if self.decode == "score" and self.answers is None:
            return f"Task {self.task.name!r} has no answers to score. Pass answers=, or decode='generate'."
        if self.normalize not in ("sum", "mean", None):
            return f"normalize={self.normalize!r} is not known; expected 'sum' or 'mean'."
        if self.prior and (self.decode == "generate" or not self.prior.strip()):
            return f"prior={self.prior!r}, decode={self.decode!r}; expected a text such as 'N/A', and decode='score'."
        if not 0 < self.calibration < float("inf"):
            return f"calibration={self.calibration}; expected a temperature above 0."
        if not self.max_new_tokens >= 1:
            return f"max_new_tokens={self.max_new_tokens}; expected at least 1."
        if self.abstain_below is not None and (self.decode == "generate" or not 0 <= self.abstain_below <= 1):
            return f"abstain_below={self.abstain_below}, decode={self.decode!r}; expected 0 to 1, and decode='score'."
        return ""
