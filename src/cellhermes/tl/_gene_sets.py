"""Gene sets from a GMT file, a mapping, or a library of Enrichr by name: term to genes. Knows no AnnData."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from .._fetch import fetch
from ..io import read_gmt

LIBRARY = "https://maayanlab.cloud/Enrichr/geneSetLibrary?mode=text&libraryName={name}"
ADVICE = (
    "Names of libraries stand at https://maayanlab.cloud/Enrichr/#libraries. "
    "A GMT file (gene_sets='sets.gmt') or a dict of gene sets needs no connection."
)


def gene_sets_of(source: str | Path | Mapping[str, Sequence[str]]) -> tuple[dict[str, list[str]], str]:
    """Return term to genes, each once in their order, and what ``source`` is called in the stored parameters."""
    if isinstance(source, Mapping):
        if wrong := next((term for term, genes in source.items() if isinstance(genes, str)), None):
            msg = f"gene_sets[{wrong!r}] is the single string {source[wrong]!r}; expected a list of gene symbols."
            raise TypeError(msg)
        sets, name = {str(term): list(dict.fromkeys(genes)) for term, genes in source.items()}, "dict"
    elif not isinstance(source, str | Path):
        msg = f"gene_sets is a {type(source).__name__}; expected a GMT file, a dict of lists, or a library's name."
        raise TypeError(msg)
    elif (path := Path(source)).is_file() or re.search(r"\.gmt(\.gz)?$|[/\\]", str(source), re.I):
        sets, name = _of_file(path), path.name
    else:
        sets, name = read_gmt(library(str(source))), str(source)
    if not sets:
        msg = f"gene_sets={source!r} is empty."
        raise ValueError(msg)
    return sets, name


def _of_file(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        msg = f"gene_sets={str(path)!r}: no such file."
        raise FileNotFoundError(msg)
    return read_gmt(path)


def library(name: str) -> Path:
    """GMT file of a library of Enrichr, downloaded once and checked ever after."""
    if not re.fullmatch(r"[\w.+-]+", name):
        msg = f"gene_sets={name!r} is neither a file nor the name of a library. {ADVICE}"
        raise ValueError(msg)
    return fetch(LIBRARY.format(name=name), f"enrichr/{name}.gmt", check=read_gmt, advice=ADVICE)


def fingerprint(sets: Mapping[str, Sequence[str]]) -> str:
    """SHA-256 of gene sets, which does not depend on their order: two results with the same one used the same sets."""
    lines = sorted("\t".join([term, *sorted(genes)]) for term, genes in sets.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
