"""Rows with the answer No: drawn within each part of a split, and thinned where there are too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..._streams import Use, generator
from ._splits import PARTS, SPLIT, check_split

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 100  # draws before the part counts as full


def sample_negatives(
    frame: pd.DataFrame,
    columns: Sequence[str] = ("gene_a", "gene_b"),
    *,
    ratio: float = 1.0,
    known: pd.DataFrame | None = None,
    label: str = "answer",
    answers: Sequence[str] = ("Yes", "No"),
    seed: int = 0,
) -> pd.DataFrame:
    """Add pairs that are not known to interact, drawn within each part of the split.

    Both genes of a negative are drawn from the pairs of the same part, in proportion to how often they occur there, so
    that names and degrees tell little about the answer. No negative is a pair that is known in any part, and none is in
    two parts.

    Parameters
    ----------
    frame
        Pairs with the answer Yes, with or without the column ``split``.
    columns
        The two columns of genes; their order does not count.
    ratio
        Negatives for each positive of a part.
    known
        More pairs that are no negatives, with the same columns: other types of interaction, or the graph that a model
        was pretrained on.
    label
        Column of the answer.
    answers
        What stands for yes and no.
    seed
        Seed of the draw.

    Returns
    -------
    The positives, then the negatives of each part; columns that a negative does not have are missing there.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If there are other answers than yes, or a part has too few pairs that are not known.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame({"gene_a": list("ABCD"), "gene_b": list("EFGH"), "answer": "Yes"})
    >>> ch.train.questions.sample_negatives(frame).groupby("answer").size().to_dict()
    {'No': 4, 'Yes': 4}
    """
    yes, no = answers
    if missing := [name for name in (*columns, label) if name not in frame]:
        msg = f"the frame has no column {missing}; its columns are {list(frame)}."
        raise KeyError(msg)
    if other := sorted(set(frame[label].astype(str)) - {yes}):
        msg = f"column {label!r} has {other[:5]}; expected pairs with the answer {yes!r} only."
        raise ValueError(msg)
    taken = _pairs(frame, columns) | (set() if known is None else _pairs(known, columns))
    parts = [frame[frame[SPLIT] == part] for part in PARTS] if SPLIT in frame else [frame]
    rng = generator(seed, Use.NEGATIVES)
    frames = [frame]
    for part in parts:
        wanted = round(ratio * len(part))
        drawn = _draw(part[list(columns)].to_numpy(object), wanted, taken, rng)
        if len(drawn) < wanted:
            where = f"part {part[SPLIT].iloc[0]!r}" if SPLIT in frame else "the frame"
            msg = (
                f"{where} has {len(part):,} pairs, and only {len(drawn):,} of {wanted:,} negatives could be drawn from "
                "their genes. Lower ratio=, or use a split with more genes."
            )
            raise ValueError(msg)
        rows = pd.DataFrame(drawn, columns=list(columns)).assign(**{label: no})
        frames.append(rows.assign(**{SPLIT: part[SPLIT].iloc[0]}) if SPLIT in frame and len(part) else rows)
    result = pd.concat(frames, ignore_index=True)
    if SPLIT in frame:
        check_split(result, list(columns), unordered=True)
    result.attrs = dict(frame.attrs)
    return result


def balance(
    frame: pd.DataFrame, *, within: Sequence[str] = (), label: str = "answer", ratio: float = 1.0, seed: int = 0
) -> pd.DataFrame:
    """Thin out frequent answers: in each group, an answer has at most ``ratio`` times the rows of the rarest one.

    Most genes do not change under a perturbation, and most genes are not needed by a cell line. A group that lacks an
    answer is left out.

    Parameters
    ----------
    frame
        Questions with answers.
    within
        Columns whose values name a group, such as ``["perturbation", "cell_line"]``; the parts of a split are always
        apart.
    label
        Column of the answer.
    ratio
        At most so many rows of an answer for each row of the rarest.
    seed
        Seed of the draw.

    Returns
    -------
    The rows that are kept, in their order.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If no row is left.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame({"gene": list("ABCDE"), "answer": ["Yes", "No", "No", "No", "No"]})
    >>> len(ch.train.questions.balance(frame))
    2
    """
    groups = [*within, *([SPLIT] if SPLIT in frame and SPLIT not in within else [])]
    if missing := [name for name in (*groups, label) if name not in frame]:
        msg = f"the frame has no column {missing}; its columns are {list(frame)}."
        raise KeyError(msg)
    group = (
        frame.groupby(groups, sort=False, observed=True).ngroup().to_numpy() if groups else np.zeros(len(frame), int)
    )
    answer, answers = pd.factorize(frame[label])
    counts = np.zeros((group.max(initial=0) + 1, len(answers)), int)
    np.add.at(counts, (group, answer), 1)
    limit = np.floor(ratio * counts.min(axis=1) + 1e-9).astype(int)
    order = generator(seed, Use.BALANCE).permutation(len(frame))
    place = pd.Series(0, index=order).groupby([group[order], answer[order]]).cumcount().sort_index().to_numpy()
    balanced = frame[place < limit[group]]
    if balanced.empty:
        msg = f"no group of {groups or 'the frame'} has all answers {list(answers)}; nothing is left."
        raise ValueError(msg)
    balanced.attrs = dict(frame.attrs)
    return balanced


def _pairs(frame: pd.DataFrame, columns: Sequence[str]) -> set[tuple[str, str]]:
    return {(a, b) if a < b else (b, a) for a, b in zip(frame[columns[0]], frame[columns[1]], strict=True)}


def _draw(
    pairs: np.ndarray, wanted: int, taken: set[tuple[str, str]], rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Draw new pairs of genes that stand in ``pairs``; they are added to ``taken``."""
    genes = pairs.ravel()
    drawn: list[tuple[str, str]] = []
    for _ in range(ROUNDS if len(genes) else 0):
        for a, b in rng.choice(genes, (wanted - len(drawn), 2)):
            pair = (a, b) if a < b else (b, a)
            if a != b and pair not in taken:
                taken.add(pair)
                drawn.append((a, b))
        if len(drawn) == wanted:
            break
    return drawn
