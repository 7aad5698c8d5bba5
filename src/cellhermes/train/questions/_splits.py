"""Splits of question tables: which rows train, which validate, which test, so that nothing leaks between them.

A split is a pure function of the table, its arguments and a seed: it returns a new frame with a column ``split``, and
proves that what it keeps apart is apart.
"""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd

from ..._streams import Use, generator
from ..._symbols import joined_genes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

logger = logging.getLogger("cellhermes")

SPLIT = "split"
PARTS = ("train", "valid", "test")
FRACTIONS = (0.8, 0.1, 0.1)
SHOWN = 5
WAYS = ("random", "groups", "unseen_genes", "unseen_combinations")


class Setting(NamedTuple):
    """What a setting of the paper keeps apart: one of :data:`WAYS`, and its columns."""

    way: str
    columns: str | tuple[str, ...] | None = None
    unordered: bool = False


# Methods, "CellHermes as a predictor", and Supplementary Note 5; the last two are of its T cells.
SETTINGS: Mapping[str, Setting] = MappingProxyType({
    "perturbation/unseen_gene": Setting("unseen_genes", "perturbation"),
    "perturbation/unseen_combination": Setting("unseen_combinations", "perturbation"),
    "perturbation/unseen_cell_line": Setting("groups", "cell_line"),
    "cell_fitness/unseen_gene": Setting("unseen_genes", "gene"),
    "cell_fitness/unseen_cell_line": Setting("groups", "cell_line"),
    **{
        f"genetic_interaction_{kind}": Setting("groups", ("gene_a", "gene_b"), unordered=True)
        for kind in ("synthetic", "phenotypic", "general", "dosage")
    },
    **{
        f"gene_set_{kind}": Setting("groups", ("gene", "category"))
        for kind in ("cell_type", "disease", "phenotype", "rare_disease")
    },
    "t_cell_reactivity/cell": Setting("random"),
    "t_cell_reactivity/clonotype": Setting("groups", "clonotype"),
})  # fmt: skip
ALSO = {"clonotype": "clone_id"}  # what a column is called by readers, ours and scirpy's, where it is another name
CHAINS = ("IR_VJ_1_junction", "IR_VDJ_1_junction")


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


