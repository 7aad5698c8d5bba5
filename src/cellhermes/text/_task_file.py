"""A task in a TOML file: which keys there are, of which kind, and how they become wordings."""

import tomllib
from collections.abc import Sequence
from typing import Any

from ._template import Template

MANDATORY = {"version": int, "unit": str, "source": str, "instructions": list}  # keys of a file
OPTIONAL = {"input": str, "expression": str, "answers": list, "label": str, "pattern": str, "labels": dict}


def fields_of(name: str, content: bytes) -> dict[str, Any]:
    """Fields of a task, from its TOML.

    Raises
    ------
    ValueError
        If it is no TOML, a key is missing or not known, or a value is of another kind.
    """
    try:
        entry = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also bytes that are no UTF-8, and brackets without end
        msg = f"the file is no TOML: {error}."
        raise ValueError(msg) from None
    known = MANDATORY | OPTIONAL
    if unknown := sorted(set(entry) - set(known)):
        msg = f"{unknown} are not known. A task may have {', '.join(known)}."
        raise ValueError(msg)
    if missing := sorted(set(MANDATORY) - set(entry)):
        msg = f"{missing} are missing. A task needs {', '.join(MANDATORY)}."
        raise ValueError(msg)
    if wrong := [key for key, value in entry.items() if not isinstance(value, known[key])]:
        msg = f"{wrong[0]} is {entry[wrong[0]]!r}; expected {known[wrong[0]].__name__}."
        raise ValueError(msg)
    version, instructions = entry["version"], entry.pop("instructions")
    if not all(isinstance(one, str) and one.strip() and "\n" not in one for one in instructions):
        msg = "instructions must be texts of one line each."
        raise ValueError(msg)
    if not all(isinstance(one, str) for one in [*entry.get("answers", []), *entry.get("labels", {}).values()]):
        msg = "answers, and what labels lead to, must be texts."
        raise ValueError(msg)
    block, shown = entry.pop("input", ""), entry.pop("expression", "")
    if shown:
        entry["expression"] = _template(f"{name}/expression", version, instructions, [shown, block])
    if "answers" in entry:
        entry["answers"] = tuple(entry["answers"])
    return {**entry, "template": _template(name, version, instructions, [block])}


def _template(name: str, version: int, instructions: Sequence[str], blocks: Sequence[str]) -> Template:
    """Return an instruction, a line break and the input: what the released files keep apart."""
    return Template(name, version, tuple("\n".join(filter(None, [one, *blocks])) for one in instructions))
