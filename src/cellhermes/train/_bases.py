"""Whether what is below an adapter is still what it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .._disk import noted
from ..model import _identity
from . import _folder

if TYPE_CHECKING:
    from ..model import ModelCard


def folders_of(card: ModelCard) -> list[Path]:
    """List folders and files that a model is read from; none for what is in a cache."""
    return [Path(name) for name in (card.base, *card.adapters) if Path(name).exists()]


def check_bases(card: ModelCard) -> None:
    """Compare what is below each adapter with what its run has noted, where it has.

    Raises
    ------
    ValueError
        If weights, tokenizer or config have changed under their name.
    """
    for i, folder in enumerate(map(Path, card.adapters)):
        before = noted(folder / _folder.RECORD).get("run", {})
        below = replace(card, adapters=card.adapters[:i])
        if before.get("base_sha256", "") not in ("", _identity.sha256(below)):
            msg = (
                f"Adapter {str(folder)!r} was trained on other weights than {before.get('base')!r} holds now. Put "
                "those back, or train the adapter again."
            )
            raise ValueError(msg)
