"""What stands beside weights: a model card for people (``README.md``), and how to read them (``cellhermes.json``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from .._disk import commit, write_json
from .._keys import version
from ..model._card import NOTE, is_place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..model import ModelCard

# Licences that model hubs know by name; any other is "other" there, and written out below.
LICENSES = ("apache-2.0", "bsd-3-clause", "cc-by-4.0", "gemma", "gpl-3.0", "llama3.1", "mit")
WIDTH = 200  # characters of a fact; the whole of it is in the record of the run


def write_card(
    folder: Path, *, card: ModelCard, base: str, kind: Literal["adapter", "model"], facts: Mapping[str, object]
) -> None:
    """Write ``README.md`` and ``cellhermes.json`` beside weights.

    Parameters
    ----------
    folder
        Where the weights are.
    card
        Of the model that the weights were made from; they inherit how it is read, and its licence.
    base
        What that model is called: a name, a hub id or a folder.
    kind
        Of the weights: ``"adapter"`` needs its base, ``"model"`` is whole.
    facts
        How the weights were made. Mappings inside become tables, None and empty ones are left out.
    """
    read_at = card.read_at if isinstance(card.read_at, str) else dict(card.read_at)
    title = f"{'LoRA adapter for' if kind == 'adapter' else 'Language model made from'} {base}"
    wrap = card.wrap if isinstance(card.wrap, str) else card.wrap.note()
    system = {} if card.system is None else {"system": card.system}
    note = {
        "wrap": wrap, **system, "read_at": read_at, "tasks": list(card.tasks), "base": base, "revision": card.revision,
        "license": card.license, "description": title, "version": version(),
    }  # fmt: skip
    commit(folder / "README.md", _readme(title, card, base, kind, facts).encode())
    write_json(folder / NOTE, note)


def _readme(title: str, card: ModelCard, base: str, kind: str, facts: Mapping[str, object]) -> str:
    name = card.wrap if isinstance(card.wrap, str) else card.wrap.name
    parts = [
        _front(card, kind),
        f"# {title}",
        f"Written by cellhermes {version()}.",
        "```python\nimport cellhermes as ch\n\n"
        'model = ch.CellHermes.from_pretrained("path/to/this/folder")\nmodel.embed(["Gene CD3E"])\n```',
        f"How it is to be read stands in `{NOTE}`: wrap `{name or 'of the tokenizer'}`, read at `{card.read_at}`.",
        *_tables(facts),
        "## Licence",
        f"Derived from `{base}`, whose licence also binds what is derived from it: {card.license}.",
    ]
    return "\n\n".join(parts) + "\n"


def _front(card: ModelCard, kind: str) -> str:
    """Write the head that model hubs read. A JSON string is valid YAML, whatever stands in it."""
    known = card.license.lower() in LICENSES
    tags = ["cellhermes", "single-cell", "biology", *(["lora"] if kind == "adapter" else [])]
    is_hub = card.base.count("/") == 1 and not is_place(card.base)
    lines = [
        # hubs refuse a folder or a name that they do not have
        *([f"base_model: {json.dumps(card.base)}"] if is_hub else []),
        f"license: {card.license.lower() if known else 'other'}",
        *([] if known else [f"license_name: {re.sub('[^a-z0-9.]+', '-', card.license.lower()).strip('-')}"]),
        f"library_name: {'peft' if kind == 'adapter' else 'transformers'}",
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in tags),
    ]
    return "\n".join(["---", *lines, "---"])


def _tables(facts: Mapping[str, object]) -> Iterator[str]:
    """Write one table for facts of one value, then one for each mapping."""
    single = {name: value for name, value in facts.items() if not isinstance(value, Mapping)}
    for title, part in {"": single, **{n: v for n, v in facts.items() if isinstance(v, Mapping)}}.items():
        rows = [(name, text) for name, value in _rows(part) if (text := _text(value))]
        if rows:
            yield f"## {(title or 'facts').capitalize()}"
            yield "\n".join(["| what | value |", "|---|---|", *(f"| {_cell(n)} | {_cell(v)} |" for n, v in rows)])


def _rows(part: Mapping[str, object], above: str = "", depth: int = 3) -> Iterator[tuple[str, object]]:
    for name, value in part.items():
        if isinstance(value, Mapping) and depth > 1:
            yield from _rows(value, f"{above}{name}: ", depth - 1)
        else:
            yield f"{above}{name}", value


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False) if value else ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return str(value)


def _cell(text: str) -> str:
    text = " ".join(text.split()).replace("|", r"\|")
    return text if len(text) <= WIDTH else text[: WIDTH - 4] + " ..."
