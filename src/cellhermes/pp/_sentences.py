"""Cell sentences: the genes of each cell in falling order of expression."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import _adata
from .._keys import GENE_MASK, SENTENCE, write_params
from ..text import _cell
from ._genes import gene_mask as default_mask

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger("cellhermes")


def cell_sentences(
    data: AnnData | MuData,
    *,
    n_genes: int = 100,
    layer: str | None = None,
    use_raw: bool = False,
    gene_symbols: str | None = None,
    gene_mask: str = GENE_MASK,
    key_added: str = SENTENCE,
    chunk_size: int = 2048,
    mod: str | None = None,
) -> None:
    """Write each cell as a sentence: the symbols of its genes in falling order of expression.

    A sentence looks like ``MALAT1 TMSB4X B2M CD3E ...``. Genes without expression are left out, so a cell with 37
    expressed genes has 37 words. Scaling a cell to a library size and taking the logarithm do not change the order:
    counts and log-normalised values give the same sentence. Equal values are ordered by a hash of the symbol,
    ``blake2b(symbol, digest_size=8)`` as a big-endian integer, smaller first; so a sentence depends on its own cell
    only, and not on the order of the columns or on the alphabet.

    Parameters
    ----------
    data
        AnnData with counts or log-normalised values (not scaled ones), or MuData. Sparse, dense, backed and dask-backed
        matrices are read in chunks. A view becomes an object of its own, as whenever one writes to it.
    n_genes
        At most so many genes a cell; the paper takes 100.
    layer
        Layer to read; default: ``X``.
    use_raw
        Read ``data.raw``.
    gene_symbols
        Column of ``var`` with the symbols; default: ``var_names``.
    gene_mask
        Boolean column of ``var``: the genes that may stand in a sentence. Where the default column is missing, it is
        made by the rules of :func:`~cellhermes.pp.mask_genes` and kept (not kept if ``data.raw`` is read and has other
        genes than the object).
    key_added
        Column to write.
    chunk_size
        Number of cells read at a time.
    mod
        Modality to use, if ``data`` is a MuData.

    Returns
    -------
    Nothing; writes

    ``obs[key_added]``
        str: the sentence; ``""`` for a cell that expresses no gene of the mask.
    ``uns[key_added]["params"]``
        dict: the arguments and the version of cellhermes.
    ``var[gene_mask]``
        bool, if the default column was missing.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.pp.cell_sentences(adata, n_genes=5)
    >>> len(adata.obs["cell_sentence"].iloc[0].split())
    5
    """
    adata = _adata.resolve(data, mod)
    _adata.check_writable(adata)
    _check_positive(n_genes=n_genes, chunk_size=chunk_size)
    matrix = _adata.expression(adata, layer, use_raw=use_raw)
    _adata.check_not_empty(adata)
    names = _adata.symbols(adata, gene_symbols, use_raw=use_raw)
    stored = _stored_mask(adata, gene_mask, use_raw=use_raw)
    mask = default_mask(names, matrix) if stored is None else stored
    _check_words(names, mask)

    sentences = _sentences(matrix, _cell.vocabulary(names, mask), n_genes, chunk_size, adata.obs_names, names)

    adata.obs[key_added] = pd.Series(sentences, index=adata.obs_names, dtype=object)
    if stored is None and _adata.has_own_genes(adata, use_raw=use_raw):
        adata.var[gene_mask] = mask
        logger.info("cell_sentences: var[%r] was missing; made by the rules of `ch.pp.mask_genes`", gene_mask)
    params = {"n_genes": int(n_genes), "layer": layer, "use_raw": bool(use_raw), "gene_symbols": gene_symbols}
    write_params(adata, key_added, {**params, "gene_mask": gene_mask})
    n_empty = sentences.count("")
    if n_empty:
        msg = f"{n_empty:,} of {len(sentences):,} cells express no gene of the mask and get an empty sentence."
        warnings.warn(msg, UserWarning, stacklevel=2)
    logger.info("cell_sentences: %s cells, at most %s genes each -> obs[%r]", f"{adata.n_obs:,}", n_genes, key_added)


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        msg = f"{name}={number}; expected a whole number of at least 1."
        if not isinstance(number, int | np.integer):
            raise TypeError(msg)
        if number < 1:
            raise ValueError(msg)


def _stored_mask(adata: AnnData, key: str, *, use_raw: bool) -> np.ndarray | None:
    """Return the mask in var (of raw, if that has other genes), or None where the default one has to be made."""
    own = _adata.has_own_genes(adata, use_raw=use_raw)
    var, where = (adata.var, "adata.var") if own else (_adata.var_of(adata, use_raw=True), "adata.raw.var")
    if key not in var and key == GENE_MASK:
        return None
    if key not in var:
        msg = f"`{where}[{key!r}]` not found. Store a boolean mask there, or leave gene_mask out for the default one."
        raise KeyError(msg)
    column = var[key]
    if column.isna().any() or not pd.api.types.is_bool_dtype(column):
        msg = f"`{where}[{key!r}]` has values of type {column.dtype}; expected a boolean mask without missing values."
        raise TypeError(msg)
    if not column.any():
        msg = f"`{where}[{key!r}]` is False for all {len(column):,} genes; expected at least one gene to be marked."
        raise ValueError(msg)
    return column.to_numpy(bool)


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


def _sentences(
    matrix: object, vocabulary: _cell.Vocabulary, n_genes: int, chunk_size: int, cells: pd.Index, names: np.ndarray
) -> list[str]:
    sentences: list[str] = []
    with tqdm(total=len(cells), desc="cell sentences", unit="cell", delay=2) as progress:
        for start, block in _adata.row_blocks(matrix, chunk_size):
            try:
                sentences += _cell.cell_sentences(block, vocabulary, n_genes)
            except _cell.BadValueError as error:
                raise ValueError(_what_is_bad(error, cells[start + error.row], names[error.column])) from None
            progress.update(block.shape[0])
    return sentences


def _what_is_bad(error: _cell.BadValueError, cell: str, gene: str) -> str:
    found = f"the value of gene {gene!r} in cell {cell!r} is {error.value:g}"
    if error.value < 0 and np.isfinite(error.value):
        return (
            f"{found}; expected counts or log-normalised values, which are not negative (scaled values are). Pass the "
            "layer that holds them as layer=, or use_raw=True."
        )
    return f"{found}; expected finite values. Replace or remove it, or pass another matrix with layer= or use_raw=True."
