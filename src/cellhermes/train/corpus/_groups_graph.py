"""Groups from graphs: genes that interact lie near each other, and each names its partners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from ..._streams import Use, generator
from ...text import Template
from ._graph import compact
from ._groups import Group, Groups, normalised
from ._interactions import ends_of

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from ._graph import Graph


def gene_groups(
    graphs: nx.Graph | pd.DataFrame | Mapping[str, nx.Graph | pd.DataFrame],
    *,
    shares: Mapping[str, float] | None = None,
    n_edges: int = 64,
    n_genes: int = 32,
    near_weight: float = 0.5,
    first_weight: float = 1.0,
    seed: int = 0,
) -> Groups:
    """Group genes as they are embedded: partners near each other, and the answer behind a gene a partner of it.

    A group has both ends of random edges, and genes drawn evenly. A partner counts the more the fewer partners it has
    itself (one over the square root of its degree), so that hubs do not fill every list.

    Parameters
    ----------
    graphs
        Interactions, as for :func:`~cellhermes.train.corpus.node_pairs`; or several graphs by name, such as physical
        interactions and co-expression.
    shares
        Name of each graph to its part in a gene's partners; None takes equal parts. What a gene has no partner in goes
        to the other graphs.
    n_edges, n_genes
        Edges and single genes of a group; a gene that is drawn twice stands once.
    near_weight, first_weight
        Weights of both losses.
    seed
        Group ``i`` is a function of the graphs, the seed and ``i``.

    Returns
    -------
    The groups, with prompts of the template ``"gene"``.

    Raises
    ------
    TypeError
        If a graph is neither a networkx graph nor a table, or a node is no string.
    ValueError
        If a graph has no edge, or ``shares`` do not belong to the graphs.

    Examples
    --------
    >>> import cellhermes as ch
    >>> group = ch.train.corpus.gene_groups(ch.datasets.ppi("toy"))[0]
    >>> group.prompts[0].text.split()[0]
    'Gene'
    """
    partners = Partners.of(graphs, shares)
    if n_edges < 1 or n_genes < 0:
        msg = f"n_edges={n_edges}, n_genes={n_genes}; expected at least one edge, and no negative number."
        raise ValueError(msg)
    make = _GeneGroups(partners, n_edges, n_genes, seed)
    about = {**partners.about, "n_edges": n_edges, "n_genes": n_genes, "seed": seed, "template": versions("gene")}
    return Groups(
        make, task="genes", words=partners.symbols, near_weight=near_weight, first_weight=first_weight, about=about
    )


@dataclass(frozen=True)
class Partners:
    """What genes are joined with, in one or several graphs."""

    symbols: tuple[str, ...]
    weights: sp.csr_array
    """(genes, genes) rows sum to 1, or 0 for a gene without partners."""
    edges: tuple[np.ndarray, ...]
    """(edges, 2) of each graph."""
    shares: np.ndarray
    """Of the graphs, summing to 1."""
    about: dict[str, object]

    @classmethod
    def of(cls, graphs: object, shares: Mapping[str, float] | None = None) -> Partners:
        """Compact the graphs and weigh their edges."""
        named = dict(graphs) if isinstance(graphs, Mapping) and not hasattr(graphs, "adj") else {"graph": graphs}
        given = dict.fromkeys(named, 1.0) if shares is None else dict(shares)
        if set(given) != set(named) or not all(share > 0 for share in given.values()):
            msg = f"shares={given}; expected a number above 0 for each of the graphs {list(named)}."
            raise ValueError(msg)
        compacted = {name: compact(*ends_of(graph)) for name, graph in named.items()}
        empty = [name for name, graph in compacted.items() if not len(graph.neighbors)]
        if empty:
            msg = f"the graphs {empty} have no edge; expected at least one each."
            raise ValueError(msg)
        symbols = tuple(sorted({symbol for graph in compacted.values() for symbol in graph.symbols}))
        number = {symbol: i for i, symbol in enumerate(symbols)}
        total, edges = sp.csr_array((len(symbols), len(symbols)), dtype=np.float32), []
        for name, graph in compacted.items():
            own = np.array([number[symbol] for symbol in graph.symbols])
            edges.append(own[graph.edges])
            total = total + given[name] * _row_weights(graph, own, len(symbols))
        total = sp.csr_array(sp.diags_array(1 / np.maximum(total.sum(1), 1e-9)) @ total, dtype=np.float32)
        part = np.array([given[name] for name in named])
        about = {"graphs": {name: graph.sha256() for name, graph in compacted.items()}, "shares": given}
        return cls(symbols, total, tuple(edges), part / part.sum(), about)

    def near(self, ids: np.ndarray) -> np.ndarray:
        """Weigh what partners share among some different genes: (ids, ids)."""
        return normalised(self.weights[ids][:, ids].toarray())


def _row_weights(graph: Graph, own: np.ndarray, n: int) -> sp.csr_array:
    first, second = np.repeat(np.arange(len(graph.symbols)), graph.degree), graph.neighbors
    weights = 1 / np.sqrt(graph.degree[second])
    weights /= np.bincount(first, weights, len(graph.symbols))[first]
    return sp.csr_array((weights.astype(np.float32), (own[first], own[second])), shape=(n, n))


def versions(name: str) -> dict[str, int]:
    return {name: Template.load(name).version}


@dataclass(frozen=True)
class _GeneGroups:
    partners: Partners
    n_edges: int
    n_genes: int
    seed: int

    def __call__(self, number: int) -> Group:
        rng = generator(self.seed, Use.GENE_GROUPS, number)
        counts = rng.multinomial(self.n_edges, self.partners.shares)
        drawn = [edges[rng.integers(len(edges), size=n)].ravel() for edges, n in zip(self.partners.edges, counts)]  # noqa: B905
        drawn.append(rng.integers(len(self.partners.symbols), size=self.n_genes))
        ids = np.unique(np.concatenate(drawn))
        fill = Template.load("gene").fill
        prompts = [fill(gene=self.partners.symbols[i]) for i in ids]
        return Group(prompts, self.partners.near(ids), self.partners.weights[ids])
