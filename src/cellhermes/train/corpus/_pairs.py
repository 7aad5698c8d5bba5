"""A lazy sequence of question-answer pairs.

A pair is made when it is asked for. It depends on its number and a seed alone: not on the order in which pairs are
read, on shards, or on how many processes read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, overload

import numpy as np

from ...text import QAPair
from ._read import read_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BLOCK = 1024  # pairs that are made at once: enough to pay for numpy's overhead, little to keep

Make = Callable[[np.ndarray], list[QAPair]]


class Pairs(Sequence[QAPair]):
    """Question-answer pairs, made when they are read.

    A pair is the same whatever is read before it, and in whichever slice, shard or process: its randomness is a hash
    of the seed and of its number.

    Parameters
    ----------
    make
        Makes the pairs of the given numbers (int64), in their order.
    n
        How many pairs there are: numbers 0 to ``n - 1``.
    task
        The objective: ``"masked_genes"``, ``"next_genes"``, ``"masked_node"``, ``"masked_link"``, or a mixture.
    about
        How the pairs are made: arguments, seed, templates with their versions, a hash of the input. JSON can hold it.
    dropped
        Reason to number of cells, genes or edges that gave no pair.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=50)
    >>> ch.pp.cell_sentences(adata)
    >>> pairs = ch.train.corpus.mlm_pairs(adata)
    >>> len(pairs), len(pairs[:10]), len(pairs.shard(0, 4))
    (100, 10, 25)
    >>> pairs[7] == pairs[5:][2]
    True
    """

    def __init__(
        self,
        make: Make,
        n: int,
        *,
        task: str,
        about: Mapping[str, object] | None = None,
        dropped: Mapping[str, int] | None = None,
    ) -> None:
        self._make = make
        self._items: range | np.ndarray = range(n)
        self.task = task
        self._about = dict(about or {})
        self._dropped = {reason: int(count) for reason, count in (dropped or {}).items() if count}

    @property
    def about(self) -> Mapping[str, object]:
        """Tell how the pairs are made."""
        return MappingProxyType(self._about)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Count by reason the cells, genes or edges that gave no pair."""
        return MappingProxyType(self._dropped)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> QAPair: ...
    @overload
    def __getitem__(self, index: slice) -> Pairs: ...
    def __getitem__(self, index: int | slice) -> QAPair | Pairs:
        if isinstance(index, slice):
            return self._with(self._items[index])
        if not -len(self) <= index < len(self):
            msg = f"pair {index} is not there; there are {len(self):,}."
            raise IndexError(msg)
        return self._make(np.array([self._items[index]], np.int64))[0]

    def __iter__(self) -> Iterator[QAPair]:
        for start in range(0, len(self), BLOCK):
            yield from self._make(_array(self._items[start : start + BLOCK]))

    def __repr__(self) -> str:
        return f"Pairs({self.task!r}, {len(self):,} pairs)"

    def shard(self, k: int, n: int) -> Pairs:
        """Take every ``n``-th pair, from pair ``k`` on.

        Parameters
        ----------
        k
            Number of the shard, from 0.
        n
            Number of shards.

        Returns
        -------
        The pairs of the shard.

        Raises
        ------
        ValueError
            If there is no shard ``k`` of ``n``.
        """
        if not 0 <= k < n:
            msg = f"shard {k} of {n} is not there; expected 0 <= k < n."
            raise ValueError(msg)
        return self._with(self._items[k::n])

    def take(self, indices: Sequence[int] | np.ndarray) -> Pairs:
        """Take chosen pairs, in a chosen order.

        Parameters
        ----------
        indices
            Places in these pairs.

        Returns
        -------
        The chosen pairs.

        Raises
        ------
        IndexError
            If a place is outside.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and not -len(self) <= indices.min() <= indices.max() < len(self):
            msg = f"indices from {indices.min()} to {indices.max()}; there are {len(self):,} pairs."
            raise IndexError(msg)
        if isinstance(self._items, range):
            indices = np.where(indices < 0, indices + len(self), indices)
            return self._with(self._items.start + self._items.step * indices)
        return self._with(self._items[indices])

    def write(
        self, path: str | Path, *, n_workers: int = 1, inputs: Sequence[str | Path] = (), overwrite: bool = False
    ) -> dict[str, object]:
        """Write a corpus as JSON lines or parquet, with a card beside it.

        Each record holds ``instruction`` (the description of the task), ``input`` (what it is about) and ``output``
        (the answer), the layout that LLaMA-Factory calls Alpaca; instruction, a line break and input are the prompt.
        ``task``, ``template``, ``version``, ``variant`` and ``source`` (cell, or genes with a blank between them) say
        where the pair comes from.

        The file appears under its name when it is whole. Until then, finished parts are kept in ``<path>.parts``: the
        same call after an interruption or a full disk goes on from there, and gives the same file.

        Parameters
        ----------
        path
            File to write, ``.jsonl`` or ``.parquet`` (which needs pyarrow).
        n_workers
            Number of processes that make pairs. On Linux they share the memory of this one; elsewhere each gets a copy.
        inputs
            Files that the pairs come from; their SHA-256 is written on the card.
        overwrite
            Replace a file that is there.

        Returns
        -------
        The card, as written to ``<path>.card.json``: counts, lengths and versions of the templates, what was dropped,
        the arguments and seeds of the pairs, hashes of the inputs and of the file, and the version of cellhermes.

        Raises
        ------
        FileExistsError
            If the file is there already.
        FileNotFoundError
            If its folder or an input is not there.
        ValueError
            If the format is not known, or unfinished parts of another corpus are in the way.
        BlockingIOError
            If another process is writing the same file.

        Examples
        --------
        >>> import tempfile
        >>> import cellhermes as ch
        >>> adata = ch.datasets.toy(n_obs=50)
        >>> ch.pp.cell_sentences(adata)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     card = ch.train.corpus.mlm_pairs(adata).write(f"{folder}/corpus.jsonl")
        >>> card["pairs"], card["templates"]["masked_genes/plain"]["pairs"]
        (100, 100)
        """
        from ._write import write  # which reads pairs, and so imports this file

        return write(self, path, n_workers=n_workers, inputs=inputs, overwrite=overwrite)

    @staticmethod
    def read(path: str | Path) -> Iterator[QAPair]:
        """Read a corpus one pair at a time.

        Parameters
        ----------
        path
            A file of :meth:`write`, or any JSON lines (``.jsonl``), JSON list (``.json``) or parquet file with
            ``instruction``, ``output`` and optionally ``input``, such as the released training sets.

        Returns
        -------
        Iterator over the pairs, in the order of the file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the format is not known, or a record lacks a field; the message has file, line and text.

        Examples
        --------
        >>> import tempfile
        >>> import cellhermes as ch
        >>> adata = ch.datasets.toy(n_obs=50)
        >>> ch.pp.cell_sentences(adata)
        >>> pairs = ch.train.corpus.mlm_pairs(adata)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     card = pairs.write(f"{folder}/corpus.jsonl")
        ...     list(ch.train.corpus.Pairs.read(f"{folder}/corpus.jsonl")) == list(pairs)
        True
        """
        return read_pairs(path)

    def fingerprint(self) -> str:
        """Hash which pairs these are: equal for equal pairs, without making them.

        Returns
        -------
        SHA-256 of ``about`` and of the numbers of the pairs.
        """
        digest = hashlib.sha256(json.dumps([self.task, self._about], sort_keys=True).encode())
        for start in range(0, len(self), 2**20):
            digest.update(_array(self._items[start : start + 2**20]).astype("<i8").tobytes())
        return digest.hexdigest()

    def _with(self, items: range | np.ndarray) -> Pairs:
        view = Pairs(self._make, 0, task=self.task, about=self._about, dropped=self._dropped)
        view._items = items
        return view


def _array(items: range | np.ndarray) -> np.ndarray:
    return np.arange(items.start, items.stop, items.step, dtype=np.int64) if isinstance(items, range) else items


def pairs_sha256(pairs: Iterable[QAPair]) -> str:
    """Hash questions, answers and tasks in their order."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps([pair.prompt.text, pair.answer, pair.task]).encode())
    return digest.hexdigest()
