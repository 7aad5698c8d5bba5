"""Pairs from cell sentences: masked genes (eq. 1 of the paper) and next genes (eq. 2), with and without metadata."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakValueDictionary

import numpy as np
import pandas as pd

from ... import _adata
from ..._keys import SENTENCE, modality_of
from ..._streams import Use, below, hashed
from ...text import Modality, QAPair
from ...text._template import Template, kinds
from ._pairs import Pairs
from ._sentences import Sentences, Written, numbered, values_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger("cellhermes")

MASK = "[MASK]"  # as the descriptions in pretrain.toml call it
KINDS = ("plain", "metadata")  # of which each cell gives one pair
LONGEST = 2**20  # words of a sentence; numbers of places of different pairs do not meet
MISSING = {"", "nan", "na", "n/a", "none", "null", "unknown", "<na>", "nat"}  # what files hold for "no value"


def mlm_pairs(
    data: AnnData | MuData | str | Path,
    *,
    metadata: Sequence[str] | Mapping[str, str] | None = None,
    mask_fraction: float = 0.15,
    modality: str | None = None,
    sentence_key: str = SENTENCE,
    seed: int = 0,
    mod: str | None = None,
) -> Pairs:
    r"""Ask for the masked genes of each cell's sentence: two pairs a cell, without and with its metadata.

    A share of the genes, drawn for each pair, is replaced by ``[MASK]``; the answer is these genes in their order. Pair
    ``2 k`` and pair ``2 k + 1`` belong to the ``k``-th cell that has enough genes: the first shows the sentence only,
    the second its metadata as well, with other genes masked. Templates are ``masked_genes/plain`` and
    ``masked_genes/metadata``.

    Parameters
    ----------
    data
        Annotated data with cell sentences, or MuData; or the path of an h5ad file or a zarr store that holds them, such
        as ``cell_sentences(out=)`` wrote. Sentences are read in blocks, and held as numbers.
    metadata
        Columns of ``obs``, or a mapping from columns to what they are called in the prompt (default: the name of the
        column with blanks for ``_``). A value that is missing, empty, or reads ``nan``, ``NA``, ``none``, ``null`` or
        ``unknown`` is left out; a pair without any value is written with the template without metadata.
    mask_fraction
        Share of the genes that are masked, above 0 and below 1, rounded to whole genes. The paper does not state its
        own.
    modality
        What the words of the sentences are (:meth:`cellhermes.text.Modality.names`). None takes what the sentences
        were made with, else ``"rna"``; another one is an error, as vectors of these cells are read behind those words.
    sentence_key
        Column of ``obs`` with the sentences.
    seed
        Seed of masks and wordings.
    mod
        Modality of a MuData.

    Returns
    -------
    The pairs. A cell is dropped, and counted in ``pairs.dropped``, if it has no sentence, or too few genes for one to
    be masked and one to be left.

    Raises
    ------
    KeyError
        If sentences, a metadata column or the modality are not there.
    ValueError
        If ``mask_fraction`` is not between 0 and 1, or no cell has enough genes.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=50)
    >>> ch.pp.cell_sentences(adata, n_genes=6)
    >>> pair = ch.train.corpus.mlm_pairs(adata, metadata=["cell_type"], mask_fraction=0.3)[1]
    >>> print(*pair.prompt.text.split("\n")[1:], sep="\n")  # doctest: +ELLIPSIS
    About the cell: cell type = ...
    A cell with genes ranked by expression: ...[MASK]...
    >>> len(pair.answer.split())
    2
    """
    if not 0 < mask_fraction < 1:
        msg = f"mask_fraction={mask_fraction}; expected a share above 0 and below 1, such as 0.15."
        raise ValueError(msg)
    cells = _cells(data, metadata, modality, sentence_key, mod)
    n_masked = _n_masked(cells.lengths, mask_fraction)
    enough = (n_masked >= 1) & (n_masked < cells.lengths)
    about = {"mask_fraction": mask_fraction, "mask": MASK}
    return _pairs(_MaskedGenes, "masked_genes", cells, enough, seed, about, mask_fraction=mask_fraction)


def ar_pairs(
    data: AnnData | MuData | str | Path,
    *,
    metadata: Sequence[str] | Mapping[str, str] | None = None,
    n_prefix: int | tuple[int, int] = (10, 80),
    n_answer: int = 20,
    modality: str | None = None,
    sentence_key: str = SENTENCE,
    seed: int = 0,
    mod: str | None = None,
) -> Pairs:
    """Ask how each cell's sentence goes on: two pairs a cell, without and with its metadata.

    The prompt shows the first genes of the sentence, the answer is the next ones in order. Templates are
    ``next_genes/plain`` and ``next_genes/metadata``.

    Parameters
    ----------
    data, metadata
        As in :func:`mlm_pairs`.
    n_prefix
        How many genes are shown: a number, or the bounds (both included) between which it is drawn for each pair. In a
        short sentence the upper bound is lower, so that the answer has its length.
    n_answer
        How many genes are asked for, at least 2. The paper does not state its own lengths.
    modality, sentence_key
        As in :func:`mlm_pairs`.
    seed
        Seed of lengths and wordings.
    mod
        As in :func:`mlm_pairs`.

    Returns
    -------
    The pairs. A cell is dropped, and counted in ``pairs.dropped``, if it has no sentence, or fewer genes than the
    shortest prefix and the answer.

    Raises
    ------
    KeyError
        If sentences, a metadata column or the modality are not there.
    ValueError
        If the lengths are not whole numbers in order, or no cell has enough genes.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=50)
    >>> ch.pp.cell_sentences(adata, n_genes=12)
    >>> pair = ch.train.corpus.ar_pairs(adata, n_prefix=4, n_answer=3)[0]
    >>> sentence = adata.obs["cell_sentence"].iloc[0]
    >>> sentence.startswith(pair.prompt.text.split(": ")[-1] + " " + pair.answer)
    True
    """
    low, high = (n_prefix, n_prefix) if isinstance(n_prefix, int) else n_prefix
    if not 1 <= low <= high:
        msg = f"n_prefix={n_prefix}; expected a number of genes, at least 1, or two in rising order."
        raise ValueError(msg)
    if n_answer < 2:
        msg = f"n_answer={n_answer}; expected at least 2 genes."
        raise ValueError(msg)
    cells = _cells(data, metadata, modality, sentence_key, mod)
    enough = cells.lengths >= low + n_answer
    about = {"n_prefix": [low, high], "n_answer": n_answer}
    return _pairs(_NextGenes, "next_genes", cells, enough, seed, about, low=low, high=high, n_answer=n_answer)


# ------------------------------------------------------------------------------------------------- what cells say


_known: WeakValueDictionary[str, Sentences] = WeakValueDictionary()  # by hash: both objectives share them


@dataclass(frozen=True)
class _CellTexts:
    """What cells say."""

    sentences: Sentences
    names: np.ndarray
    """Names of the cells (object)."""
    columns: tuple[tuple[np.ndarray, np.ndarray], ...]
    """For each metadata column: what is written for its values (``""`` for a missing one), and the value of a cell."""
    about: dict[str, object]
    """What was read, with a hash of it."""

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.sentences.first)

    def metadata(self, cells: np.ndarray) -> list[str]:
        columns = [texts[codes[cells]].tolist() for texts, codes in self.columns]
        return ["; ".join(filter(None, values)) for values in zip(*columns, strict=True)] or [""] * len(cells)


def _cells(
    data: AnnData | MuData | str | Path,
    metadata: Sequence[str] | Mapping[str, str] | None,
    of: str | None,
    sentence_key: str,
    mod: str | None,
) -> _CellTexts:
    adata = _adata.resolve(_adata.opened(data), mod)
    recorded = modality_of(adata, sentence_key)
    of = Modality.load(of or recorded or "rna").name  # says which there are
    if recorded and of != recorded:
        msg = f"modality={of!r}, but `adata.obs[{sentence_key!r}]` was made with {recorded!r}. Leave modality out, or "
        msg += f"make the sentences again: `ch.pp.cell_sentences(data, modality={of!r})`."
        raise ValueError(msg)
    hint = "Run `ch.pp.cell_sentences(data)` first, or pass `sentence_key=`."
    column = _adata.obs_column(adata, sentence_key, hint)
    names = _called(metadata)
    if missing := [name for name in names if name not in adata.obs]:
        msg = f"`adata.obs[{missing[0]!r}]` not found; choose metadata from its columns {list(adata.obs.columns)}."
        raise KeyError(msg)
    columns = tuple(_coded(_adata.require_obs(adata, name, ""), label) for name, label in names.items())
    sentences, digest = values_sha256(column), values_sha256(adata.obs_names, *(Written(*coded) for coded in columns))
    about = {
        "modality": of,
        "sentence_key": sentence_key,
        "n_cells": adata.n_obs,
        "metadata": names,
        "sentences_sha256": sentences,
        "names_and_metadata_sha256": digest,
    }
    if (known := _known.get(sentences)) is None:
        known = _known[sentences] = numbered(column)
    return _CellTexts(known, adata.obs_names.to_numpy(object), columns, about)


def _called(metadata: Sequence[str] | Mapping[str, str] | None) -> dict[str, str]:
    """Say what columns are called in prompts."""
    if isinstance(metadata, Mapping):
        return dict(metadata)
    columns = [metadata] if isinstance(metadata, str) else metadata or []
    return {column: " ".join(column.replace("_", " ").split()) for column in columns}


def _coded(column: pd.Series, label: str) -> tuple[np.ndarray, np.ndarray]:
    codes, values = pd.factorize(column)  # a missing value has code -1: the last text
    texts = [f"{label} = {text}" if text.lower() not in MISSING else "" for text in map(_written, values)]
    return np.array([*texts, ""], object), codes.astype(np.int32)


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


# ----------------------------------------------------------------------------------------------------- the pairs


def _pairs(
    make: type[_FromCells], task: str, cells: _CellTexts, enough: np.ndarray, seed: int, about: dict, **options: object
) -> Pairs:
    n_empty = int((cells.lengths == 0).sum())
    dropped = {"cells without a sentence": n_empty, "cells with too few genes": int((~enough).sum()) - n_empty}
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in dropped.items() if n) or "none"
    if not enough.any():
        msg = f"none of {len(enough):,} cells has enough genes for {task} ({reasons}); longer sentences are needed."
        raise ValueError(msg)
    templates = kinds(task, str(cells.about["modality"]))
    versions = {template.name: template.version for template in templates.values()}
    about = {**cells.about, **about, "seed": seed, "templates": versions}
    chosen = np.flatnonzero(enough).astype(np.int32)
    maker = make(cells, chosen, templates, task, seed, **options)
    logger.info("%s: %s pairs of %s cells; dropped %s", task, f"{2 * len(chosen):,}", f"{len(enough):,}", reasons)
    return Pairs(maker, len(KINDS) * len(chosen), task=task, about=about, dropped=dropped)


@dataclass(frozen=True)
class _FromCells(ABC):
    """Makes pairs; what subclasses add is the place of the cut between what is shown and what is asked for."""

    cells: _CellTexts
    chosen: np.ndarray
    templates: dict[str, Template]
    task: str
    seed: int
    wording: ClassVar[Use]

    def __call__(self, numbers: np.ndarray) -> list[QAPair]:
        cells = self.chosen[numbers // len(KINDS)]
        sentences = self.cells.sentences
        first = sentences.first[cells]
        lengths = sentences.first[cells + 1] - first
        # cells x longest; behind the end of a shorter sentence stands any word
        places = np.minimum(first[:, None] + np.arange(lengths.max()), len(sentences.ids) - 1)
        texts = self._texts(numbers, sentences.words[sentences.ids[places]], lengths)
        variants = below(hashed(self.seed, self.wording, numbers), len(self.templates[KINDS[0]].variants)).tolist()
        shows_metadata = (numbers % len(KINDS) == KINDS.index("metadata")).tolist()
        known = [text if show else "" for text, show in zip(self.cells.metadata(cells), shows_metadata, strict=True)]
        names = self.cells.names[cells].tolist()
        return [self._pair(*pair) for pair in zip(names, variants, known, texts, strict=True)]

    def _pair(self, name: str, variant: int, known: str, text: tuple[str, dict[str, str]]) -> QAPair:
        answer, slots = text
        if known:
            prompt = self.templates["metadata"].fill(variant=variant, metadata=known, **slots)
        else:
            prompt = self.templates["plain"].fill(variant=variant, **slots)
        return QAPair(prompt, answer, self.task, str(name))

    @abstractmethod
    def _texts(self, numbers: np.ndarray, words: np.ndarray, lengths: np.ndarray) -> list[tuple[str, dict[str, str]]]:
        """Write the answer, and slots of the prompt, of each pair."""


@dataclass(frozen=True)
class _MaskedGenes(_FromCells):
    mask_fraction: float
    wording = Use.MASKED_WORDING

    def _texts(self, numbers: np.ndarray, words: np.ndarray, lengths: np.ndarray) -> list[tuple[str, dict[str, str]]]:
        places = np.arange(words.shape[1])
        bits = hashed(self.seed, Use.MASKED_PLACES, numbers[:, None] * LONGEST + places)
        bits[places >= lengths[:, None]] = np.uint64(2**64 - 1)
        limits = np.sort(bits, axis=1)[np.arange(len(bits)), _n_masked(lengths, self.mask_fraction) - 1]
        masked = bits <= limits[:, None]  # the places with the smallest bits
        answers = [" ".join(row[is_masked].tolist()) for row, is_masked in zip(words, masked, strict=True)]
        words[masked] = MASK
        shown = [" ".join(row[:n].tolist()) for row, n in zip(words, lengths, strict=True)]
        return [(answer, {"genes": genes}) for answer, genes in zip(answers, shown, strict=True)]


@dataclass(frozen=True)
class _NextGenes(_FromCells):
    low: int
    high: int
    n_answer: int
    wording = Use.NEXT_WORDING

    def _texts(self, numbers: np.ndarray, words: np.ndarray, lengths: np.ndarray) -> list[tuple[str, dict[str, str]]]:
        highest = np.minimum(self.high, lengths - self.n_answer)
        cuts = self.low + below(hashed(self.seed, Use.NEXT_LENGTH, numbers), highest - self.low + 1)
        n = str(self.n_answer)
        return [
            (" ".join(row[cut : cut + self.n_answer].tolist()), {"genes": " ".join(row[:cut].tolist()), "n": n})
            for row, cut in zip(words, cuts.tolist(), strict=True)
        ]


def _n_masked(lengths: np.ndarray, mask_fraction: float) -> np.ndarray:
    return np.floor(lengths * mask_fraction + 0.5).astype(np.int64)
