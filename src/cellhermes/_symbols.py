"""Human gene symbols as Ensembl names them: which are known, and which belong to protein-coding genes.

Knows no AnnData. The list is made by ``tools/build_symbols.py``.
"""

from __future__ import annotations

import gzip
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

ENSEMBL_ID = re.compile(r"ENS[A-Z]*G\d{11}(\.\d+)?")


class HumanSymbols(NamedTuple):
    """The known human gene symbols."""

    known: frozenset[str]
    """Symbols of any biotype."""
    protein_coding: frozenset[str]
    """Symbols of which at least one Ensembl gene has the biotype ``protein_coding``."""


@cache
def human_symbols() -> HumanSymbols:
    """Read the list in the package."""
    text = gzip.decompress(files("cellhermes").joinpath("human_symbols.tsv.gz").read_bytes()).decode()
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")][1:]
    return HumanSymbols(frozenset(s for s, _ in rows), frozenset(s for s, coding in rows if coding == "1"))


def is_ensembl_id(name: str) -> bool:
    """Whether a name is an Ensembl gene id (of any species), with or without a version."""
    return name.startswith("ENS") and ENSEMBL_ID.fullmatch(name) is not None
