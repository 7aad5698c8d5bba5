"""How importance is computed: attention of the last layer, and leaving genes out. Knows frames and genes, no slots."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import logsumexp
from tqdm.auto import tqdm

from .. import _adata
from .._keys import GENE_MASK, LOG_PROBABILITY, SENTENCE, read_params
from ..model import CellHermes
from ..text import Prompt, Question
from ._checkpoint import checkpoint as kept_in

BLOCK = 2_000  # questions in memory at once: cells, or cells without one of their genes


@dataclass(frozen=True, slots=True)
class Listed:
    """Genes of some cells' sentences, in their order, and the columns of the object or of raw where they belong."""

    genes: list[list[str]]
    columns: list[np.ndarray]
    symbols: np.ndarray
    gene_symbols: str
    use_raw: bool

    @classmethod
    def of(cls, adata: AnnData, sentences: Sequence[str], sentence_key: str) -> "Listed":
        """Find the columns, as the sentences were made."""
        stored = read_params(adata, sentence_key)
        gene_symbols = str(stored.get("gene_symbols", ""))
        use_raw = _adata.has_words_of_raw(adata, sentence_key)
        symbols = _adata.symbols(adata, gene_symbols or None, use_raw=use_raw)
        how = {"gene_mask": str(stored.get("gene_mask", GENE_MASK)), "use_raw": use_raw}
        column = _adata.columns_of_symbols(adata, gene_symbols or None, **how).to_dict()
        genes = [sentence.split() for sentence in sentences]
        if missing := sorted({gene for listed in genes for gene in listed} - set(column)):
            where = "adata.raw.var" if use_raw else "adata.var"
            msg = f"{len(missing):,} genes of the sentences are not in {where}, such as {missing[0]!r}, so that their "
            msg += "importance has no place. Run `ch.pp.cell_sentences` again."
            raise ValueError(msg)
        columns = [np.array([column[gene] for gene in listed], int) for listed in genes]
        return cls(genes, columns, symbols, gene_symbols, use_raw)

    @property
    def longest(self) -> int:
        return max(map(len, self.genes), default=0)


def prompts_of(question: Question, frame: pd.DataFrame, genes: Sequence[Sequence[str]]) -> list[Prompt]:
    """Questions that know where the genes of the cell stand, and no others: a perturbed gene may be named, too."""
    prompts = question.prompts(frame)
    return [replace(prompt, spans=_spans(prompt, listed)) for prompt, listed in zip(prompts, genes, strict=True)]


