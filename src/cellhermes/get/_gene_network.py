"""A stored network of genes as a graph."""

from typing import TYPE_CHECKING

from scipy import sparse

from .. import _adata
from .._keys import NETWORK
from .._networks import network_of

if TYPE_CHECKING:
    import networkx as nx
    from anndata import AnnData
    from mudata import MuData


def gene_network(
    data: "AnnData | MuData", group: str | None = None, *, key: str = NETWORK, mod: str | None = None
) -> "nx.Graph":
    """Return the network of a group as a graph of gene symbols.

    Parameters
    ----------
    data
        Annotated data with a network (:func:`cellhermes.tl.gene_network`).
    group
        Label of the group; None is the network without groups.
    key
        Entry of ``varp`` and ``uns`` with the network.
    mod
        Modality of a MuData.

    Returns
    -------
    Undirected graph of the genes that are in the network, in their order in the data, with the attribute ``weight`` on
    each edge. Each gene has the attribute ``n_cells``, how many cells of the group express it, where that is known.

    Raises
    ------
    KeyError
        If the network is not there.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, use_rep="expression")
    >>> network = ch.get.gene_network(adata)
    >>> "CD3E" in network["CD3D"]
    True
    """
    import networkx as nx

    adata = _adata.resolve(data, mod)
    network = network_of(adata, group, key)
    symbols, edges = network.symbols, sparse.triu(network.weights, 1).tocoo()
    graph = nx.Graph()
    graph.add_nodes_from(symbols[network.present].tolist())
    n_cells = network.n_cells.set_axis(symbols)[network.present].dropna()
    nx.set_node_attributes(graph, n_cells.astype(int).to_dict(), "n_cells")
    graph.add_weighted_edges_from(
        zip(symbols[edges.row].tolist(), symbols[edges.col].tolist(), edges.data.tolist(), strict=True)
    )
    return graph
