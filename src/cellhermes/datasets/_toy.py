"""Small generated data for examples and tests: blood cells and an interaction graph. Needs no network."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from .._disk import packaged

if TYPE_CHECKING:
    import networkx as nx
    from anndata import AnnData

DEPTH = 3000  # counts of a typical cell
BATCHES = {"batch_1": ("donor_1", "donor_2"), "batch_2": ("donor_3", "donor_4")}


def toy(*, n_obs: int = 300, rng: int | np.random.Generator | None = 0) -> AnnData:
    """Generate blood cells of seven types, two batches and four donors.

    Symbols are of real genes (cell-type markers, housekeeping, mitochondrial, ribosomal and non-coding genes); the
    counts are drawn: negative binomial, with a mean that is the library size of the cell times the gene's strength in
    the cell's type and its effect of the batch. Do not read biology from it.

    Parameters
    ----------
    n_obs
        Number of cells.
    rng
        Seed or generator.

    Returns
    -------
    AnnData with log-normalised values in ``X`` (float32, CSR), counts in ``layers["counts"]``, and ``cell_type``,
    ``batch`` and ``donor`` in ``obs``.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.datasets.toy().obs["cell_type"].nunique()
    7
    """
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    if n_obs < 1:
        msg = f"n_obs={n_obs}; expected at least 1."
        raise ValueError(msg)
    rng = np.random.default_rng(rng)
    recipe = _recipe()
    genes = np.array(sorted({*recipe["everywhere"], *_members(recipe["programmes"])}))

    cell_type = _cell_types(recipe["shares"], n_obs, rng)
    donors = [(batch, donor) for batch, names in BATCHES.items() for donor in names]
    batch, donor = np.array([donors[i] for i in rng.integers(len(donors), size=n_obs)]).T
    strength = _strength(recipe, genes, rng).loc[cell_type].to_numpy()
    batch_effect = np.exp(rng.normal(0, 0.1, (len(BATCHES), len(genes))))[np.searchsorted(list(BATCHES), batch)]
    profile = strength * batch_effect
    size = DEPTH * np.exp(rng.normal(0, 0.3, (n_obs, 1)))
    mean = size * profile / profile.sum(axis=1, keepdims=True)
    dispersion = 0.3
    counts = rng.poisson(mean * rng.gamma(1 / dispersion, dispersion, mean.shape)).astype(np.float32)

    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    obs = pd.DataFrame(
        {"cell_type": cell_type, "batch": batch, "donor": donor}, index=[f"cell_{i}" for i in range(n_obs)]
    ).astype("category")
    adata = AnnData(sparse.csr_matrix(np.log1p(counts / total * 1e4)), obs=obs, var=pd.DataFrame(index=genes))
    adata.layers["counts"] = sparse.csr_matrix(counts)
    return adata


def toy_graph() -> nx.Graph:
    """Draw interactions of the protein-coding genes of :func:`toy`, denser within the programme of a cell type."""
    import networkx as nx

    rng = np.random.default_rng(0)
    recipe = _recipe()
    groups = [*recipe["programmes"].values(), recipe["housekeeping"]]
    genes = sorted({gene for group in groups for gene in group})
    graph = nx.Graph()
    graph.add_nodes_from(genes)
    for group, chance in [*((group, 0.3) for group in groups[:-1]), (groups[-1], 0.03), (genes, 0.003)]:
        pairs = list(combinations(sorted(group), 2))
        graph.add_edges_from(pairs[i] for i in np.flatnonzero(rng.random(len(pairs)) < chance))
    for gene in [gene for gene, degree in graph.degree if degree == 0]:
        group = next(group for group in groups if gene in group)
        graph.add_edge(gene, next(other for other in rng.permutation(group).tolist() if other != gene))
    return graph


@cache
def _recipe() -> dict:
    table = packaged("datasets/toy.toml")
    housekeeping = table["housekeeping"]["genes"].split()
    masked = {kind: genes.split() for kind, genes in table["masked"].items()}
    return {
        "shares": table["shares"],
        "programmes": {name: genes.split() for name, genes in table["programmes"].items()},
        "housekeeping": housekeeping,
        "everywhere": [*housekeeping, *_members(masked)],
    }


def _members(groups: dict[str, list[str]]) -> list[str]:
    return [gene for group in groups.values() for gene in group]


def _cell_types(shares: dict[str, float], n_obs: int, rng: np.random.Generator) -> np.ndarray:
    """Types in their shares (not drawn, so that no type is missing by chance), in random order."""
    ends = np.cumsum(list(shares.values()))
    return np.array(list(shares))[rng.permutation(np.searchsorted(ends, (np.arange(n_obs) + 0.5) / n_obs))]


def _strength(recipe: dict, genes: np.ndarray, rng: np.random.Generator) -> object:
    """Mean of each gene in each type: markers are weak outside their types."""
    import pandas as pd

    base = np.where(np.isin(genes, recipe["everywhere"]), rng.lognormal(0, 0.8, len(genes)), 0.03)
    strength = pd.DataFrame(np.tile(base, (len(recipe["shares"]), 1)), index=list(recipe["shares"]), columns=genes)
    level = pd.Series(rng.lognormal(-0.3, 0.6, len(genes)), index=genes)
    for name, members in recipe["programmes"].items():
        strength.loc[name, members] = level[members] + strength.loc[name, members]
    return strength
