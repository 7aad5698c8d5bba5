"""Groups from cells: as near to each other as a representation says, each naming what it expresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from ... import _adata, _rows
from ..._keys import SENTENCE, modality_of, read_params
from ..._streams import Use, generator
from ...text import Template
from ...text._template import in_words
from ._groups import Group, Groups, normalised
from ._groups_graph import Partners, versions
from ._sentences import numbered, values_sha256

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from anndata import AnnData

    from ._sentences import Sentences

FEWEST = 5  # genes of a view; a cell with fewer is left out of its group
SHORTEST = 20  # genes of a view that is made short on purpose


def cell_groups(
    data: AnnData | Sequence[AnnData],
    *,
    use_rep: str = "X_pca",
    layer: str | None = None,
    n_cells: int = 32,
    n_genes: int = 100,
    panel: tuple[float, float] = (0.1, 1.0),
    temperature: float = 0.1,
    sentence_key: str = SENTENCE,
    near_weight: float = 1.0,
    first_weight: float = 1.0,
    seed: int = 0,
) -> Groups:
    """Group cells as they are embedded: near to each other as in a representation, and naming what they express.

    The cells of a group come from one data set. Each is shown by its first ``n_genes`` genes; in half of the groups as
    a smaller panel of genes would show them, in a third with fewer genes. So the vector has to tell what the whole
    profile is like from what a measurement happens to show. The answer behind a cell is a gene that the
    representation says it expresses above the mean of its data set, whether or not the text shows it.

    Parameters
    ----------
    data
        Annotated data with cell sentences, or several. Make the sentences long (``n_genes=1200``), so that a panel has
        genes to choose from.
    use_rep
        Key of ``obsm``: principal components, or any representation to learn from, such as one that is free of batch
        effects.
    layer
        Layer with log-normalised expression; None takes ``X``.
    n_cells
        Cells of a group.
    n_genes
        At most so many genes of a cell are shown.
    panel
        Smallest and largest share of the genes in a panel.
    temperature
        Cosines of ``use_rep`` are divided by it before they become shares of nearness; smaller looks at nearest cells.
    sentence_key
        Column of ``obs`` with the sentences.
    near_weight, first_weight
        Weights of both losses.
    seed
        Group ``i`` is a function of the data, the seed and ``i``.

    Returns
    -------
    The groups, with prompts of the template ``"cell"``.

    Raises
    ------
    KeyError
        If sentences or the representation are not there.
    ValueError
        If expression looks like counts, cells are fewer than two, or an argument is out of range.

    Examples
    --------
    >>> import cellhermes as ch
    >>> import scanpy as sc
    >>> adata = ch.datasets.toy(n_obs=60)
    >>> ch.pp.cell_sentences(adata)
    >>> sc.pp.normalize_total(adata, target_sum=1e4)
    >>> sc.pp.log1p(adata)
    >>> sc.pp.pca(adata, n_comps=10)
    >>> ch.train.corpus.cell_groups(adata, n_cells=8)[0].near.shape
    (8, 8)
    """
    cells = _CellViews.of(data, use_rep, layer, sentence_key, n_genes, panel, seed)
    if n_cells < 2 or not temperature > 0:
        msg = f"n_cells={n_cells}, temperature={temperature}; expected at least 2, and a number above 0."
        raise ValueError(msg)
    make = _CellGroups(cells, n_cells, temperature)
    about = {**cells.about, "n_cells": n_cells, "temperature": temperature, "template": versions("cell")}
    return Groups(
        make, task="cells", words=cells.words, near_weight=near_weight, first_weight=first_weight, about=about
    )


def gene_in_cell_groups(
    data: AnnData | Sequence[AnnData],
    graphs: nx.Graph | pd.DataFrame | Mapping[str, nx.Graph | pd.DataFrame],
    *,
    shares: Mapping[str, float] | None = None,
    expressed: float = 5.0,
    use_rep: str = "X_pca",
    layer: str | None = None,
    n_cells: int = 8,
    n_genes: int = 100,
    panel: tuple[float, float] = (0.1, 1.0),
    sentence_key: str = SENTENCE,
    first_weight: float = 0.5,
    seed: int = 0,
) -> Groups:
    """Group genes in the context of cells: each names its partners, above all those that its cell expresses.

    Half of the genes are in the sentence of their cell, half are drawn from all genes of the graphs.

    Parameters
    ----------
    data
        As for :func:`cell_groups`.
    graphs, shares
        As for :func:`gene_groups`.
    expressed
        How much likelier a partner is named that is among the first 500 genes of the cell.
    use_rep, layer
        As for :func:`cell_groups`.
    n_cells
        Cells of a group, each with one gene.
    n_genes, panel, sentence_key
        As for :func:`cell_groups`.
    first_weight
        Weight of the loss.
    seed
        Group ``i`` is a function of the data, the graphs, the seed and ``i``.

    Returns
    -------
    The groups, with prompts of the template ``"gene_in_cell"``.

    Raises
    ------
    KeyError, ValueError
        As for :func:`cell_groups` and :func:`gene_groups`.

    Examples
    --------
    >>> import cellhermes as ch
    >>> import scanpy as sc
    >>> adata = ch.datasets.toy(n_obs=60)
    >>> ch.pp.cell_sentences(adata)
    >>> sc.pp.log1p(adata)
    >>> sc.pp.pca(adata, n_comps=10)
    >>> ch.train.corpus.gene_in_cell_groups(adata, ch.datasets.ppi("toy"))[0].near is None
    True
    """
    cells = _CellViews.of(data, use_rep, layer, sentence_key, n_genes, panel, seed)
    partners = Partners.of(graphs, shares)
    if n_cells < 2 or not expressed >= 1:
        msg = f"n_cells={n_cells}, expressed={expressed}; expected at least 2 cells, and a factor of at least 1."
        raise ValueError(msg)
    about = {**cells.about, **partners.about, "n_cells": n_cells, "expressed": expressed}
    about["template"] = versions("gene_in_cell")
    make = _GeneInCellGroups(cells, partners, n_cells, expressed)
    return Groups(make, task="genes_in_cells", words=partners.symbols, first_weight=first_weight, about=about)


# What cells show -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """One data set."""

    sentences: Sentences
    rep: np.ndarray
    """(cells, components) unit rows."""
    basis: np.ndarray
    """(cells, components) orthonormal columns, each of mean 0, that span the representation."""
    loadings: np.ndarray
    """(components, words) standardised expression regressed on ``basis``."""
    number: np.ndarray
    """Of each word of the sentences among the words of all sources."""
    modality: str
    """What the words are."""

    def sentence(self, cell: int) -> np.ndarray:
        first = self.sentences.first
        return self.number[self.sentences.ids[first[cell] : first[cell + 1]]]


@dataclass(frozen=True)
class _CellViews:
    """Cells of several data sets, and how they are shown."""

    sources: tuple[_Source, ...]
    words: tuple[str, ...]
    n_genes: int
    panel: tuple[float, float]
    seed: int
    about: dict[str, object]

    @classmethod
    def of(
        cls,
        data: AnnData | Sequence[AnnData],
        use_rep: str,
        layer: str | None,
        sentence_key: str,
        n_genes: int,
        panel: tuple[float, float],
        seed: int,
    ) -> _CellViews:
        sets = list(data) if isinstance(data, Sequence) else [data]
        low, high = panel
        if n_genes < SHORTEST or not 0 < low <= high <= 1 or not sets:
            msg = f"n_genes={n_genes}, panel={panel}; expected at least {SHORTEST}, and shares 0 < low <= high <= 1."
            raise ValueError(msg)
        parts = [_read(_adata.resolve(adata), use_rep, layer, sentence_key) for adata in sets]
        words = sorted({word for sentences, _, _, _ in parts for word in sentences.words})
        number = {word: i for i, word in enumerate(words)}
        sources = []
        for adata, (sentences, known, (rep, basis), loadings) in zip(sets, parts, strict=True):
            of = modality_of(adata, sentence_key)
            own = np.zeros((len(loadings), len(words)), np.float32)
            own[:, [number[word] for word in known]] = loadings
            numbers = np.array([number[word] for word in sentences.words])
            sources.append(_Source(sentences, rep, basis, own, numbers, of))
        about = {
            "data": [_hashed_source(adata, use_rep, sentence_key) for adata in sets],
            "use_rep": use_rep, "layer": layer, "n_genes": n_genes, "panel": list(panel), "seed": seed,
        }  # fmt: skip
        return cls(tuple(sources), tuple(words), n_genes, panel, seed, about)

    def draw(self, rng: np.random.Generator, n: int) -> tuple[_Source, np.ndarray, list[np.ndarray]]:
        """Draw cells of one data set, and the numbers of the words that each shows."""
        sizes = np.sqrt([len(source.rep) for source in self.sources])
        while True:
            source = self.sources[rng.choice(len(sizes), p=sizes / sizes.sum())]
            rows = rng.choice(len(source.rep), min(n, len(source.rep)), replace=False)
            share = 1.0 if rng.random() < 0.5 else rng.uniform(*self.panel)
            length = self.n_genes if rng.random() < 2 / 3 else int(rng.integers(SHORTEST, self.n_genes + 1))
            panel = rng.random(len(self.words)) < share
            views = [ids[panel[ids]][:length] for ids in map(source.sentence, rows)]
            long = [i for i, view in enumerate(views) if len(view) >= FEWEST]
            if len(long) > 1:
                return source, rows[long], [views[i] for i in long]


def _read(adata: AnnData, use_rep: str, layer: str | None, key: str) -> tuple:
    """Read sentences, the words that have expression, the representation, and what each word owes to it."""
    column = _adata.require_obs(adata, key, "Run `ch.pp.cell_sentences(data, n_genes=1200)` first.")
    if use_rep not in adata.obsm:
        msg = f"`adata.obsm[{use_rep!r}]` not found; run `sc.pp.pca(adata)`, or choose from {list(adata.obsm)}."
        raise KeyError(msg)
    if adata.n_obs < 2:
        msg = f"the data have {adata.n_obs} cell(s); expected at least two to compare."
        raise ValueError(msg)
    use_raw = _adata.reads_raw(adata, layer, sentence_key=key)
    blocks = [block for _, block in _rows.row_blocks(_adata.expression(adata, layer, use_raw=use_raw), 4096)]
    matrix = sp.csr_array(sp.vstack(blocks), dtype=np.float32)
    if _rows.is_counts(sp.csr_matrix(matrix[: min(100, adata.n_obs)])):
        msg = "expression looks like counts; pass log-normalised values (sc.pp.normalize_total, sc.pp.log1p) or layer=."
        raise ValueError(msg)
    _adata.warn_unlogged(adata, matrix)
    rep = np.asarray(adata.obsm[use_rep], np.float32)
    basis = np.linalg.qr(rep - rep.mean(0))[0].astype(np.float32)
    sentences = numbered(_adata.Column(column))
    params = read_params(adata, key)
    symbols = params.get("gene_symbols") or None
    of_matrix = {"gene_mask": params.get("gene_mask"), "layer": layer, "use_raw": use_raw}
    place = _adata.columns_of_symbols(adata, symbols, **of_matrix).to_dict()
    known = [word for word in sentences.words if word in place]
    columns = matrix[:, [place[word] for word in known]]
    mean = np.asarray(columns.mean(0)).ravel()
    std = np.sqrt(np.maximum(np.asarray(columns.multiply(columns).mean(0)).ravel() - mean**2, 0))
    loadings = (basis.T @ columns) / (std + 0.1)
    return sentences, known, (rep / np.maximum(np.linalg.norm(rep, axis=1, keepdims=True), 1e-9), basis), loadings


def _hashed_source(adata: AnnData, use_rep: str, key: str) -> dict[str, object]:
    return {
        "n_cells": adata.n_obs,
        "sentences_sha256": values_sha256(_adata.Column(adata.obs[key])),
        "rep_sha256": values_sha256(np.asarray(adata.obsm[use_rep], np.float32).ravel()),
    }


@dataclass(frozen=True)
class _CellGroups:
    cells: _CellViews
    n_cells: int
    temperature: float

    def __call__(self, number: int) -> Group:
        cells = self.cells
        source, rows, views = cells.draw(generator(cells.seed, Use.CELL_GROUPS, number), self.n_cells)
        logits = source.rep[rows] @ source.rep[rows].T / self.temperature
        np.fill_diagonal(logits, -np.inf)
        near = normalised(np.exp(logits - logits.max(1, keepdims=True)))
        profile = normalised(np.maximum(source.basis[rows] @ source.loadings, 0))
        fill = Template.load(in_words("cell", source.modality)).fill
        prompts = [fill(genes=[cells.words[i] for i in view]) for view in views]
        return Group(prompts, near, sp.csr_array(profile))


@dataclass(frozen=True)
class _GeneInCellGroups:
    cells: _CellViews
    partners: Partners
    n_cells: int
    expressed: float

    @cached_property
    def gene_of(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.partners.symbols)}

    def __call__(self, number: int) -> Group:
        cells, partners = self.cells, self.partners
        rng = generator(cells.seed, Use.GENE_IN_CELL_GROUPS, number)
        source, rows, views = cells.draw(rng, self.n_cells)
        gene_of = self.gene_of
        fill = Template.load(in_words("gene_in_cell", source.modality)).fill
        prompts, first = [], np.zeros((len(rows), len(partners.symbols)), np.float32)
        for i, (row, view) in enumerate(zip(rows.tolist(), views, strict=True)):
            gene = cells.words[rng.choice(view)] if rng.random() < 0.5 else str(rng.choice(partners.symbols))
            prompts.append(fill(genes=[cells.words[word] for word in view], gene=gene))
            if gene not in gene_of:
                continue
            first[i] = partners.weights[[gene_of[gene]]].toarray()[0]
            there = [gene_of[cells.words[w]] for w in source.sentence(row)[:500] if cells.words[w] in gene_of]
            first[i, there] *= self.expressed
        return Group(prompts, None, sp.csr_array(normalised(first)))
