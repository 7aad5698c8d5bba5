"""Interaction files become networkx graphs of gene symbols: BioGRID TAB3, STRING, and tables with two symbol columns.

A line that does not fit the table is an error with its number, never skipped. What is left out on purpose (other
organisms, self-loops, repeats) is counted in ``graph.graph["dropped"]``.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .._symbols import human_symbols
from ._files import is_symbol, rows, told_of_na

if TYPE_CHECKING:
    from collections.abc import Sequence

    import networkx as nx

    from ._files import Row

logger = logging.getLogger("cellhermes")

# https://wiki.thebiogrid.org/doku.php/biogrid_tab_version_3.0
TAB3 = (
    "BioGRID Interaction ID",
    *(f"{name} Interactor {side}" for name in ("Entrez Gene", "BioGRID ID", "Systematic Name", "Official Symbol",
      "Synonyms") for side in "AB"),
    "Experimental System", "Experimental System Type", "Author", "Publication Source", "Organism ID Interactor A",
    "Organism ID Interactor B", "Throughput", "Score", "Modification", "Qualifications", "Tags", "Source Database",
    *(f"{base} Accessions Interactor {side}" for side in "AB" for base in ("SWISS-PROT", "TREMBL", "REFSEQ")),
    *(f"Ontology Term {what}" for what in ("IDs", "Names", "Categories", "Qualifier IDs", "Qualifier Names", "Types")),
    "Organism Name Interactor A", "Organism Name Interactor B",
)  # fmt: skip
BLOCK = 2**16  # edges that are handed to networkx at once
STRING_ID = re.compile(rb"\d+\.\S")  # taxonomy id, dot, identifier: 9606.ENSP..., 4932.YAL001C


def read_biogrid(
    path: str | Path,
    *,
    organism: int | None = 9606,
    evidence: Literal["physical", "genetic"] | None = "physical",
    member: str | None = None,
) -> nx.Graph:
    r"""Read interactions of a BioGRID file in TAB3 format.

    By default those of the paper: both interactors are human, the experimental system is physical. Self-loops are
    dropped, but their gene stays as a node; repeated pairs, in either direction, become one edge.

    Parameters
    ----------
    path
        The file as downloaded: plain, gzip or zip, told by its first bytes.
    organism
        NCBI taxonomy id that both interactors must have; None keeps all.
    evidence
        Experimental system type; None keeps both.
    member
        Name of the file inside a zip archive with several.

    Returns
    -------
    Undirected graph of official gene symbols. ``graph.graph`` holds ``"source"`` (file name), ``"rows"`` (data lines)
    and ``"dropped"`` (reason to number of lines).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, a line has another number of columns than the header (the message has file, line and
        text), the archive has several files, or no interaction is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> from cellhermes.io._graphs import TAB3  # the names of the 37 columns
    >>> row = dict.fromkeys(TAB3, "-") | {
    ...     "Official Symbol Interactor A": "MAP2K4",
    ...     "Official Symbol Interactor B": "FLNC",
    ...     "Experimental System Type": "physical",
    ...     "Organism ID Interactor A": "9606",
    ...     "Organism ID Interactor B": "9606",
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "biogrid.tab3.txt")
    ...     _ = path.write_text("#" + "\t".join(row) + "\n" + "\t".join(row.values()) + "\n")
    ...     graph = ch.io.read_biogrid(path)
    >>> list(graph.edges)
    [('MAP2K4', 'FLNC')]
    """
    if evidence not in ("physical", "genetic", None):
        msg = f"evidence={evidence!r}; expected 'physical', 'genetic' or None."
        raise ValueError(msg)
    table = rows(Path(path), "\t", member)
    place = places(path, next(table), TAB3, "BioGRID TAB3 has 37 columns")
    symbol_a, symbol_b = place["Official Symbol Interactor A"], place["Official Symbol Interactor B"]
    organism_a, organism_b = place["Organism ID Interactor A"], place["Organism ID Interactor B"]
    kind = place["Experimental System Type"]
    wanted_organism, wanted_kind = str(organism).encode(), str(evidence).encode()
    edges = _Edges()
    for _, row in table:
        if organism is not None and not row[organism_a] == row[organism_b] == wanted_organism:
            edges.dropped["other organism"] += 1
        elif evidence is not None and row[kind] != wanted_kind:
            edges.dropped[f"not {evidence}"] += 1
        else:
            edges.add(row[symbol_a], row[symbol_b])
    return edges.graph(path)


def read_string(
    path: str | Path, *, info: str | Path | None = None, min_score: int = 700, member: str | None = None
) -> nx.Graph:
    r"""Read associations of a STRING links file (``9606.protein.links.v12.0.txt.gz``, or one of its variants).

    STRING names proteins by identifiers; ``info`` turns them into gene symbols.

    Parameters
    ----------
    path
        The file as downloaded: blanks between columns, with ``protein1``, ``protein2`` and ``combined_score``.
    info
        The file ``9606.protein.info.v12.0.txt.gz`` of the same version and species, with ``#string_protein_id`` (in
        version 11 ``protein_external_id``) and ``preferred_name``. Without it, the links file must have symbols.
    min_score
        Smallest combined score, of 1,000. STRING calls 700 high confidence.
    member
        Name of the file inside a zip archive with several.

    Returns
    -------
    Undirected graph of symbols, described as in :func:`read_biogrid`. STRING lists each pair in both directions, so
    that half of the lines are counted as repeats.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, a line has another number of columns than the header, a score is no whole number, names
        are identifiers and ``info`` was not given, or no association is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     links, info = Path(folder, "links.txt"), Path(folder, "info.txt")
    ...     _ = links.write_text("protein1 protein2 combined_score\n9606.ENSP1 9606.ENSP2 999\n")
    ...     _ = info.write_text("#string_protein_id\tpreferred_name\n9606.ENSP1\tTP53\n9606.ENSP2\tMDM2\n")
    ...     graph = ch.io.read_string(links, info=info)
    >>> list(graph.edges)
    [('TP53', 'MDM2')]
    """
    symbols = None if info is None else _string_symbols(Path(info))
    table = rows(Path(path), " ", member)
    place = places(path, next(table), ("protein1", "protein2", "combined_score"), "a STRING links file has them")
    a, b, score = place.values()
    edges = _Edges()
    for number, row in table:
        if not row[score].isdigit():
            msg = f"{path}, line {number}: the score {row[score].decode('utf-8', 'replace')!r} is no whole number."
            raise ValueError(msg)
        if symbols is None and STRING_ID.match(row[a]):
            name = row[a].decode("utf-8", "replace")
            msg = (
                f"{path}, line {number}: {name!r} is an identifier of STRING. Pass the file "
                "'<organism>.protein.info.<version>.txt.gz' as info= to get symbols."
            )
            raise ValueError(msg)
        if int(row[score]) < min_score:
            edges.dropped[f"score below {min_score}"] += 1
        elif symbols is None:
            edges.add(row[a], row[b])
        else:
            edges.add(symbols.get(row[a], b""), symbols.get(row[b], b""))
    return edges.graph(path)


def read_edges(
    path: str | Path,
    *,
    columns: Sequence[int] | Sequence[str] = (0, 1),
    sep: str = "\t",
    header: bool = True,
    member: str | None = None,
) -> nx.Graph:
    r"""Read edges of a table with one symbol in each of two columns.

    Self-loops are dropped, but their symbol stays as a node; repeated pairs, in either direction, become one edge.

    Parameters
    ----------
    path
        A text file, plain, gzip or zip.
    columns
        The two columns, by number from 0 or, if there is a header, by name.
    sep
        What stands between columns.
    header
        Whether the first line has the names of the columns.
    member
        Name of the file inside a zip archive with several.

    Returns
    -------
    Undirected graph of symbols, described as in :func:`read_biogrid`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, a line has another number of columns than the first, two genes stand where names of
        columns are expected, or no edge is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "edges.tsv")
    ...     _ = path.write_text("symbol_a\tsymbol_b\nTP53\tMDM2\nMDM2\tTP53\nTP53\tTP53\n")
    ...     graph = ch.io.read_edges(path)
    >>> list(graph.edges), graph.graph["dropped"]
    ([('TP53', 'MDM2')], {'self-loop': 1, 'repeated': 1})
    """
    if len({*columns}) != 2:
        msg = f"columns={columns!r}; expected two that differ, by name or by number."
        raise ValueError(msg)
    table = rows(Path(path), sep, member)
    number, first = next(table)  # header or edge
    edges = _Edges()
    if all(isinstance(column, int) for column in columns):
        a, b = columns
        if not 0 <= min(columns) <= max(columns) < len(first):
            msg = f"{path}, line {number}: {len(first)} columns with sep={sep!r}; expected columns "
            msg += f"{list(columns)}."
            raise ValueError(msg)
    elif header:
        a, b = places(path, (number, first), columns, f"asked for with columns={columns!r}, sep={sep!r}").values()
    else:
        msg = f"columns={columns!r}: columns have numbers only where header=False."
        raise ValueError(msg)
    if not header:
        edges.add(first[a], first[b])
    elif {*(genes := [edges.symbol(first[a]), edges.symbol(first[b])])} <= human_symbols().known:
        msg = f"{path}, line {number}: the genes {genes}, where names of columns are "
        msg += "expected. Pass header=False if the table has none."
        raise ValueError(msg)
    for _, row in table:
        edges.add(row[a], row[b])
    return edges.graph(path)


class _Edges:
    """The edges of a file, and counts of what is left out."""

    def __init__(self) -> None:
        import networkx as nx

        self.dropped: Counter[str] = Counter()
        self._symbols: dict[bytes, str] = {}  # one string a symbol, however often it occurs
        self._graph = nx.Graph()
        self._waiting: list[
            tuple[str, str]
        ] = []  # networkx takes many edges at once faster, and a file at once is large
        self._n_edges = 0

    def add(self, a: bytes, b: bytes) -> None:
        source, right = self.symbol(a), self.symbol(b)
        if not source or not right:
            self.dropped["no symbol"] += 1
        elif source == right:
            self._graph.add_node(source)
            self.dropped["self-loop"] += 1
        else:
            self._waiting.append((source, right))
            if len(self._waiting) == BLOCK:
                self._flush()

    def symbol(self, raw: bytes) -> str:
        """Decode a symbol, ``""`` for what is none: nothing, a dash, or words."""
        symbol = self._symbols.get(raw)
        if symbol is None:
            text = raw.decode("utf-8", "replace").strip().strip('"')
            symbol = self._symbols[raw] = text if is_symbol(text) else ""
        return symbol

    def _flush(self) -> None:
        self._graph.add_edges_from(self._waiting)
        self._n_edges += len(self._waiting)
        self._waiting.clear()

    def graph(self, path: str | Path) -> nx.Graph:
        self._flush()
        graph, n_edges = self._graph, self._graph.number_of_edges()
        rows = self._n_edges + self.dropped.total()
        if self._n_edges > n_edges:
            self.dropped["repeated"] = self._n_edges - n_edges
        listed = ", ".join(f"{reason}: {n:,}" for reason, n in self.dropped.items()) or "nothing"
        if not n_edges:
            msg = f"{path} has no edge that can be used. Dropped lines: {listed}."
            raise ValueError(msg)
        graph.graph.update(source=Path(path).name, rows=rows, dropped=dict(self.dropped))
        told_of_na(path, graph)
        logger.info("%s: %s edges of %s genes. Dropped lines: %s.", path, f"{n_edges:,}", f"{len(graph):,}", listed)
        return graph


def _string_symbols(path: Path) -> dict[bytes, bytes]:
    table = rows(path, "\t", None)
    header = next(table)
    of_version_11 = b"protein_external_id" in header[1][0]
    names = ("protein_external_id" if of_version_11 else "string_protein_id", "preferred_name")
    identifier, symbol = places(path, header, names, "a STRING info file has them").values()
    return {row[identifier].strip(b'"'): row[symbol] for _, row in table}


def places(path: str | Path, header: Row, names: Sequence[str], why: str) -> dict[str, int]:
    """Find the places of named columns; the first name may have a ``#`` before it."""
    number, fields = header
    headings = [name.decode("utf-8", "replace").strip().strip('"') for name in fields]
    headings[0] = headings[0].lstrip("#")
    missing = [name for name in names if name not in headings]
    if missing:
        msg = f"{path}, line {number}: no column {', '.join(map(repr, missing))} ({why}). "
        msg += f"Found: {', '.join(headings)[:200]!r}."
        raise ValueError(msg)
    return {name: headings.index(name) for name in names}
