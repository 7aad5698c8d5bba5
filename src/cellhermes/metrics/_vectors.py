"""What the measures of gene embeddings share: one or several tables of vectors, and the genes that all of them have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

Embeddings = pd.DataFrame | Mapping[str, pd.DataFrame]
ONE = "embedding"  # what a table is called that was given without a name


def by_name(embeddings: Embeddings) -> dict[str, pd.DataFrame]:
    """Tables of vectors by name: one row a gene, each gene once, numbers only."""
    tables = dict(embeddings) if isinstance(embeddings, Mapping) else {ONE: embeddings}
    if not tables:
        msg = "There is no embedding; expected a frame with one row a gene, or a dict of such frames by name."
        raise ValueError(msg)
    for name, table in tables.items():
        if not isinstance(table, pd.DataFrame):
            msg = (
                f"Embedding {name!r} is a {type(table).__name__}; expected a frame with one row a gene and the genes "
                "as its index, as pd.DataFrame(vectors, index=genes)."
            )
            raise TypeError(msg)
        if twice := [str(gene) for gene in table.index[table.index.duplicated()].unique()]:
            msg = f"Embedding {name!r} has {len(twice):,} genes more than once: {twice[:5]}; expected one row a gene."
            raise ValueError(msg)
        if wrong := [str(column) for column in table if not pd.api.types.is_numeric_dtype(table[column])]:
            msg = f"Embedding {name!r} has columns that are not numbers: {wrong[:5]}; expected the genes as the index."
            raise TypeError(msg)
    return tables


def shared(
    tables: Mapping[str, pd.DataFrame], genes: Sequence[str] | pd.Index, *, has_direction: bool = False
) -> tuple[pd.Index, dict[str, int]]:
    """Genes that have a vector everywhere, in their order, and how many each embedding lacks.

    A vector with NaN is none; with ``has_direction`` one of zeros is none either, as it has no cosine.
    """
    genes = pd.Index(pd.unique(np.asarray(genes, dtype=object)))
    everywhere, missing = np.ones(len(genes), dtype=bool), {}
    for name, table in tables.items():
        at = table.index.get_indexer(genes)
        has = at >= 0
        values = table.to_numpy()
        usable = np.isfinite(values).all(axis=1)
        if has_direction:
            usable &= (values != 0).any(axis=1)
        has[has] = usable[at[has]]
        missing[name] = int((~has).sum())
        everywhere &= has
    if not everywhere.any():
        some = next(iter(tables.values())).index[:3].tolist()
        msg = (
            f"None of {len(genes):,} genes has a vector in each embedding (without one: {missing}). Asked for "
            f"{genes[:3].tolist()}, embedded are {some}: do both use the same symbols or ids?"
        )
        raise ValueError(msg)
    return genes[everywhere], missing


def vectors_of(table: pd.DataFrame, genes: pd.Index) -> np.ndarray:
    """(genes, dimensions) in the order of ``genes``."""
    return table.to_numpy()[table.index.get_indexer(genes)]
