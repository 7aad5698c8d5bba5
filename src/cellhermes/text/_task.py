"""A prediction task is one TOML file: how it is asked, which answers there are, and how an answer is read.

A task knows strings. A frame is anything with named columns (a data frame, a mapping of lists), so that cells
(``adata.obs``) and tables of questions are asked in the same way. Which model answers, and how, is not known here.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self, get_args

import numpy as np

from ._answer import answer_in
from ._columns import SENTENCE, SHOWN, column, listed
from ._modality import Modality
from ._named import Named
from ._task_file import fields_of
from ._template import Prompt, Template, reworded

if TYPE_CHECKING:
    from ._columns import Frame

Unit = Literal["cell", "row"]

ANSWERS = "answers"  # the slot that lists the answers in a question


@dataclass(frozen=True)
class Task(Named):
    """A kind of question: its wordings, its answers, and how an answer is read from text.

    Parameters
    ----------
    name
        Name of its file.
    version
        Raised whenever a wording or an answer changes; stored with results.
    unit
        ``"cell"``: asked about the cells of an AnnData, columns are those of ``obs``. ``"row"``: asked about the rows
        of a frame.
    template
        The wordings. Each slot is a column, but for ``{answers}``, which lists the answers.
    expression
        The wordings with a place for the cell's ranked genes (``{cell_sentence}``), None for a task without one.
    answers
        All answers of a closed task. None: open, or given later with :meth:`with_answers`.
    label
        The column with the true answer.
    pattern
        Regular expression with one group that finds the answer in generated text (the last match counts); ``""`` looks
        at the whole text.
    labels
        Value in the label column to answer, for columns that hold ``1`` where the answer is ``"Yes"``.
    source
        Where the task is described.

    Examples
    --------
    >>> import cellhermes as ch
    >>> task = ch.text.Task.load("genetic_interaction_synthetic")
    >>> task.fields, task.answers
    (('gene_a', 'gene_b'), ('Yes', 'No'))
    >>> print(task.prompts({"gene_a": ["BRCA1"], "gene_b": ["PARP1"]})[0].text)
    Do these two genes have a synthetic genetic interaction? Answer Yes or No.
    Gene BRCA1 and Gene PARP1
    """

    name: str
    version: int
    unit: Unit
    template: Template
    expression: Template | None = None
    answers: tuple[str, ...] | None = None
    label: str = "answer"
    pattern: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    _or_else: ClassVar[str] = "; or pass the path of a TOML file"

    def __post_init__(self) -> None:
        wrong = self._wrong()
        if wrong:
            msg = f"Task {self.name!r}: {wrong}."
            raise ValueError(msg)

    @classmethod
    @cache
    def _shipped(cls) -> Mapping[str, Self]:
        """Read all tasks of ``text/tasks/*.toml``."""
        paths = sorted((files(__package__) / "tasks").iterdir(), key=lambda path: path.name)
        names = {path.name.removesuffix(".toml"): path for path in paths if path.name.endswith(".toml")}
        return {name: _read(name, path.read_bytes(), path.name) for name, path in names.items()}

    @classmethod
    def load(cls, name: str | Path | Self) -> Self:
        """Take one by its name, or from your own file.

        Parameters
        ----------
        name
            One of :meth:`names`; the path of a TOML file, whose name without the ending is the name of the task; or a
            task, which is returned as it is.

        Returns
        -------
        The task.

        Raises
        ------
        KeyError
            If there is none of that name; the message lists the known ones.
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no TOML, a key is missing or not known, or the parts do not fit together.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import cellhermes as ch
        >>> ch.text.Task.load("t_cell_reactivity").answers
        ('Reactive', 'Non-Reactive')
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "doublet.toml")
        ...     _ = file.write_text('''
        ... version = 1
        ... unit = "cell"
        ... source = "our laboratory"
        ... instructions = ["Is this profile a doublet? Answer Yes or No."]
        ... input = "A cell with genes ranked by expression: {cell_sentence}"
        ... answers = ["Yes", "No"]
        ... ''')
        ...     ch.text.Task.load(file).name
        'doublet'
        """
        if isinstance(name, Path) or (isinstance(name, str) and name.endswith(".toml")):
            path = Path(name)
            return _read(path.stem, path.read_bytes(), str(path))
        return super().load(name)

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns that a question needs, in the order of the wording; ``cell_sentence`` only where it always does."""
        return tuple(slot for slot in self.template.slots if slot != ANSWERS)

    @property
    def takes_expression(self) -> bool:
        """Whether a question can show the cell's ranked genes."""
        return self.expression is not None or SENTENCE in self.fields

    def with_answers(self, answers: Iterable[str]) -> "Task":
        """Return the same task with these answers, such as the labels of your cells.

        Parameters
        ----------
        answers
            All answers that may be given, each once.

        Returns
        -------
        A closed task.

        Raises
        ------
        ValueError
            If there are fewer than two, or they are empty, missing or not distinct, or one text.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Task.load("cell_type").with_answers(["B cell", "T cell"]).answers
        ('B cell', 'T cell')
        """
        answers = [answers] if isinstance(answers, str) else list(answers)
        others = [answer for answer in answers if not isinstance(answer, str)]
        if missing := [answer for answer in others if str(answer) in ("None", "nan", "NaT", "<NA>")]:
            msg = f"Task {self.name!r}: one of the answers is {missing[0]!r}; leave out what is missing."
            raise ValueError(msg)
        answers = tuple(map(str, answers))
        return replace(self, answers=answers, labels={k: v for k, v in self.labels.items() if v in answers})

    def in_words(self, modality: str) -> "Task":
        """Return the same task about cells whose sentences are of a modality, such as surface proteins.

        Parameters
        ----------
        modality
            A name of :meth:`Modality.names`.

        Returns
        -------
        A task that says so in front of a cell's list. :func:`cellhermes.tl.predict` asks in the words that the
        sentences were made with; train and ask tables with this task.

        Raises
        ------
        KeyError
            If there is no such modality.

        Examples
        --------
        >>> import cellhermes as ch
        >>> task = ch.text.Task.load("t_cell_reactivity").in_words("protein")
        >>> print(task.prompts({"cell_sentence": ["CD3 CD8"]})[0].text.splitlines()[1])
        A cell with surface proteins ranked by abundance: CD3 CD8
        """
        of = Modality.load(modality).name

        def said(template: Template | None) -> Template | None:
            return template and replace(template, variants=tuple(reworded(text, of) for text in template.variants))

        return replace(self, template=said(self.template), expression=said(self.expression))

    def wordings(self, *, expression: bool | None = None) -> Template:
        """Return the wordings with, or without, the cell's ranked genes.

        Parameters
        ----------
        expression
            As for :meth:`prompts`.

        Returns
        -------
        A template; its slots are what a question shows.

        Raises
        ------
        ValueError
            If the task cannot be asked with or without expression as wished.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Task.load("cell_type").wordings().slots
        ('cell_sentence', 'answers')
        """
        if expression is False and SENTENCE in self.fields:
            msg = f"Task {self.name!r} asks about the genes of a cell; it cannot be asked with expression=False."
            raise ValueError(msg)
        if not expression or SENTENCE in self.fields:
            return self.template
        if self.expression is None:
            msg = f"Task {self.name!r} has no place for the genes of a cell; pass expression=False."
            raise ValueError(msg)
        return self.expression

    def prompts(
        self,
        frame: "Frame",
        *,
        expression: bool | None = None,
        rng: int | np.random.Generator | None = None,
        variant: int | Sequence[int] = 0,
    ) -> list[Prompt]:
        """Write one question for each row.

        Parameters
        ----------
        frame
            A data frame or a mapping of columns, with the :attr:`fields`. ``genes`` and ``cell_sentence`` are lists of
            genes, or strings with blanks between them; ``perturbation`` may join several genes with ``+``.
        expression
            Show the cell's ranked genes, read from the column ``cell_sentence`` (the paper's "w/ GE"). None shows them
            only where the question cannot do without.
        rng
            Seed or generator that picks a wording for each row; None takes ``variant``.
        variant
            Number of the wording, one for all rows or one for each.

        Returns
        -------
        One :class:`Prompt` a row.

        Raises
        ------
        KeyError
            If a column is missing.
        ValueError
            If a value is missing (the message says in which rows), there is no such wording, or the task cannot be
            asked with or without expression as wished.

        Examples
        --------
        >>> import cellhermes as ch
        >>> task = ch.text.Task.load("cell_type").with_answers(["B cell", "T cell"])
        >>> print(task.prompts({"cell_sentence": ["CD3E IL7R"]})[0].text)
        Which of the listed types is this cell? Answer with one of them.
        A cell with genes ranked by expression: CD3E IL7R
        Possible answers: B cell, T cell
        """
        template = self.wordings(expression=expression)
        columns = self.columns(frame, expression=expression)
        n_rows = len(next(iter(columns.values())))
        if ANSWERS in template.slots:
            if self.answers is None:
                msg = f"Task {self.name!r} lists its answers, and has none yet. Pass answers=, or use with_answers()."
                raise ValueError(msg)
            columns[ANSWERS] = [", ".join(self.answers)] * n_rows
        variants = _variants(len(template.variants), n_rows, rng, variant, self.name)
        return [
            template.fill(variant=number, **dict(zip(columns, values, strict=True)))
            for number, values in zip(variants, zip(*columns.values(), strict=True), strict=True)
        ]

    def columns(self, frame: "Frame", *, expression: bool | None = None) -> dict[str, list[str | list[str]]]:
        """Return what questions are made of: the columns that a question shows, checked, each value as it is written.

        Parameters
        ----------
        frame, expression
            As for :meth:`prompts`, which raises the same errors.

        Returns
        -------
        Column to its values: strings, or lists of genes.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Task.load("gene_set_disease").columns({"genes": ["TP53 MDM2"], "n": [2]})
        {'genes': [['TP53', 'MDM2']]}
        """
        slots = self.wordings(expression=expression).slots
        texts = {slot: column(frame, slot, self.name) for slot in slots if slot != ANSWERS}
        lengths = {name: len(values) for name, values in texts.items()}
        if len(set(lengths.values())) > 1:
            msg = f"Task {self.name!r}: columns have different lengths, {lengths}."
            raise ValueError(msg)
        return texts

    def answers_of(self, frame: "Frame") -> list[str]:
        """Return true answers of each row: the label column, in the words of the task.

        Parameters
        ----------
        frame
            A data frame or a mapping of columns, with the column ``label`` of the task.

        Returns
        -------
        One answer a row.

        Raises
        ------
        KeyError
            If the column is missing.
        ValueError
            If a label is missing, or is none of the answers; the message names them.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Task.load("cell_fitness").answers_of({"answer": [1, 0, "Yes"]})
        ['Yes', 'No', 'Yes']
        """
        truths = [self.labels.get(label, label) for label in column(frame, self.label, self.name, lists=False)]
        if self.answers is not None and (outside := sorted(set(truths) - set(self.answers))):
            msg = (
                f"{len(outside)} labels in column {self.label!r} are no answers of task {self.name!r}, such as "
                f"{outside[:SHOWN]}. Expected {listed(self.answers)}"
                + (f", or {listed(self.labels)}" if self.labels else "")
                + ". Rename them, or pass the answers that you want."
            )
            raise ValueError(msg)
        return truths

    def parse(self, text: str) -> str | None:
        """Read the answer from generated text; None where there is none, or more than one. Never a guess.

        A closed task looks for its answers as whole words, in their own spelling and longer ones first, so that
        ``"Reactive"`` is not found inside ``"Non-Reactive"`` or ``"not Reactive"``; upper and lower case count as the
        same only where the text is nothing but the answer. An open task takes what ``pattern`` finds, or the text.

        Parameters
        ----------
        text
            What a model wrote.

        Returns
        -------
        One of the answers, or any text for an open task; None where it cannot be read.

        Examples
        --------
        >>> import cellhermes as ch
        >>> task = ch.text.Task.load("t_cell_reactivity")
        >>> task.parse("This cell is Non-Reactive."), task.parse("reactive"), task.parse("Reactive or Non-Reactive")
        ('Non-Reactive', 'Reactive', None)
        """
        return answer_in(text, self.answers, self.pattern)

    def fingerprint(self) -> str:
        """Hash of all that decides question and answer, for results that are kept.

        Returns
        -------
        SHA-256.

        Examples
        --------
        >>> import cellhermes as ch
        >>> len(ch.text.Task.load("cell_type").fingerprint())
        64
        """
        wordings = [self.template.variants, self.expression and self.expression.variants]
        parts = [self.name, self.version, self.unit, wordings, self.answers, self.pattern, dict(self.labels)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _wrong(self) -> str:
        """Return what does not fit together, ``""`` if all does."""
        if self.unit not in get_args(Unit):
            return f"unit is {self.unit!r}; expected one of {get_args(Unit)}"
        if not self.fields or any("{}" in text for text in self.template.variants):
            return "the wording has no slot with a name, such as {gene}"
        if self.expression is not None and {*self.expression.slots} != {*self.template.slots, SENTENCE}:
            return f"expression must have the slot {{{SENTENCE}}}, and no other that the input lacks"
        if self.answers is not None:
            if len(self.answers) < 2 or any(not answer or answer != answer.strip() for answer in self.answers):
                return f"answers are {listed(self.answers)}; expected at least two, without blanks at their ends"
            if repeated := sorted({answer for answer in self.answers if self.answers.count(answer) > 1}):
                return f"the answers {repeated[:SHOWN]} come more than once"
            if outside := sorted(set(self.labels.values()) - set(self.answers)):
                return f"labels lead to {outside[:SHOWN]}; expected answers, {listed(self.answers)}"
        try:
            if self.pattern and re.compile(self.pattern).groups != 1:
                return f"pattern {self.pattern!r} needs exactly one group, the answer"
        except re.error as error:
            return f"pattern {self.pattern!r} is no regular expression: {error}"
        return ""


def _read(name: str, content: bytes, where: str) -> Task:
    try:
        return Task(name=name, **fields_of(name, content))
    except ValueError as error:
        msg = f"{where}: {error}"
        raise ValueError(msg) from None


def _variants(
    n_variants: int, n_rows: int, rng: int | np.random.Generator | None, variant: int | Sequence[int], task: str
) -> list[int]:
    if rng is not None:
        return np.random.default_rng(rng).integers(n_variants, size=n_rows).tolist()
    numbers = [variant] * n_rows if isinstance(variant, int) else list(variant)
    if len(numbers) != n_rows or not all(0 <= number < n_variants for number in numbers):
        msg = (
            f"variant={variant!r}; expected numbers from 0 to {n_variants - 1} for the {n_rows} rows of task {task!r}."
        )
        raise ValueError(msg)
    return numbers
