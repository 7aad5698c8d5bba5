"""Vectors of cells: of their sentences, or as weighted means of the vectors of their genes."""

import hashlib
import json
import logging
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import _adata, _rows
from .._blocks import Held, Keeper, Shard, Sourced, fill
from .._chunks import Numbers
from .._entries import check_free, written
from .._hash import hashed, hashed_rows, total
from .._keys import (
    EMBEDDING,
    MODEL_HASH,
    N_ORDERS,
    SENTENCE,
    Param,
    modality_of,
    n_orders_of,
    sentence_keys,
    write_params,
)
from .._result import Result
from .._vectors import entry_of, made_with, vectors_of
from ..model import CellHermes, PromptLengthError
from ..text import Prompt, Template
from ..text._template import in_words
from ._expression import check_no_counts, check_values
from ._model import as_model, provenance

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger("cellhermes")

BLOCK = 1_000  # cells whose prompts are in memory at once, and which are kept together on disk


def embed_cells(
    data: "AnnData | MuData | str | Path",
    model: str | Path | CellHermes = "mini",
    *,
    method: Literal["sentence", "weighted"] = "sentence",
    sentence_key: str = SENTENCE,
    genes_key: str = EMBEDDING,
    layer: str | None = None,
    use_raw: bool | None = None,
    batch_size: int | None = None,
    out: str | Path | None = None,
    key_added: str = EMBEDDING,
    mod: str | None = None,
) -> None:
    """Embed cells with a language model.

    ``method="sentence"`` (the paper's CellHermes-s) reads each cell's genes, ranked by expression, as a text:
    ``A cell with genes ranked by expression: MALAT1 TMSB4X ...`` and takes the state of the last token.
    ``method="weighted"`` (CellHermes-w, after GenePT) is the mean of the vectors e_g of the cell's genes, weighted by
    their log-normalised expression w_g: sum(w_g e_g) / sum(w_g) over the genes that have a vector.

    Where sentences were written in several orders of ties (``n_orders`` of :func:`cellhermes.pp.cell_sentences`), a
    cell's vector is the mean of those of all orders, each read as a whole: the first tie of counts stands among the
    first dozen words, so that there is little to share. Sentences that are alike are read once.

    Parameters
    ----------
    data
        Annotated data with cell sentences (:func:`cellhermes.pp.cell_sentences`), or for ``"weighted"`` with vectors of
        genes (:func:`cellhermes.tl.embed_genes`). Backed, lazily read and dask-backed data are read in blocks. With
        ``out``, the path of such a file will do, or of the store that ``cell_sentences(out=)`` wrote.
    model
        A name of :func:`cellhermes.cache.list`, a folder, a hub id, or a loaded :class:`~cellhermes.CellHermes`.
        For
        ``"weighted"``, the model that embedded the genes; nothing is loaded then.
    method
        How a cell becomes a vector.
    sentence_key
        Column of ``obs`` with the sentences, for ``"sentence"``; ``"cell_sentence_order_2"`` reads that order alone.
    genes_key
        Entry of ``varm`` with the vectors of genes, for ``"weighted"``; ``"X_cellhermes:B"`` are those of group B.
    layer
        Layer with the log-normalised expression, for ``"weighted"``; None takes X.
    use_raw
        Take the expression from ``raw``, for ``"weighted"``; None does if the sentences were made of it.
    batch_size
        Prompts per forward pass; None chooses from the memory that is free.
    out
        A zarr store to write, ``"vectors.zarr"``, instead of writing into the object: only some blocks are in memory.
        The same call after an interruption goes on where it stopped, and the store has its name once it is whole.
        Several processes may share the work (see :doc:`/scale`). anndata reads it:
        ``adata.obsm["X_cellhermes"] = anndata.read_zarr("vectors.zarr").obsm["X_cellhermes"]``.
    key_added
        Entry of ``obsm`` and ``uns`` that is written.
    mod
        Modality of a MuData.

    Returns
    -------
    Nothing; writes

    ``obsm[key_added]`` : (cells, dim) float32
        The vectors. A cell without genes has NaN, and their number is given in one warning.
    ``uns[key_added]["params"]`` : dict
        Model, base, revision, adapters, template and version, wrap, read_at, dtype, quantize, n_orders, version.

    With ``out``, the object stays as it is, and the store has the names of the cells and both entries.

    Raises
    ------
    KeyError
        If sentences or vectors of genes are not there; the message names the call that makes them.
    ValueError
        If ``obsm[key_added]`` is yours, the expression is not log-normalised (``"weighted"``),
        ``out`` belongs to other data, another
        model or other arguments, or a cell's prompt is longer than the model's context
        (:class:`~cellhermes.model.PromptLengthError` names the cell).
    BlockingIOError
        If another process is writing to the same place.
    OSError
        If a file is truncated or damaged, the disk is full, or ``out`` may not be written; what is finished stays.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata)
    >>> ch.tl.embed_cells(adata)
    >>> adata.obsm["X_cellhermes"].shape[0]
    20
    """
    adata = _adata.source(data, mod, out)
    if method == "sentence":
        way = _Sentences(adata, model, sentence_key, batch_size)
    elif method == "weighted":
        use_raw = _adata.reads_raw(adata, layer, use_raw=use_raw, sentence_key=sentence_key)
        way = _Weighted(adata, model, genes_key, layer, use_raw=use_raw)
    else:
        msg = f"method={method!r} is not known; expected 'sentence' or 'weighted'."
        raise ValueError(msg)
    if out is None:
        where, entry = f"obsm[{key_added!r}]", f"obsm/{key_added}"
        check_free(adata, key_added, [entry])
        vectors = _in_memory(way, adata.n_obs)
        with written(adata, key_added, [entry]):
            adata.obsm[key_added] = vectors
            write_params(adata, key_added, {**way.about, "method": method})
    else:
        where = str(out)
        _to_store(way, adata.obs_names, out, key_added, method)
    if way.n_empty:
        msg = f"{way.n_empty:,} of {adata.n_obs:,} cells have {way.reason} and get NaN."
        if out is None:
            msg += (
                f' sc.pp.neighbors stops at NaN: `adata = adata[np.isfinite(adata.obsm["{key_added}"][:, 0])].copy()` '
            )
            msg += "drops them."
        warnings.warn(msg, UserWarning, stacklevel=2)
    if out is None or Path(out).exists():  # else other shares are missing, which was told
        logger.info("%s cells embedded in %s (%d dimensions).", f"{adata.n_obs:,}", where, way.dim)


