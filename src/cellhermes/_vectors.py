"""Where vectors of genes are stored, for those who write and read them.

Vectors without groups stand along the genes of the object, in ``varm``. Those of groups, and of the genes of raw, are
kept by symbol, for the genes that were asked for only: each call adds an array (groups, genes, dim) and the names of
both to ``uns[key]["vectors"]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import _adata
from ._groups import asked, asked_one
from ._keys import CONTEXTS, EMBEDDING, GENE_PARAMS, GROUPS, OF_ONE_GROUP, VECTORS, merged_groups, stored_params, uns_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anndata import AnnData

    from ._keys import Param

Array = dict[str, np.ndarray]
"""``values`` (groups, genes, dim) float32, ``genes``, ``groups``, and ``n_expressing`` (groups, genes)."""


@dataclass(frozen=True)
class GeneVectors:
    """Vectors of one group, or those without a group."""

    genes: np.ndarray
    """Symbols."""
    values: np.ndarray
    """(genes, dim) float32."""
    n_expressing: np.ndarray | None = None
    """How many cells of the group express each gene."""


def vector_groups(adata: AnnData, key: str = EMBEDDING) -> pd.DataFrame:
    """Return a row for each group that has vectors, indexed by label (``""`` are the vectors without groups)."""
    table = uns_of(adata, key).get(GROUPS)
    return (
        pd.DataFrame({"groupby": []}, index=pd.Index([], name="label")) if table is None else table.set_index("label")
    )


def asked_vectors(
    adata: AnnData, groups: Iterable[object] | None, key: str = EMBEDDING, groupby: str | None = None
) -> list[str]:
    """Return the labels of the groups that are asked for, all of which have vectors.

    None asks for all groups of the column ``groupby``; without a column, for all that there are, or else for the
    vectors without groups, whose label is ``""``.

    Raises
    ------
    KeyError
        If a group has no vectors, or none of the column has.
    TypeError, ValueError
        If ``groups`` is a single text or no list, or empty.
    """
    labels, where, advice = _known(adata, key, groupby)
    if groups is not None:
        known = labels if groupby is not None else ["", *labels]
        return asked(groups, known, where, what="vectors", advice=advice)
    if groupby is not None and not labels:
        msg = f"No group {where} has vectors of genes.{advice}"
        raise KeyError(msg)
    return labels or [""]


def asked_vector(adata: AnnData, group: object, key: str = EMBEDDING) -> str:
    """Return the label of one group that has vectors; ``""``, for None, are the vectors without groups."""
    labels, where, advice = _known(adata, key)
    return "" if group is None else asked_one(group, ["", *labels], where, what="vectors", advice=advice)


def _known(adata: AnnData, key: str, groupby: str | None = None) -> tuple[list[str], str, str]:
    """Return labels of the groups that have vectors, and what is said of others: where, and how to make them."""
    table = vector_groups(adata, key)
    columns = table.get("groupby", pd.Series("", table.index))  # vectors without groups alone have none
    labels = [label for label, column in columns.items() if label and groupby in (None, column)]
    where = f"under {key!r}" if groupby is None else f"of obs[{groupby!r}] under {key!r}"
    return (
        labels,
        where,
        f" Run `ch.tl.embed_genes(adata, groupby={'...' if groupby is None else repr(groupby)})` first.",
    )


def vectors_of(adata: AnnData, label: str = "", key: str = EMBEDDING, gene_symbols: str | None = None) -> GeneVectors:
    """Return the vectors of a group by symbol, or with ``""`` those without groups; nothing is copied for a group.

    ``gene_symbols`` names the column of ``var`` by which vectors of ``varm`` get symbols, if not the stored one.
    """
    table = vector_groups(adata, key)
    name = table["array"].get(label, "") if "array" in table else ""
    if not name:
        values = np.asarray(_adata.require_varm(adata, key, "Run `ch.tl.embed_genes(adata)` first."))
        stored = str(table.loc["", "gene_symbols"]) if "" in table.index else ""
        symbols = _adata.symbols(adata, gene_symbols or stored or None)
        has = np.isfinite(values).all(axis=1)
        return GeneVectors(symbols[has], values[has])
    array, row = adata.uns[key][VECTORS][name], int(table.loc[label, "row"])
    n_expressing = array["n_expressing"][row] if "n_expressing" in array else None
    return GeneVectors(np.asarray(array["genes"], object), array["values"][row], n_expressing)


def entry_of(adata: AnnData, entry: str) -> tuple[str, str]:
    """Key and label of an entry: ``"X_cellhermes"``, or ``"X_cellhermes:B"`` for the vectors of a group."""
    cuts = [i for i, letter in enumerate(entry) if letter == ":" and entry not in adata.varm]
    splits = [(entry[:i], entry[i + 1 :]) for i in cuts if len(vector_groups(adata, entry[:i]))]
    if not splits:
        return entry, ""
    key, group = next((split for split in splits if split[1] in vector_groups(adata, split[0]).index), splits[0])
    return key, asked_vector(adata, group, key)


def made_with(adata: AnnData, label: str, key: str) -> dict[str, Param]:
    """How the vectors of a group were made; nothing where it is not known."""
    table = vector_groups(adata, key)
    return table.loc[label].drop(OF_ONE_GROUP, errors="ignore").to_dict() if label in table.index else {}


def write_plain(
    adata: AnnData, key: str, values: np.ndarray, params: Mapping[str, Param | None], genes: np.ndarray | None = None
) -> None:
    """Store vectors along the genes of the object, or by symbol those of ``genes``, and how they were made."""
    table = pd.DataFrame({"label": [""], "array": "", "row": -1, **_texts(params)})
    there = dict(uns_of(adata, key))
    arrays = _without(there.pop(VECTORS, {}), [""])
    adata.varm.pop(key, None)
    if genes is None:
        adata.varm[key] = values
    else:
        table = table.assign(array=_next_name(arrays), row=0)
        arrays[table.loc[0, "array"]] = {"values": values[None], "genes": genes, "groups": np.array([""], object)}
    there |= {VECTORS: arrays} if arrays else {}
    adata.uns[key] = {**there, GROUPS: merged_groups(there.get(GROUPS), table), GENE_PARAMS: stored_params(params)}


def write_groups_of(
    adata: AnnData,
    key: str,
    array: Array,
    table: pd.DataFrame,
    contexts: pd.DataFrame,
    params: Mapping[str, Param | None],
    call: Mapping[str, Param],
) -> None:
    """Store the vectors of groups, their contexts, and how they were made, in place of what these groups had.

    ``table`` has a row for each group of the array, in their order, with what is not the same for all. ``call`` is what
    else is told of the last call.
    """
    there = uns_of(adata, key)
    arrays = _without(there.get(VECTORS, {}), array["groups"])
    name = _next_name(arrays)
    table = table.assign(array=name, row=range(len(table)), **_texts(params))
    groups = merged_groups(there.get(GROUPS), table)
    at = {label: row for one in arrays.values() for row, label in enumerate(one["groups"])}
    groups["row"] = [at.get(label, row) for label, row in zip(groups["label"], groups["row"], strict=True)]
    adata.uns[key] = {
        **there,
        VECTORS: {**arrays, name: array},
        GROUPS: _compact(groups),
        CONTEXTS: merged_groups(there.get(CONTEXTS), contexts),
        GENE_PARAMS: stored_params({**params, **call}),
    }


def _next_name(arrays: Mapping[str, Array]) -> str:
    return str(max(map(int, arrays), default=-1) + 1)


def _texts(params: Mapping[str, Param | None]) -> dict[str, Param]:
    """As columns; anndata takes the column ``dtype`` of a frame for the type of an array, and can't write it."""
    return {{"dtype": "model_dtype"}.get(name, name): "" if value is None else value for name, value in params.items()}


def _compact(groups: pd.DataFrame) -> pd.DataFrame:
    """Texts that groups share as categories: on disk and read again, each row would hold its own."""
    shared = groups.select_dtypes(exclude=["number", "bool"]).columns.drop("label")
    return groups.astype(dict.fromkeys(shared, "category"))


def _without(arrays: Mapping[str, Array], labels: Sequence[str]) -> dict[str, Array]:
    """Return the arrays without these groups."""
    kept = {}
    for name, array in arrays.items():
        rows = ~pd.Index(array["groups"]).isin(labels)
        if rows.all():
            kept[name] = array
        elif rows.any():
            parts = {part: values[rows] for part, values in array.items() if part != "genes"}
            kept[name] = {**array, **parts}
    return kept
