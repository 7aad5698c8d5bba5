"""The gene mask: which genes may stand in a cell sentence."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import _adata
from .._entries import check_free, written
from .._gene_names import map_call, species_of
from .._keys import GENE_MASK, write_params
from .._symbols import human_symbols, is_ensembl_id
from ..text import Modality
from ..text._modality import PROTEIN_CODING

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from .._keys import Param

logger = logging.getLogger("cellhermes")

FEATURES = "feature_types"  # var, as scanpy names that column of 10x files
MIN_MATCHED = 0.5  # below, the names are probably not human symbols, and the sentences would be of what is left


def mask_genes(
    data: AnnData | MuData,
    *,
    gene_symbols: str | None = None,
    use_raw: bool = False,
    key_added: str = GENE_MASK,
    mod: str | None = None,
) -> None:
    """Mark the genes that may stand in a cell sentence.

    Mitochondrial and ribosomal protein genes are strong in every cell and say more about its state than about what it
    is; genes without a symbol, and genes that do not code for a protein, say little to a language model. The mask keeps
    a gene if its symbol

    - is a human symbol of Ensembl (GRCh38) with the biotype ``protein_coding``,
    - does not begin with ``MT-``,
    - does not begin with ``RPL`` or ``RPS``, where ``RPS6K*`` (kinases) and ``RPS19BP1`` (binds a ribosomal protein, is
      none) are kept. ``MRPL*`` and ``MRPS*``, the ribosome of the mitochondrion, are kept too.

    Features of another modality (``var["feature_types"]`` says ``Antibody Capture``) are no genes, whatever their name.
    Where several columns have one symbol, the column with the largest total is kept (the first, if totals are equal).
    Segments of immunoglobulins and T-cell receptors (``IGKC``, ``TRAC``) have biotypes of their own and are left out.
    To choose genes yourself, write any boolean column and pass its name as ``gene_mask`` to
    :func:`~cellhermes.pp.cell_sentences`.

    Parameters
    ----------
    data
        AnnData with human genes (those of other species: :func:`~cellhermes.pp.map_genes`), or MuData.
    gene_symbols
        Column of ``var`` with the symbols; default: what :func:`~cellhermes.pp.map_genes` wrote, else ``var_names``.
    use_raw
        Take symbols and totals from ``data.raw``; the mask is written there, if its genes are not those of the object.
    key_added
        Column to write.
    mod
        Modality to use, if ``data`` is a MuData.

    Returns
    -------
    Nothing; writes

    ``var[key_added]``, or ``raw.var[key_added]``
        bool: the gene may stand in a sentence.
    ``uns[key_added]["params"]``
        dict: the arguments and the version of cellhermes.

    Raises
    ------
    ValueError
        If ``var[key_added]`` is a mask of yours, under half of the names are human symbols, or no gene is left.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> ch.pp.mask_genes(adata)
    >>> adata.var.loc[["CD3E", "MT-CO1", "RPL3", "MALAT1"], "sentence_gene"].tolist()
    [True, False, False, False]
    """
    adata = _adata.writable(data, mod)
    _adata.check_not_empty(adata)
    var = _adata.var_slot(adata, use_raw=use_raw)
    check_free(adata, key_added, [f"{var}/{key_added}"])
    names = _adata.symbols(adata, gene_symbols, use_raw=use_raw)
    names = names_of_modality(adata, names, Modality.load("rna"), use_raw=use_raw)
    mask = gene_mask(names, _adata.expression(adata, use_raw=use_raw))
    write_mask(adata, key_added, mask, {"gene_symbols": gene_symbols, "use_raw": bool(use_raw)})
    logger.info("mask_genes: stored in %s[%r]", var, key_added)


def write_mask(adata: AnnData, key: str, mask: np.ndarray, params: dict[str, Param | None]) -> None:
    """Store a mask that the rules made, in var of raw if it is of other genes."""
    slot = _adata.var_slot(adata, use_raw=bool(params["use_raw"]))
    with written(adata, key, [f"{slot}/{key}"]):
        (adata.var if slot == "var" else adata.raw.var)[key] = mask
        write_params(adata, key, params)


def modality_told(adata: AnnData, mod: str | None, given: str | None, *, use_raw: bool) -> Modality:
    """Tell what the words of sentences are: as given, else as feature types or the name in the MuData say, else genes.

    Genes stand before others where an object has several feature types, as 10x files of antibodies and genes have.
    """
    if given is not None:
        return Modality.load(given)
    var = _adata.var_of(adata, use_raw=use_raw)
    types = var[FEATURES].dropna().astype(str).unique() if FEATURES in var else []
    known = [*map(Modality.load, Modality.names())]
    by_type = [one for one in known if any(re.search(one.features, name) for name in types)]
    named = [one for one in known if mod is not None and re.search(one.features, mod)]
    return (by_type or named or [Modality.load("rna")])[0]


def names_of_modality(adata: AnnData, names: np.ndarray, of: Modality, *, use_raw: bool) -> np.ndarray:
    """Names of features; ``""`` for those whose feature type is another modality's (antibodies beside genes)."""
    var = _adata.var_of(adata, use_raw=use_raw)
    if FEATURES not in var:
        return names
    types = var[FEATURES].astype(object).fillna("").astype(str)
    others = [one.features for one in map(Modality.load, Modality.names()) if one != of]
    elsewhere = [name for name in types.unique() if any(re.search(pattern, name) for pattern in others)]
    return np.where(types.isin(elsewhere), "", names)


