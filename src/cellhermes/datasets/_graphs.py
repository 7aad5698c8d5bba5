"""Interaction graphs by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _fetch, io

if TYPE_CHECKING:
    import networkx as nx


def ppi(name: Literal["biogrid", "string"] = "biogrid") -> nx.Graph:
    """Human interaction graph of BioGRID (4.4.240, the paper's) or STRING (12.0).

    Read with the defaults of :func:`cellhermes.io.read_biogrid` (human, physical evidence) and
    :func:`cellhermes.io.read_string` (combined score of at least 700); pass the files of :func:`fetch` to these
    functions for others.

    Parameters
    ----------
    name
        ``"biogrid"`` or ``"string"``.

    Returns
    -------
    Undirected graph of gene symbols, with its source and what was left out in ``graph.graph``.

    Raises
    ------
    ValueError
        If there is no such graph, or the file is not what it should be.
    ConnectionError
        If it is not in the cache and cannot be downloaded.

    Examples
    --------
    >>> import cellhermes as ch
    >>> graph = ch.datasets.ppi("biogrid")  # doctest: +SKIP
    """
    if name not in ("biogrid", "string"):
        msg = f"name={name!r}; expected 'biogrid' or 'string'."
        raise ValueError(msg)
    entry = _fetch.find("data", name)
    if name == "string":
        links, info = (_fetch.data_file(entry, file) for file in entry.files)
        return io.read_string(links, info=info)
    archive = _fetch.data_file(entry, entry.files[0], check=_fetch.members)
    human = [inside for inside in _fetch.members(archive) if "Homo_sapiens" in inside]
    if len(human) != 1:
        msg = f"{archive.name} has {len(human)} human files, expected one. It has {list(_fetch.members(archive))[:40]}."
        raise ValueError(msg)
    return io.read_biogrid(archive, member=human[0])
