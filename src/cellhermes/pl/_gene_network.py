"""A gene among its neighbours, or the genes of a module."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import networkx as nx
import numpy as np
from matplotlib.collections import LineCollection

from .. import get
from .._keys import MODULES, NETWORK
from ._canvas import (
    DIVERGING,
    QUIET,
    SECOND,
    canvas,
    color_bar,
    cycle,
    ink,
    label_points,
    legend,
    paper,
    settled,
    wrapped,
)

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


def gene_network(
    data: "AnnData | MuData",
    of: str | int,
    group: str | None = None,
    *,
    reference: str | None = None,
    color: Literal["degree_change", "module"] | None = None,
    n_labels: int = 40,
    rng: int = 0,
    key: str = NETWORK,
    modules_key: str = MODULES,
    mod: str | None = None,
    ax: "Axes | None" = None,
    style: Mapping[str, object] | None = None,
) -> "Axes":
    """Draw a gene and its neighbours, or the genes of a module, with the edges between them (the paper's Fig. 2g).

    A spring layout, the same for the same seed. The area of a node grows with its degree in the whole network, the
    width of an edge with its weight; the gene that was asked for has a black rim (white on a dark background).

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.gene_network` done.
    of
        A gene symbol, or the number of a module.
    group
        Group whose network is drawn; None is the network without groups.
    reference
        Group that degrees are compared with, for ``color="degree_change"``.
    color
        What colours mean: ``"degree_change"``, the degree minus that in ``reference``; ``"module"``, the modules of the
        group; None takes the change where a reference is given, else one colour for all.
    n_labels
        Genes that get their symbol, those of highest degree first; the gene that was asked for always. How many they
        are, and of how many, stands below.
    rng
        Seed of the layout.
    key
        Entry of ``varp`` and ``uns`` with the network.
    modules_key
        Entry of ``uns`` with the modules.
    mod
        Modality of a MuData.
    ax
        Axes to draw on; None makes a figure.
    style
        Options of :meth:`matplotlib.axes.Axes.scatter` of the nodes.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If the gene or the module is not in the network.
    ValueError
        If colours ask for a reference that was not given.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.tl.gene_network(adata, use_rep="expression", groupby="cell_type", groups=["B", "NK"])
    >>> ax = ch.pl.gene_network(adata, "CD79A", "B", reference="NK")
    """
    color = color or ("degree_change" if reference is not None else None)
    if color == "degree_change" and (reference is None or group is None):
        msg = f"color='degree_change' compares two groups; got group={group!r} and reference={reference!r}."
        raise ValueError(msg)
    whole = get.gene_network(data, group, key=key, mod=mod)
    graph = _part(whole, _members(data, of, group, whole, modules_key, mod))
    genes, n_genes = list(graph), len(graph)
    side = np.clip(3.2 + 0.03 * n_genes, 4, 7)
    ax = canvas(ax, side + 0.6, side)
    place = nx.spring_layout(graph, seed=rng, iterations=300, k=3 / np.sqrt(n_genes), weight=None)
    _edges(ax, graph, place)
    degree = np.array([whole.degree[gene] for gene in genes], dtype=float)
    rim = "#999999" if color == "degree_change" else paper(ax)  # no change is white
    options = {"s": 25 + 150 * degree / max(degree.max(), 1), "linewidth": 0.8, "zorder": 3}
    options |= {"edgecolor": [cycle(ax)[-1] if gene == of else rim for gene in genes]}
    if color == "degree_change":
        options |= _changes(get.degree_change(data, group, reference, key=key, mod=mod)["change"].reindex(genes))
    elif color == "module":
        options |= {"c": _module_colors(ax, data, group, genes, modules_key, mod)}
    else:
        options |= {"c": SECOND}
    xy = np.array([place[gene] for gene in genes])
    drawn = ax.scatter(*xy.T, **{**options, **(style or {})})
    if color == "degree_change":
        color_bar(ax, drawn, f"change of degree\n{reference} → {group}")
    ax.set_axis_off()
    ax.margins(0.12)
    title = of if isinstance(of, str) else f"module {of}"
    ax.set_title(wrapped(title if group is None else f"{title} in {group}", 40), fontsize="medium")
    named = [i for i, gene in enumerate(genes) if i < n_labels or gene == of]
    count = f"{n_genes} genes" if len(named) == n_genes else f"{n_genes} genes, {len(named)} of them labelled"
    ax.text(0.5, 0, count, transform=ax.transAxes, fontsize="small", color=ink(ax), ha="center", va="top")
    label_points(settled(ax), xy[named], [genes[i] for i in named], others=xy, gap=6)
    return ax


def _part(whole: nx.Graph, members: list[str]) -> nx.Graph:
    """Genes with the edges between them, in a fixed order, on which the layout depends: highest degree first."""
    part = nx.Graph()
    part.add_nodes_from(sorted(members, key=lambda gene: (-whole.degree[gene], gene)))
    part.add_edges_from(whole.subgraph(members).edges(data=True))
    return part


def _changes(change: "pd.Series") -> dict[str, object]:
    """Colours of the changes of degree, white for none; genes that the reference does not have are left white."""
    limit = max(change.abs().max(), 1)
    return {"c": change.fillna(0).to_numpy(float), "cmap": DIVERGING, "vmin": -limit, "vmax": limit}


def _members(
    data: "AnnData | MuData", of: str | int, group: str | None, whole: nx.Graph, modules_key: str, mod: str | None
) -> list[str]:
    """Select a gene and its neighbours, or the genes of a module."""
    if isinstance(of, str):
        if of not in whole:
            where = "the network" if group is None else f"the network of {group!r}"
            msg = f"Gene {of!r} is not in {where}, which has {len(whole):,} genes. For a module, pass its number."
            raise KeyError(msg)
        return [of, *whole.neighbors(of)]
    table = get.modules(data, "genes", group=group, key=modules_key, mod=mod)
    genes = table.loc[table["module"] == of, "gene"].tolist()
    if not genes:
        msg = f"Module {of} not found; the modules of {group!r} are {sorted(table['module'].unique().tolist())}."
        raise KeyError(msg)
    return genes


def _edges(ax: "Axes", graph: nx.Graph, place: Mapping[str, np.ndarray]) -> None:
    """Edges behind the nodes, wider where they are heavier, paler where they are many."""
    if not graph.number_of_edges():
        return
    ends = [(place[a], place[b]) for a, b in graph.edges]
    weight = np.array([w for *_, w in graph.edges.data("weight", default=1.0)], dtype=float)
    alpha = float(np.clip(6 / np.sqrt(len(ends)), 0.15, 0.7))
    width = 0.3 + 1.7 * weight / weight.max()
    ax.add_collection(LineCollection(ends, linewidths=width, colors=QUIET, alpha=alpha, zorder=1))


def _module_colors(
    ax: "Axes", data: "AnnData | MuData", group: str | None, genes: list[str], modules_key: str, mod: str | None
) -> list[str]:
    """Colour of each gene's module, with a legend; modules beyond the colours, and genes outside, are grey."""
    module = (
        get.modules(data, "genes", group=group, key=modules_key, mod=mod)
        .drop_duplicates("gene")
        .set_index("gene")["module"]
    )
    of_gene = module.reindex(genes)
    counts = of_gene.value_counts()
    colors = dict(zip(counts.index, cycle(ax), strict=False))
    for number, color in colors.items():
        ax.scatter([], [], color=color, label=f"{number} ({counts[number]})")
    others = int(of_gene.isna().sum() + counts[len(colors) :].sum())
    if others:
        ax.scatter([], [], color=QUIET, label=f"other ({others})")
    legend(ax, title="module (genes)", fontsize=7, title_fontsize=7)
    return [colors.get(number, QUIET) if number == number else QUIET for number in of_gene]