def _spans(prompt: Prompt, genes: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Where each gene of the sentence stands. A gene that is named twice in a question is known at one place only."""
    lengths = np.array([len(gene) for gene in genes])
    offsets = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
    start = Counter(prompt.spans[g][0] - int(o) for g, o in zip(genes, offsets, strict=True)).most_common(1)[0][0]
    return {g: (start + int(o), start + int(o) + len(g)) for g, o in zip(genes, offsets, strict=True)}


# -------------------------------------------------------------------------------------------------------- methods


@dataclass(slots=True)
class Attention:
    """Attention of one head of the last layer."""

    question: Question
    model: CellHermes
    head: int | Literal["data", "cell"]
    over: Literal["genes", "all"]
    batch_size: int | None
    _heads: pd.DataFrame | None = None

    def importance(
        self,
        frame: pd.DataFrame,
        listed: Listed,
        about: dict[str, object],
        checkpoint: Path | None,
        rng: np.random.Generator,
    ) -> tuple[list[np.ndarray], pd.DataFrame]:
        """Return importance of the genes of each cell, and what stands beside it.

        Blocks are of random cells, so that the first may choose the head of all, and no other has to keep the weights
        of every head.
        """
        order = rng.permutation(len(frame)) if len(frame) > BLOCK else np.arange(len(frame))
        about = {**about, "head": self.head, "over": self.over, "block": BLOCK}
        texts = (" ".join(listed.genes[row]) for row in order)
        values: list[np.ndarray] = [np.empty(0)] * len(frame)
        heads, shares, entropies = np.zeros(len(frame), int), np.zeros(len(frame)), []
        head, n = self.head, self.model.n_heads
        with kept_in(checkpoint, about, texts) as kept:
            for i, rows in enumerate(_blocks(order, BLOCK, "explain")):
                if not kept.has(i):
                    genes = [listed.genes[row] for row in rows]
                    kept.save(i, self._look(frame.iloc[rows], genes, head, listed.longest))
                entropy, share, weights = np.split(kept.load(i), [n, 2 * n], axis=1)
                chosen = _chosen(entropy, head)
                head = chosen[0] if head == "data" else head
                heads[rows], shares[rows] = chosen, share[np.arange(len(rows)), chosen]
                entropies.append((np.nansum(entropy, 0), (~np.isnan(entropy)).sum(0), share.sum(0)))
                for row, of_genes in zip(rows, weights, strict=True):
                    values[row] = of_genes[: len(listed.genes[row])]
        self._heads = _table_of_heads(entropies, heads, n)
        return values, pd.DataFrame({"head": heads, "gene_share": shares})

    def _look(self, frame: pd.DataFrame, genes: list[list[str]], head: int | str, width: int) -> np.ndarray:
        """(cells, heads + heads + width): entropies, gene shares, and weights of the head that is chosen."""
        attentions = self.model.attend(prompts_of(self.question, frame, genes), batch_size=self.batch_size)
        entropy = np.stack(
            [attention.gene_entropy if self.over == "genes" else attention.entropy for attention in attentions]
        )
        share = np.stack([attention.gene_share for attention in attentions])
        weights = np.zeros((len(attentions), width), np.float32)
        for row, attention, chosen in zip(weights, attentions, _chosen(entropy, head), strict=True):
            row[: len(attention.genes)] = attention.weights[chosen]
            if self.over == "genes":
                row /= row.sum() or 1
        return np.concatenate([entropy, share, weights], axis=1)

    def heads(self) -> pd.DataFrame | None:
        return self._heads

    def about(self) -> dict[str, object]:
        return {"head": str(self.head), "over": self.over}


def _chosen(entropy: np.ndarray, head: int | str) -> np.ndarray:
    """Head of each cell from (cells, heads) entropies; NaN where a cell has too few genes, which any head can tell."""
    if not isinstance(head, str):
        return np.full(len(entropy), head)
    entropy = np.where(np.isnan(entropy), 0, entropy)
    return entropy.argmin(1) if head == "cell" else np.full(len(entropy), entropy.sum(0).argmin())


def _table_of_heads(parts: list[tuple[np.ndarray, ...]], heads: np.ndarray, n: int) -> pd.DataFrame:
    total, n_seen, share = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
    summary = {"head": np.arange(n), "entropy": total / np.maximum(n_seen, 1), "gene_share": share / len(heads)}
    return pd.DataFrame({**summary, "n_cells": np.bincount(heads, minlength=n)})


@dataclass(slots=True)
class Occlusion:
    """Log-odds of the answer, less those without a gene."""

    question: Question
    model: CellHermes
    answers: pd.DataFrame
    prior: np.ndarray
    batch_size: int | None

    def importance(
        self,
        frame: pd.DataFrame,
        listed: Listed,
        about: dict[str, object],
        checkpoint: Path | None,
        rng: np.random.Generator,
    ) -> tuple[list[np.ndarray], pd.DataFrame]:
        """Return importance of the genes of each cell; nothing stands beside it."""
        size = max(1, BLOCK // max(1, listed.longest))
        texts = (" ".join(genes) for genes in listed.genes)
        values = []
        with kept_in(checkpoint, {**about, "block": size}, texts) as kept:
            for i, rows in enumerate(_blocks(np.arange(len(frame)), size, "leave genes out")):
                if not kept.has(i):
                    kept.save(i, self._leave_out(frame, rows, [listed.genes[row] for row in rows], listed.longest))
                values += [of_genes[: len(listed.genes[row])] for row, of_genes in zip(rows, kept.load(i), strict=True)]
        return values, pd.DataFrame(index=range(len(frame)))

    def _leave_out(self, frame: pd.DataFrame, rows: np.ndarray, genes: list[list[str]], width: int) -> np.ndarray:
        """(cells, width) importances. A cell of one gene cannot be asked without it: there, it is left at 0."""
        block = np.zeros((len(rows), width), np.float32)
        places = [(i, j) for i, listed in enumerate(genes) for j in range(len(listed)) if len(listed) > 1]
        if not places:
            return block
        at, left_out = np.array(places).T
        less = [genes[i][:j] + genes[i][j + 1 :] for i, j in places]
        names = [f"{LOG_PROBABILITY}{answer}" for answer in self.question.answers]
        full = ((self.answers[names].to_numpy(float) - self.prior) / self.question.calibration)[rows[at]]
        answer = full.argmax(1)
        without = score(self.question, self.model, frame.iloc[rows[at]], less, self.batch_size, self.prior)
        block[at, left_out] = log_odds(full, answer) - log_odds(without, answer)
        return block

    def heads(self) -> None:
        return None

    def about(self) -> dict[str, object]:
        return {}


def _blocks(order: np.ndarray, size: int, name: str) -> Iterator[np.ndarray]:
    blocks = [order[start : start + size] for start in range(0, len(order), size)]
    quiet = {"disable": True} if len(blocks) < 2 else {}  # a given False would beat $TQDM_DISABLE
    yield from tqdm(blocks, desc=name, delay=2, **quiet)


def score(
    question: Question,
    model: CellHermes,
    frame: pd.DataFrame,
    genes: Sequence[Sequence[str]],
    batch_size: int | None,
    prior: np.ndarray,
) -> np.ndarray:
    """(rows, answers) log-odds, but for a constant, of cells with other genes than their own.

    Softmax makes them the probabilities that :func:`cellhermes.tl.answer` gives. What is the same is asked once.
    """
    sentences = [" ".join(listed) for listed in genes]
    prompts = question.prompts(frame.assign(**{question.column_of(SENTENCE): sentences}))
    texts = pd.Series([prompt.text for prompt in prompts], dtype=object)
    distinct = [prompts[i] for i in np.flatnonzero(~texts.duplicated())]
    scores = model.score(distinct, question.answers, normalize=question.normalize, batch_size=batch_size)
    return ((scores.astype(float) - prior) / question.calibration)[pd.factorize(texts)[0]]


def log_odds(scores: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """(rows,) log-odds of an answer against all others, which does not saturate where a probability does."""
    rows = np.arange(len(scores))
    others = scores.copy()
    others[rows, answer] = -np.inf
    return scores[rows, answer] - logsumexp(others, axis=1)
