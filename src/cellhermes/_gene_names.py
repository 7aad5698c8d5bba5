"""Names of genes, of human and other species, and the human symbols that they mean.

Knows no AnnData. The tables are made by ``tools/build_gene_names.py``.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, NamedTuple

import pandas as pd

from ._symbols import human_symbols, is_ensembl_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

Species = Literal["human", "mouse", "rat", "rhesus", "cynomolgus", "pig"]
SPECIES: tuple[Species, ...] = ("human", "mouse", "rat", "rhesus", "cynomolgus", "pig")
AMBIGUOUS, UNKNOWN = "ambiguous", "unknown"
HOW = ("symbol", "id", "previous", "alias", "letter case", "suffix", AMBIGUOUS, UNKNOWN)
SHARED = "~"
WITH_ID = re.compile(r"(?P<symbol>.+)_(?P<id>ENS[A-Z]*G\d{11})")  # CELLxGENE, of symbols that occur twice
NUMBERED = re.compile(r"(?P<symbol>.+)-\d+")  # var_names_make_unique
ID_PREFIX = re.compile(r"ENS[A-Z]*?(?=G\d)")
ID_PREFIXES: dict[str, Species] = {"ENS": "human", "ENSMUS": "mouse", "ENSRNO": "rat"}
SMALL_LETTERS = re.compile(r"[A-Z][a-z][a-z0-9.-]*")  # Cd3e, as of mouse and rat; no human symbol is written so


class Meaning(NamedTuple):
    """What a name stands for."""

    symbol: str
    """The human symbol; ``""`` where there is none, or no single one."""
    how: str
    """One of ``HOW``."""


NOTHING = Meaning("", UNKNOWN)


class GeneNames(NamedTuple):
    """The names of the genes of one species."""

    meanings: dict[str, tuple[str, tuple[str, ...]]]
    """Name to its kind and the human symbols that it may mean; ``~`` before those that are of several genes."""
    by_case: dict[str, str]
    """Symbols in small letters, where these tell them apart, to the symbols."""


@cache
def gene_names(species: Species) -> GeneNames:
    """Read the table of a species."""
    text = gzip.decompress(files("cellhermes").joinpath(f"gene_names/{species}.tsv.gz").read_bytes()).decode()
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")][1:]
    meanings = {name: (kind, tuple(symbols.split("|"))) for name, kind, symbols in rows}
    own = [name for name, kind, _ in rows if kind == "symbol"]
    if species == "human":
        own += human_symbols().known
    n_like = Counter(name.lower() for name in own)
    by_case = {name.lower(): name for name in own if n_like[name.lower()] == 1}
    return GeneNames(meanings, by_case)


def species_of(names: Iterable[str]) -> Species | None:
    """Guess whose genes most of the names are, by the species in Ensembl ids or by small letters; None: cannot tell."""
    names = [name for name in map(str, names) if name]
    half = len(names) / 2
    for prefix, species in ID_PREFIXES.items():
        if sum(is_ensembl_id(name) and ID_PREFIX.match(name)[0] == prefix for name in names) > half:
            return species
    if sum(SMALL_LETTERS.fullmatch(name) is not None for name in names) > half:
        return "mouse"
    return None


def map_call(species: Species) -> str:
    """Say how names of a species become human symbols."""
    given = "" if species == "human" else f', "{species}"'
    return f"write human symbols first: `ch.pp.map_genes(adata{given})`"


def human_meanings(names: Iterable[str], species: Species, *, keep_paralogues: bool = False) -> pd.DataFrame:
    """Find the human symbol of each name.

    Parameters
    ----------
    names
        Symbols or Ensembl ids of the species.
    species
        One of ``SPECIES``.
    keep_paralogues
        Give genes that share their human orthologue its symbol; else they are ambiguous.

    Returns
    -------
    A row per name, in their order: ``symbol`` (``""`` where there is none) and ``how``, one of ``HOW``.
    """
    names = [str(name) for name in names]
    table, together = gene_names(species), {*names}

    def look_up(name: str) -> Meaning:
        return _in_table(name, species, table.meanings, keep_paralogues=keep_paralogues)

    meanings = [_meaning(name, look_up, table.by_case, together) for name in names]
    return pd.DataFrame(meanings, columns=list(Meaning._fields), dtype=object)


def _meaning(
    name: str, look_up: Callable[[str], Meaning], by_case: Mapping[str, str], together: Collection[str]
) -> Meaning:
    """Look a name up as it is, then without what made it unique, then in letters of the other case."""
    if (meaning := look_up(name)).how != UNKNOWN:
        return meaning
    if joined := WITH_ID.fullmatch(name):
        other, how = look_up(joined["symbol"]), "suffix"
        other = other if other.symbol else look_up(joined["id"])
    elif (numbered := NUMBERED.fullmatch(name)) and numbered["symbol"] in together:
        other, how = look_up(numbered["symbol"]), "suffix"
    else:
        other, how = look_up(by_case.get(name.lower(), "")), "letter case"
    return other._replace(how=how) if other.symbol else other


def _in_table(
    name: str, species: Species, meanings: Mapping[str, tuple[str, tuple[str, ...]]], *, keep_paralogues: bool
) -> Meaning:
    known = human_symbols().known
    if species == "human" and name in known:
        return Meaning(name, "symbol")
    if is_ensembl_id(name):
        name = name.partition(".")[0]
    if name not in meanings:
        return NOTHING
    kind, (symbol, *others) = meanings[name]
    if others or (symbol.startswith(SHARED) and not keep_paralogues):
        return Meaning("", AMBIGUOUS)
    symbol = symbol.removeprefix(SHARED)
    return Meaning(symbol, kind) if symbol in known else NOTHING
