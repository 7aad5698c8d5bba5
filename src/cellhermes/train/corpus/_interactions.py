"""Graphs and tables of interactions as arrays, checked, with the record that stands in the pairs made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import networkx as nx
import pandas as pd

from ..._streams import Use, below, hashed
from ...text._template import kinds
from ._graph import Graph, compact

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ...text import Template


def checked(graph: nx.Graph | pd.DataFrame, relation: str, seed: int, task: str) -> tuple[Graph, dict[str, object]]:
    """Compact a graph, and say what of it goes into the pairs."""
    compacted = compact(*ends_of(graph))
    wrong = [symbol for symbol in compacted.symbols if len(symbol.split()) != 1]
    if wrong:
        msg = f"{len(wrong):,} symbols are empty or have blanks, such as {wrong[:3]}. Rename or remove these nodes."
        raise ValueError(msg)
    if not len(compacted.neighbors):
        msg = f"the graph has no edge between two of its {len(compacted.symbols):,} nodes; expected at least one."
        raise ValueError(msg)
    about = {
        "graph_sha256": compacted.sha256(),
        "n_genes": len(compacted.symbols),
        "n_edges": len(compacted.edges),
        "relation": relation,
        "seed": seed,
        "templates": {template.name: template.version for template in kinds(task, relation).values()},
    }
    return compacted, about


def check_strangers(graph: Graph) -> None:
    """Raise where all genes are joined with each other, so that nothing can be answered with No."""
    n_nodes = len(graph.by_degree[0])
    if len(graph.edges) == n_nodes * (n_nodes - 1) // 2:
        msg = f"all {n_nodes} genes of the graph are joined with each other; negatives need two that are not."
        raise ValueError(msg)


def ends_of(graph: nx.Graph | pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
    """List both ends of the edges, and the nodes."""
    if isinstance(graph, nx.Graph):
        a, b, nodes = [], [], list(graph)
        for first, second in graph.edges():  # a list of a million tuples would be large
            a.append(first)
            b.append(second)
    elif isinstance(graph, pd.DataFrame):
        if graph.shape[1] < 2:
            msg = f"the table has the columns {list(graph.columns)}; expected symbols in the first two."
            raise ValueError(msg)
        a, b = (graph.iloc[:, column].tolist() for column in (0, 1))
        nodes = []
    else:
        msg = f"graph is a {type(graph).__name__}; expected a networkx graph or a table with two columns of symbols."
        raise TypeError(msg)
    other = next((node for node in {*a, *b, *nodes} if not isinstance(node, str)), None)
    if other is not None:
        msg = f"{other!r} is a {type(other).__name__}; nodes must be gene symbols (str). Rename or remove them."
        raise TypeError(msg)
    return a, b, nodes


def left_out(graph: Graph) -> dict[str, int]:
    return {"self-loop": graph.self_loops, "repeated edge": graph.duplicates}


def wordings(templates: Sequence[Template], seed: int, use: Use, numbers: np.ndarray) -> list[int]:
    return below(hashed(seed, use, numbers), len(templates[0].variants)).tolist()
