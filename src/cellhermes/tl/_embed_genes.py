"""Vectors of genes: alone, or in the context of cells of a group."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from .. import _adata
from .._keys import (
    CONTEXTS,
    EMBEDDING,
    GENE_MASK,
    GENE_PARAMS,
    SENTENCE,
    group_keys,
    read_params,
    write_groups,
    write_params,
)
from ..model import CellHermes, PromptLengthError
from ..text import template
from ..text._cell import cell_sentences, vocabulary
from ._embed_cells import sentences_of
from ._expression import blocks
from ._model import as_model, provenance

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger("cellhermes")

Context = Literal["medoid", "pseudobulk", "cells"]


def embed_genes(
    data: "AnnData | MuData",
    model: str | Path | CellHermes = "mini",
    *,
    genes: Sequence[str] | None = None,
    groupby: str | None = None,
    groups: Sequence[str] | None = None,
    context: Context = "medoid",
    n_cells: int = 10,
    sentence_key: str = SENTENCE,
    gene_mask: str = GENE_MASK,
    gene_symbols: str | None = None,
    layer: str | None = None,
    use_raw: bool | None = None,
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
        A name of :func:`cellhermes.model.list_models`, a folder, a hub id, or a loaded :class:`~cellhermes.CellHermes`.
    genes
        Symbols to embed; None takes the genes of ``var[gene_mask]``.
    groupby
        Column of ``obs`` with the groups.
    groups
        Groups to embed genes for; None takes all.
    context
        What stands for a group: ``"medoid"``, the cell whose expression has the highest cosine similarity to the
        group's mean (the paper takes one cell); ``"pseudobulk"``, the ranked mean profile; ``"cells"``, the mean of the
        vectors behind
        ``n_cells`` cells drawn from the group.
    n_cells
        Cells drawn for ``context="cells"``.
    sentence_key
        Column of ``obs`` with the sentences.
    gene_mask
        Boolean column of ``var`` with the genes that may stand in sentences.
    gene_symbols
        Column of ``var`` with gene symbols; None takes what the sentences were made with, else ``var_names``.
    layer, use_raw
        Expression that medoids and mean profiles are computed from; None takes what the sentences were made with.
    batch_size
        Prompts per forward pass; None chooses from the memory that is free.
    rng
        Seed or generator for ``context="cells"``.
    key_added
        Entry of ``varm`` and ``uns`` that is written.
    mod
        Modality of a MuData.

    Returns
    -------
    Nothing; writes

    ``varm[key_added]`` : (genes, dim) float32
        Without ``groupby``: the vectors, NaN for genes that were not asked for.
    ``varm[f"{key_added}:{group}"]`` : (genes, dim) float32
        With ``groupby``: the same for each group; ``/`` in a group's name becomes ``_``.
    ``uns[key_added]["groups"]`` : DataFrame
        With ``groupby``: true ``label`` and varm ``key`` of each group, its ``groupby``, ``context`` and ``n_cells``.
    ``uns[key_added]["contexts"]`` : DataFrame
        With ``groupby``: ``label``, ``cell`` and ``sentence`` of each context.
    ``uns[key_added]["gene_params"]`` : dict
        Model, base, revision, adapters, template and version, wrap, read_at, dtype, quantize, seed, version.
    ``var[f"{key_added}_unseen"]`` : bool
        Genes that occur in none of the model's training data, so that their vectors mean nothing; a warning in the log
        counts them. Written only for models that list such genes, as ``"mini"`` does.

    Raises
    ------
    KeyError
        If a column is missing or a gene is not in the data.
    ValueError
        If a group is unknown or has no cell with a sentence, or two groups would share a key.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=60)
    >>> ch.pp.cell_sentences(adata)
    >>> ch.tl.embed_genes(adata, genes=["CD3E", "MS4A1"], groupby="cell_type", groups=["B"])
    >>> adata.varm["X_cellhermes:B"].shape[0] == adata.n_vars
    True
    """
    adata = _adata.resolve(data, mod)
    _adata.check_writable(adata)
    made = read_params(adata, sentence_key)
    gene_symbols = gene_symbols or made.get("gene_symbols") or None
    symbols = _adata.symbols(adata, gene_symbols)
    columns = _columns(adata, symbols, genes, gene_mask)
    if groupby is None:
        model = as_model(model)
        filled = [template("gene").fill(gene=symbol) for symbol in symbols[columns]]
        adata.varm[key_added] = _scatter(model.embed(filled, batch_size=batch_size), columns, adata.n_vars)
        params = {**provenance(model, template("gene")), "gene_symbols": gene_symbols}
        write_params(adata, key_added, params, name=GENE_PARAMS)
        _flag_unseen(adata, model, symbols, columns, key_added)
        logger.info("%s genes embedded in varm[%r].", f"{len(columns):,}", key_added)
        return
    labels = _labels(adata, groupby, groups)
    keys = group_keys(key_added, labels)
    layer = layer or made.get("layer") or None
    use_raw = bool(made.get("use_raw", False)) if use_raw is None else use_raw
    source = _Source(adata, sentence_key, gene_mask, symbols, layer, use_raw, int(made.get("n_genes", 100)))
    contexts = source.contexts(groupby, labels, context, n_cells, np.random.default_rng(rng))
    model = as_model(model)
    for label, rows in contexts.groupby("label", sort=False):
        vectors = _behind(model, symbols[columns], rows, batch_size)
        adata.varm[keys[label]] = _scatter(vectors, columns, adata.n_vars)
    table = pd.DataFrame(
        {
            "label": labels,
            "key": [keys[label] for label in labels],
            "groupby": groupby,
            "context": context,
            "n_cells": contexts["label"].value_counts().reindex(labels).to_numpy(),
        }
    )
    seed = int(rng) if isinstance(rng, int | np.integer) else "unknown"
    params = {**provenance(model, template("gene_in_cell")), "gene_symbols": gene_symbols}
    params |= {"groupby": groupby, "context": context, "layer": layer, "use_raw": use_raw, "seed": seed}
    write_params(adata, key_added, params, name=GENE_PARAMS)
    write_groups(adata, key_added, table)
    write_groups(adata, key_added, contexts, name=CONTEXTS)
    _flag_unseen(adata, model, symbols, columns, key_added)
    logger.info(
        "%s genes embedded in %d groups, varm[%r] and so on.", f"{len(columns):,}", len(labels), keys[labels[0]]
    )


