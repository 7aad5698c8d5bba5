"""Cell sentences: the genes of each cell in falling order of expression."""

from __future__ import annotations

import hashlib
import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import _adata, _rows
from .._blocks import Sourced, missing
from .._chunks import EncodedTexts, Numbers, TextCodec, Together
from .._entries import check_free, is_ours, written
from .._hash import hashed_rows, total
from .._keys import GENE_MASK, N_ORDERS, SENTENCE, n_orders_of, sentence_keys, tied_key, write_params
from .._result import Result
from ..text import _cell
from ..text._modality import PROTEIN_CODING
from ._genes import default_mask, modality_told, names_of_modality, stored_mask, write_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData
    from mudata import MuData

T = TypeVar("T")

logger = logging.getLogger("cellhermes")

# Expressed by nearly every cell of every tissue: where they are missing, the object holds a selection of genes.
IN_ALL_CELLS = pd.Index(
    ["ACTB", "B2M", "EEF1A1", "EEF2", "FTH1", "FTL", "GAPDH", "NACA", "PTMA", "TMSB4X", "TPT1", "UBC"]
)
FEW_GENES = 200  # below, that it is a selection needs no words
SELECT_LATER = "write sentences before genes are selected"

BYTES = 2  # that a word of a sentence takes on disk, about
SHARES = Numbers("<f8")  # how the share that ties decide is stored


