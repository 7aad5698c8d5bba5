"""Vectors of genes as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import _adata
from .._keys import EMBEDDING, check_alike
from .._vectors import asked_vectors, made_with, vector_groups, vectors_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def gene_vectors(
    data: "AnnData | MuData",
    genes: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    *,
    key: str = EMBEDDING,
    mod: str | None = None,
) -> pd.DataFrame:
    """Return the vectors of genes, by symbol and group.

    Parameters
    ----------
    data
        Annotated data with vectors of genes (:func:`cellhermes.tl.embed_genes`).
    genes
        Genes, by symbol or ``var_names``; None takes all that have a vector.
    groups
        Labels of groups; ``""`` stands for the vectors without groups. None takes all groups, or the vectors without
        groups where no group has any.
    key
        Entry of ``varm`` and ``uns`` with the vectors.
    mod
        Modality of a MuData.

    Returns
    -------
    A row for each group and gene, indexed by ``gene`` (its symbol) and ``group``, and a column for each dimension:
    float32. The groups stand one after another, the genes in the order asked for, else in that of the data. The vectors
    of one group are ``frame.xs("B", level="group")``, those of one gene ``frame.loc["CD3E"]``.

    Raises
    ------
    KeyError
        If a group or a gene has no vectors.
    ValueError
        If ``groups`` is empty, or groups were made in different ways, such as by two models.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=60)
    >>> ch.pp.cell_sentences(adata)
    >>> ch.tl.embed_genes(adata, genes=["CD3E", "MS4A1"], groupby="cell_type", groups=["B", "NK"])
    >>> vectors = ch.get.gene_vectors(adata, ["MS4A1"])
    >>> vectors.index.tolist()
    [('MS4A1', 'B'), ('MS4A1', 'NK')]
    """
    adata = _adata.resolve(data, mod)
    if isinstance(genes, str):
        msg = f"genes is the single string {genes!r}; expected a list."
        raise TypeError(msg)
    genes = None if genes is None else list(genes)
    labels = asked_vectors(adata, groups, key)
    vectors = [_one(adata, label, genes, key) for label in labels]
    if len(labels) > 1:
        check_alike(vector_groups(adata, key), labels, "embed_genes")
    index = pd.MultiIndex.from_arrays(
        [
            np.concatenate([[], *(names for names, _ in vectors)]).astype(object),
            np.repeat(np.array(labels, object), [len(names) for names, _ in vectors]),
        ],
        names=["gene", "group"],
    )
    return pd.DataFrame(np.concatenate([values for _, values in vectors]), index)


def _one(adata: "AnnData", label: str, genes: Sequence[str] | None, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and vectors of one group."""
    stored = vectors_of(adata, label, key)
    if genes is None:
        return stored.genes, stored.values
    position = {gene: i for i, gene in reversed([*enumerate(stored.genes)])}
    if not {*genes} <= {*position}:
        how = made_with(adata, label, key)
        read_as = {"gene_symbols": str(how.get("gene_symbols", "")) or None, "use_raw": bool(how.get("use_raw", False))}
        genes = _adata.symbols_of_genes(adata, genes, **read_as)
    if missing := [str(name) for name in genes if name not in position]:
        where = f"in group {label!r}" if label else "without groups"
        msg = (
            f"{len(missing):,} of {len(genes):,} genes have no vector {where} under {key!r}: {', '.join(missing[:5])}. "
            "Run `ch.tl.embed_genes` with genes= of all that you need."
        )
        raise KeyError(msg)
    return np.asarray(genes, dtype=object), stored.values[[position[name] for name in genes]]
