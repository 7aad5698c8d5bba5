"""Templates with slots become prompts that know where each gene stands.

The text of a prompt is written here and nowhere else, so positions are known when it is written and never searched for
later (``CD4`` is not found inside ``CD40``). Wordings live in ``templates/*.toml``: ``embed.toml`` has templates,
``pretrain.toml`` the objectives of the corpus, which become one template for each kind.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from string import Formatter
from typing import Self

import numpy as np

from ._named import Named

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text for the model, and where its genes stand in it.

    Parameters
    ----------
    text
        What is asked, without the turn markers of a chat.
    spans
        Gene symbol to (start, end), in characters of ``text``, for the genes of a list such as a cell sentence.
    prefix_len
        Characters at the beginning that many prompts may share. The cut stands before a blank (or is 0), so that
        tokenising both parts apart gives the token ids of the whole.
    entity
        (start, end) of what the vector stands for; None for a text without one.
    kind
        Name of the template, ``""`` for free text. A model may read the kinds at different tokens.
    variant
        Which wording of the template was taken.
    version
        Version of the template.

    Examples
    --------
    >>> import cellhermes as ch
    >>> prompt = ch.text.Template.load("gene").fill(gene="BRCA1")
    >>> prompt.text, prompt.entity
    ('Gene BRCA1', (5, 10))
    """

    text: str
    spans: Mapping[str, Span] = field(default_factory=dict)
    prefix_len: int = 0
    entity: Span | None = None
    kind: str = ""
    variant: int = 0
    version: int = 0

    def __post_init__(self) -> None:
        if not self.text or self.text != self.text.strip():
            msg = f"A prompt needs text without white space at its ends, got {self.text[:40]!r}."
            raise ValueError(msg)
        if self.prefix_len and self.text[self.prefix_len : self.prefix_len + 1] != " ":
            msg = f"prefix_len={self.prefix_len} must stand before a blank of {self.text[:40]!r}."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class QAPair:
    """A question with its answer: what training reads and benchmarks score.

    Parameters
    ----------
    prompt
        The question.
    answer
        The answer, without the token that closes it.
    task
        Where the pair comes from, such as ``"masked_node"``.
    source
        What it was made from: the name of a cell, a gene, or two genes with a blank between them.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.text.QAPair(ch.text.Prompt("Is CD3E a T-cell gene?"), "Yes", "demo").answer
    'Yes'
    """

    prompt: Prompt
    answer: str
    task: str
    source: str = ""


