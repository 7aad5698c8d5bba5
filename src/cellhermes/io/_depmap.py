"""Gene dependencies of cell lines: the tables of DepMap."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ._tables import MISSING, first_line, opened, read_texts, told

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_depmap(
    path: str | Path,
    models: str | Path | None = None,
    *,
    max_effect: float = -0.5,
    min_effect: float | None = None,
    genes: Sequence[str] | None = None,
    cell_lines: Sequence[str] | None = None,
) -> pd.DataFrame:
    r"""Read gene dependencies of cell lines: ``CRISPRGeneEffect.csv`` of DepMap.

    The table has a row for each cell line and a column ``SYMBOL (ENTREZ)`` for each gene. An effect of 0 is that of a
    gene that is not needed, -1 the median of genes that all cells need.

    Parameters
    ----------
    path
        The file as downloaded, plain, gzip or zip.
    models
        ``Model.csv`` of the same release, which has names for the identifiers of cell lines. None keeps identifiers.
    max_effect
        A line depends on a gene (``"Yes"``) whose effect is at most this. DepMap calls -0.5 depleting.
    min_effect
        A line does without a gene (``"No"``) whose effect is at least this; rows in between are left out. None takes
        all others.
    genes
        Symbols to keep; None keeps all. All genes and lines of a release are some 20 million rows.
    cell_lines
        Names or identifiers of lines to keep; None keeps all.

    Returns
    -------
    ``cell_line``, ``gene``, ``effect`` (float32), ``answer`` (``"Yes"`` or ``"No"``), all but the effect as categories;
    with ``models`` also ``lineage``. Effects that were not measured are left out and counted. ``attrs`` as in
    :func:`read_gene_categories`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the columns are not those of DepMap, a value is no number, a line is not in ``models``, or no row is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     effects, models = Path(folder, "CRISPRGeneEffect.csv"), Path(folder, "Model.csv")
    ...     _ = effects.write_text("ModelID,RPL3 (6122),OR4F5 (79501)\nACH-000001,-1.2,0.1\n")
    ...     _ = models.write_text("ModelID,CellLineName,OncotreeLineage\nACH-000001,NIH:OVCAR-3,Ovary\n")
    ...     frame = ch.io.read_depmap(effects, models)
    >>> frame[["cell_line", "gene", "answer"]].to_numpy().tolist()
    [['NIH:OVCAR-3', 'RPL3', 'Yes'], ['NIH:OVCAR-3', 'OR4F5', 'No']]
    """
    path = Path(path)
    min_effect = np.nextafter(max_effect, np.inf) if min_effect is None else min_effect
    if min_effect <= max_effect:
        msg = f"min_effect={min_effect} must be above max_effect={max_effect}."
        raise ValueError(msg)
    columns, _, n_before = first_line(path, None, ",")
    symbols = _depmap_symbols(path, columns)
    kept = [i for i, name in enumerate(symbols) if genes is None or name in set(genes)]
    with opened(path, None) as file:
        wide = pd.read_csv(
            file, header=None, skiprows=n_before + 1, usecols=[0, *(i + 1 for i in kept)], index_col=False,
            converters={0: str}, na_values=MISSING, keep_default_na=False,
        ).set_index(0).set_axis([columns[i + 1] for i in kept], axis=1)  # fmt: skip
    if other := [name for name, dtype in wide.dtypes.items() if dtype.kind not in "fi"]:
        msg = f"{path}: column {other[0]!r} has values that are no numbers."
        raise ValueError(msg)
    lines = _depmap_lines(wide.index.astype(str), models)
    if cell_lines is not None:
        chosen = lines.index.isin(cell_lines) | lines["cell_line"].isin(cell_lines).to_numpy()
        wide, lines = wide[chosen], lines[chosen]
    effects = wide.to_numpy(np.float32)
    row, column = np.nonzero((effects <= max_effect) | (effects >= min_effect))
    effect = effects[row, column]
    frame = pd.DataFrame(
        {
            **{name: _repeated(values, row) for name, values in lines.items()},
            "gene": _repeated(np.array([symbols[i] for i in kept], object), column),
            "effect": effect,
            "answer": pd.Categorical.from_codes((effect > max_effect).astype(np.int8), ["Yes", "No"]),
        }
    )
    missing = int(np.isnan(effects).sum())
    dropped = {"not measured": missing, "effect in between": effects.size - missing - len(effect)}
    return told(frame, path, Counter(dropped), format="DepMap")


def _depmap_symbols(path: Path, columns: list[str]) -> list[str]:
    """Read the symbols of the columns but the first."""
    matches = [re.fullmatch(r"(\S+) \([^()]*\)", name) for name in columns[1:]]
    if not matches or not all(matches):
        other = [name for name, match in zip(columns[1:], matches, strict=True) if not match]
        msg = (
            f"{path}: expected CRISPRGeneEffect.csv of DepMap, with identifiers in the first column and columns "
            f"'SYMBOL (ENTREZ)' behind it. Found {len(columns)} columns, such as {(other or columns)[:3]}."
        )
        raise ValueError(msg)
    return [match.group(1) for match in matches]


def _depmap_lines(keys: pd.Index, models: str | Path | None) -> pd.DataFrame:
    """Read name and lineage of cell lines, by identifier."""
    if models is None:
        return pd.DataFrame({"cell_line": keys}, index=keys)
    table = read_texts(Path(models), None, first_line(Path(models), None, ","))
    columns = {"ModelID": "key", "CellLineName": "cell_line", "OncotreeLineage": "lineage"}
    if missing := sorted({"ModelID", "CellLineName"} - set(table)):
        msg = f"{models}: no column {missing}; expected Model.csv of DepMap. Found: {list(table)[:20]}."
        raise ValueError(msg)
    table = table.rename(columns=columns).drop_duplicates("key").set_index("key")
    if unknown := sorted(set(keys) - set(table.index)):
        msg = f"{models} lacks {len(unknown):,} of {len(keys):,} cell lines, such as {unknown[:3]}. Use one release."
        raise ValueError(msg)
    lines = table.loc[keys, [name for name in ("cell_line", "lineage") if name in table]].copy()
    lines["cell_line"] = np.where(lines["cell_line"] == "", lines.index, lines["cell_line"])
    return lines


def _repeated(values: Sequence[str] | np.ndarray, places: np.ndarray) -> pd.Categorical:
    codes, names = pd.factorize(np.asarray(values, object))
    return pd.Categorical.from_codes(codes[places], names)
