"""Tokens and tensors: one language model with four verbs. Knows prompts, but neither cells nor tasks.

``CellHermes`` and ``GeneAttention`` load torch on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._card import ModelCard

if TYPE_CHECKING:
    from ._attend import GeneAttention
    from ._cellhermes import CellHermes
    from ._reader import PromptLengthError

__all__ = ["CellHermes", "GeneAttention", "ModelCard", "PromptLengthError"]

_LAZY = {"CellHermes": "_cellhermes", "PromptLengthError": "_reader", "GeneAttention": "_attend"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return list(__all__)
