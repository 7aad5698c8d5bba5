"""Vectors of genes: alone, or in the context of cells of a group."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import _adata
from .._entries import check_free, written
from .._groups import groups_of
from .._keys import EMBEDDING, GENE_MASK, N_ORDERS, SENTENCE, Param, modality_of, read_params, unseen_key
from .._vectors import write_groups_of, write_plain
from ..model import CellHermes, PromptLengthError
from ..text import Template
from ..text._template import in_words
from ._contexts import Context, Source, check_context
from ._embed_cells import sentences_of
from ._model import as_model, dim_of, provenance

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger("cellhermes")

BLOCK = 2_000  # genes embedded at once: their vectors are all that is in memory beside the result


def embed_genes(
    data: "AnnData | MuData",
    model: str | Path | CellHermes = "mini",
    *,
    genes: Sequence[str] | None = None,
    groupby: str | None = None,
    groups: Sequence[str] | None = None,
    context: Context = "medoid",
    sentence_key: str = SENTENCE,
    gene_symbols: str | None = None,
    batch_size: int | None = None,
    rng: int | np.random.Generator | None = 0,
    key_added: str = EMBEDDING,
    mod: str | None = None,
) -> None:
    """Embed genes with a language model, alone or as seen in the cells of a group.

    Without ``groupby`` the model reads ``Gene CD3E``. With it, each gene is read behind the sentence of a cell that
    stands for its group: ``A cell with genes ranked by expression: MALAT1 TMSB4X .... In this cell, Gene CD3E`` (the
    paper's contextual embeddings). The sentence is computed once for all genes.

    Parameters
    ----------
    data
        Annotated data. With ``groupby`` it needs cell sentences (:func:`cellhermes.pp.cell_sentences`).
    model
        A name of :func:`cellhermes.cache.list`, a folder, a hub id, or a loaded :class:`~cellhermes.CellHermes`.
    genes
        Genes to embed, by symbol or ``var_names``; None takes the genes that may stand in sentences
        (:func:`cellhermes.pp.mask_genes`).
    groupby
        Column of ``obs`` with the groups.
    groups
        Groups to embed genes for; None takes all.
    context
        What stands for a group: ``"medoid"``, the cell whose expression has the highest cosine similarity to the
        group's mean (the paper takes one cell); ``"pseudobulk"``, the ranked mean profile; or a number: the mean of the
        vectors behind as many cells, drawn from the group. Counts are scaled to 10,000 a cell and logarithmised for
        this, so that they give the same context as log-normalised values.
    sentence_key
        Column of ``obs`` with the sentences, in one order of ties; ``"cell_sentence_order_2"`` has another. Medoids and
        mean profiles are computed from the expression, counts or log-normalised, that
        :func:`cellhermes.pp.cell_sentences` made them of. If that was ``raw``, its genes are embedded, those included
        that only ``raw`` has.
    gene_symbols
        Column of ``var`` with gene symbols; None takes what the sentences were made with, else ``var_names``.
    batch_size
        Prompts per forward pass; None chooses from the memory that is free.
    rng
        Seed or generator of the cells that are drawn.
    key_added
        Entry of ``varm`` and ``uns`` that is written.
    mod
        Modality of a MuData.

    Returns
    -------
    Nothing; writes

    ``varm[key_added]`` : (genes, dim) float32
        Without ``groupby``: the vectors, NaN for genes that were not asked for. It has a row for every gene of the
        object: for a few genes of a large object, work on ``adata[:, genes].copy()``. Where sentences are of a ``raw``
        with other genes, the vectors go into ``uns`` instead.
    ``uns[key_added]["vectors"]``
        With ``groupby``, or of ``raw``: for each call an array ``values`` (groups, genes, dim) float32 of what was
        asked for, with ``groups`` (``""`` without), ``genes`` (symbols) and, of groups, ``n_expressing`` (groups,
        genes), the number of the group's cells that express the gene. Read it by :func:`cellhermes.get.gene_vectors`. A
        second call adds its groups, or replaces those of the same name.
    ``uns[key_added]["groups"]`` : DataFrame
        A row for each group, and one with the label ``""`` for vectors without groups: ``label``, ``array`` and ``row``
        of its vectors, its ``groupby``, ``n_in_group`` (cells with a sentence), and how the vectors were made: model
        with the hash of its content, template, wrap, read_at, number format, ``context``, ``n_cells``, expression, and
        how the sentences were made. Groups that differ in that are not compared.
    ``uns[key_added]["contexts"]`` : DataFrame
        With ``groupby``: ``label``, ``cell`` and ``sentence`` of each context.
    ``uns[key_added]["gene_params"]`` : dict
        The same of the last call, with its seed and the version.
    ``var[f"{key_added}_unseen"]`` : bool
        Genes that occur in none of the model's training data, so that their vectors mean nothing; a warning in the log
        counts them. Written only for models that list such genes, as ``"mini"`` does.

    Raises
    ------
    KeyError
        If a column is missing, or a group or a gene is not in the data.
    ValueError
        If ``varm[key_added]`` is yours, ``groups`` is empty, a group has no cell with a sentence, or the expression
        holds negative values, NaN or infinity.
    MemoryError
        If the vectors are larger than the memory of this machine; their size is logged before the model is loaded.

    Warns
    -----
    UserWarning
        If the expression is neither counts nor log-normalised, or a group has fewer cells than are to be drawn.

    See Also
    --------
    cellhermes.get.gene_vectors, cellhermes.tl.gene_network

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=60)
    >>> ch.pp.cell_sentences(adata)
    >>> ch.tl.embed_genes(adata, genes=["CD3E", "MS4A1"], groupby="cell_type", groups=["B"])
    >>> ch.get.gene_vectors(adata).index.tolist()
    [('CD3E', 'B'), ('MS4A1', 'B')]
    """
    adata = _adata.writable(data, mod)
    entries = [f"var/{unseen_key(key_added)}", *([f"varm/{key_added}"] if groupby is None else [])]
    check_free(adata, key_added, entries)
    read, of = read_params(adata, sentence_key), modality_of(adata, sentence_key)
    gene_symbols = gene_symbols or read.get("gene_symbols") or None
    gene_mask = str(read.get("gene_mask") or GENE_MASK)
    if groupby is None:
        use_raw = _adata.has_words_of_raw(adata, sentence_key)
        symbols = _adata.symbols(adata, gene_symbols, use_raw=use_raw)
        columns = _columns(adata, symbols, genes, gene_symbols, gene_mask, use_raw=use_raw)
        asked, where = symbols[columns], f"{'uns' if use_raw else 'varm'}[{key_added!r}]"
        rows, n = (np.arange(len(asked)), len(asked)) if use_raw else (columns, adata.n_vars)
        values = _room((n, dim_of(model)), where)
        values[:] = np.nan
        model, prompt = as_model(model), Template.load(in_words("gene", of))
        for some in _parts(np.arange(len(asked))):
            prompts = [prompt.fill(gene=symbol) for symbol in asked[some]]
            values[rows[some]] = model.embed(prompts, batch_size=batch_size)
        params = {**provenance(model, prompt), "gene_symbols": gene_symbols, "use_raw": use_raw}
        with written(adata, key_added, entries):
            write_plain(adata, key_added, values, params, asked if use_raw else None)
            _flag_unseen(adata, model, asked, gene_symbols, key_added)
        logger.info("%s genes embedded in %s.", f"{len(columns):,}", where)
        return
    grouping = groups_of(data, groupby, groups, mod=mod)
    labels = grouping.labels
    check_context(context)
    source = _source(adata, sentence_key, read, gene_symbols, gene_mask)
    columns = _columns(adata, source.symbols, genes, gene_symbols, gene_mask, use_raw=source.use_raw)
    contexts = source.contexts(grouping, context, np.random.default_rng(rng))
    values = _room((len(labels), len(columns), dim_of(model)), f"uns[{key_added!r}]['vectors']")
    model, prompt = as_model(model), Template.load(in_words("gene_in_cell", of))
    asked = source.symbols[columns]
    for row, label in enumerate(labels):
        behind = contexts.rows[contexts.rows["label"] == label]
        for some in _parts(np.arange(len(asked))):
            values[row, some] = _behind(model, prompt, asked[some], behind, batch_size)
    stands, n_cells = (context, 1) if isinstance(context, str) else ("cells", int(context))
    params = {**provenance(model, prompt), "gene_symbols": gene_symbols, "context": stands, "n_cells": n_cells}
    params |= _about(source, read, sentence_key)
    array = {"values": values, "genes": asked, "groups": np.array(labels, object)}
    array["n_expressing"] = contexts.n_expressing[:, columns]
    table = pd.DataFrame({"label": labels, "groupby": groupby, "n_in_group": contexts.n_in_group})
    seed = int(rng) if isinstance(rng, int | np.integer) else "unknown"
    with written(adata, key_added, entries):
        write_groups_of(adata, key_added, array, table, contexts.rows, params, {"groupby": groupby, "seed": seed})
        _flag_unseen(adata, model, asked, gene_symbols, key_added)
    logger.info("%s genes embedded in %d groups, uns[%r]['vectors'].", f"{len(asked):,}", len(labels), key_added)


def _room(shape: tuple[int, ...], where: str) -> np.ndarray:
    """Memory for vectors, whose size is told."""
    size = 4 * np.prod(shape, dtype=float)
    text = f"{' x '.join(f'{n:,}' for n in shape)} numbers ({size / 1e9:,.3g} GB)"
    if "SC_PHYS_PAGES" in os.sysconf_names and size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        msg = f"{where} would hold {text}, more than the memory of this machine. Pass fewer genes= or groups=."
        raise MemoryError(msg)
    logger.info("%s will hold %s.", where, text)
    return np.empty(shape, np.float32)


def _parts(columns: np.ndarray) -> list[np.ndarray]:
    return [columns[start : start + BLOCK] for start in range(0, len(columns), BLOCK)]


def _flag_unseen(adata: AnnData, model: CellHermes, asked: np.ndarray, gene_symbols: str | None, key: str) -> None:
    """Say which of the embedded genes the model has never read, where it knows that."""
    if not model.unseen_genes:
        adata.var.drop(columns=unseen_key(key), errors="ignore", inplace=True)  # of another model
        return
    unseen = [symbol for symbol in asked if symbol in model.unseen_genes]
    adata.var[unseen_key(key)] = np.isin(_adata.symbols(adata, gene_symbols).astype(str), unseen)
    if unseen:
        logger.warning(
            "%s of %s genes occur in none of the training data of %s, so their vectors mean nothing: %s. They are "
            "flagged in var[%r].",
            f"{len(unseen):,}", f"{len(asked):,}", model.card.name, ", ".join(unseen[:5]), unseen_key(key),
        )  # fmt: skip


def _columns(
    adata: AnnData,
    symbols: np.ndarray,
    genes: Sequence[str] | None,
    gene_symbols: str | None,
    gene_mask: str,
    *,
    use_raw: bool,
) -> np.ndarray:
    """Columns of the genes to embed, one for each symbol."""
    if genes is None:
        genes = symbols[_mask(adata, gene_mask, use_raw=use_raw)]
    genes = _adata.symbols_of_genes(adata, genes, gene_symbols, use_raw=use_raw)
    of_symbol = _adata.columns_of_symbols(adata, gene_symbols, gene_mask=gene_mask, use_raw=use_raw)
    columns = _adata.columns_of_genes(of_symbol, genes)
    if len(columns) == 0:
        msg = f"No genes to embed: genes= is empty, or var[{gene_mask!r}] is False everywhere."
        raise ValueError(msg)
    return columns


def _mask(adata: AnnData, gene_mask: str, *, use_raw: bool) -> np.ndarray:
    """Genes that may stand in sentences: of the object, or of raw where that has others."""
    mask = _adata.mask_of(adata, gene_mask, use_raw=use_raw)
    if mask is None:
        var, how = ("adata.raw.var", "adata, use_raw=True") if use_raw else ("adata.var", "adata")
        msg = f"`{var}[{gene_mask!r}]` not found. Run `ch.pp.mask_genes({how})` or `ch.pp.cell_sentences({how})` first."
        raise KeyError(msg)
    return mask.to_numpy(bool)


def _source(
    adata: AnnData,
    sentence_key: str,
    read: dict[str, Param],
    gene_symbols: str | None,
    gene_mask: str,
) -> Source:
    """Sentences, and the expression that decides which of them stands for a group."""
    sentences = np.array(sentences_of(adata, sentence_key), dtype=object)
    layer, use_raw = read.get("layer") or None, bool(read.get("use_raw", False))
    symbols = _adata.symbols(adata, gene_symbols, use_raw=use_raw)
    mask = _mask(adata, gene_mask, use_raw=use_raw)
    return Source(adata, sentences, symbols, mask, layer, use_raw, int(read.get("n_genes", 100)))


def _about(source: Source, read: dict[str, Param], sentence_key: str) -> dict[str, Param | None]:
    """Return what contexts depend on besides the model."""
    masked = " ".join(sorted(source.symbols[source.mask].tolist()))
    # a context is read in the first order of ties, however many there are
    sentences = {f"sentence_{name}": value for name, value in read.items() if name not in ("version", N_ORDERS)}
    return {
        "layer": source.layer,
        "use_raw": source.use_raw,
        "mask_sha256": hashlib.sha256(masked.encode()).hexdigest(),
        "sentence_key": sentence_key,
        **sentences,
    }


def _behind(
    model: CellHermes, prompt: Template, symbols: np.ndarray, contexts: pd.DataFrame, batch_size: int | None
) -> np.ndarray:
    """(genes, dim) mean of the genes' vectors behind each context."""
    total = 0.0
    for cell, sentence in zip(contexts["cell"], contexts["sentence"], strict=True):
        listed = sentence.split(" ")
        # where the sentence's genes stand is not needed here, and takes as much memory as a vector
        prompts = [replace(prompt.fill(genes=listed, gene=symbol), spans={}) for symbol in symbols]
        try:
            vectors = model.embed(prompts, batch_size=batch_size)
        except PromptLengthError as error:
            error.add_note(f"It is the sentence of {cell or 'a mean profile'}, with {len(listed)} genes.")
            raise
        vectors /= len(contexts)
        total += vectors
    return total
