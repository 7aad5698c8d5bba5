"""Tables of genes and their categories: cell types, diseases, phenotypes.

Each file is read as its database offers it, comments above the header included. A new table is an entry of ``LAYOUTS``.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from xml.parsers import expat

import pandas as pd

from ._files import is_symbol
from ._tables import Header, beginning, names_in, once, opened, read_texts

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a database keeps genes and categories."""

    gene: str
    category: str
    species: str = ""
    """Column with the species, where there is one."""
    needed: str = ""
    """A row counts only where this column is not empty."""
    several: bool = False
    """Whether a cell of the table lists genes, with commas between them."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further columns that are kept, by their name in the result."""


# The first layout whose columns are all there is taken.
LAYOUTS = {
    "CellMarker 2.0": _Layout("Symbol", "cell_name", "species", extra={"tissue": "tissue_type"}),
    "CellMarker 1.0": _Layout("geneSymbol", "cellName", "speciesType", several=True, extra={"tissue": "tissueType"}),
    "CellMatch": _Layout("gene", "celltype", "species", extra={"tissue": "tissue"}),
    "ScType": _Layout("geneSymbolmore1", "cellName", several=True, extra={"tissue": "tissueType"}),
    "CTD": _Layout("GeneSymbol", "DiseaseName", needed="DirectEvidence", extra={"id": "DiseaseID"}),
    "DisGeNET": _Layout("geneSymbol", "diseaseName", extra={"id": "diseaseId"}),
    "DisGeNET (API)": _Layout("symbolOfGene", "diseaseName"),
    "HPO": _Layout("gene_symbol", "hpo_name", extra={"id": "hpo_id"}),
    "HPO before 2023": _Layout("entrez-gene-symbol", "HPO-Term-Name", extra={"id": "HPO-Term-ID"}),
    "gene and HPO term": _Layout("gene", "hpo_term", extra={"id": "hpo_id"}),
    "gene and disease": _Layout("gene", "disease"),
    "gene and category": _Layout("gene", "category"),
}


def read_gene_categories(path: str | Path, *, species: str | None = "Human", member: str | None = None) -> pd.DataFrame:
    r"""Read genes and the category they belong to: cell type, disease, phenotype.

    Which database a file is from is seen from its columns: CellMarker 1.0 and 2.0 (saved as text), CellMatch, ScType,
    CTD (``CTD_genes_diseases.csv``, with its comments; only curated associations, those with direct evidence),
    DisGeNET, HPO (``genes_to_phenotype.txt`` of any year), Orphanet (``en_product6.xml``), or a table of your own with
    the columns ``gene`` and ``category``. Columns are separated by tabs or commas.

    Parameters
    ----------
    path
        The file as downloaded: plain, gzip or zip, told by its first bytes.
    species
        Only rows of this species, where the table has a column for it; None keeps all.
    member
        Name of the file inside a zip archive with several.

    Returns
    -------
    ``gene``, ``category`` and, where known, ``tissue`` or ``id``; each pair of gene and category once, in the order of
    the file. ``attrs`` holds ``"format"``, ``"source"`` (file name), ``"rows"`` and ``"dropped"`` (reason to number).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the table is none of the known ones (the message has its columns), is damaged, or no row is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "CTD_genes_diseases.csv")
    ...     _ = path.write_text(
    ...         "# Fields:\n# GeneSymbol,GeneID,DiseaseName,DiseaseID,DirectEvidence\n#\n"
    ...         "BRCA1,672,Breast Neoplasms,MESH:D001943,marker/mechanism\n"
    ...         "ACTB,60,Breast Neoplasms,MESH:D001943,\n"
    ...     )
    ...     frame = ch.io.read_gene_categories(path)
    >>> frame.to_dict("list"), frame.attrs["format"], frame.attrs["dropped"]
    ({'gene': ['BRCA1'], 'category': ['Breast Neoplasms'], 'id': ['MESH:D001943']}, 'CTD', {'no DirectEvidence': 1})
    """
    path = Path(path)
    with opened(path, member) as file:
        is_xml = re.match(rb"(\xef\xbb\xbf)?\s*<", file.read(64)) is not None
    dropped: Counter[str] = Counter()
    if is_xml:
        name, frame = "Orphanet", _orphanet(path, member)
    else:
        name, frame = _categories(path, member, species, dropped)
    return once(frame, ["gene", "category"], path, dropped, format=name)


