"""Interaction graphs by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _fetch, io
from ._archives import picked
from ._toy import toy_graph

if TYPE_CHECKING:
    import networkx as nx


def ppi(name: Literal["biogrid", "string", "toy"] = "biogrid") -> nx.Graph:
    """Read a human interaction graph: BioGRID (4.4.240, the paper's), STRING (12.0), or a generated one.

    Read with the defaults of :func:`cellhermes.io.read_biogrid` (human, physical evidence) and
    :func:`cellhermes.io.read_string` (combined score of at least 700); pass the files of :func:`cellhermes.cache.fetch`
    to these functions for others. ``"toy"`` has the protein-coding genes of :func:`toy`: those of one cell type's
    programme are joined often, others rarely, and every gene has a partner. Its edges are drawn, always the same, and
    say nothing about real proteins.

    Parameters
    ----------
    name
        ``"biogrid"``, ``"string"`` or ``"toy"``, which needs no download.

    Returns
    -------
    Undirected graph of gene symbols; that of a file with its source and what was left out in ``graph.graph``.

    Raises
    ------
    ValueError
        If there is no such graph, or the file is not what it should be.
    ConnectionError
        If it is not in the cache and cannot be downloaded.

    Examples
    --------
    >>> import cellhermes as ch
    >>> "CD3E" in ch.datasets.ppi("toy")
    True
    """
    if name not in ("biogrid", "string", "toy"):
        msg = f"name={name!r}; expected 'biogrid', 'string' or 'toy'."
        raise ValueError(msg)
    if name == "toy":
        return toy_graph()
    entry = _fetch.find("data", name)
    if name == "string":
        links, info = (_fetch.data_file(entry, file) for file in entry.files)
        return io.read_string(links, info=info)
    archive, human = picked(entry, "*Homo_sapiens*")
    return io.read_biogrid(archive, member=human)
