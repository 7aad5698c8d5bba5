"""The endless, seeded stream of training documents, made from nothing but the training edges and the training cells.

Every document is a chat turn as the package writes it. Its *target* is a distribution over genes that stand for a good
answer behind the turn, so the position that becomes the embedding is the position that is trained.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from sklearn.utils.extmath import randomized_svd

import cellhermes as ch

from .inputs import Cells

WORDING = tomllib.loads(Path(__file__).with_name("wording.toml").read_text("utf-8"))
QUESTIONS = {
    name: ch.text.Template(name=name, version=entry["version"], variants=tuple(entry["variants"]))
    for name, entry in WORDING["questions"].items()
}


@dataclass(frozen=True)
class Documents:
    """A batch of chat turns.

    Parameters
    ----------
    prompts
        Texts of the user turns.
    target
        Row-normalised weights of the next token behind the turn; (documents, genes + 2), the last two are Yes and No.
    answers
        Full texts of answers for the loss on all tokens, or ``""``.
    pairs
        Rows of `prompts` that are the two ends of an edge; (edges, 2).
    teacher
        Cosine of the expression profiles behind the prompts; (documents, documents).
    """

    prompts: list[str]
    target: np.ndarray
    answers: list[str]
    pairs: np.ndarray | None = None
    teacher: np.ndarray | None = None


class CellSource:
    """Cells of one data set with what a full profile says about them: a smooth profile and principal components."""

    def __init__(self, cells: Cells, n_genes: int, seed: int, n_components: int = 30) -> None:
        self.ranked, self.count, self.gene, self.n_genes = cells.ranked, cells.count, cells.gene, n_genes
        adata = AnnData(cells.expression.copy())
        sc.pp.highly_variable_genes(adata, n_top_genes=min(2000, adata.n_vars - 1))
        x = cells.expression.toarray()
        x = np.clip((x - x.mean(0)) / (x.std(0) + 0.1), -10, 10)
        u, s, _ = randomized_svd(x[:, adata.var["highly_variable"]], n_components, random_state=seed)
        self.scores = (u * s).astype(np.float32)
        self.loadings = (u.T @ x).astype(np.float32)  # every gene regressed on the components
        self.u = u.astype(np.float32)

    def smooth(self, rows: np.ndarray) -> np.ndarray:
        """What these cells express above the mean of their data set, without the noise; rows sum to 1."""
        profile = np.maximum(self.u[rows] @ self.loadings, 0)
        out = np.zeros((len(rows), self.n_genes + 2), dtype=np.float32)
        out[:, self.gene] = profile / np.maximum(profile.sum(1, keepdims=True), 1e-9)
        return out

    def similarity(self, rows: np.ndarray) -> np.ndarray:
        """Cosine of the components of every pair of these cells."""
        scores = self.scores[rows] / np.linalg.norm(self.scores[rows], axis=1, keepdims=True)
        return scores @ scores.T


class Stream:
    """Draws batches; the same step of the same seed gives the same documents."""

    def __init__(
        self, symbols: list[str], edges: np.ndarray, coexpressed: np.ndarray, sources: list[CellSource]
    ) -> None:
        n = len(symbols)
        self.symbols, self.edges, self.sources = np.array(symbols), edges, sources
        both = (np.ones(2 * len(edges), np.float32), (edges.ravel(), edges[:, ::-1].ravel()))
        self.graph = sp.csr_array(sp.coo_array(both, shape=(n, n)))
        self.degree = np.diff(self.graph.indptr)
        self.weight = 1 / np.sqrt(np.maximum(self.degree, 1)).astype(np.float32)  # or hubs fill every list
        self.coexpressed = coexpressed  # (genes, k), -1 where nothing is known
        self.trained = np.flatnonzero((self.degree > 0) | (coexpressed[:, 0] >= 0))

    def partners(self, genes: np.ndarray) -> np.ndarray:
        """Target of gene prompts: graph neighbours by 1/sqrt(degree) (.8) and co-expressed genes (.2)."""
        out = self.graph[genes].toarray() * self.weight
        out *= 0.8 / np.maximum(out.sum(1, keepdims=True), 1e-9)
        row, column = np.nonzero(self.coexpressed[genes] >= 0)
        np.add.at(out, (row, self.coexpressed[genes][row, column]), 0.2 / self.coexpressed.shape[1])
        out /= np.maximum(out.sum(1, keepdims=True), 1e-9)
        return np.pad(out, ((0, 0), (0, 2)))

    def genes(self, rng: np.random.Generator, n_edges: int, n_single: int) -> Documents:
        """Gene prompts: both ends of random edges, and genes drawn evenly."""
        ends = self.edges[rng.integers(len(self.edges), size=n_edges)]
        ends = np.where(rng.random((n_edges, 1)) < 0.5, ends, ends[:, ::-1])
        ids = np.concatenate([ends.ravel(), rng.choice(self.trained, n_single)])
        prompts = [ch.text.template("gene").fill(gene=s).text for s in self.symbols[ids]]
        return Documents(prompts, self.partners(ids), [""] * len(ids), pairs=ends)

    def view(self, source: CellSource, cell: int, panel: np.ndarray, n: int) -> np.ndarray:
        """First genes of a cell as a measurement with that panel would show them."""
        ids = source.ranked[cell, : source.count[cell]]
        return ids[panel[ids]][:n]

    def draw_cells(self, rng: np.random.Generator, n: int) -> tuple[CellSource, np.ndarray, list[np.ndarray]]:
        """Cells of one data set; half of the batches through a random panel, a third with fewer genes."""
        p = np.sqrt([len(s.ranked) for s in self.sources])
        source = self.sources[rng.choice(len(self.sources), p=p / p.sum())]
        rows = rng.choice(len(source.ranked), n, replace=False)
        share = 1.0 if rng.random() < 0.5 else rng.uniform(0.1, 1)
        length = 100 if rng.random() < 0.67 else int(rng.integers(20, 100))
        panel = rng.random(len(self.symbols)) < share
        views = [self.view(source, cell, panel, length) for cell in rows]
        keep = np.array([len(view) >= 5 for view in views])
        return source, rows[keep], [view for view in views if len(view) >= 5]

    def cells(self, rng: np.random.Generator, n: int) -> Documents:
        """Cell prompts: the target is the smooth profile of the whole cell, also of the genes that the text lacks."""
        source, rows, views = self.draw_cells(rng, n)
        prompts = [ch.text.template("cell").fill(genes=list(self.symbols[view])).text for view in views]
        return Documents(prompts, source.smooth(rows), [""] * len(rows), teacher=source.similarity(rows))

    def contexts(self, rng: np.random.Generator, n: int) -> Documents:
        """Genes in cells: partners of the gene, those that the cell expresses five times as likely."""
        source, rows, views = self.draw_cells(rng, n)
        ids = np.array([rng.choice(view) if rng.random() < 0.5 else rng.choice(self.trained) for view in views])
        target = self.partners(ids)
        for row, cell in enumerate(rows):
            target[row, source.ranked[cell, : min(source.count[cell], 500)]] *= 5
        target /= np.maximum(target.sum(1, keepdims=True), 1e-9)
        fill = ch.text.template("gene_in_cell").fill
        prompts = [
            fill(genes=list(self.symbols[v]), gene=g).text for v, g in zip(views, self.symbols[ids], strict=True)
        ]
        return Documents(prompts, target, [""] * len(ids))

    def questions(self, rng: np.random.Generator, n: int) -> Documents:
        """Questions about cells and edges with a one-word answer, and lists of neighbours."""
        ask = [self._missing, self._next, self._node, self._link, self._neighbours]
        drawn = [ask[i](rng) for i in rng.choice(5, n, p=[0.15, 0.15, 0.3, 0.3, 0.1])]
        target = np.zeros((n, len(self.symbols) + 2), dtype=np.float32)
        for row, (_, answers, _) in enumerate(drawn):
            target[row, answers] = self.weight[answers] if len(answers) > 1 else 1
        target /= np.maximum(target.sum(1, keepdims=True), 1e-9)
        return Documents([text for text, _, _ in drawn], target, [answer for _, _, answer in drawn])

    def _ask(self, rng: np.random.Generator, name: str, **slots: str | list[str]) -> str:
        return QUESTIONS[name].fill(rng=rng, **slots).text

    def _one_view(self, rng: np.random.Generator) -> np.ndarray:
        views: list[np.ndarray] = []
        while not views:
            views = self.draw_cells(rng, 1)[2]
        return views[0][: int(rng.integers(15, 60))]

    def _missing(self, rng: np.random.Generator) -> tuple[str, np.ndarray, str]:
        view = self._one_view(rng)
        out = rng.random(len(view)) < 0.2
        out[rng.integers(len(view))] = True
        text = self._ask(rng, "masked_gene", genes=list(self.symbols[view[~out]]))
        return text, view[out], str(self.symbols[rng.choice(view[out])])

    def _next(self, rng: np.random.Generator) -> tuple[str, np.ndarray, str]:
        view = self._one_view(rng)
        cut = int(rng.integers(3, len(view) - 1))
        text = self._ask(rng, "next_gene", genes=list(self.symbols[view[:cut]]))
        return text, view[cut : cut + 1], str(self.symbols[view[cut]])

    def _neighbour_ids(self, rng: np.random.Generator, gene: int, n: int) -> np.ndarray:
        near = self.graph.indices[self.graph.indptr[gene] : self.graph.indptr[gene + 1]]
        p = self.weight[near] / self.weight[near].sum()
        return rng.choice(near, min(n, len(near)), replace=False, p=p)

    def _node(self, rng: np.random.Generator) -> tuple[str, np.ndarray, str]:
        gene = self.edges[rng.integers(len(self.edges)), rng.integers(2)]
        near = self._neighbour_ids(rng, gene, int(rng.integers(3, 21)))
        return self._ask(rng, "masked_node", genes=list(self.symbols[near])), np.array([gene]), str(self.symbols[gene])

    def _link(self, rng: np.random.Generator) -> tuple[str, np.ndarray, str]:
        (a, b), (_, other) = self.edges[rng.integers(len(self.edges), size=2)]
        yes = bool(rng.random() < 0.5)
        if not yes and self.graph[a, other] == 0 and a != other:
            b = other  # ends of edges keep their degrees, so a hub is no hint
        else:
            yes = True
        text = self._ask(rng, "masked_link", gene_a=str(self.symbols[a]), gene_b=str(self.symbols[b]))
        return text, np.array([len(self.symbols) + (not yes)]), "Yes" if yes else "No"

    def _neighbours(self, rng: np.random.Generator) -> tuple[str, np.ndarray, str]:
        gene = self.edges[rng.integers(len(self.edges)), rng.integers(2)]
        near = self._neighbour_ids(rng, gene, 10)
        every = self.graph.indices[self.graph.indptr[gene] : self.graph.indptr[gene + 1]]
        return self._ask(rng, "neighbours", gene=str(self.symbols[gene])), every, " ".join(self.symbols[near])