def _categories(path: Path, member: str | None, species: str | None, dropped: Counter[str]) -> tuple[str, pd.DataFrame]:
    """Read the name of a table's layout, and its genes and categories."""
    name, header = _header(path, member)
    layout = LAYOUTS[name]
    columns = {"gene": layout.gene, "category": layout.category, **layout.extra}
    columns = {what: column for what, column in columns.items() if column in header.names}
    needed = {*columns.values(), layout.species, layout.needed} - {""}
    # A quotation mark in a table with tabs is a part of the text.
    quoting = csv.QUOTE_NONE if header.sep == "\t" else csv.QUOTE_MINIMAL
    table = read_texts(path, member, header, columns=needed, quoting=quoting)
    if species is not None and layout.species in table:
        is_kept = table[layout.species].str.lower() == species.lower()
        dropped["other species"] = int((~is_kept).sum())
        table = table[is_kept]
    if layout.needed in table:
        is_kept = table[layout.needed] != ""
        dropped[f"no {layout.needed}"] = int((~is_kept).sum())
        table = table[is_kept]
    frame = table[[*columns.values()]].set_axis([*columns], axis=1)
    if layout.several:
        frame = frame.assign(gene=frame["gene"].str.split(r"[\[\],]+", regex=True)).explode("gene")
        frame = frame[frame["gene"].str.strip() != ""]
    frame = frame.apply(lambda values: values.str.strip(' "'))
    usable = frame["gene"].map(is_symbol) & ~frame["gene"].eq("NA") & frame["category"].ne("")  # they write NA
    dropped["no symbol or category"] = int((~usable).sum())
    return name, frame[usable]


def _header(path: Path, member: str | None) -> tuple[str, Header]:
    """Find layout and header of a table, which is the first line that fits one."""
    seen: list[list[str]] = []
    for n_before, line in enumerate(beginning(path, member)):
        for sep in ("\t", ","):
            # it may stand in a comment (CTD), or spell its tabs out (HPO)
            text = line.strip("# ").removeprefix("Format:").strip(" \t").replace("<tab>", "\t")
            names = names_in(path, text, sep)
            for name, layout in LAYOUTS.items():
                if {layout.gene, layout.category} <= {*names}:
                    return name, Header(names, sep, n_before)
            seen.append(names)
        if not line.startswith("#"):
            break
    known = "; ".join(f"{name} ({layout.gene}, {layout.category})" for name, layout in LAYOUTS.items())
    msg = (
        f"{path} is none of the known tables. Found the columns {max(seen, key=len, default=[])[:20]}. "
        f"Known, with two of their columns: {known}; Orphanet (XML)."
    )
    raise ValueError(msg)


def _orphanet(path: Path, member: str | None) -> pd.DataFrame:
    """Read genes of rare diseases; a file that declares entities is refused, so that none is ever expanded."""
    stack: list[str] = []
    rows: list[tuple[str, str, str]] = []
    now = {"name": "", "code": "", "symbol": ""}
    places = {
        ("Disorder", "Name"): "name",
        ("Disorder", "OrphaCode"): "code",
        ("Gene", "Symbol"): "symbol",
    }

    def start(tag: str, _: object) -> None:
        stack.append(tag)
        if (what := places.get(tuple(stack[-2:]))) is not None:
            now[what] = ""

    def text(data: str) -> None:
        if (what := places.get(tuple(stack[-2:]))) is not None:
            now[what] += data

    def end(tag: str) -> None:
        stack.pop()
        if tag == "DisorderGeneAssociation":
            rows.append((now["symbol"].strip(), now["name"].strip(), f"ORPHA:{now['code'].strip()}"))

    def refuse(*_: object) -> NoReturn:
        msg = f"{path} declares a document type, which may hold entities; the files of Orphanet have none."
        raise ValueError(msg)

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler = refuse
    with opened(path, member) as file:
        try:
            parser.ParseFile(file)
        except (expat.ExpatError, LookupError) as error:  # the latter: it declares an encoding that there is not
            msg = f"{path} is no whole XML: {error}. Download it again."
            raise ValueError(msg) from None
    if not rows:
        msg = f"{path} is XML without genes of disorders; expected en_product6.xml of Orphanet."
        raise ValueError(msg)
    return pd.DataFrame(rows, columns=["gene", "category", "id"])
