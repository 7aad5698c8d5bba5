"""Answers that are written, token by token; each prompt has a stream of draws of its own."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from ..text import Prompt
from . import _forward
from ._tokens import Encoded, check_batch_size, plan, run_batches

if TYPE_CHECKING:
    from ._reader import Reader


def generate(
    reader: "Reader",
    prompts: Sequence[str | Prompt],
    max_new_tokens: int,
    temperature: float,
    batch_size: int | None,
    rng: int | np.random.Generator | None,
) -> list[str]:
    """Write an answer to each prompt, batch by batch."""
    check_batch_size(batch_size)
    if not 0 <= temperature < np.inf or not max_new_tokens >= 1:
        got = f"got {temperature} and {max_new_tokens}"
        msg = f"generate needs a finite temperature >= 0 and max_new_tokens >= 1, {got}."
        raise ValueError(msg)
    prompts, encoded = reader.encode(prompts, extra=max_new_tokens)
    seeds = np.random.default_rng(rng).bit_generator.seed_seq.spawn(len(prompts))
    lengths = [len(one.ids) + max_new_tokens for one in encoded]
    out = [""] * len(prompts)
    with torch.inference_mode(), tqdm(total=len(prompts), desc="generate", delay=2, leave=False) as bar:
        batches = plan(lengths, batch_size=batch_size, budget=reader.budget(0))
        write = partial(_write, reader, prompts, encoded, seeds, max_new_tokens, temperature)
        for batch, new in run_batches(batches, write):
            for i, ids in zip(batch, new, strict=True):
                out[i] = reader.encoder.decode(ids)
            bar.update(len(batch))
    return out


def _write(
    reader: "Reader",
    prompts: list[Prompt],
    encoded: list[Encoded],
    seeds: list[np.random.SeedSequence],
    max_new_tokens: int,
    temperature: float,
    members: list[int],
) -> list[list[int]]:
    """Generate new token ids of one batch."""
    streams = [np.random.default_rng(seeds[i]) for i in members]
    grow = _forward.grow if reader.able.caches else _forward.grow_whole
    rows = grow(reader.decoder, [encoded[i].ids for i in members], device=reader.device)
    states = next(rows)
    stop = reader.encoder.stop
    new: list[list[int]] = [[] for _ in members]
    open_rows = set(range(len(members)))
    for step in range(max_new_tokens):
        logits = _forward.logits(reader.lm, states)
        reader.check_finite(logits.amax(-1).cpu().numpy(), range(len(members)), [prompts[i] for i in members])
        tokens = _draw(logits, temperature, streams)
        for row in sorted(open_rows):
            if tokens[row] in stop:
                open_rows.discard(row)
            else:
                new[row].append(tokens[row])
        if not open_rows or step == max_new_tokens - 1:
            break
        states = rows.send(tokens)
    return new


def _draw(logits: torch.Tensor, temperature: float, streams: list[np.random.Generator]) -> list[int]:
    """Draw a token for each row from cumulated probabilities in float64, so that the row's stream alone decides."""
    if temperature == 0:
        return logits.argmax(-1).tolist()
    cumulated = (logits.double() / temperature).softmax(-1).cumsum(-1).cpu().numpy()
    return [
        int(min(np.searchsorted(row, s.random() * row[-1]), len(row) - 1))
        for row, s in zip(cumulated, streams, strict=True)
    ]
