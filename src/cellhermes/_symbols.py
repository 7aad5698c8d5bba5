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


CONTROL = re.compile(  # what stands beside a gene, or alone, for no perturbation
    r"(neg(ative)?[-_ ]?)?(ctrl|control)[-_ ]?\d*|non[-_ ]?targeting([-_ ]?(ctrl|control))?[-_ ]?\d*|ntc?",
    re.IGNORECASE,
)


def is_control(name: str) -> bool:
    """Whether a name stands for no perturbation: ``ctrl``, ``NegCtrl0``, ``non-targeting``."""
    return CONTROL.fullmatch(name) is not None


def joined_genes(name: str) -> list[str]:
    """Genes of a perturbation such as ``KLF1+MAP2K6``, in their order; ``AHR;FEV`` and ``AHR|FEV`` are the same.

    What stands beside a gene for a control (``KLF1+ctrl``) is left out. Some copies of data write ``KLF1_MAP2K6``. A
    name is cut at ``_`` where it is no symbol as a whole and each part is a symbol or a control: ``C4B_2`` stays whole.
    """
    parts = (part.strip() for part in re.split(r"[+;,|&]", str(name)))
    genes = [gene for part in parts if part for gene in _underscored(part) or [part]]
    return [gene for gene in genes if not is_control(gene)] or genes


def _underscored(name: str) -> list[str]:
    """Symbols and controls that ``_`` joins; none if it can't be cut into such."""
    if name in human_symbols().known or is_control(name):
        return [name]
    for i in (i for i, letter in enumerate(name) if letter == "_"):
        first, others = _underscored(name[:i]), _underscored(name[i + 1 :])
        if first and others:
            return [*first, *others]
    return []