def _in_memory(way: "_Sentences | _Weighted", n: int) -> np.ndarray:
    way.begin()
    deque(way.texts(), maxlen=0)  # they are checked before anything is computed
    kept, vectors = Held(), np.empty((n, way.dim), np.float32)
    fill(kept, len(way.parts), way.block, Shard(), desc="cells", of=way.size)
    for i, rows in enumerate(way.parts):
        vectors[rows] = kept.load(i)
    return vectors


def _to_store(way: "_Sentences | _Weighted", names: pd.Index, out: str | Path, key: str, method: str) -> None:
    with Result(out, names) as result:
        way.begin()
        about = {**way.about, "method": method, "key": key, "block": way.size, "data_sha256": hashed(way.texts())}
        if not result.begin(about, needed=4 * len(names) * way.dim, values=way.values):
            return
        vectors = result.array(f"obsm/{key}", way.size, Numbers("<f4", way.dim))
        kept = way.kept(vectors, result.work.folder)
        fill(kept, vectors.n, way.block, result.shard, desc="cells", of=way.size)
        result.finish(kept, vectors.n, lambda: result.params(key, {**way.about, "method": method}))


class SentenceColumn:
    """Sentences of cells, read by rows; ``""`` where a cell has none. Writing h5ad may have made them categorical."""

    def __init__(self, adata: AnnData, key: str, *, options: str = "") -> None:
        hint = f"Run `ch.pp.cell_sentences(adata{options})` first, or pass `sentence_key=`."
        self._column, self._key = _adata.obs_column(adata, key, hint), key
        _ = self[:1]  # before a model is loaded

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, rows: slice) -> list[str]:
        column = self._column[rows].astype(object)
        texts = column.where(column.notna(), "").tolist()
        if others := [text for text in texts if not isinstance(text, str)]:
            msg = f"obs[{self._key!r}] holds {others[0]!r}, a {type(others[0]).__name__}; expected sentences of genes."
            raise TypeError(msg)
        return texts


