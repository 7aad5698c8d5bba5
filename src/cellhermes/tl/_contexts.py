"""Which sentences stand for a group of cells: of a typical cell, of the mean profile, or of some cells."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from .._groups import Grouping
from ..text._cell import cell_sentences, vocabulary
from ._expression import blocks

Context = Literal["medoid", "pseudobulk"] | int

DECIMALS = 6  # means and similarities that differ by less are ties: values in float32 have noise of about 1e-7


@dataclass(frozen=True)
class Contexts:
    """What stands for each group, and what was seen of the groups on the way."""

    rows: pd.DataFrame
    """One row a context: label, cell (``""`` for a mean profile), sentence."""
    n_in_group: np.ndarray
    """Cells of each group that have a sentence."""
    n_expressing: np.ndarray
    """(groups, genes) how many of them express each gene of the matrix."""


@dataclass(frozen=True)
class Source:
    """Sentences of cells, and the expression that is looked at where one has to stand for a group."""

    adata: AnnData
    sentences: np.ndarray
    symbols: np.ndarray
    """Of the matrix that ``layer`` and ``use_raw`` choose."""
    mask: np.ndarray
    """Its genes that may stand in sentences."""
    layer: str | None
    use_raw: bool
    n_genes: int
    """Of a sentence, at most."""

    def contexts(self, groups: Grouping, context: Context, rng: np.random.Generator) -> Contexts:
        """Return the contexts of each group, in the order of the labels."""
        labels, codes = groups.labels, np.where(self.sentences == "", -1, groups.codes)
        if empty := [label for i, label in enumerate(labels) if not (codes == i).any()]:
            msg = f"Every cell of groups {empty} has an empty sentence; leave them out with groups=."
            raise ValueError(msg)
        means, n_expressing = self._profiles(codes, len(labels))
        if not isinstance(context, str):
            rows = self._frame(labels, _drawn(codes, len(labels), context, rng))
        elif context == "medoid":
            rows = self._frame(labels, self._medoids(codes, means))
        else:
            ranked = cell_sentences(means, vocabulary(list(self.symbols), self.mask), self.n_genes)
            rows = pd.DataFrame({"label": labels, "cell": "", "sentence": ranked})
        return Contexts(rows, np.bincount(codes[codes >= 0], minlength=len(labels)), n_expressing)

    def _frame(self, labels: list[str], rows: Sequence[np.ndarray]) -> pd.DataFrame:
        at = np.concatenate(rows)
        return pd.DataFrame(
            {
                "label": np.repeat(labels, [len(r) for r in rows]).astype(object),
                "cell": self.adata.obs_names[at].astype(str).to_numpy(object),
                "sentence": self.sentences[at],
            }
        )

    def _blocks(self) -> Iterator[tuple[int, sparse.csr_matrix]]:
        try:
            yield from blocks(self.adata, self.layer, use_raw=self.use_raw, counts="normalise")
        except ValueError as error:
            error.add_note("Contexts read what the sentences were made of: choose it in `ch.pp.cell_sentences`.")
            raise

    def _profiles(self, codes: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean log-normalised expression of groups, 0 outside the mask, and how many cells express each gene."""
        sums = np.zeros((n_groups, len(self.symbols)))
        n_expressing = np.zeros(sums.shape, np.int32)
        for start, block in self._blocks():
            of_block = codes[start : start + block.shape[0]]
            rows = np.flatnonzero(of_block >= 0)
            member = sparse.csr_matrix((np.ones(len(rows)), (of_block[rows], rows)), (n_groups, block.shape[0]))
            sums += (member @ block).toarray()
            n_expressing += (member @ (block > 0)).toarray().astype(np.int32)
        means = sums * self.mask / np.bincount(codes[codes >= 0], minlength=n_groups)[:, None]
        return np.round(means, DECIMALS), n_expressing

    def _medoids(self, codes: np.ndarray, means: np.ndarray) -> list[np.ndarray]:
        """Cell of each group with the highest cosine similarity to the group's mean; the first among equals."""
        best = np.full(len(means), -np.inf)
        medoid = np.zeros(len(means), dtype=int)
        unit = means[:, self.mask] / np.maximum(np.linalg.norm(means, axis=1), 1e-300)[:, None]
        for start, block in self._blocks():
            of_block = codes[start : start + block.shape[0]]
            block = block[:, self.mask].astype(np.float64)
            norm = np.sqrt(np.asarray(block.multiply(block).sum(1)).ravel())
            similarity = np.round((block @ unit.T) / np.maximum(norm, 1e-300)[:, None], DECIMALS)
            for group in np.unique(of_block[of_block >= 0]):
                rows = np.flatnonzero(of_block == group)
                row = rows[np.argmax(similarity[rows, group])]
                if similarity[row, group] > best[group]:
                    best[group], medoid[group] = similarity[row, group], start + row
        return [np.array([row]) for row in medoid]


def check_context(context: Context) -> None:
    """Refuse what is no way to stand for a group."""
    is_number = isinstance(context, int | np.integer) and not isinstance(context, bool) and context >= 1
    if not is_number and context not in ("medoid", "pseudobulk"):
        msg = f"context={context!r}; expected 'medoid', 'pseudobulk', or a number of cells, at least 1."
        raise ValueError(msg)


def _drawn(codes: np.ndarray, n_groups: int, n_cells: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of cells drawn from each group, in their order."""
    drawn = [rng.permutation(np.flatnonzero(codes == i))[:n_cells] for i in range(n_groups)]
    if short := sum(len(cells) < n_cells for cells in drawn):
        warnings.warn(f"{short} of {n_groups} groups have fewer than {n_cells} cells; all are taken.", stacklevel=4)
    return [np.sort(cells) for cells in drawn]
