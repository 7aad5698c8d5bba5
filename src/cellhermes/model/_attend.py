"""Attention of the last layer on the genes of prompts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from ..text import Prompt
from . import _forward
from ._attention import GeneAttention, per_gene
from ._tokens import Batch, Encoded, check_batch_size, plan, run_batches

if TYPE_CHECKING:
    from ._reader import Reader


def attend(reader: "Reader", prompts: Sequence[str | Prompt], batch_size: int | None) -> list[GeneAttention]:
    """Attention on the genes of each prompt."""
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
            msg = f"Prompt {i} ({prompt.text[:40]!r}) lists no genes. Make it with ch.text.template('cell')."
            raise ValueError(msg)
    out: list[GeneAttention | None] = [None] * len(prompts)
    batches = plan([len(one.ids) for one in encoded], batch_size=batch_size, budget=reader.budget(0))
    with torch.inference_mode(), tqdm(total=len(prompts), desc="attend", delay=2, leave=False) as bar:
        for batch, found in run_batches(batches, lambda batch: _attend(reader, [encoded[i] for i in batch])):
            for i, one in zip(batch, found, strict=True):
                out[i] = one
                reader.check_finite(np.hstack([one.weights.sum(), one.entropy])[None], [0], [prompts[i]])
            bar.update(len(batch))
    return out


def _attend(reader: "Reader", encoded: list[Encoded]) -> list[GeneAttention]:
    batch = Batch.pad([one.ids for one in encoded], device=reader.device)
    genes = np.zeros(batch.ids.shape, np.float32)
    for row, one in zip(genes, encoded, strict=True):
        row[[i for at in one.genes.values() for i in at]] = 1
    genes = torch.from_numpy(genes).to(batch.ids.device)
    found = _forward.attention_of_last_layer(reader.decoder, batch, genes).found
    return [
        GeneAttention(
            tuple(one.genes),
            per_gene(weights.cpu().numpy(), one.genes),
            entropy.cpu().numpy(),
            gene_entropy.cpu().numpy()
            if sum(map(len, one.genes.values())) > 1
            else np.full(len(entropy), np.nan, np.float32),
        )
        for one, (weights, entropy, gene_entropy) in zip(encoded, found, strict=True)
    ]
