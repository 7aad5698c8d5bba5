"""What stands around a prompt when a model reads it. Strings only; token ids are made in ``model/_tokens.py``."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Wrap:
    """The fixed text around a prompt.

    Parameters
    ----------
    name
        ``"llama3-chat"``, ``"plain"``, ...
    head
        Text before the prompt. ``{bos}`` stands for the tokenizer's start token.
    tail
        Text between prompt and answer.
    lead
        What an answer begins with: a blank where the first word of an answer is a token with a leading blank.
    end
        What closes an answer. ``{eos}`` stands for the tokenizer's end token.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.text.wrap("llama3-chat").end
    '<|eot_id|>'
    """

    name: str
    head: str
    tail: str
    lead: str
    end: str

    def render(self, text: str) -> str:
        """Write the text as the model reads it; ``{bos}`` is left out, as its spelling is the tokenizer's."""
        return self.head.replace("{bos}", "") + text + self.tail


@cache
def wraps() -> dict[str, Wrap]:
    """All wraps by name, read from ``text/wraps.toml``.

    Returns
    -------
    Mapping of name to :class:`Wrap`.

    Examples
    --------
    >>> import cellhermes as ch
    >>> sorted(ch.text.wraps())
    ['llama3-chat', 'llama3-chat-blank', 'plain']
    """
    table = tomllib.loads((files(__package__) / "wraps.toml").read_text("utf-8"))
    return {name: Wrap(name, **entry) for name, entry in table.items()}


def wrap(name: str) -> Wrap:
    """One wrap by name.

    Parameters
    ----------
    name
        A key of :func:`wraps`.

    Returns
    -------
    The :class:`Wrap`.

    Raises
    ------
    KeyError
        If there is none of that name; the message lists the known ones.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.text.wrap("plain").tail
    ''
    """
    if name not in wraps():
        msg = f"No wrap {name!r}. Known: {', '.join(sorted(wraps()))}."
        raise KeyError(msg)
    return wraps()[name]
