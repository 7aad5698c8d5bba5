"""Splits of question tables: which rows train, which validate, which test, so that nothing leaks between them.

A split is a pure function of the table, its arguments and a seed: it returns a new frame with a column ``split``, and
proves that what it keeps apart is apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from ..._symbols import joined_genes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SPLIT = "split"
PARTS = ("train", "valid", "test")
FRACTIONS = (0.8, 0.1, 0.1)
SHOWN = 5


class LeakError(ValueError):
    """Something that a split keeps apart is on both sides.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> try:
    ...     ch.train.questions.check_split(pd.DataFrame({"donor": [7, 7], "split": ["train", "test"]}), "donor")
    ... except ch.train.questions.LeakError as error:
    ...     print(error)
    1 of 1 values of donor are in more than one part, such as 7.
    """


def split_random(frame: pd.DataFrame, *, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> pd.DataFrame:
    """Split rows at random; rows that ask the same go to the same part.

    Two rows ask the same where all their columns are equal but for ``answer``, ``direction`` and numbers. Missing
    values are equal to each other, so that ``adata.obs`` with a column that only some cells have can be split.

    Parameters
    ----------
    frame
        Questions.
    fractions
        Shares of training, validation and test.
    seed
        Seed of the draw.

    Returns
    -------
    A copy with the column ``split``: ``"train"``, ``"valid"`` or ``"test"``.

    Raises
    ------
    ValueError
        If a part would be empty.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame({"gene": list("ABCDEFGHIJ"), "answer": ["Yes", "No"] * 5})
    >>> sorted(ch.train.questions.split_random(frame)["split"])
    ['test', 'train', 'train', 'train', 'train', 'train', 'train', 'train', 'train', 'valid']
    """
    asked = [
        name for name in frame if name not in ("answer", "direction", SPLIT) and frame[name].dtype.kind not in "fc"
    ]
    if not asked:
        msg = f"the frame has the columns {list(frame)}; expected some that say what is asked."
        raise ValueError(msg)
    complete = frame[asked].astype(object).where(frame[asked].notna(), "")
    return frame.assign(**{SPLIT: split_by(complete, asked, fractions=fractions, seed=seed)[SPLIT]})


def split_by(
    frame: pd.DataFrame,
    columns: str | Sequence[str],
    *,
    unordered: bool = False,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Split by group: rows with the same values are in the same part.

    For unseen cell lines (``"cell_line"``), clonotypes, donors, or pairs of genes.

    Parameters
    ----------
    frame
        Questions.
    columns
        One or several columns; together they name the group of a row.
    unordered
        Whether the order of the values does not count: a pair of genes is the same pair the other way round.
    fractions
        Shares of the groups in training, validation and test.
    seed
        Seed of the draw.

    Returns
    -------
    A copy with the column ``split``.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If a value is missing, or a part would be empty.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame({"clonotype": [1, 1, 2, 2, 3, 3], "answer": ["Yes", "No"] * 3})
    >>> parts = ch.train.questions.split_by(frame, "clonotype", fractions=(0.34, 0.33, 0.33))
    >>> parts.groupby("clonotype")["split"].nunique().tolist()
    [1, 1, 1]
    """
    codes, keys = _keys(frame, columns)
    groups, values = pd.factorize(_tuples(sorted(key, key=str) if unordered else key for key in keys))
    part = np.empty(len(values), int)
    part[np.argsort([str(value) for value in values])] = _assigned(len(values), fractions, seed, what=_named(columns))
    found = frame.assign(**{SPLIT: np.array(PARTS, object)[part[groups][codes]]})
    check_split(found, columns, unordered=unordered)
    return found


