"""Vectors of texts: one state of the last layer, or the mean of some, with what prompts begin alike computed once."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from ..text import Prompt
from . import _forward
from ._read_at import span
from ._tokens import Batch, Encoded, check_batch_size, plan, run_batches

if TYPE_CHECKING:
    from ._reader import Reader


def embed(reader: "Reader", prompts: Sequence[str | Prompt], batch_size: int | None) -> np.ndarray:
    """Compute (prompts, dim) vectors."""
    check_batch_size(batch_size)
    prompts, encoded = reader.encode(prompts)
    spans = [span(reader.card.read(prompt.kind), prompt, one) for prompt, one in zip(prompts, encoded, strict=True)]
    out = np.empty((len(prompts), reader.dim), np.float32)
    with torch.inference_mode(), tqdm(total=len(prompts), desc="embed", delay=2, leave=False) as bar:
        for members, shared in _shared(encoded, spans, enabled=reader.may_share(encoded)):
            rows = [encoded[i].ids[shared : spans[i][1]] for i in members]
            prefix = reader.prefix(encoded[members[0]].ids[:shared]) if shared else None
            starts = [spans[i][0] - shared for i in members]
            batches = plan([len(row) for row in rows], batch_size=batch_size, budget=reader.budget(shared))
            for batch, vectors in run_batches(batches, partial(_vectors, reader, rows, starts, prefix)):
                out[[members[i] for i in batch]] = vectors
                reader.check_finite(out, [members[i] for i in batch], prompts)
                bar.update(len(batch))
    return out


def _vectors(
    reader: "Reader", rows: list[list[int]], starts: list[int], prefix: _forward.Prefix | None, batch: list[int]
) -> np.ndarray:
    """Compute vectors of some rows of ids: the mean state from each row's start to its end."""
    padded = Batch.pad([rows[i] for i in batch], device=reader.device)
    if prefix is None:
        states = _forward.hidden(reader.decoder, padded)
    else:
        states = _forward.hidden_behind(reader.decoder, prefix, padded)
    return _pool(states, [(starts[i], len(rows[i])) for i in batch])


def _shared(
    encoded: Sequence[Encoded], spans: Sequence[tuple[int, int]], *, enabled: bool
) -> list[tuple[list[int], int]]:
    """Group prompts, with the length of the beginning they share, 0 for those better computed whole.

    Sharing pays when the beginning is at least as long as what follows it and occurs more than once.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    alone: list[int] = []
    for i, (prompt, (start, _)) in enumerate(zip(encoded, spans, strict=True)):
        n = min(prompt.n_shared, start)
        if enabled and n and 2 * n >= len(prompt.ids):
            groups.setdefault(tuple(prompt.ids[:n]), []).append(i)
        else:
            alone.append(i)
    shared = [(members, len(ids)) for ids, members in groups.items() if len(members) > 1]
    alone += [members[0] for members in groups.values() if len(members) == 1]
    return [*([(sorted(alone), 0)] if alone else []), *shared]


def _pool(states: torch.Tensor, spans: list[tuple[int, int]]) -> np.ndarray:
    """Average the states over each row's (first, last + 1) tokens, as float32."""
    if all(stop - start == 1 for start, stop in spans):
        rows = torch.arange(len(spans), device=states.device)
        return states[rows, torch.tensor([start for start, _ in spans], device=states.device)].float().cpu().numpy()
    return (
        torch.stack([row[start:stop].float().mean(0) for row, (start, stop) in zip(states, spans, strict=True)])
        .cpu()
        .numpy()
    )
