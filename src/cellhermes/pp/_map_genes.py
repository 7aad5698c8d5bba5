"""Human symbols of the genes of an object: from ids, older names, and genes of other species."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import pandas as pd

from .. import _adata
from .._entries import check_free, is_ours, written
from .._gene_names import AMBIGUOUS, HOW, SPECIES, UNKNOWN, human_meanings
from .._keys import GENE_MASK, HUMAN_SYMBOL, REPORT, write_params
from ..text import Modality
from ._genes import names_of_modality

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from .._gene_names import Species

logger = logging.getLogger("cellhermes")

N_EXAMPLES = 5


def map_genes(
    data: AnnData | MuData,
    species: Species = "human",
    *,
    gene_symbols: str | None = None,
    paralogues: Literal["drop", "keep"] = "drop",
    key_added: str = HUMAN_SYMBOL,
    mod: str | None = None,
) -> None:
    """Write the current human symbol of each gene; all of cellhermes reads that column from then on.

    A name is looked up as it is, then as an Ensembl id (a version such as ``.14`` is ignored), as a previous symbol and
    as an alias. Names that were made unique are recognised: ``GNLY-1`` of ``var_names_make_unique`` where ``GNLY`` is
    there too, ``MATR3_ENSG00000015479`` of CELLxGENE. At last, letters of the other case are tried. Genes of another
    species get the symbol of their human orthologue.

    A name that may mean several human genes is ambiguous and gets no symbol. Nor do, by default, genes that share one
    human orthologue; but where one of them is called as the orthologue is (``Gapdh``, beside its copies), it alone has
    that symbol.

    Parameters
    ----------
    data
        AnnData, or MuData.
    species
        Whose genes they are: ``"human"``, ``"mouse"`` and ``"rat"`` by symbols, synonyms or Ensembl ids; ``"rhesus"``,
        ``"cynomolgus"`` and ``"pig"`` by symbols.
    gene_symbols
        Column of ``var`` with the names; default: ``var_names``.
    paralogues
        What becomes of genes of another species that share their human orthologue: ``"drop"`` leaves them without a
        symbol, ``"keep"`` gives it to all of them. Of several columns with one symbol, cellhermes reads the one with
        the largest total. To add them up, see the examples.
    key_added
        Column to write. One of another name is read where it is passed as ``gene_symbols=``.
    mod
        Modality to use, if ``data`` is a MuData.

    Returns
    -------
    Nothing; writes

    ``var[key_added]``
        The human symbol of each gene; ``""`` where it has none. In ``data.raw.var`` too, if there is a ``raw``.
    ``uns[key_added]["report"]``
        :class:`~pandas.DataFrame`: how the genes were mapped. A row for each way; ``n_genes``, and some ``examples``.
    ``uns[key_added]["params"]``
        dict: the arguments and the version of cellhermes.

    A mask that :func:`~cellhermes.pp.mask_genes` made of the names before is removed, and made anew when it is needed.

    Raises
    ------
    ValueError
        If no gene is mapped, or ``var[key_added]`` is a column of yours.
    KeyError
        If ``gene_symbols`` is no column of ``var``.

    Notes
    -----
    Tables: HGNC (CC0) for human names and for the orthologues of mouse and rat; MGI and RGD (CC BY 4.0) for the names
    of mouse and rat genes; GENCODE 44 for human ids; Ensembl 110 for the other species.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> adata.var_names = adata.var_names.str.capitalize()  # as the symbols of mouse genes are written
    >>> ch.pp.map_genes(adata, "mouse")
    >>> adata.var["human_symbol"][["Cd3e", "Ms4a1"]].tolist()
    ['CD3E', 'MS4A1']
    >>> ch.pp.cell_sentences(adata)

    Add up the columns of one human symbol:

    >>> import scanpy as sc
    >>> ch.pp.map_genes(adata, "mouse", paralogues="keep")
    >>> mapped = adata[:, adata.var["human_symbol"] != ""]
    >>> summed = sc.get.aggregate(mapped, by="human_symbol", func="sum", axis="var", layer="counts")
    >>> summed.layers["sum"].shape[1] == mapped.var["human_symbol"].nunique()
    True
    """
    if species not in SPECIES or paralogues not in ("drop", "keep"):
        msg = f"species={species!r}, paralogues={paralogues!r}; expected one of {[*SPECIES]}, and 'drop' or 'keep'."
        raise ValueError(msg)
    adata = _adata.writable(data, mod)
    _adata.check_not_empty(adata)
    in_raw = adata.raw is not None and (gene_symbols is None or gene_symbols in adata.raw.var)
    entries = [f"var/{key_added}", *([f"raw.var/{key_added}"] if in_raw else [])]
    # raw that was set after a first call has a copy of what that wrote
    check_free(adata, key_added, entries[:1] if is_ours(adata, key_added, entries[0]) else entries)
    genes = _mapped(adata, gene_symbols, species, paralogues, use_raw=False)
    _check_mapped(genes, species)
    with written(adata, key_added, entries):
        adata.var[key_added] = genes["symbol"].to_numpy(object)
        if in_raw:
            of_raw = _mapped(adata, gene_symbols, species, paralogues, use_raw=True)
            adata.raw.var[key_added] = of_raw["symbol"].to_numpy(object)
        write_params(adata, key_added, {"species": species, "gene_symbols": gene_symbols, "paralogues": paralogues})
        if key_added == HUMAN_SYMBOL:
            _remove_masks(adata)
        adata.uns[key_added] = {**adata.uns[key_added], REPORT: _report(genes)}
    counts = ", ".join(
        f"{n:,} {how}" for how, n in genes["how"].value_counts().reindex(HOW).dropna().astype(int).items()
    )
    logger.info("map_genes: stored in var[%r]; %s", key_added, counts)


def _remove_masks(adata: AnnData) -> None:
    """Remove masks of ours, which are of the names before; they are made anew when they are needed."""
    tables = {"var": adata.var} | ({} if adata.raw is None else {"raw.var": adata.raw.var})
    ours = [table for slot, table in tables.items() if is_ours(adata, GENE_MASK, f"{slot}/{GENE_MASK}")]
    for table in ours:
        table.pop(GENE_MASK)
    if ours:
        del adata.uns[GENE_MASK]


def _mapped(
    adata: AnnData, gene_symbols: str | None, species: Species, paralogues: str, *, use_raw: bool
) -> pd.DataFrame:
    names = _adata.names_of_genes(adata, gene_symbols, use_raw=use_raw)
    names = names_of_modality(adata, names, Modality.load("rna"), use_raw=use_raw)
    return human_meanings(names, species, keep_paralogues=paralogues == "keep").assign(name=names)


def _check_mapped(genes: pd.DataFrame, species: Species) -> None:
    if (genes["symbol"] != "").any():
        return
    msg = (
        f"none of {len(genes):,} names is known as that of a {species} gene (e.g. {genes['name'].tolist()[:3]}). Pass "
        "species= as the genes are, or the column of var with symbols as gene_symbols=."
    )
    raise ValueError(msg)


def _report(genes: pd.DataFrame) -> pd.DataFrame:
    """How the genes were mapped: a row for each way that occurs."""
    ways = [how for how in HOW if (genes["how"] == how).any()]
    parts = {how: genes[genes["how"] == how] for how in ways}

    def example(row: object) -> str:
        return row.name if row.how in (AMBIGUOUS, UNKNOWN) or row.name == row.symbol else f"{row.name} -> {row.symbol}"

    examples = [", ".join(map(example, part.head(N_EXAMPLES).itertuples(index=False))) for part in parts.values()]
    return pd.DataFrame({"n_genes": [*map(len, parts.values())], "examples": examples}, index=ways)