def split_unseen_genes(
    frame: pd.DataFrame,
    columns: str | Sequence[str] = "gene",
    *,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Split genes: no gene of the test part is in a training row.

    Rows with genes of different parts belong to none and are left out (``attrs["dropped"]`` counts them).

    Parameters
    ----------
    frame
        Questions.
    columns
        Columns of genes; a value may join several with ``+`` (or ``_``), as perturbations do.
    fractions
        Shares of the genes in training, validation and test.
    seed
        Seed of the draw.

    Returns
    -------
    The rows that are kept, with the column ``split``.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If a value is missing, or a part would be empty.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame({"perturbation": [*"ABCDEFGHIJ", "A+B"], "gene": "HBZ", "answer": "Yes"})
    >>> split = ch.train.questions.split_unseen_genes(frame, "perturbation")
    >>> seen = set("+".join(split.query("split == 'train'")["perturbation"]).split("+"))
    >>> any(gene in seen for gene in split.query("split == 'test'")["perturbation"])
    False
    """
    codes, members = _members(frame, columns)
    part = _of_genes(members, fractions, seed)
    parts = [{part[gene] for gene in genes} for genes in members]
    split = np.array([PARTS[one.pop()] if len(one) == 1 else None for one in parts], object)
    found = _kept(frame.assign(**{SPLIT: split[codes]}), frame, "genes of different parts")
    _check_not_empty(found, fractions)
    check_split(found, columns, genes=True)
    return found


def split_unseen_combinations(
    frame: pd.DataFrame,
    column: str = "perturbation",
    *,
    n_seen: Literal[0, 1, 2] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Split perturbations of two genes by how many of the genes were seen in training.

    Genes are drawn for validation and test. Training has no perturbation with one of them. A combination with one or
    two drawn genes is tested with one or no gene seen; of the combinations whose genes are both seen in training, some
    are drawn for the test, with two genes seen. Combinations with drawn genes of both parts are left out.

    Parameters
    ----------
    frame
        Questions.
    column
        Perturbed genes, joined by ``+``.
    n_seen
        Keep only validation and test rows of combinations with so many genes seen; None keeps all. Perturbations of
        one gene are not tested.
    fractions
        Shares of the genes, and of the combinations with two genes seen, in training, validation and test.
    seed
        Seed of the draw.

    Returns
    -------
    The rows that are kept, with the columns ``split`` and ``n_seen`` (Int64, missing in training).

    Raises
    ------
    KeyError
        If the column is missing.
    ValueError
        If a value is missing, a perturbation has more than two genes, or a part would be empty.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> genes = list("ABCDEFGH")
    >>> pairs = [f"{a}+{b}" for i, a in enumerate(genes) for b in genes[:i]]
    >>> frame = pd.DataFrame({"perturbation": [*genes, *pairs], "gene": "HBZ", "answer": "Yes"})
    >>> split = ch.train.questions.split_unseen_combinations(frame, fractions=(0.5, 0.25, 0.25))
    >>> split.query("split == 'test'").groupby("n_seen")["perturbation"].count().tolist()
    [1, 8, 2]
    """
    if n_seen not in (0, 1, 2, None):
        msg = f"n_seen={n_seen!r}; expected 0, 1, 2 or None."
        raise ValueError(msg)
    codes, members = _members(frame, column)
    if longest := ["+".join(genes) for genes in members if len(genes) > 2]:
        msg = f"{len(longest):,} perturbations have more than two genes, such as {longest[0]!r}; leave them out."
        raise ValueError(msg)
    part = _of_genes(members, fractions, seed)
    seen = sorted({genes for genes in members if len(genes) == 2 and not any(part[gene] for gene in genes)})
    drawn = {}
    if len(seen) >= len(PARTS):
        drawn = dict(zip(seen, _assigned(len(seen), fractions, seed + 1, what="combinations"), strict=True))
    parts = [{part[gene] for gene in genes} - {0} or {int(drawn.get(genes, 0))} for genes in members]
    trained = {gene for genes, one in zip(members, parts, strict=True) if one == {0} for gene in genes}
    split = np.full(len(members), None, object)
    n_trained = np.zeros(len(members), int)
    for i, (genes, one) in enumerate(zip(members, parts, strict=True)):
        n_trained[i] = sum(gene in trained for gene in genes)
        is_asked = len(genes) == 2 and n_seen in (None, n_trained[i])
        if len(one) == 1 and (one == {0} or is_asked):
            split[i] = PARTS[one.pop()]
    found = frame.assign(**{SPLIT: split[codes], "n_seen": pd.array(n_trained[codes], "Int64")})
    found.loc[found[SPLIT] == "train", "n_seen"] = pd.NA
    found = _kept(found, frame, "not in the setting")
    _check_not_empty(found, fractions)
    _check_seen(found, column)
    return found


def check_split(
    frame: pd.DataFrame, columns: str | Sequence[str], *, unordered: bool = False, genes: bool = False
) -> None:
    """Prove that no value is in more than one part of a split.

    Parameters
    ----------
    frame
        Questions with the column ``split``.
    columns
        What must be apart: the values of these columns together.
    unordered
        Whether the order of the values does not count.
    genes
        Look at each gene of the columns alone: none may be in two parts.

    Raises
    ------
    ~cellhermes.train.questions.LeakError
        If one is; the message names some.
    KeyError
        If a column is missing.
    ValueError
        If there is another part than ``"train"``, ``"valid"`` and ``"test"``.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame({"gene": ["A", "A"], "split": ["train", "test"]})
    >>> ch.train.questions.check_split(frame, "gene")
    Traceback (most recent call last):
    ...
    cellhermes.train.questions._splits.LeakError: 1 of 1 values of gene are in more than one part, such as 'A'.
    """
    if SPLIT not in frame:
        msg = f"the frame has no column {SPLIT!r}; its columns are {list(frame)}. Split it first."
        raise KeyError(msg)
    if other := sorted(set(frame[SPLIT].astype(str)) - set(PARTS)):
        msg = f"column {SPLIT!r} has {other[:SHOWN]}; expected {PARTS}."
        raise ValueError(msg)
    codes, keys = _members(frame, columns) if genes else _keys(frame, columns)
    pairs = pd.DataFrame({"key": codes, "part": frame[SPLIT].to_numpy(object)}).drop_duplicates()
    if genes:
        pairs = pairs.assign(key=[keys[code] for code in pairs["key"]]).explode("key").drop_duplicates()
    else:
        pairs["key"] = _tuples(sorted(keys[code], key=str) if unordered else keys[code] for code in pairs["key"])
        pairs = pairs.drop_duplicates()
    counts = pairs["key"].value_counts(sort=False)
    if len(leaked := counts.index[counts > 1]):
        listed = ", ".join(repr(key) for key in leaked[:SHOWN])
        msg = (
            f"{len(leaked):,} of {len(counts):,} values of {_named(columns)} are in more than one part, such as "
            f"{listed}."
        )
        raise LeakError(msg)


# --------------------------------------------------------------------------------------------------------- kernels


def _assigned(n: int, fractions: Sequence[float], seed: int, *, what: str) -> np.ndarray:
    """A part (0, 1, 2) for each of ``n`` things, in random order; no part that is asked for is empty."""
    if len(fractions) != len(PARTS) or min(fractions) < 0 or not np.isclose(sum(fractions), 1):
        msg = f"fractions={tuple(fractions)}; expected shares of {', '.join(PARTS)} that add up to 1."
        raise ValueError(msg)
    wanted = [n * share for share in fractions]
    counts = np.maximum(np.round(wanted).astype(int), np.array(fractions) > 0)
    counts[0] += n - counts.sum()
    if counts[0] < (fractions[0] > 0):
        msg = f"{n} {what} cannot be split into {dict(zip(PARTS, fractions, strict=True))}: a part would be empty."
        raise ValueError(msg)
    return np.random.default_rng([seed, n]).permutation(np.repeat(np.arange(len(PARTS)), counts))


def _of_genes(members: Sequence[tuple[str, ...]], fractions: Sequence[float], seed: int) -> dict[str, int]:
    """A part for each gene."""
    genes = sorted({gene for row in members for gene in row})
    return dict(zip(genes, _assigned(len(genes), fractions, seed, what="genes").tolist(), strict=True))


def _keys(frame: pd.DataFrame, columns: str | Sequence[str]) -> tuple[np.ndarray, list[tuple]]:
    """Number of the key of each row, and the keys: the values of the columns together.

    Tables have many rows and few keys, so what follows is done once a key.
    """
    names = _columns(frame, columns)
    numbers = frame.groupby(names, sort=False, observed=True, dropna=False).ngroup().to_numpy()
    first = np.unique(numbers, return_index=True)[1]
    return numbers, list(zip(*(frame[name].to_numpy(object)[first] for name in names), strict=True))


def _members(frame: pd.DataFrame, columns: str | Sequence[str]) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Number of the key of each row, and the genes of each key in alphabetical order."""
    codes, keys = _keys(frame, columns)
    return codes, [tuple(sorted({gene for value in key for gene in joined_genes(value)})) for key in keys]


def _tuples(rows: Iterable[Sequence[object]]) -> np.ndarray:
    """An array of tuples, which numpy would make a matrix of; a single value stands for itself."""
    rows = [tuple(row) for row in rows]
    found = np.empty(len(rows), object)
    found[:] = [row[0] if len(row) == 1 else row for row in rows]
    return found


def _columns(frame: pd.DataFrame, columns: str | Sequence[str]) -> list[str]:
    names = [columns] if isinstance(columns, str) else list(columns)
    if missing := [name for name in names if name not in frame]:
        msg = f"the frame has no column {missing}; its columns are {list(frame)}."
        raise KeyError(msg)
    for name in names:
        if n_missing := int(frame[name].isna().sum()):
            msg = f"column {name!r} has no value in {n_missing:,} of {len(frame):,} rows; fill or leave them out."
            raise ValueError(msg)
    return names


def _named(columns: object) -> str:
    return columns if isinstance(columns, str) else " and ".join(columns)


def _kept(found: pd.DataFrame, frame: pd.DataFrame, reason: str) -> pd.DataFrame:
    """Rows that are in a part; how many are not is noted in ``attrs``."""
    found = found[found[SPLIT].notna()]
    n_dropped = len(frame) - len(found)
    found.attrs = {
        **frame.attrs,
        "dropped": {**frame.attrs.get("dropped", {}), **({reason: n_dropped} if n_dropped else {})},
    }
    return found


def _check_not_empty(frame: pd.DataFrame, fractions: Sequence[float]) -> None:
    there = set(frame[SPLIT])
    if empty := [part for part, share in zip(PARTS, fractions, strict=True) if share and part not in there]:
        msg = f"no row is left for {' and '.join(empty)}; try other fractions, or another seed."
        raise ValueError(msg)


def _check_seen(frame: pd.DataFrame, column: str) -> None:
    """Prove that combinations are new, and that ``n_seen`` is what training has seen of them."""
    is_train = (frame[SPLIT] == "train").to_numpy()
    train, rest = _members(frame[is_train], column)[1], frame[~is_train].drop_duplicates([column, "n_seen", SPLIT])
    seen = {gene for genes in train for gene in genes}
    codes, members = _members(rest, column)
    parts: dict[tuple[str, ...], str] = dict.fromkeys(train, "train")
    for code, part, n_seen in zip(codes, rest[SPLIT], rest["n_seen"], strict=True):
        genes = members[code]
        if parts.setdefault(genes, part) != part or sum(gene in seen for gene in genes) != n_seen:
            msg = f"{'+'.join(genes)!r} is in {part} with {n_seen} genes seen, which training does not bear out."
            raise LeakError(msg)
