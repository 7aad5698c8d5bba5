"""Which token is read: the state there is the vector of a prompt. A card says it, for all prompts or for each kind."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from ..text import Prompt
    from ._tokens import Encoded

ReadAt = Literal["prompt_end", "entity_end", "mean"]


def check_read_at(read_at: ReadAt | Mapping[str, ReadAt], where: str = "") -> None:
    """Refuse what names no token."""
    given = [read_at] if isinstance(read_at, str) else list(read_at.values())
    if unknown := set(given) - set(get_args(ReadAt)):
        msg = f"{where}read_at={sorted(unknown)} is not known; expected one of {list(get_args(ReadAt))}."
        raise ValueError(msg)


def read_at_of(kind: str, read_at: ReadAt | Mapping[str, ReadAt]) -> ReadAt:
    """Tell what is read of a kind of prompt (the name of its template)."""
    if isinstance(read_at, str):
        return read_at
    plain = kind.partition("/")[0]  # "cell" of "cell/protein"
    return read_at.get(kind, read_at.get(plain, read_at.get("default", "prompt_end")))


def span(read_at: ReadAt, prompt: "Prompt", encoded: "Encoded") -> tuple[int, int]:
    """Find the (first, last + 1) token whose mean is the vector. Tokens behind the last are not computed at all."""
    end = len(encoded.ids)
    if read_at == "prompt_end" or prompt.entity is None:
        return end - 1, end
    return (encoded.entity[1] - 1 if read_at == "entity_end" else encoded.entity[0]), encoded.entity[1]
