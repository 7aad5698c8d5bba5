"""Modules of a gene network by Louvain clustering.

Takes weights between genes, gives a number for each gene; knows nothing of AnnData.
"""

import networkx as nx
import numpy as np
from scipy import sparse

WORSE = 0.002  # loss of modularity that may be chance; a search that stopped early loses more (0.004 to 0.16 seen)
OUTSIDE = -1  # genes that are in no module


def partition(weights: sparse.csr_matrix, *, resolution: float, seed: int) -> np.ndarray:
    """Louvain modules of a network (python-louvain), numbered by falling size.

    Parameters
    ----------
    weights
        (genes, genes) symmetric; genes without any weight are in no module.
    resolution
        Larger gives more and smaller modules.
    seed
        Fixes the order in which genes are visited.

    Returns
    -------
    (genes,) number of the module, -1 outside. Among modules of one size, the one whose first gene comes first.
    """
    import community

    graph = _graph(weights)
    communities = community.best_partition(graph, weight="weight", resolution=resolution, random_state=seed)
    nodes, numbers = np.array(list(communities)), np.array(list(communities.values()))
    size, first = np.bincount(numbers), np.full(numbers.max() + 1, weights.shape[0])
    np.minimum.at(first, numbers, nodes)
    rank = np.empty_like(size)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    modules = np.full(weights.shape[0], OUTSIDE)
    modules[nodes] = rank[numbers]
    return modules


def check_resolution(
    weights: sparse.csr_matrix, modules: np.ndarray, *, resolution: float, seed: int, min_genes: int, where: str
) -> None:
    """Refuse modules that are no answer to the question asked.

    python-louvain moves genes by one definition of the resolution and decides whether to go on by another, so that
    under about 0.7 it stops early and leaves hundreds of fragments where larger modules were asked for. Such a
    partition is worse than that at resolution 1, by the very measure that it should have raised. At high resolution
    most genes may end in modules too small to be called specific.

    Raises
    ------
    ValueError
        In both cases.
    """
    size = np.bincount(modules[modules != OUTSIDE])
    small = size[size < min_genes].sum() / size.sum()
    shape = f"{where}: at resolution={resolution:g} the network falls apart into {len(size):,} modules"
    if small > 0.5:
        advice = (
            "a lower resolution=" if resolution > 1 else "a smaller min_genes=, or more n_neighbors= to gene_network"
        )
        msg = f"{shape}, {small:.0%} of its genes in modules of fewer than min_genes={min_genes}. Pass {advice}."
        raise ValueError(msg)
    if resolution == 1:
        return
    at_one = partition(weights, resolution=1.0, seed=seed)
    graph = _graph(weights)
    loss = _modularity(graph, at_one, resolution) - _modularity(graph, modules, resolution)
    if loss > WORSE:
        msg = (
            f"{shape}: its modularity there is lower by {loss:.3f} than with the {at_one.max() + 1} modules of "
            "resolution=1, so the search stopped early. Pass a resolution= nearer to 1, or above it."
        )
        raise ValueError(msg)


def _graph(weights: sparse.csr_matrix) -> nx.Graph:
    """Graph of the genes' positions, in their order: the clustering depends on it."""
    edges = sparse.triu(weights, 1).tocoo()
    graph = nx.Graph()
    graph.add_nodes_from(np.flatnonzero(np.diff(weights.indptr)).tolist())
    graph.add_weighted_edges_from(zip(edges.row.tolist(), edges.col.tolist(), edges.data.tolist(), strict=True))
    return graph


def _modularity(graph: nx.Graph, modules: np.ndarray, resolution: float) -> float:
    members = [set(np.flatnonzero(modules == number).tolist()) for number in range(modules.max() + 1)]
    return nx.community.modularity(graph, members, resolution=resolution)
