"""Vectors of cells: of their sentences, or as weighted means of the vectors of their genes."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from tqdm.auto import tqdm

from .. import _adata
from .._keys import EMBEDDING, GENE_PARAMS, SENTENCE, read_params, write_params
from ..model import CellHermes, PromptLengthError
from ..text import Prompt, template
from ._checkpoint import Checkpoint
from ._expression import blocks
from ._model import as_model, provenance

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger("cellhermes")

BLOCK = 2_000  # cells whose prompts are in memory at once, and which a checkpoint keeps together


def embed_cells(
    data: "AnnData | MuData",
    model: str | Path | CellHermes = "mini",
    *,
    method: Literal["sentence", "weighted"] = "sentence",
    sentence_key: str = SENTENCE,
    genes_key: str = EMBEDDING,
    layer: str | None = None,
    use_raw: bool = False,
    batch_size: int | None = None,
    checkpoint: str | Path | None = None,
    key_added: str = EMBEDDING,
    mod: str | None = None,
) -> None:
    """Embed cells with a language model.

    ``method="sentence"`` (the paper's CellHermes-s) reads each cell's genes, ranked by expression, as a text:
    ``A cell with genes ranked by expression: MALAT1 TMSB4X ...`` and takes the state of the last token.
    ``method="weighted"`` (CellHermes-w, after GenePT) is the mean of the vectors e_g of the cell's genes, weighted by
    their log-normalised expression w_g: sum(w_g e_g) / sum(w_g) over the genes that have a vector.

    Parameters
    ----------
    data
        Annotated data with cell sentences (:func:`cellhermes.pp.cell_sentences`), or for ``"weighted"`` with vectors of
        genes (:func:`cellhermes.tl.embed_genes`). Backed h5ad and dask-backed data are read in blocks.
    model
        A name of :func:`cellhermes.model.list_models`, a folder, a hub id, or a loaded :class:`~cellhermes.CellHermes`.
        For
        ``"weighted"``, the model that embedded the genes; nothing is loaded then.
    method
        How a cell becomes a vector.
    sentence_key
        Column of ``obs`` with the sentences, for ``"sentence"``.
    genes_key
        Entry of ``varm`` with the vectors of genes, for ``"weighted"``.
    layer
        Layer with the log-normalised expression, for ``"weighted"``; None takes X.
    use_raw
        Take the expression from ``raw``, for ``"weighted"``.
    batch_size
        Prompts per forward pass; None chooses from the memory that is free.
    checkpoint
        Folder that keeps finished blocks, for ``"sentence"``. The same call after an interruption goes on from there;
        delete the folder when the result is saved.
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
        Model, base, revision, adapters, template and version, wrap, read_at, dtype, version.

    Raises
    ------
    KeyError
        If sentences or vectors of genes are not there; the message names the call that makes them.
    ValueError
        If the expression is not log-normalised (``"weighted"``), a checkpoint belongs to other data, or a cell's prompt
        is longer than the model's context (:class:`~cellhermes.model.PromptLengthError` names the cell).

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata)
    >>> ch.tl.embed_cells(adata)
    >>> adata.obsm["X_cellhermes"].shape[0]
    20
    """
    adata = _adata.resolve(data, mod)
    _adata.check_writable(adata)
    if method == "sentence":
        vectors, params = _of_sentences(adata, model, sentence_key, batch_size, checkpoint)
    elif method == "weighted":
        vectors, params = _of_genes(adata, model, genes_key, layer, use_raw=use_raw)
    else:
        msg = f"method={method!r} is not known; expected 'sentence' or 'weighted'."
        raise ValueError(msg)
    if n_empty := int(np.isnan(vectors[:, 0]).sum()):
        reason = "an empty sentence" if method == "sentence" else "no expressed gene with a vector"
        warnings.warn(f"{n_empty:,} of {adata.n_obs:,} cells have {reason} and get NaN.", UserWarning, stacklevel=2)
    adata.obsm[key_added] = vectors
    write_params(adata, key_added, {**params, "method": method})
    logger.info("%s cells embedded in obsm[%r] (%d dimensions).", f"{adata.n_obs:,}", key_added, vectors.shape[1])


def _of_sentences(
    adata: AnnData, model: str | Path | CellHermes, key: str, batch_size: int | None, checkpoint: str | Path | None
) -> tuple[np.ndarray, dict]:
    sentences = sentences_of(adata, key)
    model = as_model(model)
    about = {**provenance(model, template("cell")), "sentence_key": key}
    filled = np.flatnonzero([bool(s) for s in sentences])
    _check_lengths(model, sentences, filled, adata.obs_names)
    kept = Checkpoint(checkpoint, {**about, "block": BLOCK}, sentences)
    vectors = np.full((adata.n_obs, model.dim), np.nan, np.float32)
    starts = range(0, len(filled), BLOCK)
    quiet = {"disable": True} if len(starts) < 2 else {}  # a given False would beat $TQDM_DISABLE
    for i, start in enumerate(tqdm(starts, desc="cells", delay=2, unit_scale=BLOCK, **quiet)):
        rows = filled[start : start + BLOCK]
        found = kept.load(i)
        if found is None:
            found = model.embed(_prompts(sentences, rows), batch_size=batch_size)
            kept.save(i, found)
        vectors[rows] = found
    return vectors, about


def sentences_of(adata: AnnData, key: str) -> list[str]:
    """Sentences of all cells; ``""`` where a cell has none. Writing h5ad may have made the column categorical."""
    hint = "Run `ch.pp.cell_sentences(adata)` first, or pass `sentence_key=`."
    column = _adata.require_obs(adata, key, hint).astype(object)
    return column.where(column.notna(), "").astype(str).tolist()


def _prompts(sentences: Sequence[str], rows: np.ndarray) -> list[Prompt]:
    cell = template("cell")
    return [cell.fill(genes=sentences[row].split(" ")) for row in rows]


def _check_lengths(model: CellHermes, sentences: Sequence[str], filled: np.ndarray, names: pd.Index) -> None:
    """Find a cell that is too long before anything is computed. A text has at most as many tokens as bytes."""
    room = model.max_tokens - 64  # the template's own words and the turn markers
    risky = np.array([row for row in filled if len(sentences[row].encode()) > room], dtype=int)
    for start in range(0, len(risky), BLOCK):
        rows = risky[start : start + BLOCK]
        try:
            model.check(_prompts(sentences, rows))
        except PromptLengthError as error:
            row = rows[error.index]
            error.add_note(f"It is the sentence of cell {names[row]!r}, with {sentences[row].count(' ') + 1} genes.")
            raise


def _of_genes(
    adata: AnnData, model: str | Path | CellHermes, genes_key: str, layer: str | None, *, use_raw: bool
) -> tuple[np.ndarray, dict]:
    hint = "Run `ch.tl.embed_genes(adata)` first, or pass `genes_key=`."
    genes = np.asarray(_adata.require_varm(adata, genes_key, hint), dtype=np.float32)
    _adata.check_own_genes(adata, use_raw=use_raw)
    params = read_params(adata, genes_key.split(":")[0], name=GENE_PARAMS)
    name = model.card.name if isinstance(model, CellHermes) else str(model)
    if params and params["model"] != name:
        msg = (
            f"varm[{genes_key!r}] was made by model {params['model']!r}, but model={name!r} was passed. "
            "Pass the one that made it."
        )
        raise ValueError(msg)
    known = ~np.isnan(genes[:, 0])
    if not known.any():
        msg = f"varm[{genes_key!r}] has a vector for none of the {adata.n_vars:,} genes. {hint}"
        raise ValueError(msg)
    vectors = np.full((adata.n_obs, genes.shape[1]), np.nan, np.float32)
    for start, block in blocks(adata, layer, use_raw=use_raw, log_normalised=True):
        block = block[:, known]
        total = np.asarray(block.sum(1), dtype=np.float64).ravel()
        filled = total > 0
        means = (block @ genes[known].astype(np.float64))[filled] / total[filled, None]
        vectors[start : start + block.shape[0]][filled] = means
    return vectors, {**params, "genes_key": genes_key, "layer": layer, "use_raw": use_raw}