def sentences_of(adata: AnnData, key: str) -> list[str]:
    """Sentences of all cells."""
    return SentenceColumn(adata, key)[:]


class _Sentences:
    """Vectors of the cells' sentences."""

    reason = "an empty sentence"

    def __init__(self, adata: AnnData, model: str | Path | CellHermes, key: str, batch_size: int | None) -> None:
        n_orders = n_orders_of(adata, key)
        options = f", {N_ORDERS}={n_orders}" if n_orders > 1 else ""
        self.orders = [SentenceColumn(adata, name, options=options) for name in sentence_keys(key, n_orders)]
        self.names = adata.obs_names
        self.key, self.batch_size, self.size = key, batch_size, max(1, BLOCK // n_orders)
        self.parts = _parts(len(self.names), self.size)
        self._model, self.n_empty = model, 0
        self.template = Template.load(in_words("cell", modality_of(adata, key)))

    def begin(self) -> None:
        """Load the model, which takes long."""
        self.model = as_model(self._model)
        self.dim = self.model.dim
        self.about = {**provenance(self.model, self.template), "sentence_key": self.key, N_ORDERS: len(self.orders)}

    def texts(self) -> Iterator[str]:
        """All sentences. A cell that is too long is found before anything is computed, and empty ones are counted."""
        for rows in self.parts:
            orders = [order[rows] for order in self.orders]
            for part in orders:
                self._check_lengths(part, rows.start)
                yield from part
            self.n_empty += sum("" in cell for cell in zip(*orders, strict=True))

    def _check_lengths(self, sentences: Sequence[str], start: int) -> None:
        """Refuse a cell that is too long by its name; ``start`` is the row of the first."""
        room = self.model.max_tokens - 64  # the template's own words and the turn markers
        # a text has at most as many tokens as bytes
        risky = [i for i, sentence in enumerate(sentences) if len(sentence.encode()) > room]
        try:
            self.model.check(self.prompts([sentences[i] for i in risky]))
        except PromptLengthError as error:
            row = risky[error.index]
            words = sentences[row].count(" ") + 1
            error.add_note(f"It is the sentence of cell {self.names[start + row]!r}, with {words} genes.")
            raise

    def block(self, i: int) -> np.ndarray:
        """(cells, dim) vectors: means over the orders of ties."""
        cells = np.array([order[self.parts[i]] for order in self.orders], object)  # (orders, cells)
        filled = (cells != "").all(axis=0)
        vectors = np.full((cells.shape[1], self.dim), np.nan, np.float32)
        if filled.any():
            at, sentences = pd.factorize(cells[:, filled].ravel())
            embedded = self.model.embed(self.prompts(sentences), batch_size=self.batch_size)
            vectors[filled] = embedded[at].reshape(len(cells), -1, self.dim).mean(axis=0)
        return vectors

    def prompts(self, sentences: Sequence[str]) -> list[Prompt]:
        return [self.template.fill(genes=sentence.split(" ")) for sentence in sentences]

    values = None  # the hash of the sentences tells other data

    def kept(self, vectors: Keeper, folder: Path) -> Keeper:
        """Where blocks are kept."""
        return vectors


def _parts(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _check_model(model: str | Path | CellHermes, params: Mapping[str, Param], genes_key: str) -> None:
    """Refuse another model than the one that made the vectors of genes: by content where it is loaded, else by name."""
    name = model.card.name if isinstance(model, CellHermes) else str(model)
    others = "" if params["model"] == name else f"model={name!r} was passed"
    made_by = params.get(MODEL_HASH)
    if isinstance(model, CellHermes) and made_by:
        others = "" if model.sha256 == made_by else others or "the weights that were passed are others"
    if others:
        msg = f"The vectors {genes_key!r} were made by model {params['model']!r}, but {others}. "
        msg += "Pass the one that made it."
        raise ValueError(msg)


class _Weighted:
    """Means of the vectors of the cells' genes, weighted by expression."""

    reason = "no expressed gene with a vector"

    def __init__(
        self, adata: AnnData, model: str | Path | CellHermes, genes_key: str, layer: str | None, *, use_raw: bool
    ) -> None:
        self.adata, self.use_raw = adata, use_raw
        key, label = entry_of(adata, genes_key)
        stored, params = vectors_of(adata, label, key), made_with(adata, label, key)
        if params:
            _check_model(model, params, genes_key)
        if label or key not in adata.varm or not _adata.has_own_genes(adata, use_raw=use_raw):
            columns = _adata.columns_of_symbols(adata, params.get("gene_symbols") or None, layer=layer, use_raw=use_raw)
            at = columns.reindex(stored.genes, fill_value=-1).to_numpy()
        else:
            at = np.flatnonzero(np.isfinite(np.asarray(adata.varm[key])).all(axis=1))
        self.known = at[at >= 0]
        if not len(self.known):
            msg = f"{genes_key!r} has a vector for none of the genes. Run `ch.tl.embed_genes(adata)` first."
            raise ValueError(msg)
        self.genes, self.dim = stored.values[at >= 0].astype(np.float64), stored.values.shape[1]
        self.matrix = _rows.by_rows(_adata.expression(adata, layer, use_raw=use_raw))
        self.size = _rows.rows_at_once(self.matrix, BLOCK)
        self.parts = _parts(self.matrix.shape[0], self.size)
        self._last: tuple[int, object] = (-1, None)
        self.about = {**params, "genes_key": genes_key, "layer": layer, "use_raw": use_raw}
        self.n_empty = 0

    def begin(self) -> None:
        """See from the first rows whether they are counts."""
        first = _rows.rows(self.matrix, 0, min(self.size, self.matrix.shape[0]))
        check_values(self.adata, first, use_raw=self.use_raw)
        check_no_counts(self.adata, first, use_raw=self.use_raw)
        _adata.warn_unlogged(self.adata, first)

    def texts(self) -> Iterator[str]:
        """Describe what is known of the data without reading them, for a checkpoint."""
        genes = hashlib.sha256(self.genes.tobytes() + self.known.tobytes()).hexdigest()
        yield json.dumps({**_rows.about_matrix(self.matrix), "genes": genes})

    def _rows(self, i: int) -> object:
        """Rows of a block; the last one is not read twice."""
        if self._last[0] != i:
            self._last = i, _rows.rows(self.matrix, self.parts[i].start, self.parts[i].stop)
        return self._last[1]

    def _hashes(self, blocks: Iterable[int]) -> Iterator[str]:
        return (hashed_rows(self._rows(i)) for i in blocks)

    def values(self) -> str:
        """Hash of all values."""
        return total(self._hashes(range(len(self.parts))))

    def kept(self, vectors: Keeper, folder: Path) -> Keeper:
        """Where blocks are kept, with what each was made of; blocks of other values are refused."""
        kept = Sourced(vectors, folder / "sources", lambda i: hashed_rows(self._rows(i)))
        kept.check(len(self.parts), self._hashes)
        return kept

    def block(self, i: int) -> np.ndarray:
        """(cells, dim) vectors."""
        block = self._rows(i)
        check_values(self.adata, block, use_raw=self.use_raw)
        vectors = np.full((block.shape[0], self.dim), np.nan, np.float32)
        block = block[:, self.known]
        total = block @ np.ones(block.shape[1])  # sum() of scipy would add up in the type of the matrix
        if not np.isfinite(total).all():
            msg = "The expression holds values that are too large to be added; expected log-normalised values."
            raise ValueError(msg)
        filled = total > 0
        vectors[filled] = (block @ self.genes)[filled] / total[filled, None]
        self.n_empty += int((~filled).sum())
        return vectors