def _flag_unseen(adata: AnnData, model: CellHermes, symbols: np.ndarray, columns: np.ndarray, key: str) -> None:
    """Say which of the embedded genes the model has never read, where it knows that."""
    if not model.unseen_genes:
        return
    flags = np.zeros(adata.n_vars, bool)
    flags[columns] = [symbol in model.unseen_genes for symbol in symbols[columns]]
    adata.var[f"{key}_unseen"] = flags
    if flags.any():
        logger.warning(
            "%s of %s genes occur in none of the training data of %s, so their vectors mean nothing: %s. They are "
            "flagged in var[%r].",
            f"{flags.sum():,}", f"{len(columns):,}", model.card.name, ", ".join(symbols[flags][:5]), f"{key}_unseen",
        )  # fmt: skip


def _columns(adata: AnnData, symbols: np.ndarray, genes: Sequence[str] | None, gene_mask: str) -> np.ndarray:
    """Columns of the genes to embed."""
    if genes is None:
        hint = "Run `ch.pp.mask_genes(adata)` or `ch.pp.cell_sentences(adata)` first, or pass genes=."
        columns = np.flatnonzero(_adata.require_var(adata, gene_mask, hint).to_numpy(bool))
    else:
        if isinstance(genes, str):
            msg = f"genes is the single string {genes!r}; expected a list of gene symbols."
            raise TypeError(msg)
        if missing := list(dict.fromkeys(g for g in genes if g not in set(symbols))):
            msg = f"{len(missing):,} of {len(genes):,} genes are not in the data: {', '.join(map(str, missing[:5]))}."
            raise KeyError(msg)
        columns = np.flatnonzero(np.isin(symbols.astype(str), np.asarray(genes, dtype=str)))
    if len(columns) == 0:
        msg = f"No genes to embed: genes= is empty, or var[{gene_mask!r}] is False everywhere."
        raise ValueError(msg)
    return columns


def _labels(adata: AnnData, groupby: str, groups: Sequence[str] | None) -> list[str]:
    """The groups to embed, each of which has cells."""
    column = _adata.require_obs(adata, groupby, f"Its columns are {list(adata.obs.columns)}.")
    if isinstance(groups, str):
        msg = f"groups is the single string {groups!r}; expected a list of groups."
        raise TypeError(msg)
    present = [str(label) for label in pd.unique(column.dropna())]
    if groups is None:
        return sorted(present)
    if unknown := [str(group) for group in groups if str(group) not in present]:
        msg = f"No cells in groups {unknown} of obs[{groupby!r}]; the groups with cells are {sorted(present)}."
        raise ValueError(msg)
    return list(dict.fromkeys(str(group) for group in groups))


