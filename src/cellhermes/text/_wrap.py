"""What stands around a prompt when a model reads it. Strings only; token ids are made in ``model/_tokens.py``."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import ClassVar, Self

from ._named import Named


@dataclass(frozen=True, slots=True)
class Wrap(Named):
    """The fixed text around a prompt.

    Parameters
    ----------
    name
        ``"llama3-chat"``, ``"plain"``, ``"chat"`` (made from a tokenizer's chat template), or a name of your own.
    head
        Text before the prompt. ``{bos}`` at its beginning stands for the tokenizer's start token.
    tail
        Text between prompt and answer.
    lead
        What an answer begins with: a blank where the first word of an answer is a token with a leading blank.
    end
        What closes an answer: it ends with a single special token. ``{eos}`` stands for the tokenizer's end token.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.text.Wrap.load("llama3-chat").end
    '<|eot_id|>'
    """

    name: str
    head: str
    tail: str
    lead: str
    end: str
    _or_else: ClassVar[str] = "; models also know 'chat', their tokenizer's own"

    @classmethod
    @cache
    def _shipped(cls) -> Mapping[str, Self]:
        """Read the wraps of ``text/wraps.toml``."""
        table = tomllib.loads((files(__package__) / "wraps.toml").read_text("utf-8"))
        return {name: cls(name, **entry) for name, entry in table.items()}

    def render(self, text: str) -> str:
        """Write the text as the model reads it; ``{bos}`` is left out, as its spelling is the tokenizer's."""
        return self.head.replace("{bos}", "") + text + self.tail

    @classmethod
    def of(cls, parts: Mapping[str, str]) -> "Wrap":
        r"""Make one of its parts, as ``cellhermes.json`` holds them.

        Parameters
        ----------
        parts
            ``head``, ``tail``, ``lead`` and ``end``, and a ``name`` if you like.

        Returns
        -------
        The :class:`Wrap`; without a name it is called ``"own"``.

        Raises
        ------
        ValueError
            If a part is missing, unknown or no text, or the name is that of a wrap with other parts.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Wrap.of({"head": "{bos}Q: ", "tail": "\nA:", "lead": " ", "end": "{eos}"}).render("Why?")
        'Q: Why?\nA:'
        """
        needed = ("head", "tail", "lead", "end")
        if set(parts) - {"name"} != set(needed) or not all(isinstance(part, str) for part in parts.values()):
            msg = f"A wrap is {dict(parts)}; expected texts for {list(needed)}, and a name if you like."
            raise ValueError(msg)
        wrap = cls(**{"name": "own"} | dict(parts))
        if cls._shipped().get(wrap.name, wrap) != wrap:
            msg = f"A wrap of your own is called {wrap.name!r}, which has other parts. Give it another name."
            raise ValueError(msg)
        if "{bos}" in wrap.head[1:] + wrap.tail + wrap.lead + wrap.end or "{eos}" in wrap.head + wrap.tail + wrap.lead:
            msg = f"{{bos}} may stand at the beginning of head and {{eos}} in end, found {dict(parts)}."
            raise ValueError(msg)
        return wrap

    def note(self) -> str | dict[str, str]:
        """How it is noted beside weights: by name, or with its parts where the name does not tell them.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Wrap.load("plain").note()
        'plain'
        """
        return self.name if self._shipped().get(self.name) == self else asdict(self)
