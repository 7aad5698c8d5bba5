"""Errors of the functions in the words of the command line: ``gene_symbols='symbol'`` is ``--gene-symbols symbol``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

# Arguments of functions that the command line calls otherwise, and the option's own name, by which a command has it.
OTHERS = {
    "answers": "answer",
    "cell_line": "cell_line",
    "data": "source",
    "groupby": "metadata",
    "info": "graph_info",
    "member": "graph_member",
    "n_pairs": "links",
    "n_workers": "workers",
    "out": "target",
    "path": "source",
}
QUOTES = "'\""
WORDS = {"source": "IN", "target": "OUT", "config": "CONFIG.toml"}  # which have no dashes
ARGUMENT = re.compile(r"\b([a-z_]+)=('[^']*'|\"[^\"]*\"|True\b|False\b|None\b|nan\b|-?inf\b|-?\d[\d.]*)?(?![\w=])")


def as_options(text: str, options: Container[str]) -> str:
    """Call the arguments in a message as the command line calls them.

    Parameters
    ----------
    text
        Message of a function.
    options
        Arguments of the command, by their names in Python; what it has no option for stays as it is.
    """

    def called(match: re.Match[str]) -> str:
        argument, value = match.groups()
        name = argument if argument in options else OTHERS.get(argument, "")
        if name not in options:
            return match[0]
        option = WORDS.get(name) or "--" + name.replace("_", "-")
        if value in ("None", "False"):
            return f"no {option}"
        return option if value in (None, "True") else f"{option} {value.strip(QUOTES)}"

    parts = text.split("`")  # calls in Python, which stand between these, stay as they are
    return "`".join(part if i % 2 and "(" in part else ARGUMENT.sub(called, part) for i, part in enumerate(parts))