def cell_sentences(
    data: AnnData | MuData | str | Path,
    *,
    n_genes: int = 100,
    n_orders: int = 1,
    layer: str | None = None,
    use_raw: bool = False,
    gene_symbols: str | None = None,
    gene_mask: str = GENE_MASK,
    modality: str | None = None,
    key_added: str = SENTENCE,
    chunk_size: int = 2048,
    out: str | Path | None = None,
    mod: str | None = None,
) -> None:
    """Write each cell as a sentence: the symbols of its genes in falling order of expression.

    A sentence looks like ``MALAT1 TMSB4X B2M CD3E ...``. Genes without expression are left out, so a cell with 37
    expressed genes has 37 words. Scaling a cell to a library size and taking the logarithm do not change the order:
    counts and log-normalised values give the same sentence. Equal values are ordered by a hash of the symbol,
    ``blake2b(symbol, digest_size=8)`` as a big-endian integer, smaller first; so a sentence depends on its own cell
    only, and not on the order of the columns or on the alphabet.

    In counts, most words of a sentence are tied, and any other order of theirs would be as true. With ``n_orders``,
    each cell is written in several, the same ones for all data: the second is the reverse of the first within ties;
    the third is by the same hash with ``salt=bytes([1])``, the fourth its reverse, and so on.
    :func:`~cellhermes.tl.embed_cells` averages the vectors of all orders. An order and its reverse make up for each
    other, so that two orders come close to four that are none (see :doc:`/embed`). Everything else reads the first
    order, or the one that ``sentence_key=`` names.

    Parameters
    ----------
    data
        AnnData with counts or log-normalised values (not scaled ones), or MuData. Sparse, dense, backed and dask-backed
        matrices are read in chunks; those of dask by its scheduler, on the cluster of an active client if there is one.
        A view becomes an object of its own, as whenever one writes to it. With ``out``, the path of an h5ad file or a
        zarr store will do.
    n_genes
        At most so many genes a cell; the paper takes 100.
    n_orders
        Write each cell in so many orders of tied genes.
    layer
        Layer to read; default: ``X``.
    use_raw
        Read ``data.raw``.
    gene_symbols
        Column of ``var`` with the symbols; default: what :func:`~cellhermes.pp.map_genes` wrote, else ``var_names``.
    gene_mask
        Boolean column of ``var``: the genes that may stand in a sentence. Where the default column is missing, it is
        made by the rules of :func:`~cellhermes.pp.mask_genes` and kept (in ``raw.var``, if ``data.raw`` is read and has
        other genes than the object).
    modality
        What the words are (:meth:`cellhermes.text.Modality.names`): whatever reads the sentences announces them in its
        words (``"protein"``: "surface proteins ranked by abundance"), and the default mask follows its rule. None takes
        what ``var["feature_types"]`` says (genes, if there are genes), or the name ``mod`` (``"prot"``), else
        ``"rna"``.
    key_added
        Column to write.
    chunk_size
        Number of cells read at a time.
    out
        A zarr store to write, ``"sentences.zarr"``, instead of writing into the object: only some chunks are in memory.
        The same call after an interruption goes on where it stopped, and the store has its name once it is whole.
        Several processes may share the work (see :doc:`/scale`). anndata reads it, and
        :func:`~cellhermes.tl.embed_cells` takes its path.
    mod
        Modality to use, if ``data`` is a MuData.

    Returns
    -------
    Nothing; writes

    ``obs[key_added]``
        str: the sentence; ``""`` for a cell that expresses no gene of the mask.
    ``uns[key_added]["params"]``
        dict: the arguments, the modality and the version of cellhermes.
    ``obs[f"{key_added}_order_2"]``, ..., and ``uns`` likewise
        With ``n_orders``, the sentences in the other orders.
    ``obs[f"{key_added}_tied"]``
        float, with ``n_orders``: share of the words of the sentence that ties decide, as another gene of the cell has
        the same value: their place, or whether they stand in it at all. NaN for a cell without words.
    ``var[gene_mask]``, or ``raw.var[gene_mask]``
        bool, if the default column was missing.

    With ``out``, the object stays as it is, and the store has these, and the other columns of ``obs``, which tasks and
    pairs may ask with.

    Raises
    ------
    KeyError
        If a layer, a column of ``var`` or the modality is not there.
    ValueError
        If ``obs[key_added]`` is yours, a value is negative, NaN or infinite, the mask is unfit,
        or ``out`` belongs to other data or arguments.
    BlockingIOError
        If another process is writing to ``out``.
    OSError
        If a file is truncated or damaged, the disk is full, or ``out`` may not be written; what is finished stays.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.pp.cell_sentences(adata, n_genes=5)
    >>> len(adata.obs["cell_sentence"].iloc[0].split())
    5
    """
    adata = _adata.source(data, mod, out)
    _check_positive(n_genes=n_genes, n_orders=n_orders, chunk_size=chunk_size)
    keys = sentence_keys(key_added, n_orders)
    columns = _columns(key_added, n_orders)
    entries = [*(f"obs/{name}" for name in columns), *(f"uns/{name}" for name in keys[1:])]
    if out is None:
        check_free(adata, key_added, entries)
    matrix = _adata.expression(adata, layer, use_raw=use_raw)
    _adata.check_not_empty(adata)
    names = _adata.symbols(adata, gene_symbols, use_raw=use_raw)
    stored = stored_mask(adata, gene_mask, use_raw=use_raw)
    if stored is None and out is None:
        check_free(adata, gene_mask, [], argument="gene_mask")
    of = modality_told(adata, mod, modality, use_raw=use_raw)
    fits = names_of_modality(adata, names, of, use_raw=use_raw)
    mask = default_mask(fits, matrix, of) if stored is None else stored
    _check_words(names, mask)
    if of.mask == PROTEIN_CODING:
        _warn_selected(adata, names, use_raw=use_raw)
    orders = [_cell.vocabulary(names, mask, order=number) for number in range(n_orders)]
    writer = _Writer(_rows.by_rows(matrix), orders, n_genes, adata, names)
    params = {"n_genes": int(n_genes), "layer": layer, "use_raw": bool(use_raw), "gene_symbols": gene_symbols}
    params |= {"gene_mask": gene_mask, "modality": of.name, N_ORDERS: int(n_orders)}

    if out is not None:
        n_empty, where = writer.to_store(out, chunk_size, key_added, params), str(out)
    else:
        values, where = writer.to_columns(chunk_size), f"obs[{key_added!r}]"
        with written(adata, key_added, entries):
            _store(adata, key_added, dict(zip(columns, values, strict=True)), params)
            if stored is None:
                write_mask(adata, gene_mask, mask, {"gene_symbols": gene_symbols, "use_raw": bool(use_raw)})
                logger.info("cell_sentences: the mask %r was missing; made as `ch.pp.mask_genes` does", gene_mask)
        n_empty = values[0].count("")
    if n_empty:
        msg = f"{n_empty:,} of {adata.n_obs:,} cells express no gene of the mask and get an empty sentence."
        if out is None:
            msg += f' To drop them: `adata = adata[adata.obs["{key_added}"] != ""].copy()`.'
        warnings.warn(msg, UserWarning, stacklevel=2)
    if out is None or Path(out).exists():  # else other shares are missing, which was told
        logger.info("cell_sentences: %s cells, at most %s genes each -> %s", f"{adata.n_obs:,}", n_genes, where)


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        msg = f"{name}={number}; expected a whole number of at least 1."
        if not isinstance(number, int | np.integer):
            raise TypeError(msg)
        if number < 1:
            raise ValueError(msg)


