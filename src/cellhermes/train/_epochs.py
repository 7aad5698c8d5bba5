"""The order in which examples are read: which make a row, which rows share a forward pass, and the tensors of it.

An epoch's order depends on the seed and its number alone, so a resumed run goes on where it stopped, and several
processes agree without talking.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from torch.utils.data import Dataset, IterableDataset

from .._streams import Use, generator
from ..model._tokens import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..model._tokens import Encoder
    from ..text import QAPair
    from ._config import LossOn
    from ._encoded import Examples
    from .corpus._groups import Group, Groups

IGNORED = -100  # label of tokens without a loss
BLOCK = 64  # forward passes whose rows are sorted by length together

Example = tuple[np.ndarray, int, int]  # ids, how many are the question's, number of the task
Row = list[Example]


class Epochs(Dataset):
    """Rows of examples; ``set_epoch`` puts them into another order.

    Parameters
    ----------
    encoded
        The examples.
    batch_size
        Rows of a forward pass of one process.
    n_processes
        Rows come in multiples of ``batch_size * n_processes``; what is missing at the end is rows without examples, so
        that all processes take the same steps and no example is read twice.
    seed
        Of all orders.
    weights
        Source to its share of an epoch, in place of what its size gives it.
    max_tokens
        Of a packed row; 0 puts each example into a row of its own.
    group_by_length
        Rows of a forward pass have similar lengths.
    """

    def __init__(
        self,
        encoded: Examples,
        *,
        batch_size: int,
        n_processes: int = 1,
        seed: int = 0,
        weights: Mapping[str, float] | None = None,
        max_tokens: int = 0,
        group_by_length: bool = True,
    ) -> None:
        self._encoded, self._seed = encoded, seed
        self._batch_size, self._unit = batch_size, batch_size * n_processes
        self._group = group_by_length
        self._lengths = encoded.lengths
        self.counts = shares(encoded.sources, weights)
        self._redrawn = weights is not None and not max_tokens
        self._rows = self._draw(0)
        if max_tokens:
            self._rows = pack(self._rows, self._lengths, max_tokens)
        self._order = np.empty(0, np.int64)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Order the rows of an epoch; weighted sources are drawn anew, except into packed rows."""
        if self._redrawn:
            self._rows = self._draw(epoch)
        rng = generator(self._seed, Use.EPOCH_ORDER, epoch)
        lengths = np.array([self._lengths[row].sum() for row in self._rows]) if self._group else None
        self._order = arrange(len(self._rows), lengths, batch_size=self._batch_size, rng=rng)
        missing = -len(self._order) % self._unit
        self._order = np.concatenate([self._order, np.full(missing, -1)])

    def about(self) -> dict[str, object]:
        """Describe what there is, and how much of it in an epoch."""
        return self._encoded.about() | {"in an epoch": self.counts}

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Row:
        number = self._order[index]
        return [self._example(i) for i in self._rows[number].tolist()] if number >= 0 else []

    def _example(self, i: int) -> Example:
        encoded = self._encoded
        return encoded.ids[encoded.ends[i] : encoded.ends[i + 1]], int(encoded.n_prompt[i]), int(encoded.task[i])

    def _draw(self, epoch: int) -> list[np.ndarray]:
        """Draw the epoch's examples, one a row: each source whole as often as it fits, and a random part of it."""
        chosen, begin = [], 0
        for number, (name, size) in enumerate(self._encoded.sources.items()):
            whole, rest = divmod(self.counts[name], max(size, 1))
            rng = generator(self._seed, Use.EPOCH_SOURCE, epoch, number)
            chosen += [np.arange(begin, begin + size)] * whole + [begin + rng.choice(size, rest, replace=False)]
            begin += size
        return list(np.concatenate(chosen).astype(np.int64)[:, None]) if chosen else []


class StreamRows(IterableDataset):
    """Rows of a stream of pairs, tokenised as they come, grouped and packed within a buffer.

    Parameters
    ----------
    pairs
        Gives a new iterator each time it is asked for one.
    encoder
        Of the model.
    batch_size, seed, max_tokens, packing, group_by_length
        As for :class:`Epochs`; examples are cut to ``max_tokens`` in any case.
    step
        Rows of a step of all processes. Rows without examples fill the last one, which would not be taken otherwise.
    """

    def __init__(
        self,
        pairs: Iterable[QAPair],
        encoder: Encoder,
        *,
        batch_size: int,
        step: int,
        seed: int,
        max_tokens: int,
        packing: bool,
        group_by_length: bool,
    ) -> None:
        self._pairs, self._encoder, self._step = pairs, encoder, step
        self._batch_size, self._seed = batch_size, seed
        self._max_tokens, self._packing, self._group = max_tokens, packing, group_by_length
        self._n_dropped = 0

    def about(self) -> dict[str, object]:
        """Describe what is known of a stream."""
        return {"stream": True, "dropped": {"no room for any of the answer": self._n_dropped}}

    def __iter__(self) -> Iterator[Row]:
        n_rows = 0
        for row in self._read():
            n_rows += 1
            yield row
        yield from ([] for _ in range(-n_rows % self._step))

    def _read(self) -> Iterator[Row]:
        pairs, block = iter(self._pairs), 0
        while chunk := list(islice(pairs, BLOCK * self._batch_size)):
            rng = generator(self._seed, Use.STREAM_ORDER, block)
            block += 1
            examples = [e for e in self._encoder.examples(chunk, max_tokens=self._max_tokens) if e is not None]
            self._n_dropped += len(chunk) - len(examples)
            lengths = np.array([len(example.ids) for example in examples], np.int64)
            rows = list(np.arange(len(examples))[:, None])
            if self._packing:
                rows = pack(rows, lengths, self._max_tokens)
            sizes = np.array([lengths[row].sum() for row in rows]) if self._group else None
            for number in arrange(len(rows), sizes, batch_size=self._batch_size, rng=rng).tolist():
                if number >= 0:
                    yield [(np.array(examples[i].ids), examples[i].n_prompt, 0) for i in rows[number].tolist()]