class _Source:
    """Where the sentences that stand for groups come from."""

    def __init__(
        self,
        adata: AnnData,
        sentence_key: str,
        gene_mask: str,
        symbols: np.ndarray,
        layer: str | None,
        use_raw: bool,  # noqa: FBT001
        n_genes: int,
    ) -> None:
        self.adata, self.symbols, self.n_genes = adata, symbols, n_genes
        self.sentences = np.array(sentences_of(adata, sentence_key), dtype=object)
        self.gene_mask, self.layer, self.use_raw = gene_mask, layer, use_raw

    def contexts(
        self, groupby: str, labels: list[str], context: Context, n_cells: int, rng: np.random.Generator
    ) -> pd.DataFrame:
        """One row a context: label, cell (``""`` for a mean profile), sentence."""
        if context not in ("medoid", "pseudobulk", "cells"):
            msg = f"context={context!r} is not known; expected 'medoid', 'pseudobulk' or 'cells'."
            raise ValueError(msg)
        filled = self.sentences != ""
        of_cell = self.adata.obs[groupby].astype(object).where(self.adata.obs[groupby].notna(), None)
        codes = pd.Categorical([None if c is None else str(c) for c in of_cell], categories=labels).codes.copy()
        codes[~filled] = -1
        if empty := [label for i, label in enumerate(labels) if not (codes == i).any()]:
            msg = f"Every cell of groups {empty} has an empty sentence; leave them out with groups=."
            raise ValueError(msg)
        if context == "cells":
            if n_cells < 1:
                msg = f"n_cells={n_cells} must be at least 1."
                raise ValueError(msg)
            drawn = [rng.permutation(np.flatnonzero(codes == i))[:n_cells] for i in range(len(labels))]
            if short := sum(len(cells) < n_cells for cells in drawn):
                warnings.warn(
                    f"{short} of {len(labels)} groups have fewer than n_cells={n_cells} cells; all are taken.",
                    stacklevel=3,
                )
            return self._frame(labels, [np.sort(cells) for cells in drawn])
        means = self._means(codes, len(labels))
        if context == "medoid":
            return self._frame(labels, self._medoids(codes, means))
        words = vocabulary(list(self.symbols), self._mask())
        ranked = cell_sentences(means, words, self.n_genes)
        return pd.DataFrame({"label": labels, "cell": "", "sentence": ranked})

    def _frame(self, labels: list[str], rows: Sequence[np.ndarray]) -> pd.DataFrame:
        at = np.concatenate(rows)
        return pd.DataFrame(
            {
                "label": np.repeat(labels, [len(r) for r in rows]).astype(object),
                "cell": self.adata.obs_names[at].astype(str).to_numpy(object),
                "sentence": self.sentences[at],
            }
        )

    def _mask(self) -> np.ndarray:
        hint = "Run `ch.pp.mask_genes(adata)` first, or pass `gene_mask=`."
        return _adata.require_var(self.adata, self.gene_mask, hint).to_numpy(bool)

    def _blocks(self) -> "object":
        _adata.check_own_genes(self.adata, use_raw=self.use_raw)
        return blocks(self.adata, self.layer, use_raw=self.use_raw, log_normalised=False)

    def _means(self, codes: np.ndarray, n_groups: int) -> np.ndarray:
        """(groups, genes) mean expression, 0 outside the mask."""
        sums = np.zeros((n_groups, self.adata.n_vars))
        for start, block in self._blocks():
            of_block = codes[start : start + block.shape[0]]
            rows = np.flatnonzero(of_block >= 0)
            member = sparse.csr_matrix((np.ones(len(rows)), (of_block[rows], rows)), (n_groups, block.shape[0]))
            sums += (member @ block).toarray()
        return sums * self._mask() / np.bincount(codes[codes >= 0], minlength=n_groups)[:, None]

    def _medoids(self, codes: np.ndarray, means: np.ndarray) -> list[np.ndarray]:
        """Cell of each group with the highest cosine similarity to the group's mean; the first among equals."""
        best = np.full(len(means), -np.inf)
        medoid = np.zeros(len(means), dtype=int)
        mask = self._mask()
        for start, block in self._blocks():
            of_block = codes[start : start + block.shape[0]]
            block = block[:, mask].astype(np.float64)
            norm = np.sqrt(np.asarray(block.multiply(block).sum(1)).ravel())
            similarity = (block @ means[:, mask].T) / np.maximum(norm, 1e-300)[:, None]
            for group in np.unique(of_block[of_block >= 0]):
                rows = np.flatnonzero(of_block == group)
                row = rows[np.argmax(similarity[rows, group])]
                if similarity[row, group] > best[group]:
                    best[group], medoid[group] = similarity[row, group], start + row
        return [np.array([row]) for row in medoid]


def _behind(model: CellHermes, symbols: np.ndarray, contexts: pd.DataFrame, batch_size: int | None) -> np.ndarray:
    """(genes, dim) mean of the genes' vectors behind each context."""
    fill = template("gene_in_cell").fill
    total = np.zeros((len(symbols), model.dim))
    for cell, sentence in zip(contexts["cell"], contexts["sentence"], strict=True):
        listed = sentence.split(" ")
        try:
            total += model.embed([fill(genes=listed, gene=symbol) for symbol in symbols], batch_size=batch_size)
        except PromptLengthError as error:
            error.add_note(f"It is the sentence of {cell or 'a mean profile'}, with {len(listed)} genes.")
            raise
    return (total / len(contexts)).astype(np.float32)


def _scatter(vectors: np.ndarray, columns: np.ndarray, n_vars: int) -> np.ndarray:
    out = np.full((n_vars, vectors.shape[1]), np.nan, np.float32)
    out[columns] = vectors
    return out
