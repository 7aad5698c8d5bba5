"""Every key that cellhermes writes into an AnnData, keys of groups, and the parameters stored beside a result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _installed_version
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from anndata import AnnData

PARAMS = "params"  # uns of each: how it was made
WROTE = "wrote"  # uns of each: the entries that calls wrote under this key
SENTENCE = "cell_sentence"  # obs, uns
N_ORDERS = "n_orders"  # uns[SENTENCE][PARAMS], uns[EMBEDDING][PARAMS]: in how many orders of ties
GENE_MASK = "sentence_gene"  # var
HUMAN_SYMBOL = "human_symbol"  # var
REPORT = "report"  # uns[HUMAN_SYMBOL]: a frame
EMBEDDING = "X_cellhermes"  # obsm, varm, uns
GENE_PARAMS = "gene_params"  # uns[EMBEDDING]: of varm, as PARAMS is of obsm
GROUPS, CONTEXTS = "groups", "contexts"  # uns[EMBEDDING], uns[NETWORK]: frames of groups; of genes' contexts
VECTORS = "vectors"  # uns[EMBEDDING]: arrays with the vectors of genes in groups
NETWORK = "gene_network"  # varp, uns
MODULES = "modules"  # var, obsm, uns
TABLE, JACCARD, NULLS = "table", "jaccard", "nulls"  # uns[MODULES]; uns[ENRICH] and FAITHFULNESS have a table too
HALF = "half"  # obs
ENRICH = "enrich"  # uns
LISTS = "lists"  # uns[ENRICH]: a frame of the lists that were tested
EXPLAIN = "explain"  # layers, obsm, uns
HEADS, REASONS, FAITHFULNESS = "heads", "reasons", "faithfulness"  # uns[EXPLAIN]
CURVES = "curves"  # uns[EXPLAIN][FAITHFULNESS]
PROBABILITY, LOG_PROBABILITY = "probability:", "log_probability:"  # columns of answers, one for each

# Columns of the frames of groups that may differ between groups that are compared.
OF_ONE_GROUP = {"label", "array", "row", "key", "groupby", "n_in_group", "n_genes", "n_without"}
MODEL_HASH = "model_sha256"
NAMES_OF_MODEL = {"model", "base", "revision", "adapters"}

Param = str | bool | int | float | list | dict[str, str]
"""What a stored parameter may be: the types that h5ad and zarr give back as they were."""


def version() -> str:
    """Version of cellhermes that is stored with results."""
    try:
        return _installed_version("cellhermes")
    except PackageNotFoundError:  # run from a source tree
        return "0+unknown"


def label_of(value: object) -> str:
    """Name a group: the text of its value; a day is written 2020-01-01, a whole number without a point."""
    if isinstance(value, np.datetime64 | datetime):
        value = pd.Timestamp(value)
        return str(value.date() if value == value.normalize() and value.tz is None else value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def group_key(key: str, group: object) -> str:
    """Key of the array that belongs to one group; ``/`` would open a folder in h5ad and zarr."""
    return f"{key}:{label_of(group).replace('/', '_')}"


def group_keys(key: str, groups: Iterable[object]) -> dict[object, str]:
    """Keys of several groups; two groups that would share a key are an error."""
    keys: dict[object, str] = {}
    owner: dict[str, object] = {}
    for group in groups:
        name = group_key(key, group)
        if name in owner and owner[name] != group:
            msg = f"groups {owner[name]!r} and {group!r} would both be stored as {name!r}; rename one of them."
            raise ValueError(msg)
        owner[name] = group
        keys[group] = name
    return keys


def half_labels(group: object) -> tuple[str, str]:
    """Labels of the two halves of a group's cells, as ``tl.split_groups`` writes them."""
    return f"{label_of(group)} (half 1)", f"{label_of(group)} (half 2)"


def sentence_keys(sentence: str, n_orders: int) -> list[str]:
    """Name the columns of ``obs`` with sentences in the orders of ties; the first is that of one order."""
    return [sentence, *(f"{sentence}_order_{number}" for number in range(2, n_orders + 1))]


def tied_key(sentence: str) -> str:
    """Name the column of ``obs`` with the share of each sentence that ties decide."""
    return f"{sentence}_tied"


def answer_key(explain: str) -> str:
    """Name the column of ``obs`` with the answers that were explained."""
    return f"{explain}_answer"