def default_mask(names: np.ndarray, matrix: object, of: Modality) -> np.ndarray:
    """Which features may stand in a sentence, by the rule of their modality; of equal names one column."""
    if of.mask == PROTEIN_CODING:
        return gene_mask(names, matrix)
    keep = np.array(of.keeps(names), bool)
    mask = np.zeros(len(names), bool)
    mask[_adata.one_column_each(np.where(keep, names, ""), matrix)] = True
    if not mask.any():
        msg = f"none of {len(names):,} features may stand in a sentence of {of.nouns} (e.g. {[*names[:3]]}). Pass your "
        msg += "own mask as gene_mask=."
        raise ValueError(msg)
    return mask


def gene_mask(names: np.ndarray, matrix: object) -> np.ndarray:
    """Apply the rules of :func:`mask_genes` to symbols; the matrix is read only if symbols occur twice."""
    human = human_symbols()
    _check_matched(names, human.known)
    symbols = pd.Series(names)
    drop = {
        "without a human symbol": ~symbols.isin(human.known),
        "not protein coding": ~symbols.isin(human.protein_coding),
        "mitochondrial": symbols.str.startswith("MT-"),
        "ribosomal protein": symbols.str.match(r"RP[LS](?!6K|19BP1$)"),
    }
    keep = np.ones(len(names), bool)
    dropped = {}
    for reason, is_dropped in drop.items():
        dropped[reason] = int((keep & is_dropped).sum())
        keep &= ~is_dropped.to_numpy()
    once = np.zeros(len(names), bool)
    once[_adata.one_column_each(np.where(keep, names, ""), matrix)] = True
    dropped["second column of a symbol"] = int(keep.sum() - once.sum())
    counts = ", ".join(f"{n:,} {reason}" for reason, n in dropped.items() if n)
    logger.info("gene mask: kept %s of %s genes; dropped %s", f"{once.sum():,}", f"{len(names):,}", counts or "none")
    if not once.any():
        msg = f"no gene of {len(names):,} is left in the mask; dropped {counts}. Pass your own mask as gene_mask=."
        raise ValueError(msg)
    return once


def _check_matched(names: np.ndarray, known: frozenset[str]) -> None:
    """Refuse names that are mostly no human symbols; genes with an Ensembl id or nothing for a name do not count."""
    named = [name for name in names if name and not is_ensembl_id(name)]
    unknown = [name for name in named if name not in known]
    n_matched = len(named) - len(unknown)
    if named and n_matched >= MIN_MATCHED * len(named):
        return
    if species := species_of(named):
        written_as = f"They are written as {species} genes are: {map_call(species)}. Or pass"
    else:
        written_as = "Older names become current ones by `ch.pp.map_genes(adata)`. Or pass"
    fault = (
        f"only {n_matched:,} of {len(named):,} named genes ({n_matched / max(len(named), 1):.0%}) have a human symbol, "
        f"unlike {[str(name) for name in unknown[:3]]}; expected at least {MIN_MATCHED:.0%}. {written_as}"
    )
    msg = f"{fault} the var column with human symbols as gene_symbols=, or to `ch.pp.cell_sentences` as gene_mask= "
    msg += "a boolean var column of your own."
    raise ValueError(msg)


def stored_mask(adata: AnnData, key: str, *, use_raw: bool) -> np.ndarray | None:
    """Return the mask in var (of raw, if that has other genes), or None where the default one has to be made."""
    own = _adata.has_own_genes(adata, use_raw=use_raw)
    var, where = _adata.var_of(adata, use_raw=not own), "adata.var" if own else "adata.raw.var"
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