def split(
    frame: pd.DataFrame,
    how: str,
    *,
    columns: str | Sequence[str] | None = None,
    unordered: bool = False,
    n_seen: Literal[0, 1, 2] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Split a table into training, validation and test, so that what is to be unseen in the test is in no other part.

    ``how`` is one of four ways, or a test setting of the paper by name, which has its columns:

    ======================================================== ==========================================================
    ``"random"``                                             rows; those that ask the same go to the same part
    ``"groups"``                                             rows with the same values of ``columns`` go together:
                                                             donors, clonotypes, cell lines, pairs of genes
    ``"unseen_genes"``                                       no gene of ``columns`` is in two parts; rows with genes of
                                                             different parts are left out
    ``"unseen_combinations"``                                perturbations of two genes, by how many of them training
                                                             has seen
    ``"perturbation/unseen_gene"``                           unseen genes of ``perturbation``
    ``"perturbation/unseen_combination"``                    unseen combinations of ``perturbation``
    ``"perturbation/unseen_cell_line"``,                     groups of ``cell_line``
    ``"cell_fitness/unseen_cell_line"``
    ``"cell_fitness/unseen_gene"``                           unseen genes of ``gene``
    ``"genetic_interaction_synthetic"``, ``..._phenotypic``, groups of ``gene_a`` and ``gene_b``, in either order
    ``..._general``, ``..._dosage``
    ``"gene_set_cell_type"``, ``..._disease``,               groups of ``gene`` and ``category``
    ``..._phenotype``, ``..._rare_disease``
    ``"t_cell_reactivity/cell"``                             random
    ``"t_cell_reactivity/clonotype"``                        groups of ``clonotype`` or ``clone_id``
    ======================================================== ==========================================================

    *Random.* Two rows ask the same where all their columns are equal but for ``answer``, ``direction`` and numbers.
    Missing values are equal to each other, so that ``adata.obs`` with a column that only some cells have can be split.

    *Unseen combinations.* Genes are drawn for validation and test. Training has no perturbation with one of them. A
    combination with one or two drawn genes is tested with one or no gene seen; of the combinations whose genes are both
    seen in training, some are drawn for the test, with two genes seen. Combinations with drawn genes of both parts are
    left out, and perturbations of one gene are not tested.

    Gene-set tables (``gene``, ``category``) are split before :func:`gene_set_questions` makes questions of them: a gene
    that is shown for a category in the test was never shown for it in training.

    Parameters
    ----------
    frame
        Questions, or genes and categories, as the readers of :mod:`cellhermes.io` return them.
    how
        A way or a setting of the table above.
    columns
        What is kept apart, for ``"groups"`` (values of these columns together), ``"unseen_genes"`` (None takes
        ``"gene"``) and ``"unseen_combinations"`` (one column; None takes ``"perturbation"``). A value of genes may join
        several with ``+`` or ``_``.
    unordered
        For ``"groups"``: the order of the values does not count. A pair of genes is the same pair the other way round.
    n_seen
        For unseen combinations: keep only validation and test rows of combinations with so many genes seen; None keeps
        all.
    fractions
        Shares of training, validation and test: of rows, groups, genes, and combinations with two genes seen.
    seed
        Seed of the draw.

    Returns
    -------
    A new frame with the column ``split`` (``"train"``, ``"valid"`` or ``"test"``), and with ``n_seen`` (Int64, missing
    in training) for unseen combinations. Rows that belong to no part are left out and counted in ``attrs["dropped"]``.
    Where a table split by clonotypes holds the chains of the receptors, as that of :func:`cellhermes.io.read_contigs`,
    ``attrs["shared"]`` and the log say how many chains of validation and test stand in another receptor of training.

    Raises
    ------
    KeyError
        If there is no such way or setting, or a column is not there.
    ValueError
        If an option does not fit ``how``, a value is missing, a perturbation has more than two genes, or a part would
        be empty.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame({"gene": list("ABCDEFGHIJ"), "cell_line": "K562", "answer": "Yes"})
    >>> splits = ch.train.questions.split(frame, "cell_fitness/unseen_gene")
    >>> splits.groupby("split")["gene"].count().to_dict()
    {'test': 1, 'train': 8, 'valid': 1}
    >>> cells = pd.DataFrame({"clonotype": [1, 1, 2, 2, 3, 3], "answer": ["Yes", "No"] * 3})
    >>> thirds = ch.train.questions.split(cells, "groups", columns="clonotype", fractions=(0.34, 0.33, 0.33))
    >>> thirds.groupby("clonotype")["split"].nunique().tolist()
    [1, 1, 1]
    """
    if how not in (*WAYS, *SETTINGS):
        msg = f"No split {how!r}. Known: {', '.join(WAYS)}; and settings of the paper: {', '.join(SETTINGS)}."
        raise KeyError(msg)
    way = SETTINGS[how].way if how in SETTINGS else how
    _check_options(how, way, columns=columns, unordered=unordered, n_seen=n_seen)
    if how in SETTINGS:
        columns, unordered = _present(frame, SETTINGS[how].columns), SETTINGS[how].unordered
    if way == "random":
        splits = _random(frame, fractions, seed)
    elif way == "groups":
        splits = _by_group(frame, columns, fractions, seed, unordered=unordered)
    elif way == "unseen_genes":
        splits = _unseen_genes(frame, columns or "gene", fractions, seed)
    else:
        splits = _unseen_combinations(frame, columns or "perturbation", n_seen, fractions, seed)
    if how == "t_cell_reactivity/clonotype" and (shared := _shared(splits)):
        splits.attrs = {**splits.attrs, "shared": shared}
        counts = "; ".join(f"{n:,} of {of:,} {chain}" for chain, (n, of) in shared.items())
        logger.info("%s: of the chains of validation and test, training has %s, in other receptors", how, counts)
    return splits


def _check_options(
    how: str, way: str, *, columns: str | Sequence[str] | None, unordered: bool, n_seen: int | None
) -> None:
    """Raise where an option is of another way, or one is missing."""
    misfits = {
        "columns": columns is not None and (how in SETTINGS or way == "random"),
        "unordered": unordered and how != "groups",
        "n_seen": n_seen is not None and way != "unseen_combinations",
    }
    if wrong := [name for name, is_wrong in misfits.items() if is_wrong]:
        msg = (
            f"how={how!r} takes no {' and no '.join(wrong)}. columns= goes with 'groups', 'unseen_genes' and "
            "'unseen_combinations', unordered= with 'groups', n_seen= with unseen combinations; a setting of the paper "
            "has its own columns."
        )
        raise ValueError(msg)
    if how == "groups" and columns is None:
        msg = "how='groups' needs columns=: those whose values name the group of a row, such as columns='donor'."
        raise ValueError(msg)
    if way == "unseen_combinations" and not isinstance(columns, str | None):
        msg = f"columns={columns!r}; expected one column of perturbations, such as 'perturbation'."
        raise ValueError(msg)
    if n_seen not in (0, 1, 2, None):
        msg = f"n_seen={n_seen!r}; expected 0, 1, 2 or None."
        raise ValueError(msg)


def _present(frame: pd.DataFrame, columns: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    """Name the columns of a setting, by the other name where the frame has that one."""
    if columns not in ALSO or columns in frame:
        return columns
    if ALSO[columns] not in frame:
        msg = f"the frame has neither {columns!r} nor {ALSO[columns]!r}; its columns are {list(frame)}."
        raise KeyError(msg)
    return ALSO[columns]


def _random(frame: pd.DataFrame, fractions: Sequence[float], seed: int) -> pd.DataFrame:
    asked = [
        name for name in frame if name not in ("answer", "direction", SPLIT) and frame[name].dtype.kind not in "fc"
    ]
    if not asked:
        msg = f"the frame has the columns {list(frame)}; expected some that say what is asked."
        raise ValueError(msg)
    complete = frame[asked].astype(object).where(frame[asked].notna(), "")
    return frame.assign(**{SPLIT: _by_group(complete, asked, fractions, seed)[SPLIT]})


def _by_group(
    frame: pd.DataFrame, columns: str | Sequence[str], fractions: Sequence[float], seed: int, *, unordered: bool = False
) -> pd.DataFrame:
    codes, keys = _keys(frame, columns)
    groups, values = pd.factorize(_tuples(sorted(key, key=str) if unordered else key for key in keys))
    part = np.empty(len(values), int)
    part[np.argsort([str(value) for value in values])] = _assigned(len(values), fractions, seed, what=_named(columns))
    splits = frame.assign(**{SPLIT: np.array(PARTS, object)[part[groups][codes]]})
    check_split(splits, columns, unordered=unordered)
    return splits


def _unseen_genes(
    frame: pd.DataFrame, columns: str | Sequence[str], fractions: Sequence[float], seed: int
) -> pd.DataFrame:
    codes, members = _members(frame, columns)
    part = _of_genes(members, fractions, seed)
    parts = [{part[gene] for gene in genes} for genes in members]
    split_of = np.array([PARTS[numbers.pop()] if len(numbers) == 1 else None for numbers in parts], object)
    splits = _kept(frame.assign(**{SPLIT: split_of[codes]}), frame, "genes of different parts")
    _check_not_empty(splits, fractions)
    check_split(splits, columns, genes=True)
    return splits


def _unseen_combinations(
    frame: pd.DataFrame, column: str, n_seen: int | None, fractions: Sequence[float], seed: int
) -> pd.DataFrame:
    codes, members = _members(frame, column)
    if longest := ["+".join(genes) for genes in members if len(genes) > 2]:
        msg = f"{len(longest):,} perturbations have more than two genes, such as {longest[0]!r}; leave them out."
        raise ValueError(msg)
    part = _of_genes(members, fractions, seed)
    seen = sorted({genes for genes in members if len(genes) == 2 and not any(part[gene] for gene in genes)})
    drawn = {}
    if len(seen) >= len(PARTS):
        numbers = _assigned(len(seen), fractions, seed, what="combinations", use=Use.COMBINATIONS)
        drawn = dict(zip(seen, numbers, strict=True))
    parts = [{part[gene] for gene in genes} - {0} or {int(drawn.get(genes, 0))} for genes in members]
    trained = {gene for genes, numbers in zip(members, parts, strict=True) if numbers == {0} for gene in genes}
    n_trained = np.array([sum(gene in trained for gene in genes) for genes in members], int)
    split_of = np.full(len(members), None, object)
    for i, (genes, numbers) in enumerate(zip(members, parts, strict=True)):
        is_asked = len(genes) == 2 and n_seen in (None, n_trained[i])
        if len(numbers) == 1 and (numbers == {0} or is_asked):
            split_of[i] = PARTS[numbers.pop()]
    splits = frame.assign(**{SPLIT: split_of[codes], "n_seen": pd.array(n_trained[codes], "Int64")})
    splits.loc[splits[SPLIT] == "train", "n_seen"] = pd.NA
    splits = _kept(splits, frame, "not in the setting")
    _check_not_empty(splits, fractions)
    _check_seen(splits, column)
    return splits


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


def _assigned(n: int, fractions: Sequence[float], seed: int, *, what: str, use: Use = Use.SPLIT) -> np.ndarray:
    """Draw a part (0, 1, 2) for each of ``n`` things; no part that is asked for is empty."""
    if len(fractions) != len(PARTS) or min(fractions) < 0 or not np.isclose(sum(fractions), 1):
        msg = f"fractions={tuple(fractions)}; expected shares of {', '.join(PARTS)} that add up to 1."
        raise ValueError(msg)
    wanted = [n * share for share in fractions]
    counts = np.maximum(np.round(wanted).astype(int), np.array(fractions) > 0)
    counts[0] += n - counts.sum()
    if counts[0] < (fractions[0] > 0):
        msg = f"{n} {what} cannot be split into {dict(zip(PARTS, fractions, strict=True))}: a part would be empty."
        raise ValueError(msg)
    return generator(seed, use, n).permutation(np.repeat(np.arange(len(PARTS)), counts))


def _of_genes(members: Sequence[tuple[str, ...]], fractions: Sequence[float], seed: int) -> dict[str, int]:
    """Draw a part for each gene."""
    genes = sorted({gene for row in members for gene in row})
    return dict(zip(genes, _assigned(len(genes), fractions, seed, what="genes").tolist(), strict=True))


def _keys(frame: pd.DataFrame, columns: str | Sequence[str]) -> tuple[np.ndarray, list[tuple]]:
    """Give each row the number of its key, and list the keys: the values of the columns together.

    Tables have many rows and few keys, so what follows is done once a key.
    """
    names = _columns(frame, columns)
    numbers = frame.groupby(names, sort=False, observed=True, dropna=False).ngroup().to_numpy()
    first = np.unique(numbers, return_index=True)[1]
    return numbers, list(zip(*(frame[name].to_numpy(object)[first] for name in names), strict=True))


def _members(frame: pd.DataFrame, columns: str | Sequence[str]) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Give each row the number of its key, and list the genes of each key in alphabetical order."""
    codes, keys = _keys(frame, columns)
    return codes, [tuple(sorted({gene for value in key for gene in joined_genes(value)})) for key in keys]


def _tuples(rows: Iterable[Sequence[object]]) -> np.ndarray:
    """Make an array of tuples, not the matrix that numpy would make; a single value stands for itself."""
    rows = [tuple(row) for row in rows]
    array = np.empty(len(rows), object)
    array[:] = [row[0] if len(row) == 1 else row for row in rows]
    return array


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


def _kept(splits: pd.DataFrame, frame: pd.DataFrame, reason: str) -> pd.DataFrame:
    """Keep the rows that are in a part, and note in ``attrs`` how many are not."""
    splits = splits[splits[SPLIT].notna()]
    n_dropped = len(frame) - len(splits)
    splits.attrs = {
        **frame.attrs,
        "dropped": {**frame.attrs.get("dropped", {}), **({reason: n_dropped} if n_dropped else {})},
    }
    return splits


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


def _shared(frame: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Count for each chain how many sequences outside of training are in training too, of how many."""
    is_train = (frame[SPLIT] == "train").to_numpy()
    parts = {
        chain: (frame[chain][is_train].dropna(), frame[chain][~is_train].dropna()) for chain in CHAINS if chain in frame
    }
    return {chain: (len({*train} & {*rest}), len({*rest})) for chain, (train, rest) in parts.items()}