def _warn_selected(adata: AnnData, names: np.ndarray, *, use_raw: bool) -> None:
    """Say that the object holds a selection of the genes of its cells."""
    n_raw = 0 if use_raw or adata.raw is None else adata.raw.n_vars
    variable = _adata.var_of(adata).get("highly_variable")
    missing = len(IN_ALL_CELLS.difference(names))
    if n_raw > adata.n_vars:
        fault, do = f"`adata.raw` has {n_raw:,} genes, and the object {adata.n_vars:,} of them", "pass use_raw=True"
    elif not use_raw and "hvg" in adata.uns and (variable is None or variable.all()):
        fault, do = f"the object was cut to its {adata.n_vars:,} variable genes", SELECT_LATER
    elif len(names) >= FEW_GENES and missing >= len(IN_ALL_CELLS) / 2:
        fault = f"{missing} of {len(IN_ALL_CELLS)} genes that every cell expresses (such as ACTB) are not in the data"
        do = f"if that is a selection, {SELECT_LATER}"
    else:
        return
    warnings.warn(
        f"Sentences are of a selection of genes: {fault}. They are other texts than those of whole cells; {do}.",
        UserWarning,
        stacklevel=3,
    )


def _check_words(names: np.ndarray, mask: np.ndarray) -> None:
    """Refuse symbols that could not be told apart in a sentence."""
    words = pd.Series(names[mask])
    if " ".join(words).split() == words.tolist() and words.is_unique:
        return
    broken = words[(words == "") | words.str.contains(r"\s")]
    if len(broken):
        msg = f"{len(broken):,} marked genes have an empty symbol or one with a blank (e.g. {broken.iloc[0]!r}), but"
        msg += " blanks separate the genes of a sentence; leave them out of the mask, or rename them."
        raise ValueError(msg)
    twice = words[words.duplicated()]
    if len(twice):
        msg = f"{len(twice):,} symbols are marked in more than one column (e.g. {twice.iloc[0]!r}), so that a sentence"
        msg += " would name a gene twice; keep one column of each in the mask, as `ch.pp.mask_genes` does."
        raise ValueError(msg)


def _columns(key: str, n_orders: int) -> list[str]:
    """Columns of ``obs`` with sentences, and of several orders with what ties decide."""
    return [*sentence_keys(key, n_orders), *([tied_key(key)] if n_orders > 1 else [])]


def _of_each(keys: list[str], params: dict[str, object]) -> list[tuple[str, dict[str, object]]]:
    """Name the parameters of each order: the first stands for all, and each of the others for itself."""
    return [(keys[0], params), *((name, {**params, N_ORDERS: 1}) for name in keys[1:])]


def _store(adata: AnnData, key: str, columns: dict[str, list[str | float]], params: dict[str, object]) -> None:
    """Write sentences, what ties decide, and the parameters; take away what a call with more orders wrote."""
    for name in {*_columns(key, n_orders_of(adata, key))} - {*columns}:
        for table in (adata.obs, adata.uns):
            if name in table and is_ours(adata, key, f"obs/{name}"):
                del table[name]
    keys = sentence_keys(key, int(params[N_ORDERS]))
    for name, values in columns.items():
        adata.obs[name] = pd.Series(values, index=adata.obs_names, dtype=object if name in keys else float)
    for name, of_order in _of_each(keys, params):
        write_params(adata, name, of_order)


