"""Data sets by name: what there is, what is on this machine, and moving it to another one."""

from __future__ import annotations

import logging
from itertools import chain
from pathlib import Path

import pandas as pd

from .. import _fetch
from .._disk import cache_folder

logger = logging.getLogger("cellhermes")


def list_datasets() -> pd.DataFrame:
    """Data sets that can be asked for by name.

    Returns
    -------
    One row a data set, indexed by name: ``description``, ``version``, ``size`` (bytes; 0 where the host tells it only
    at the download), ``cached`` (bool), ``checksum`` (``"known"``, or where it comes from), ``license``, ``citation``
    and ``source`` (str).

    Examples
    --------
    >>> import cellhermes as ch
    >>> int(ch.datasets.list_datasets().loc["immune", "size"])
    2064748344
    """
    rows = {
        entry.name: {
            "description": entry.description,
            "version": entry.version,
            "size": entry.size,
            "cached": {file.name for file in entry.files} <= {path.name for path in _fetch.held_data(entry)},
            "checksum": ", ".join(dict.fromkeys("known" if file.known else file.hash for file in entry.files)),
            "license": entry.license,
            "citation": entry.citation,
            "source": entry.source,
        }
        for entry in _fetch.registry()["data"].values()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def fetch(name: str) -> dict[str, Path]:
    """Download the files of a data set, or find them in the cache, each checked against its hash.

    A download that was interrupted goes on where it stopped. The loaders call this themselves; call it to prepare a
    machine, or for a data set without a loader.

    Parameters
    ----------
    name
        An entry of :func:`list_datasets`.

    Returns
    -------
    Path of each file, by name.

    Raises
    ------
    ValueError
        If there is no such data set, or a file is not what its hash says.
    ConnectionError
        If a file is missing and there is no network, or ``CELLHERMES_OFFLINE`` is set.
    OSError
        If the disk is full, or the cache may not be written.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.datasets.fetch("imune")
    Traceback (most recent call last):
    ValueError: No data set 'imune'. Did you mean 'immune'? Known: ...
    """
    return _fetch.data_files(_fetch.find("data", name))


def verify(name: str | None = None) -> pd.DataFrame:
    """Compare the files in the cache with their hashes.

    Parameters
    ----------
    name
        An entry of :func:`list_datasets`; None for all of them.

    Returns
    -------
    One row a file: ``name``, ``file`` (path), ``size`` (bytes) and ``state``: ``"good"``, ``"changed: ..."`` with both
    hashes, or ``"no hash is known"``.

    Examples
    --------
    >>> import cellhermes as ch
    >>> list(ch.datasets.verify("gene-properties").columns)
    ['name', 'file', 'size', 'state']
    """
    return _fetch.verified(_held(None if name is None else [name]))


def remove(name: str) -> int:
    """Delete the files of a data set from the cache.

    Recorded hashes stay, so that a later download must give the same files.

    Parameters
    ----------
    name
        An entry of :func:`list_datasets`.

    Returns
    -------
    Bytes that became free.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.datasets.remove("immune")  # doctest: +SKIP
    2064748344
    """
    entry = _fetch.find("data", name)
    freed = _fetch.remove(_fetch.held_data(entry))
    _fetch.remove_halves(cache_folder() / "data" / entry.name)
    return freed


def export_bundle(path: str | Path, names: list[str] | None = None) -> None:
    """Write data sets of the cache into one file, for a machine without a network.

    Parameters
    ----------
    path
        The file to write, a tar.
    names
        Entries of :func:`list_datasets`, downloaded where they are missing; None for all that are in the cache.

    Raises
    ------
    FileExistsError
        If there is something at that path.
    FileNotFoundError
        If there is nothing to export.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.datasets.export_bundle("bundle.tar", [])
    Traceback (most recent call last):
    FileNotFoundError: Nothing to export: none of what was asked for is in the cache. Fetch it first.
    """
    for name in names or []:
        fetch(name)
    _fetch.write_bundle(Path(path), _fetch.bundled(chain.from_iterable(_held(names).values())))


def import_bundle(path: str | Path) -> list[Path]:
    """Put what another machine exported, data sets or models, into the caches of this one.

    Parameters
    ----------
    path
        A file that :func:`export_bundle` or :func:`cellhermes.model.export_bundle` wrote.

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
    >>> ch.datasets.import_bundle("bundle.tar")
    Traceback (most recent call last):
    FileNotFoundError: bundle.tar is not a file.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path} is not a file."
        raise FileNotFoundError(msg)
    return _fetch.read_bundle(path)


def _held(names: list[str] | None) -> dict[str, list[Path]]:
    """Files in the cache by data set, of all or of some."""
    names = _fetch.registry()["data"] if names is None else names
    return {name: _fetch.held_data(_fetch.find("data", name)) for name in names}
