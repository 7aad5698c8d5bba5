"""Gene sets of a GMT file: term, description, genes, with tabs between them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from .._symbols import human_symbols
from ._files import lines

WEIGHT = re.compile(r",\s*[-+]?[\d.]+(e[-+]?\d+)?\s*$", re.IGNORECASE)  # of Enrichr: CD3E,1.0


def read_gmt(path: str | Path, member: str | None = None) -> dict[str, list[str]]:
    r"""Read gene sets of a GMT file, plain, gzip or zip.

    A line has the name of a set, a description, and genes, with tabs between them. Blank fields and lines, genes that
    stand twice in a set, and weights behind genes (``CD3E,1.0``) are left out. Nothing else is lost without a word:

    - Sets that share a name and differ are kept apart, the second one as ``"NAME (2)"``, with a warning.
    - Where most lines have a gene symbol in the place of the description, the file has no descriptions, and it is read
      as a gene, with a warning.

    Parameters
    ----------
    path
        The file.
    member
        Name of the file inside a zip archive with several.

    Returns
    -------
    Name of the set to its genes, in the order of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or a line is not one of a GMT file (the message has its number).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "sets.gmt")
    ...     _ = path.write_text("T cell receptor\thttps://x.org\tCD3D\tCD3E,1.0\tCD3E\t\n")
    ...     sets = ch.io.read_gmt(path)
    >>> sets
    {'T cell receptor': ['CD3D', 'CD3E']}
    """
    path = Path(path)
    terms = _terms(path, member)
    if not terms:
        msg = f"{path.name} holds no gene sets."
        raise ValueError(msg)
    first = 0 if _without_description(path, terms) else 1
    sets: dict[str, list[str]] = {}
    shared: list[str] = []
    for term, *fields in terms:
        genes = [*dict.fromkeys(gene for field in fields[first:] if (gene := WEIGHT.sub("", field).strip()))]
        name, number = term, 1
        while name in sets and set(sets[name]) != set(genes):
            number += 1
            name = f"{term} ({number})"
        shared += [term] if number > 1 else []
        sets.setdefault(name, genes)
    if shared:
        names = ", ".join(map(repr, dict.fromkeys(shared)))[:300]
        msg = f"{path.name}: {len(shared)} sets share the name of another one, and are kept apart as 'NAME (2)': "
        msg += f"{names}."
        warnings.warn(msg, UserWarning, stacklevel=2)
    return sets


def _terms(path: Path, member: str | None) -> list[list[str]]:
    """Read the fields of each line."""
    terms = []
    for number, line in enumerate(lines(path, member), 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            msg = f"{path.name} is damaged, or no text: {error}."
            raise ValueError(msg) from error
        fields = [field.strip().strip('"') for field in text.rstrip("\r\n").split("\t")]
        if not any(fields) or (text.startswith("#") and len(fields) == 1):
            continue
        if len(fields) < 2 or not fields[0]:
            msg = f"{path.name}, line {number}: expected term, description and genes separated by tabs, "
            msg += f"got {text.strip()[:60]!r}."
            raise ValueError(msg)
        terms.append(fields)
    return terms


def _without_description(path: Path, found: list[list[str]]) -> bool:
    """Tell whether most lines have a gene where the description should stand."""
    known = human_symbols().known
    n = sum(second != term and WEIGHT.sub("", second).upper() in known for term, second, *_ in found)
    if n <= len(found) / 2:
        return False
    msg = f"{path.name} has a gene symbol in place of the description in {n:,} of {len(found):,} lines, so that it is "
    msg += "read as a file without descriptions. If these are descriptions, give them other words."
    warnings.warn(msg, UserWarning, stacklevel=3)
    return True