@dataclass(frozen=True)
class Template(Named):
    """Text with slots, in one or several wordings.

    Parameters
    ----------
    name
        Key in its TOML file.
    version
        Raised whenever a wording changes; stored with results.
    variants
        The wordings. ``{slot}`` takes a string, or a sequence of gene symbols that are written with blanks between
        them.
    answer
        Text of the answer with slots, None for prompts that only make a vector.
    entity
        The slot that the vector stands for.

    Examples
    --------
    >>> import cellhermes as ch
    >>> cell = ch.text.Template.load("cell").fill(genes=["CD3E", "IL7R"])
    >>> cell.text
    'A cell with genes ranked by expression: CD3E IL7R'
    >>> cell.spans["IL7R"]
    (45, 49)
    """

    name: str
    version: int
    variants: tuple[str, ...]
    answer: str | None = None
    entity: str | None = None

    def __post_init__(self) -> None:
        slots = [{slot for _, slot in parts if slot} for parts in self._parts]
        if not slots or any(s != slots[0] for s in slots):
            msg = f"Template {self.name!r}: every variant must have the same slots, found {[sorted(s) for s in slots]}."
            raise ValueError(msg)
        if self.entity is not None and self.entity not in slots[0]:
            msg = f"Template {self.name!r}: entity {self.entity!r} is none of its slots {sorted(slots[0])}."
            raise ValueError(msg)

    @classmethod
    @cache
    def _shipped(cls) -> Mapping[str, Self]:
        """Read all templates of ``text/templates/*.toml``."""
        templates: dict[str, Self] = {}
        for name, entry in entries().items():
            if "kinds" in entry:
                templates |= {template.name: template for template in _expand(name).values()}
            elif "variants" in entry:
                words = entry.get("words")
                about = {key: value for key, value in entry.items() if key != "words"}
                for of in entries()[words] if words else [""]:
                    variants = tuple(_named(reworded(text, of), of) for text in entry["variants"])
                    templates[in_words(name, of)] = cls(in_words(name, of), **about | {"variants": variants})
        return templates

    @cached_property
    def _parts(self) -> list[list[tuple[str, str | None]]]:
        """(literal, slot) pairs per variant, parsed once."""
        return [[(lit, slot) for lit, slot, _, _ in Formatter().parse(text)] for text in self.variants]

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots, in order of appearance."""
        return tuple(dict.fromkeys(slot for _, slot in self._parts[0] if slot))

    def fill(
        self, *, rng: int | np.random.Generator | None = None, variant: int = 0, **slots: str | Sequence[str]
    ) -> Prompt:
        """Write the prompt.

        Parameters
        ----------
        rng
            Seed or generator that picks the wording; None takes ``variant``.
        variant
            Number of the wording.
        **slots
            A value for each slot.

        Returns
        -------
        The :class:`Prompt`; its ``variant`` says which wording was taken.

        Raises
        ------
        ValueError
            If a slot is missing, unknown or empty.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Template.load("interaction").fill(gene_a="TP53", gene_b="MDM2").text
        'Interaction of Gene TP53 with Gene MDM2'
        """
        self._check(slots)
        variant = variant if rng is None else int(np.random.default_rng(rng).integers(len(self.variants)))
        pieces: list[str] = []
        spans: dict[str, Span] = {}
        entity, at = None, 0
        for literal, slot in self._parts[variant]:
            pieces.append(literal)
            at += len(literal)
            if slot is None:
                continue
            start, value = at, slots[slot]
            for word in [value] if isinstance(value, str) else value:
                if at > start:
                    pieces.append(" ")
                    at += 1
                pieces.append(word)
                if not isinstance(value, str):
                    spans[word] = (at, at + len(word))
                at += len(word)
            if slot == self.entity:
                entity = (start, at)
        text = "".join(pieces)
        cut = entity[0] - 1 if entity else 0
        prefix_len = cut if cut > 0 and text[cut] == " " else 0
        return Prompt(text, spans, prefix_len, entity, self.name, variant, self.version)

    def _check(self, slots: Mapping[str, str | Sequence[str]]) -> None:
        if slots.keys() != set(self.slots):
            msg = f"Template {self.name!r} has the slots {list(self.slots)}, got {sorted(slots)}."
            raise ValueError(msg)
        empty = [slot for slot, value in slots.items() if not len(value) or not (isinstance(value, str) or all(value))]
        if empty:
            msg = f"Template {self.name!r}: nothing to write for {empty}."
            raise ValueError(msg)


@cache
def entries() -> dict[str, dict]:
    """Return what stands in all files: templates, objectives, and (under the name of their file) tables of words."""
    tables: dict[str, dict] = {}
    for file in sorted((files(__package__) / "templates").iterdir(), key=lambda f: f.name):
        table = tomllib.loads(file.read_text("utf-8"))
        is_words = not any({"kinds", "variants"} & set(entry) for entry in table.values())
        tables |= {file.name.removesuffix(".toml"): table} if is_words else table
    return tables


@cache
def _expand(task: str) -> dict[tuple[str, str], Template]:
    """Templates of an objective by modality or relation, and kind.

    A variant is a description, a line break, and the block of the kind, with the words of the modality or relation.
    """
    entry = entries()[task]
    tables = entries()[entry["words"]]
    templates = {}
    for of, words in tables.items():
        for kind, block in entry["kinds"].items():
            name = f"{task}/{kind}" if of == next(iter(tables)) else f"{task}/{kind}/{of}"
            variants = tuple(_put(f"{text}\n{block}", words) for text in entry["descriptions"])
            templates[of, kind] = Template(name, entry["version"], variants, entry["answer"])
    return templates


def in_words(name: str, of: str) -> str:
    """Name of a template in the words of a modality; the default's bears none."""
    return name if of in ("", next(iter(entries()["modalities"]))) else f"{name}/{of}"


def reworded(text: str, of: str) -> str:
    """Return a wording whose list of a cell's genes is announced in the words of another modality."""
    default, *_ = entries()["modalities"].values()
    return text.replace(default["sentence"], entries()["modalities"].get(of, default)["sentence"])


def _named(text: str, of: str) -> str:
    """Return a wording that calls the one gene it is about what the modality calls it."""
    noun = entries()["modalities"][of]["noun"] if of else "gene"
    return text.replace("Gene {gene}", f"{noun.capitalize()} {{gene}}")


def _put(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(f"{{{word}}}", value)
    return text


def kinds(task: str, of: str) -> dict[str, Template]:
    """Templates of an objective of the corpus, by kind, in the words of a modality or relation."""
    templates = {kind: templates for (words, kind), templates in _expand(task).items() if words == of}
    if not templates:
        known = dict.fromkeys(words for words, _ in _expand(task))
        msg = f"{task} has no words for {of!r}. Known: {', '.join(known)}."
        raise KeyError(msg)
    return templates