@dataclass(frozen=True)
class _Writer:
    """Writes the rows of a matrix as sentences, in one or several orders of ties."""

    matrix: object
    orders: list[_cell.Vocabulary]
    n_genes: int
    adata: AnnData
    genes: np.ndarray

    @property
    def cells(self) -> pd.Index:
        return self.adata.obs_names

    def to_columns(self, size: int) -> list[list[str | float]]:
        """All sentences in each order; of several, also the share that ties decide."""
        parts = _rows.parts_of(self.matrix, size)
        blocks = self._written(parts, partial(_written_out, orders=self.orders, n_genes=self.n_genes))
        return [[value for block in column for value in block] for column in zip(*blocks, strict=True)]

    def to_store(self, out: str | Path, size: int, key: str, params: dict[str, object]) -> int:
        """Write the sentences of this process' share, and return how many are empty."""
        size = _rows.rows_at_once(self.matrix, size)
        first, n_orders = self.orders[0], len(self.orders)
        of_genes = hashlib.sha256(first.rank.tobytes() + first.letters.tobytes()).hexdigest()
        about = {**params, "key": key, "chunk": size, **_rows.about_matrix(self.matrix), "genes_sha256": of_genes}
        columns = _columns(key, n_orders)
        others = {name: _adata.obs_column(self.adata, name, "") for name in self.adata.obs if name not in columns}
        with Result(out, self.cells) as result:
            about |= result.carried(others)
            needed = BYTES * self.n_genes * len(self.cells) * n_orders
            if not result.begin(about, needed=needed, values=partial(self._values, size)):
                return 0
            codecs = [TextCodec()] * n_orders + [SHARES] * (n_orders > 1)
            array = Together([result.array(f"obs/{name}", size, c) for name, c in zip(columns, codecs, strict=True)])
            digests: dict[int, str] = {}
            kept = Sourced(array, result.work.folder / "sources", digests.pop)
            kept.check(array.n, lambda begun: self._hashes([*map(array.rows, begun)]))
            todo = missing(kept, array.n, result.shard)
            write = partial(_encoded, orders=self.orders, n_genes=self.n_genes, size=array.size)
            written = self._written([*map(array.rows, todo)], write, threads=_cell.MAX_THREADS)
            n_empty = 0
            with closing(written), ThreadPoolExecutor(1) as disk:  # which takes its time until a block is safe
                saved = []
                for i, (content, empty, digests[i]) in zip(todo, written, strict=True):
                    for block in saved:
                        block.result()
                    saved = [disk.submit(kept.save, i, content)]
                    n_empty += empty
                for block in saved:
                    block.result()

            def complete() -> None:
                result.columns([*result.carry(others), *columns])
                for name, of_order in _of_each(sentence_keys(key, n_orders), params):
                    result.params(name, of_order)

            result.finish(kept, array.n, complete)
        return n_empty

    def _hashes(self, parts: list[slice]) -> Iterator[str]:
        return _rows.map_rows(self.matrix, parts, hashed_rows, _cell.MAX_THREADS)

    def _values(self, size: int) -> str:
        """Hash of all values, as blocks of this size note it."""
        n = self.matrix.shape[0]
        return total(self._hashes([slice(start, min(start + size, n)) for start in range(0, n, size)]))

    def _written(self, parts: list[slice], write: Callable[[object], T], *, threads: int = 0) -> Iterator[T]:
        results = _rows.map_rows(self.matrix, parts, write, threads)
        n_cells = sum(part.stop - part.start for part in parts)
        with closing(results), tqdm(total=n_cells, desc="cell sentences", unit="cell", delay=2) as progress:
            for part in parts:
                try:
                    yield next(results)
                except _cell.BadValueError as error:
                    cell, gene = self.cells[part.start + error.row], self.genes[error.column]
                    raise ValueError(_what_is_bad(error, cell, gene)) from None
                progress.update(part.stop - part.start)


def _written_out(block: object, *, orders: list[_cell.Vocabulary], n_genes: int) -> list[list[str] | np.ndarray]:
    """Write a block as sentences in each order; of several, also the share that ties decide."""
    shares = [_cell.tied_shares(block, orders[0], n_genes)] if len(orders) > 1 else []
    return [*(_cell.cell_sentences(block, order, n_genes) for order in orders), *shares]


def _encoded(block: object, *, orders: list[_cell.Vocabulary], n_genes: int, size: int) -> tuple[list[bytes], int, str]:
    """Encode a chunk of each array; count its empty sentences, and hash the values; in threads and processes."""
    digest, contents, n_empty = hashed_rows(block), [], 0
    for order in orders:
        body, n_empty = _cell.encoded_sentences(block, order, n_genes)
        contents.append(TextCodec().encode(EncodedTexts(body.data, block.shape[0]), size))
    if len(orders) > 1:
        contents.append(SHARES.encode(_cell.tied_shares(block, orders[0], n_genes), size))
    return contents, n_empty, digest


def _what_is_bad(error: _cell.BadValueError, cell: str, gene: str) -> str:
    fault = f"the value of gene {gene!r} in cell {cell!r} is {error.value:g}"
    if error.value < 0 and np.isfinite(error.value):
        return (
            f"{fault}; expected counts or log-normalised values, which are not negative (scaled values are). Pass the "
            "layer that holds them as layer=, or use_raw=True."
        )
    return f"{fault}; expected finite values. Replace or remove it, or pass another matrix with layer= or use_raw=True."
