"""What attention says about genes. Plain numpy; the weights themselves are made in ``_forward.py``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class GeneAttention:
    """Attention of the last layer, seen from the last token of a prompt.

    Parameters
    ----------
    genes
        Genes of the prompt, in its order.
    weights
        (heads, genes) attention of the last token on each gene, summed over its sub-tokens (paper, equation 10).
    entropy
        (heads,) entropy of the attention over all visible tokens, each row divided by the log of their number, averaged
        over the rows that see at least two (paper, equation 9; early rows see little and would be trivially low).
    gene_entropy
        (heads,) the same over the tokens of genes only, renormalised; NaN where fewer than two are there.

    Examples
    --------
    >>> import cellhermes as ch
    >>> model = ch.CellHermes.from_pretrained("mini")
    >>> prompt = ch.text.template("cell").fill(genes=["CD3E", "IL7R", "LTB"])
    >>> found = model.attend([prompt])[0]
    >>> found.weights.shape == (len(found.entropy), 3)
    True
    """

    genes: tuple[str, ...]
    weights: np.ndarray
    entropy: np.ndarray
    gene_entropy: np.ndarray

    @property
    def gene_share(self) -> np.ndarray:
        """(heads,) part of the attention that falls on genes; the rest falls on words and turn markers."""
        return self.weights.sum(1)

    def head(self, *, over: Literal["genes", "all"] = "genes") -> int:
        """Choose the head with the lowest mean entropy.

        Parameters
        ----------
        over
            ``"genes"`` compares entropies over gene tokens, because a head that only looks at the first token has a low
            entropy, too; ``"all"`` is the literal formula.

        Returns
        -------
        Index of the head.
        """
        return int(np.argmin(self.gene_entropy if over == "genes" else self.entropy))


def per_gene(weights: np.ndarray, genes: Mapping[str, range]) -> np.ndarray:
    """Sum (heads, tokens) weights over the tokens of each gene (paper, equation 10) to (heads, genes)."""
    if not genes:
        return np.zeros((weights.shape[0], 0), np.float32)
    before = np.pad(weights.cumsum(1, dtype=np.float64), ((0, 0), (1, 0)))  # (heads, tokens + 1)
    start, stop = np.array([(at.start, at.stop) for at in genes.values()]).T
    return (before[:, stop] - before[:, start]).astype(np.float32)
