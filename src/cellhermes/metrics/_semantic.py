"""Whether genes with similar vectors have similar annotations."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from .._streams import seed_of
from . import _vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

logger = logging.getLogger("cellhermes")
ROOM = 4_000_000  # pairs held at once: 32 MB for each array of them


def semantic_correlation(
    embeddings: pd.DataFrame | Mapping[str, pd.DataFrame],
    gene_sets: Mapping[str, Sequence[str]],
    *,
    min_size: int = 2,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    r"""Correlate the cosine similarity of genes with the similarity of their annotations, over all pairs of genes.

    The information content of a gene set :math:`t` that holds :math:`m_t` of :math:`N` genes is
    :math:`I_t = -\log (m_t / N)`: to share a small set says more. Annotations are as similar as the content that two
    genes share is of what they have (simGIC, Pesquita et al. 2008; gene sets should hold the genes of their child
    terms, as those of MSigDB do),

    .. math:: s_{gh} = \sum_{t \ni g, h} I_t \bigg/ \sum_{t \ni g \text{ or } h} I_t .

    The result is the Pearson correlation of :math:`s_{gh}` with the cosine of the vectors of g and h. Only genes that
    are in a gene set and have a vector in every embedding take part. Beside it stands what a random embedding of as
    many dimensions reaches, which the paper takes as its zero. Pairs are computed in blocks and never held at once.

    Parameters
    ----------
    embeddings
        Vectors with one row a gene, or several such frames by name.
    gene_sets
        Term to genes, such as :func:`cellhermes.datasets.gene_sets` returns them.
    min_size
        Gene sets with fewer genes that take part are left out; those that hold all of them say nothing either.
    rng
        Seed or generator of the random embedding.

    Returns
    -------
    A row for each embedding: ``embedding``, ``correlation``, ``random`` (the same of random vectors), ``improvement``
    (their difference), ``n_genes``, ``n_sets``, ``n_pairs``. ``attrs["missing"]`` counts annotated genes without a
    vector (or with one of zeros), by embedding.

    Raises
    ------
    ValueError
        If fewer than three annotated genes have vectors, or no gene set is left.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from cellhermes.metrics import semantic_correlation
    >>> sets = {"T cell receptor": ["CD3D", "CD3E", "CD3G"], "B cell receptor": ["CD79A", "CD79B"]}
    >>> vectors = pd.DataFrame([[1, 0]] * 3 + [[0, 1]] * 2, index=sum(sets.values(), []), dtype=float)
    >>> float(semantic_correlation(vectors, sets)["correlation"].round(6)[0])
    1.0
    """
    check_sets(gene_sets)
    tables = _vectors.by_name(embeddings)
    genes, missing = _vectors.shared(tables, [g for genes in gene_sets.values() for g in genes], has_direction=True)
    member = membership(gene_sets, genes, min_size)
    size = np.asarray(member.sum(0)).ravel()
    member, size = member[:, size < len(genes)], size[size < len(genes)]
    annotated = np.flatnonzero(np.asarray(member.sum(1)).ravel() > 0)
    if len(annotated) < 3:
        msg = (
            f"{len(annotated)} of {len(genes):,} genes with vectors are in one of {member.shape[1]:,} gene sets with "
            f"min_size={min_size} of them; expected three or more."
        )
        raise ValueError(msg)
    content = (member[annotated] @ sparse.diags_array(np.sqrt(-np.log(size / len(genes))))).tocsr().astype(np.float32)
    unit = {name: _unit(_vectors.vectors_of(table, genes[annotated])) for name, table in tables.items()}
    seed, widths = seed_of(rng), sorted({x.shape[1] for x in unit.values()})
    drawn = {width: np.random.default_rng(seed).normal(size=(len(annotated), width)) for width in widths}
    chance = {width: _unit(numbers.astype(np.float32)) for width, numbers in drawn.items()}
    values = _correlations(content, [*unit.values(), *chance.values()])
    of_name, of_width = dict(zip(unit, values, strict=False)), dict(zip(widths, values[len(unit) :], strict=True))
    table = pd.DataFrame({"embedding": list(unit), "correlation": list(of_name.values())})
    table["random"] = [of_width[x.shape[1]] for x in unit.values()]
    table["improvement"] = table["correlation"] - table["random"]
    n = len(annotated)
    table = table.assign(n_genes=n, n_sets=content.shape[1], n_pairs=n * (n - 1) // 2)
    table.attrs = {"missing": missing, "min_size": min_size, "seed": seed}
    logger.info("semantic_correlation: %s genes, %s sets, %d embeddings", f"{n:,}", f"{content.shape[1]:,}", len(unit))
    return table


def check_sets(gene_sets: Mapping[str, Sequence[str]]) -> None:
    """Refuse a string where a list of symbols belongs."""
    if wrong := next((term for term, members in gene_sets.items() if isinstance(members, str)), None):
        msg = f"gene_sets[{wrong!r}] is the single string {gene_sets[wrong]!r}; expected a list of gene symbols."
        raise TypeError(msg)


def membership(gene_sets: Mapping[str, Sequence[str]], genes: pd.Index, min_size: int) -> sparse.csc_array:
    """(genes, sets) with a 1 for each member; sets with at least ``min_size`` of the genes."""
    at = [genes.get_indexer(pd.unique(np.asarray(list(members), dtype=object))) for members in gene_sets.values()]
    at = [rows[rows >= 0] for rows in at]
    at = [rows for rows in at if len(rows) >= max(min_size, 1)]
    if not at:
        msg = f"None of {len(gene_sets):,} gene sets has min_size={min_size} of {len(genes):,} genes with vectors."
        raise ValueError(msg)
    column = np.repeat(np.arange(len(at)), [len(rows) for rows in at])
    return sparse.csc_array((np.ones(len(column)), (np.concatenate(at), column)), shape=(len(genes), len(at)))


def _unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _correlations(content: sparse.csr_array, units: Sequence[np.ndarray]) -> list[float]:
    """Pearson correlations of annotation similarity and each cosine, from sums over blocks of pairs."""
    sums = np.zeros((len(units), 5))  # of s, s s, c, c c, s c
    for first, last, similarity in _similarity(content):
        upper = np.arange(first, len(units[0])) > np.arange(first, last)[:, None]
        s = similarity[upper]
        for total, unit in zip(sums, units, strict=True):
            c = (unit[first:last] @ unit[first:].T)[upper].astype(np.float64)
            total += s.sum(), s @ s, c.sum(), c @ c, s @ c
    n = len(units[0]) * (len(units[0]) - 1) / 2
    s, ss, c, cc, sc = sums.T
    spread = (ss - s * s / n) * (cc - c * c / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.where(spread > 0, (sc - s * c / n) / np.sqrt(np.maximum(spread, 0)), np.nan)).tolist()


def _similarity(content: sparse.csr_array) -> Iterator[tuple[int, int, np.ndarray]]:
    """Rows ``first`` to ``last`` of the similarity of annotations at a time, from the diagonal on."""
    of_gene = np.asarray(content.multiply(content).sum(1)).ravel()
    n, first = len(of_gene), 0
    transposed = content.T.tocsc()
    while first < n:
        last = min(n, first + max(1, ROOM // (n - first)))
        both = (content[first:last] @ transposed[:, first:]).toarray().astype(np.float64)
        yield first, last, both / (of_gene[first:last, None] + of_gene[first:] - both)
        first = last
