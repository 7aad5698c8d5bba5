"""Log-probabilities of answers, with what prompts begin alike, and what answers do, computed once."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from tqdm.auto import tqdm

from ..text import Prompt
from . import _forward
from ._tokens import Batch, Encoded, Encoder, check_batch_size, plan, run_batches
from ._trie import Trie

if TYPE_CHECKING:
    from ._reader import Reader

MAX_LOGITS = 1 << 24  # held at once: 64 MB in float32


def score(
    reader: "Reader",
    prompts: Sequence[str | Prompt],
    answers: Sequence[str],
    normalize: Literal["sum", "mean"],
    batch_size: int | None,
) -> np.ndarray:
    """Compute (prompts, answers) log-probabilities."""
    check_batch_size(batch_size)
    if normalize not in ("sum", "mean"):
        msg = f"normalize={normalize!r} is not known; expected 'sum' or 'mean'."
        raise ValueError(msg)
    tails = answer_ids(reader.encoder, answers)
    prompts, encoded = reader.encode(prompts, extra=max(map(len, tails)))
    trie = Trie.of(tails)
    out = np.empty((len(prompts), len(answers)), np.float32)
    whole = [Encoded(one.ids + max(tails, key=len)) for one in encoded]
    with torch.inference_mode(), tqdm(total=len(prompts), desc="score", delay=2, leave=False) as bar:
        for members, n in _alike([one.ids for one in encoded], enabled=reader.may_share(whole)):
            rows = [encoded[i].ids[n:] for i in members]
            shared = reader.prefix(encoded[members[0]].ids[:n]) if n else None
            lengths = [len(row) + trie.ids.numel() for row in rows]
            budget = min(reader.budget(n + max(lengths)), reader.n_held(n + max(lengths)) * max(lengths))
            batches = plan(lengths, batch_size=batch_size, budget=budget)
            for batch, scores in run_batches(batches, partial(_score, reader, rows, shared, tails, trie)):
                out[[members[i] for i in batch]] = scores
                reader.check_finite(out, [members[i] for i in batch], prompts)
                bar.update(len(batch))
    return out if normalize == "sum" else out / trie.lengths.astype(np.float32)


def answer_ids(encoder: Encoder, answers: Sequence[str]) -> list[list[int]]:
    """Encode answers, which have to differ."""
    if isinstance(answers, str) or len(answers) == 0 or not all(answers):
        msg = f"score needs a list of answers with text, got {answers if isinstance(answers, str) else [*answers]}."
        raise ValueError(msg)
    tails = [encoder.answer(answer) for answer in answers]
    owner: dict[tuple[int, ...], str] = {}
    for answer, ids in zip(answers, map(tuple, tails), strict=True):
        if ids in owner:
            msg = (
                f"The answers {owner[ids]!r} and {answer!r} are the same tokens for this model, which can't tell "
                "them apart. Give one of them, or words that differ."
            )
            raise ValueError(msg)
        owner[ids] = answer
    if not encoder.end:
        for ids, answer in owner.items():
            if begun := [owner[ids[:t]] for t in range(1, len(ids)) if ids[:t] in owner]:
                msg = (
                    f"The answer {answer!r} begins with the answer {begun[0]!r}, and the tokenizer has no end "
                    "token (eos_token) that would tell them apart. Give it one, or words that differ."
                )
                raise ValueError(msg)
    return tails


def _score(
    reader: "Reader",
    rows: list[list[int]],
    shared: _forward.Prefix | None,
    answers: list[list[int]],
    trie: Trie,
    batch: list[int],
) -> np.ndarray:
    """Compute (prompts, answers) of one batch: sums over the steps of each answer."""
    ids = [rows[i] for i in batch]
    padded = Batch.pad(ids, device=reader.device)
    if shared is not None:
        states = _forward.states_behind(reader.decoder, _forward.read_behind(reader.decoder, shared, padded), trie)
    elif reader.may_share([Encoded(row + max(answers, key=len)) for row in ids]):
        states = _forward.states_behind(reader.decoder, _forward.read_prefix(reader.decoder, padded), trie)
    else:
        states = torch.stack([_states_of_whole(reader, row, answers, trie) for row in ids])
    steps = _step_scores(reader, states, trie)
    steps = torch.cat([steps, steps.new_zeros(len(ids), 1)], 1)  # what short paths are filled up with
    return steps[:, trie.paths].sum(-1).numpy()


def _states_of_whole(reader: "Reader", prompt: list[int], answers: list[list[int]], trie: Trie) -> torch.Tensor:
    """Compute (states, dim) of a trie from prompt and answers in full, where a layer forgets what is far away."""
    rows = [prompt + answer[:-1] for answer in answers]
    states = torch.empty(len(trie.example), reader.dim, dtype=reader.lm.dtype, device=reader.device)
    size = max(1, reader.budget(0) // max(map(len, rows)))
    for start in range(0, len(rows), size):
        hidden = _forward.hidden(reader.decoder, Batch.pad(rows[start : start + size], device=reader.device))
        mine = ((trie.example[:, 0] >= start) & (trie.example[:, 0] < start + size)).nonzero()[:, 0]
        answer, n_tokens = trie.example[mine].unbind(1)
        states[mine] = hidden[answer - start, len(prompt) - 1 + n_tokens]
    return states


def _step_scores(reader: "Reader", states: torch.Tensor, trie: Trie) -> torch.Tensor:
    """Compute (prompts, steps) log-probabilities, with the logits of some states at a time."""
    n, n_states = states.shape[:2]
    size = max(1, MAX_LOGITS // (n * _forward.output_layer(reader.lm).weight.shape[0]))
    scores = torch.empty(n, len(trie.parent))
    for start in range(0, n_states, size):
        logits = _forward.logits(reader.lm, states[:, start : start + size])
        first, last = torch.searchsorted(trie.parent, torch.tensor([start, start + size])).tolist()
        at = (trie.parent[first:last] - start).to(logits.device)
        token = trie.token[first:last].to(logits.device)
        scores[:, first:last] = (logits[:, at, token] - logits.logsumexp(-1)[:, at]).cpu()
    return scores


def _alike(rows: Sequence[list[int]], *, enabled: bool) -> list[tuple[list[int], int]]:
    """Group rows of ids, with the length of the beginning they share, 0 for those better computed whole.

    Beginnings are found, where templates tell them: rows of a task share its instruction, and often a cell.
    Something of each row is left behind them: the first row of a group gives its last token, and in sorted order no
    later row ends earlier without differing.
    """
    order = sorted(range(len(rows)), key=rows.__getitem__)
    groups: list[tuple[list[int], int]] = []
    for i in order if enabled else ():
        n = _n_common(rows[groups[-1][0][0]][: groups[-1][1]], rows[i]) if groups else 0
        if n and 2 * n >= max(len(rows[i]), groups[-1][1]):  # also not much less than the group shared before
            groups[-1][0].append(i)
            groups[-1] = (groups[-1][0], n)
        else:
            groups.append(([i], len(rows[i]) - 1))
    shared = [group for group in groups if len(group[0]) > 1]
    alone = sorted({*order}.difference(*(members for members, _ in shared)))
    return [*([(alone, 0)] if alone else []), *shared]


def _n_common(a: list[int], b: list[int]) -> int:
    """Count the first ids that are the same."""
    for n, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return n
    return min(len(a), len(b))
