"""One face for all that has a name: models of ``models.toml`` and data sets of ``registry.toml``.

A model is several repositories (a base and adapters), a data set several files; bundles hold both.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import pandas as pd

from .. import _fetch
from .._disk import cache_folder
from ..model import _card, _store


def list() -> pd.DataFrame:  # noqa: A001  # read as `ch.cache.list`
    """Show what can be asked for by name.

    Returns
    -------
    One row a model or data set, indexed by name: ``kind`` (``"model"`` or ``"data"``), ``description``, ``holds``
    (adapters behind their base, or files), ``version`` (str), ``size`` (bytes; 0 where the host tells it only at the
    download), ``cached`` (bool: nothing of it needs to be downloaded), ``checksum`` (``"known"``, or where it comes
    from), ``license``, ``citation`` and ``source`` (str).

    Examples
    --------
    >>> import cellhermes as ch
    >>> table = ch.cache.list()
    >>> bool(table.loc["mini", "cached"]), int(table.loc["immune", "size"])
    (True, 2064748344)
    """
    rows = {name: _model_row(card) for name, card in _card.named().items()}
    rows |= {name: _data_row(entry) for name, entry in _fetch.registry()["data"].items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def _model_row(card: _card.ModelCard) -> dict[str, object]:
    parts = (card.base, *card.adapters)
    entry = _fetch.registry()["model"].get(parts[-1])
    is_bundled = card.base.startswith("bundled:")
    paths = _card.bundled_folder(card).iterdir() if is_bundled else chain.from_iterable(_held([card.name]).values())
    return {
        "kind": "model",
        "description": card.description,
        "holds": " -> ".join(parts),
        "version": entry.version if entry else "",
        "size": sum(path.stat().st_size for path in paths),
        "cached": _store.is_here(card),
        "checksum": "known" if card.sha256 else "hub",
        "license": card.license,
        "citation": entry.citation if entry else "",
        "source": entry.source if entry else "in the package",
    }


def _data_row(entry: _fetch.Entry) -> dict[str, object]:
    return {
        "kind": "data",
        "description": entry.description,
        "holds": ", ".join(file.name for file in entry.files),
        "version": entry.version,
        "size": entry.size,
        "cached": {file.name for file in entry.files} <= {path.name for path in _fetch.held_data(entry)},
        "checksum": ", ".join(dict.fromkeys("known" if file.known else file.hash for file in entry.files)),
        "license": entry.license,
        "citation": entry.citation,
        "source": entry.source,
    }


def fetch(name: str) -> Path:
    """Download a model or a data set, or find it in the cache, each file checked against its hash.

    :meth:`~cellhermes.CellHermes.from_pretrained` and the functions of :mod:`cellhermes.datasets` do this themselves;
    call it to prepare a machine, or for files that none of them reads. Licences are shown before anything is
    downloaded; whether one may have the weights and whether there is room is asked first. A download that was
    interrupted goes on where it stopped.

    Parameters
    ----------
    name
        An entry of :func:`list`.

    Returns
    -------
    Its folder. Of a data set the one with its files; of a model the one that its repository on the hub becomes, with
    ``config.json`` and weights, or with the adapter where it is one (the last of its adapters: the base and those
    below are fetched too, and :meth:`~cellhermes.CellHermes.from_pretrained` of the *name* puts them together).

    Raises
    ------
    ValueError
        If there is no such name, or a file is not what its hash says.
    PermissionError
        If a base is gated and the licence was not accepted.
    ConnectionError
        If something is missing and there is no network, or ``CELLHERMES_OFFLINE`` is set.
    OSError
        If the disk is full, or the cache may not be written.

    Examples
    --------
    >>> import cellhermes as ch
    >>> sorted(path.name for path in ch.cache.fetch("mini").iterdir())[:2]
    ['README.md', 'config.json']
    >>> ch.cache.fetch("imune")
    Traceback (most recent call last):
    ValueError: No model or data set 'imune'. Did you mean 'immune'? Known: mini, ...
    """
    card = _card.named().get(_known(name))
    if card is None:
        return next(iter(_fetch.data_files(_fetch.find("data", name)).values())).parent
    card = _store.located(card)
    return Path(card.adapters[-1] if card.adapters else _card.location(card))


def verify(name: str | None = None) -> pd.DataFrame:
    """Compare the files in the caches with their hashes.

    Parameters
    ----------
    name
        An entry of :func:`list`; None for all.

    Returns
    -------
    One row a file: ``name`` (of the data set, or of the repository of weights), ``file`` (path), ``size`` (bytes) and
    ``state``: ``"good"``, ``"changed: ..."`` with both hashes, or ``"no hash is known"``.

    Examples
    --------
    >>> import cellhermes as ch
    >>> [*ch.cache.verify("gene-properties").columns]
    ['name', 'file', 'size', 'state']
    """
    return _fetch.verified(_held([name] if name else _names()))


def remove(name: str) -> int:
    """Delete the files of a data set, or the adapters of a model, from the cache.

    Recorded commits and hashes stay, so that a later download must give the same files. A base stays in the model hub's
    cache, which other programs share (``hf cache`` manages it).

    Parameters
    ----------
    name
        An entry of :func:`list`.

    Returns
    -------
    Bytes that became free.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.cache.remove("mini")  # ships with the package
    0
    """
    freed = sum(map(_fetch.remove, _held([name]).values()))
    if name in _fetch.registry()["data"]:
        _fetch.remove_halves(cache_folder() / "data" / name)
    return freed


def export_bundle(path: str | Path, names: Sequence[str] | None = None) -> None:
    """Write models with their bases, and data sets, into one file, for a machine without a network.

    Parameters
    ----------
    path
        The file to write, a tar.
    names
        Entries of :func:`list`, downloaded where they are missing; None for all that is in the caches.

    Raises
    ------
    FileExistsError
        If there is something at that path.
    FileNotFoundError
        If there is nothing to export.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.cache.export_bundle("bundle.tar", ["mini"])
    Traceback (most recent call last):
    FileNotFoundError: Nothing to export: none of what was asked for is in the cache. Fetch it first.
    """
    for name in names or ():
        fetch(name)
    _fetch.write_bundle(Path(path), _fetch.bundled(_held(_names() if names is None else names)))


def import_bundle(path: str | Path) -> Sequence[Path]:
    """Put what another machine exported into the caches of this one.

    Parameters
    ----------
    path
        A file that :func:`export_bundle` wrote.

    Returns
    -------
    Paths of the files.

    Raises
    ------
    ValueError
        If it is no bundle, a file differs from its hash, or another file stands in its place.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.cache.import_bundle("bundle.tar")
    Traceback (most recent call last):
    FileNotFoundError: bundle.tar is not a file.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path} is not a file."
        raise FileNotFoundError(msg)
    return _fetch.read_bundle(path)


def _names() -> Sequence[str]:
    return [*_card.named(), *_fetch.registry()["data"]]


def _known(name: str) -> str:
    if name not in _names():
        raise ValueError(_fetch.unknown("model or data set", name, _names()))
    return name


def _held(names: Iterable[str]) -> dict[str, Sequence[Path]]:
    """Files in the caches, by data set or repository of weights."""
    held = {}
    for name in map(_known, names):
        card = _card.named().get(name)
        if card is None:
            held[name] = _fetch.held_data(_fetch.find("data", name))
            continue
        if not card.base.startswith("bundled:"):
            held[card.base] = _fetch.held_weights(card.base, card.revision)
        held |= {adapter: _fetch.held_weights(adapter) for adapter in card.adapters}
    return held