def raw_key(explain: str) -> str:
    """Name the entry of ``obsm`` with the importance of genes of raw."""
    return f"{explain}_raw"


def text_key(answers: str) -> str:
    """Name the column of ``obs`` with the texts that a model wrote as answers."""
    return f"{answers}_text"


def unseen_key(embedding: str) -> str:
    """Name the column of ``var`` with the genes that the model has not met in its training."""
    return f"{embedding}_unseen"


def n_cells_key(network: str) -> str:
    """Name the column of ``var`` with the numbers of cells of a group that express each gene of its network."""
    return f"{network}_n_cells"


def merged_groups(old: pd.DataFrame | None, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of groups; those of labels that were there are replaced. What only some rows have is empty in the others."""
    kept = frame.iloc[:0] if old is None else old[~old["label"].isin(frame["label"])]
    parts = [_completed(part, like) for part, like in ((kept, frame), (frame, kept)) if len(part)]
    return pd.concat(parts, ignore_index=True)


def _completed(frame: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    """Join the columns of another frame: missing values have no place beside texts in h5ad."""
    lacking = [name for name in like if name not in frame]
    return frame.assign(**{n: like[n].dtype.type(0) if is_numeric_dtype(like[n]) else "" for n in lacking})


def uns_of(adata: AnnData, key: str) -> Mapping[str, object]:
    """``uns[key]``; an empty mapping where there is none, or something else of that name."""
    stored = adata.uns.get(key)
    return stored if isinstance(stored, Mapping) else {}


def write_groups(adata: AnnData, key: str, frame: pd.DataFrame, *, name: str = GROUPS) -> None:
    """Put rows of groups into ``uns[key][name]``."""
    there = uns_of(adata, key)
    adata.uns[key] = {**there, name: merged_groups(there.get(name), frame)}


def check_alike(table: pd.DataFrame, labels: Sequence[Hashable], tool: str) -> None:
    """Refuse to put groups side by side that were made in different ways.

    ``table`` has a row for each label, and says in all columns but ``OF_ONE_GROUP`` how it was made by ``tool``.
    """
    rows = table.loc[list(labels)]
    first = rows.iloc[0]
    for label, other in rows.iloc[1:].iterrows():
        if unlike := [name for name in _deciding(first, other) if first[name] != other[name]]:
            ways = "; ".join(f"{name} {_short(first[name])!r} and {_short(other[name])!r}" for name in unlike)
            msg = (
                f"Groups {first.name!r} and {label!r} were made in different ways and can't be compared: {ways}. "
                f"Make both by `ch.tl.{tool}` with the same arguments."
            )
            raise ValueError(msg)


def _short(value: object) -> object:
    """As it is told: a number of Python, the beginning of a hash."""
    value = getattr(value, "item", lambda: value)()
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value


def _deciding(first: pd.Series, other: pd.Series) -> list[Hashable]:
    """Return what two groups have to agree in; the names of a model only where its content differs or is not known."""
    known = first.get(MODEL_HASH) and first[MODEL_HASH] == other[MODEL_HASH]
    return [name for name in first.index if name not in OF_ONE_GROUP and not (known and name in NAMES_OF_MODEL)]


def write_params(adata: AnnData, key: str, params: Mapping[str, Param | None], *, name: str = PARAMS) -> None:
    """Store how a result was made in ``uns[key][name]``."""
    adata.uns[key] = {**uns_of(adata, key), name: stored_params(params)}


def stored_params(params: Mapping[str, Param | None]) -> dict[str, Param]:
    """Return parameters to store: with the version, and an empty string for None, which has no place in h5ad."""
    return {name: "" if value is None else value for name, value in params.items()} | {"version": version()}


def modality_of(adata: AnnData, sentence_key: str = SENTENCE) -> str:
    """Return what the words of the sentences are, as far as it is stored; ``""`` where it is not."""
    return str(read_params(adata, sentence_key).get("modality", ""))


def n_orders_of(adata: AnnData, sentence_key: str) -> int:
    """Return in how many orders of ties the sentences were written."""
    return int(read_params(adata, sentence_key).get(N_ORDERS, 1))


def read_params(adata: AnnData, key: str, *, name: str = PARAMS) -> dict[str, Param]:
    """Return ``uns[key][name]``, or an empty dict where nothing was stored."""
    return dict(uns_of(adata, key).get(name, {}))
