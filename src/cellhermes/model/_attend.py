"""What the attention of the last layer says about the genes of prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from tqdm.auto import tqdm

from ..text import Prompt
from . import _forward
from ._tokens import Batch, Encoded, check_batch_size, plan, run_batches

if TYPE_CHECKING:
    from ._reader import Reader


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
    >>> prompt = ch.text.Template.load("cell").fill(genes=["CD3E", "IL7R", "LTB"])
    >>> attention = model.attend([prompt])[0]
    >>> attention.weights.shape == (len(attention.entropy), 3)
    True
    """

    genes: tuple[str, ...]
    weights: np.ndarray
    entropy: np.ndarray
    gene_entropy: np.ndarray

    @property
    def gene_share(self) -> np.ndarray:
        """Sum to (heads,) part of the attention that falls on genes; the rest falls on words and turn markers."""
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


def attend(reader: "Reader", prompts: Sequence[str | Prompt], batch_size: int | None) -> list[GeneAttention]:
    """Look at the last layer's attention on the genes of each prompt."""
    check_batch_size(batch_size)
    if not reader.able.attends:
        msg = (
            f"{reader.card.name!r} is a {type(reader.lm).__name__}, whose attention in its last layer cannot be seen. "
            "tl.explain works with method='occlusion'."
        )
        raise ValueError(msg)
    prompts, encoded = reader.encode(prompts, positions=True)
    for i, prompt in enumerate(prompts):
        if not prompt.spans:
            msg = f"Prompt {i} ({prompt.text[:40]!r}) lists no genes. Make it with ch.text.Template.load('cell')."
            raise ValueError(msg)
    out: list[GeneAttention | None] = [None] * len(prompts)
    batches = plan([len(one.ids) for one in encoded], batch_size=batch_size, budget=reader.budget(0))
    with torch.inference_mode(), tqdm(total=len(prompts), desc="attend", delay=2, leave=False) as bar:
        for batch, attentions in run_batches(batches, lambda batch: _attend(reader, [encoded[i] for i in batch])):
            for i, attention in zip(batch, attentions, strict=True):
                out[i] = attention
                sums = np.hstack([attention.weights.sum(), attention.entropy])
                reader.check_finite(sums[None], [0], [prompts[i]])
            bar.update(len(batch))
    return out


def _attend(reader: "Reader", encoded: list[Encoded]) -> list[GeneAttention]:
    batch = Batch.pad([one.ids for one in encoded], device=reader.device)
    genes = np.zeros(batch.ids.shape, np.float32)
    for row, prompt in zip(genes, encoded, strict=True):
        row[[i for at in prompt.genes.values() for i in at]] = 1
    genes = torch.from_numpy(genes).to(batch.ids.device)
    seen = _forward.attention_of_last_layer(reader.decoder, batch, genes)
    return [
        GeneAttention(
            tuple(one.genes),
            _per_gene(weights.cpu().numpy(), one.genes),
            entropy.cpu().numpy(),
            gene_entropy.cpu().numpy()
            if sum(map(len, one.genes.values())) > 1
            else np.full(len(entropy), np.nan, np.float32),
        )
        for one, (weights, entropy, gene_entropy) in zip(encoded, seen, strict=True)
    ]


def _per_gene(weights: np.ndarray, genes: Mapping[str, range]) -> np.ndarray:
    """Sum (heads, tokens) weights over the tokens of each gene (paper, equation 10) to (heads, genes)."""
    if not genes:
        return np.zeros((weights.shape[0], 0), np.float32)
    before = np.pad(weights.cumsum(1, dtype=np.float64), ((0, 0), (1, 0)))  # (heads, tokens + 1)
    start, stop = np.array([(at.start, at.stop) for at in genes.values()]).T
    return (before[:, stop] - before[:, start]).astype(np.float32)