def shares(sizes: Mapping[str, int], weights: Mapping[str, float] | None) -> dict[str, int]:
    """Count the examples of each source in an epoch; with weights, as many in all as there are."""
    if weights is None:
        return dict(sizes)
    total = sum(sizes.values())
    scale = sum(weights[name] for name, size in sizes.items() if size)
    return {name: round(total * weights[name] / scale) if size else 0 for name, size in sizes.items()}


def pack(rows: Sequence[np.ndarray], lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Fill rows of at most ``max_tokens`` by best fit, longest examples first."""
    examples = np.concatenate(rows) if len(rows) else np.empty(0, np.int64)
    by_room: list[list[int]] = [[] for _ in range(max_tokens + 1)]  # room that is left to the rows that have it
    packed: list[list[int]] = []
    tightest = np.zeros(max_tokens + 1, bool)  # whether there is a row with so much room
    for i in examples[np.argsort(-lengths[examples], kind="stable")].tolist():
        n = int(lengths[i])
        room = n + int(tightest[n:].argmax()) if n <= max_tokens else 0
        if room and tightest[room]:
            row = by_room[room].pop()
            tightest[room] = bool(by_room[room])
        else:
            row, room = len(packed), max_tokens
            packed.append([])
        packed[row].append(i)
        rest = max(room - n, 0)
        by_room[rest].append(row)
        tightest[rest] = rest > 0
    return [np.array(row, np.int64) for row in packed]


def arrange(n: int, lengths: np.ndarray | None, *, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Order rows at random, in groups of ``batch_size`` of similar length; -1 fills the last group.

    Groups are shuffled again, so which rows follow each other does not depend on their length.
    """
    order = rng.permutation(n)
    order = np.concatenate([order, np.full(-n % batch_size, -1)])
    if lengths is None:
        return order
    groups = []
    for start in range(0, len(order), BLOCK * batch_size):
        block = order[start : start + BLOCK * batch_size]
        sizes = np.where(block >= 0, lengths[block], 0) if len(lengths) else np.zeros(len(block))
        groups.append(block[np.argsort(-sizes, kind="stable")].reshape(-1, batch_size))
    if not groups:
        return order
    return np.concatenate([group[rng.permutation(len(group))] for group in groups]).ravel()


def group_tensors(group: Group, groups: Groups, encoder: Encoder, token_of: np.ndarray) -> dict[str, torch.Tensor]:
    """Pad the prompts of a group to tensors; ``token_of`` is the first token of each of its words."""
    batch = Batch.pad([prompt.ids for prompt in encoder.prompts(group.prompts)], device=torch.device("cpu"))
    tensors = {"input_ids": batch.ids, "end": batch.last}
    if group.near is not None and groups.near_weight:
        tensors |= {"near": torch.from_numpy(group.near), "near_weight": torch.tensor(groups.near_weight)}
    if group.first is not None and groups.first_weight:
        # words that begin with the same token share a column
        n_tokens = int(token_of.max()) + 1
        table = sp.csr_array(group.first @ sp.csr_array(
            (np.ones(len(token_of), np.float32), (np.arange(len(token_of)), token_of)), shape=(len(token_of), n_tokens)
        )).tocoo()  # fmt: skip
        tensors |= {
            "row": torch.from_numpy(table.row.astype(np.int64)),
            "word": torch.from_numpy(table.col.astype(np.int64)),
            "first": torch.from_numpy(table.data.astype(np.float32)),
            "first_weight": torch.tensor(groups.first_weight),
        }
    return tensors


def collate(rows: Sequence[Row], *, loss_on: LossOn, packed: bool) -> dict[str, torch.Tensor]:
    """Pad the rows of a forward pass to tensors.

    Padding stands on the right, where causality hides it. Examples of a packed row are told apart by positions that
    begin again at 0, from which transformers derives a mask that is block by block.
    """
    width = max((sum(len(ids) for ids, _, _ in row) for row in rows), default=0) or 1
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.int64)
    positions = torch.zeros(len(rows), width, dtype=torch.int64)
    task = torch.full((len(rows),), -1, dtype=torch.int64)
    n_tokens = torch.zeros(len(rows), dtype=torch.int64)
    for i, row in enumerate(rows):
        at = 0
        for tokens, n_prompt, number in row:
            end, first = at + len(tokens), max(1, n_prompt if loss_on == "answer" else 1)
            ids[i, at:end] = torch.from_numpy(np.array(tokens, np.int64))
            labels[i, at + first : end] = ids[i, at + first : end]
            positions[i, at:end] = torch.arange(len(tokens))
            task[i], at = number, end
        positions[i, at:] = torch.arange(width - at)
        n_tokens[i] = at
    batch = {"input_ids": ids, "labels": labels, "task": task, "n_tokens": n_tokens}
    return batch | {"position_ids": positions} if packed else batch
