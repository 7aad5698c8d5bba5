"""Genes and their categories become questions: to which category does this list of genes belong."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..._streams import Use, generator
from ._splits import PARTS, SPLIT, check_split


def gene_set_questions(
    frame: pd.DataFrame,
    *,
    n_genes: int = 10,
    min_genes: int = 3,
    n_repeats: int = 1,
    max_questions: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """Make questions of genes and categories: a list of genes, and the category that they are drawn from.

    The genes of a category are shuffled and dealt out in lists, so that each is in ``n_repeats`` questions. Where the
    frame has a column ``split``, the lists of a part hold genes of that part only: a gene that is shown for a category
    in the test was never shown for it in training. The paper does not say how its lists were drawn; these are ours.

    Parameters
    ----------
    frame
        ``gene``, ``category`` and, if split, ``split``; as :func:`cellhermes.io.read_gene_categories` and
        :func:`~cellhermes.train.questions.split` return it.
    n_genes
        Genes of a list, at most.
    min_genes
        Genes of a list, at least. A category that has fewer in training is left out of all parts; one that has fewer in
        another part is not asked for there.
    n_repeats
        How often the genes are dealt out.
    max_questions
        At most so many questions of a category in a part.
    seed
        Seed of the draw.

    Returns
    -------
    ``genes`` (symbols with blanks between them), ``answer`` (the category), ``split`` if the frame has it. The answers
    of the task are those of ``frame["answer"].unique()``. ``attrs["dropped"]`` counts categories that are left out.

    Raises
    ------
    KeyError
        If a column is missing.
    ~cellhermes.train.questions.LeakError
        If a gene of a category is in two parts.
    ValueError
        If no category has enough genes.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame({"gene": ["CD3E", "CD3D", "IL7R", "CD79A"], "category": ["T cell"] * 3 + ["B cell"]})
    >>> ch.train.questions.gene_set_questions(frame).to_dict("list")
    {'genes': ['IL7R CD3E CD3D'], 'answer': ['T cell']}
    """
    if missing := [name for name in ("gene", "category") if name not in frame]:
        msg = f"the frame has no column {missing}; its columns are {list(frame)}."
        raise KeyError(msg)
    is_split = SPLIT in frame
    if is_split:
        check_split(frame, ["gene", "category"])
    table = frame.drop_duplicates(["gene", "category"])
    table = table if is_split else table.assign(**{SPLIT: PARTS[0]})
    train = table[table[SPLIT] == PARTS[0]]
    counts = train["category"].value_counts()
    kept = set(counts.index[counts >= min_genes])
    rng = generator(seed, Use.GENE_SETS)
    rows = []
    for (category, part), genes in table.groupby(["category", SPLIT], sort=True, observed=True)["gene"]:
        if category in kept and len(genes) >= min_genes:
            lists = _dealt(genes, n_genes, min_genes, n_repeats, rng)[:max_questions]
            rows += [(listed, category, part) for listed in lists]
    if not rows:
        msg = f"none of {table['category'].nunique():,} categories has {min_genes} genes in training; lower min_genes=."
        raise ValueError(msg)
    questions = pd.DataFrame(rows, columns=["genes", "answer", SPLIT])
    n_dropped = table["category"].nunique() - len(kept)
    dropped = {"category with too few genes": n_dropped} if n_dropped else {}
    questions.attrs = {**frame.attrs, "dropped": {**frame.attrs.get("dropped", {}), **dropped}}
    return questions if is_split else questions.drop(columns=SPLIT)


def _dealt(genes: pd.Series, n_genes: int, min_genes: int, n_repeats: int, rng: np.random.Generator) -> list[str]:
    """Deal out lists of about equal length, none shorter than ``min_genes``."""
    n_lists = max(1, min(-(-len(genes) // n_genes), len(genes) // min_genes))
    names = genes.to_numpy(object)
    return [" ".join(part) for _ in range(n_repeats) for part in np.array_split(rng.permutation(names), n_lists)]
