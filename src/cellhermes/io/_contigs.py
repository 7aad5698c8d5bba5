"""T-cell receptors of cells: contigs of Cell Ranger or in the AIRR format, as one row a cell with its clonotype."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy import sparse

from ._tables import first_line, numbers, read_texts

logger = logging.getLogger("cellhermes")

ARMS = {"TRA": "VJ", "TRG": "VJ", "TRB": "VDJ", "TRD": "VDJ"}
FIELDS = ("locus", "v_call", "d_call", "j_call", "c_call", "junction", "junction_aa")
COUNTS = ("umi_count", "consensus_count")
FLAGS = {  # what has to hold, where a table says so, and how it is counted if it does not
    "is_cell": "not a cell",
    "high_confidence": "low confidence",
    "full_length": "not full length",
    "productive": "not productive",
}
TENX = {
    "barcode": "barcode", "contig_id": "contig", "chain": "locus", "v_gene": "v_call", "d_gene": "d_call",
    "j_gene": "j_call", "c_gene": "c_call", "cdr3_nt": "junction", "cdr3": "junction_aa", "umis": "umi_count",
    "reads": "consensus_count",
}  # fmt: skip
AIRR = {
    "cell_id": "barcode", "sequence_id": "contig", "umi_count": "umi_count", "duplicate_count": "umi_count",
    **{name: name for name in (*FIELDS, "consensus_count")},
}  # fmt: skip
NEEDED = ("barcode", "v_call")
TRUE, FALSE = ("true", "t", "1", "yes"), ("false", "f", "0", "no", "none", "na", "nan", "<na>", "null", "")
PAIRINGS = (
    "single pair", "orphan VJ", "orphan VDJ", "extra VJ", "extra VDJ", "two full chains", "multichain",
)  # fmt: skip


def read_contigs(
    path: str | Path | Mapping[str, str | Path],
    *,
    sample: str | None = None,
    within: str | Mapping[str, str] | None = None,
    receptor_arms: Literal["all", "any", "VJ", "VDJ"] = "all",
    sequence: Literal["nt", "aa"] = "nt",
    names: str | None = None,
) -> pd.DataFrame:
    r"""Read T-cell receptors and clonotypes of cells from a table of contigs.

    Reads ``filtered_contig_annotations.csv`` and ``all_contig_annotations.csv`` of Cell Ranger and the AIRR
    rearrangement format, plain or gzip, with commas or tabs. A contig counts if the table says that it is in a cell, of
    high confidence, full length and productive (where it has these columns; R's ``NA`` is a no), if it has a cell, if
    its chain is alpha, beta, gamma or delta, and if it has a junction (with ``sequence="aa"``, one of amino acids). The
    others are dropped and counted. Ids of contigs need to differ within a cell only.

    As in scirpy, a cell has up to two ``VJ`` chains (alpha or gamma) and two ``VDJ`` chains (beta or delta), those with
    the most UMIs (then reads, then by the letters of the junction) first. Further chains are counted, and the cell is
    ``"multichain"``, which speaks for a doublet. A cell without any chain has no row; after a join to ``adata.obs``, it
    has no ``clone_id``.

    Cells are of one clonotype if the junctions of their *first* chains are identical. With ``receptor_arms="all"``
    those of both arms, where a chain that was not found equals another one that was not: an orphan beta chain is not of
    the clonotype of a cell with the same beta and an alpha chain. ``"VDJ"`` and ``"VJ"`` compare one arm, and cells
    without it have no clonotype. ``"any"`` joins cells that share the chain of either arm, and what these share with
    others; no two cells in different clonotypes have a first chain in common, so that it is the one to split by when
    nothing may leak, at the price of clonotypes that common alpha chains join.

    Parameters
    ----------
    path
        A file, or several of them by the name of their sample: barcodes are the same in different samples.
    sample
        Column with the sample; None takes ``"sample"`` if there is one.
    within
        Only cells that agree in this are of one clonotype: a column of the table, or a mapping of samples to donors.
        None compares all cells, so that a receptor that two donors share is one clonotype.
    receptor_arms
        Which chains must be identical.
    sequence
        ``"nt"`` compares nucleotides, ``"aa"`` amino acids.
    names
        How cells are called, such as ``"{barcode}-{sample}"``, to fit ``obs_names``; None takes
        ``"{sample}_{barcode}"``, or the barcode where there are no samples.

    Returns
    -------
    One row a cell, by name, ready for ``adata.obs.join(frame)``: ``barcode``, ``sample`` (if there is one),
    ``clone_id`` (``"0"`` is the largest), ``clone_id_size`` (cells), ``receptor_subtype`` (such as ``"TRA+TRB"``),
    ``chain_pairing`` (``"single pair"``, ``"orphan VJ"``, ``"orphan VDJ"``, ``"extra VJ"``, ``"extra VDJ"``, ``"two
    full chains"``, ``"multichain"``), and of each chain, ``IR_VJ_1``, ``IR_VDJ_1``, ``IR_VJ_2``, ``IR_VDJ_2``:
    ``_locus``, ``_v_call``, ``_d_call``, ``_j_call``, ``_c_call``, ``_junction``, ``_junction_aa``, ``_umi_count``,
    ``_consensus_count`` (reads). Texts are categories, counts Int64. The names are those of scirpy.

    ``attrs`` has ``format``, ``source``, ``rows`` (contigs), ``dropped`` (reason to number of contigs), and ``cells``
    (pairing to number of cells, and under ``"no IR"`` how many had only contigs that were dropped).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    KeyError
        If ``sample`` or ``within`` is not there, or a sample has no donor.
    ValueError
        If columns are missing, a flag is neither true nor false, a count is no number, a contig occurs twice (as when
        several samples are in one table without a column that tells them apart), names are not unique, or no contig
        is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> lines = [
    ...     "barcode,contig_id,chain,v_gene,j_gene,productive,cdr3,cdr3_nt,reads,umis",
    ...     "AAAC-1,c1,TRA,TRAV25,TRAJ20,True,CGF,TGTGGGTTC,90,4",
    ...     "AAAC-1,c2,TRB,TRBV5-1,TRBJ2-7,True,CAF,TGTGCCTTC,80,3",
    ... ]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "filtered_contig_annotations.csv")
    ...     _ = path.write_text("\n".join(lines))
    ...     frame = ch.io.read_contigs(path)
    >>> frame[["clone_id", "chain_pairing", "IR_VDJ_1_junction_aa"]].to_numpy().tolist()
    [['0', 'single pair', 'CAF']]
    """
    _check_choices(receptor_arms, sequence)
    field = "junction" if sequence == "nt" else "junction_aa"
    contigs, about = _read(path, sample, field)
    n_rows, dropped = len(contigs), Counter()
    cells = contigs.drop_duplicates(["sample", "barcode"])
    contigs, n_called = _usable(contigs, field, about["source"], dropped)
    chains = _ranked(contigs)
    frame = _by_cell(chains)
    group = _groups(frame, cells, within)
    frame.insert(2, "clone_id", _clonotypes(frame, group, receptor_arms, field))
    frame.insert(3, "clone_id_size", frame["clone_id"].map(frame["clone_id"].value_counts()).astype("Int64"))
    frame.index = _names(frame, names, about["source"])
    if not about.pop("has_samples"):
        frame = frame.drop(columns="sample")
    texts = [name for name in frame if name.startswith("IR_") and not name.endswith(COUNTS)]
    frame = frame.astype(dict.fromkeys(["clone_id", *texts], "category"))  # also those without a value survive h5ad
    dropped = {reason: number for reason, number in dropped.items() if number}
    counts = {name: n for name, n in frame["chain_pairing"].value_counts(sort=False).items() if n}
    counts |= {"no IR": n_called - len(frame)}
    frame.attrs = {**about, "rows": n_rows, "dropped": dropped, "cells": counts}
    message = "%s: %s contigs of %s cells, %s clonotypes. Dropped: %s."
    numbers = [f"{n:,}" for n in (len(contigs), len(frame), frame["clone_id"].nunique())]
    logger.info(message, about["source"], *numbers, dropped or "nothing")
    return frame


# ------------------------------------------------------------------------------------------------------- the table


def _check_choices(receptor_arms: str, sequence: str) -> None:
    known = {"receptor_arms": ("all", "any", "VJ", "VDJ"), "sequence": ("nt", "aa")}
    for name, value in (("receptor_arms", receptor_arms), ("sequence", sequence)):
        if value not in known[name]:
            msg = f"{name}={value!r} is not known; expected one of {', '.join(map(repr, known[name]))}."
            raise ValueError(msg)


def _read(
    path: str | Path | Mapping[str, str | Path], sample: str | None, field: str
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Read the contigs of all files under our names, and where they are from."""
    if isinstance(path, Mapping):
        if not path:
            msg = "path is an empty mapping; expected files by the name of their sample."
            raise ValueError(msg)
        read = {name: _table(Path(file), field) for name, file in path.items()}
        parts = [table.assign(sample=str(name)) for name, (table, _) in read.items()]
        source = ", ".join(Path(file).name for file in path.values())
        about = {"format": next(iter(read.values()))[1], "source": source, "has_samples": True}
        contigs = pd.concat(parts, ignore_index=True)
    else:
        contigs, kind = _table(Path(path), field)
        column = "sample" if sample is None and "sample" in contigs else sample
        if column is not None and column not in contigs:
            msg = f"{path} has no column {column!r} with the sample; it has {list(contigs)}."
            raise KeyError(msg)
        contigs["sample"] = "" if column is None else contigs[column]
        about = {"format": kind, "source": Path(path).name, "has_samples": column is not None}
    if (twice := contigs.duplicated(["sample", "barcode", "contig"]) & contigs["barcode"].notna()).any():
        first = contigs.loc[twice.idxmax(), "contig"]
        msg = (
            f"{about['source']}: {twice.sum():,} contigs occur twice, such as {first!r}. If the table holds several "
            "samples, name the column that tells them apart with sample=, or pass one file for each sample."
        )
        raise ValueError(msg)
    return contigs, about


def _table(path: Path, field: str) -> tuple[pd.DataFrame, str]:
    """Read a file as text under our names of columns, and its format; it needs the junctions that are compared."""
    header = first_line(path, None)
    columns = header.names
    kind, known = ("AIRR", AIRR) if "cell_id" in columns else ("10x", TENX)
    named = {column: known[column] for column in columns if column in known}
    if "umi_count" in columns:  # rather than its older name
        named.pop("duplicate_count", None)
    needed = (*NEEDED, field) if kind == "AIRR" else (*NEEDED, field, "contig", "locus")
    if missing := [column for column, ours in known.items() if ours in {*needed} - {*named.values()}]:
        msg = (
            f"{path} has no column {', '.join(map(repr, missing))}; expected contig annotations of Cell Ranger "
            "(barcode, contig_id, chain, v_gene, cdr3, cdr3_nt, ...) or an AIRR table (cell_id, v_call, junction...). "
            f"Found {len(columns)} columns: {columns[:20]}."
        )
        raise ValueError(msg)
    table = read_texts(path, None, header).rename(columns=named)
    if "locus" not in table:  # as in the AIRR files of Cell Ranger
        table["locus"] = table["v_call"].str[:3]
    if "contig" not in table:
        table["contig"] = [str(i) for i in range(len(table))]
    for name in ("barcode", *FIELDS):
        values = table[name].str.strip() if name in table else pd.Series("", table.index)
        table[name] = values.mask(values.isin(["", "None", "NA"]))
    theirs = {ours: column for column, ours in named.items()}
    for name in COUNTS:
        values = table.get(name, pd.Series("", table.index))
        table[name] = _numbers(values, theirs.get(name, name), path)
    for name in {*FLAGS} & {*table}:
        table[name] = _flags(table[name], theirs.get(name, name), path)
    return table, kind


def _numbers(values: pd.Series, name: str, path: Path) -> pd.Series:
    counts = numbers(values, path, name)
    if (bad := counts.abs() > 2**53).any():  # too large for a whole number
        msg = f"{path}: column {name!r} has {values[bad].iloc[0]!r}; expected a count."
        raise ValueError(msg)
    return counts.round().astype("Int64")


def _flags(values: pd.Series, name: str, path: Path) -> pd.Series:
    lower = values.str.strip().str.lower()
    if other := sorted({*lower} - {*TRUE, *FALSE}):
        msg = f"{path}: column {name!r} has {other[:3]}; expected True or False."
        raise ValueError(msg)
    return lower.isin(TRUE)


def _usable(contigs: pd.DataFrame, field: str, source: str, dropped: Counter[str]) -> tuple[pd.DataFrame, int]:
    """Choose contigs that count, and count the cells with or without them; each other contig has one reason."""
    n_called = 0
    tests = [("no cell", lambda t: t["barcode"].notna())]
    tests += [(reason, lambda t, name=name: t[name]) for name, reason in FLAGS.items() if name in contigs]
    tests += [
        ("no chain of a T-cell receptor", lambda t: t["locus"].isin(ARMS)),
        ("no junction", lambda t: t[field].notna()),
    ]
    for i, (reason, holds) in enumerate(tests):
        if i == 1 + ("is_cell" in contigs):
            n_called = len(contigs.drop_duplicates(["sample", "barcode"]))
        kept = holds(contigs).to_numpy(bool)
        dropped[reason] += int((~kept).sum())
        contigs = contigs[kept]
    if contigs.empty:
        listed = ", ".join(f"{reason}: {number:,}" for reason, number in dropped.items() if number) or "nothing"
        msg = f"{source} has no contig that can be used. Dropped: {listed}."
        if field == "junction" and dropped["no junction"]:
            msg += " If the table has amino acids only, pass sequence='aa'."
        raise ValueError(msg)
    return contigs, n_called


# ----------------------------------------------------------------------------------------------------------- cells


def _ranked(contigs: pd.DataFrame) -> pd.DataFrame:
    """Add ``cell`` (number), ``arm`` and ``rank`` in the arm of the cell, from 1."""
    cell = contigs.groupby(["sample", "barcode"], sort=False).ngroup()
    chains = contigs.assign(cell=cell, arm=contigs["locus"].map(ARMS))
    counts = chains[[*COUNTS]].fillna(0).astype(np.int64)
    chains = chains.assign(by_umis=-counts["umi_count"], by_reads=-counts["consensus_count"])
    chains = chains.sort_values(
        ["cell", "arm", "by_umis", "by_reads", "junction", "junction_aa", "contig"], kind="stable"
    )
    return chains.assign(rank=chains.groupby(["cell", "arm"]).cumcount() + 1)


def _by_cell(chains: pd.DataFrame) -> pd.DataFrame:
    """Build a row for each cell; its chains side by side."""
    frame = chains.drop_duplicates("cell").set_index("cell")[["barcode", "sample"]].sort_index()
    n_of = chains.groupby(["cell", "arm"]).size().unstack(fill_value=0).reindex(columns=["VJ", "VDJ"], fill_value=0)
    first = {arm: _chain(chains, arm, 1)["locus"].reindex(frame.index) for arm in n_of}
    both = [first[arm].fillna("") for arm in n_of]
    frame["receptor_subtype"] = (both[0] + "+" + both[1]).str.strip("+")
    frame["chain_pairing"] = pd.Categorical(_pairing(*n_of.to_numpy().T), categories=PAIRINGS)
    sides = [_chain(chains, arm, rank).add_prefix(f"IR_{arm}_{rank}_") for rank in (1, 2) for arm in n_of]
    return pd.concat([frame, *(side.reindex(frame.index) for side in sides)], axis=1)


def _chain(chains: pd.DataFrame, arm: str, rank: int) -> pd.DataFrame:
    return chains[(chains["arm"] == arm) & (chains["rank"] == rank)].set_index("cell")[[*FIELDS, *COUNTS]]


def _pairing(n_vj: np.ndarray, n_vdj: np.ndarray) -> np.ndarray:
    conditions = [
        (n_vj > 2) | (n_vdj > 2), n_vdj == 0, n_vj == 0, (n_vj == 2) & (n_vdj == 2), n_vj == 2, n_vdj == 2,
    ]  # fmt: skip
    return np.select(
        conditions,
        ["multichain", "orphan VJ", "orphan VDJ", "two full chains", "extra VJ", "extra VDJ"],
        "single pair",
    )


def _groups(frame: pd.DataFrame, cells: pd.DataFrame, within: str | Mapping[str, str] | None) -> np.ndarray:
    """Find what clonotypes stay within, for each cell."""
    if within is None:
        return np.full(len(frame), "")
    if isinstance(within, Mapping):
        if missing := sorted({*frame["sample"]} - {*within}):
            msg = f"within has no donor for the samples {missing[:5]}; it has {list(within)[:10]}."
            raise KeyError(msg)
        return frame["sample"].map(within).astype(str).to_numpy()
    if within not in cells:
        msg = f"The table has no column {within!r} for within=; it has {list(cells)}."
        raise KeyError(msg)
    of_cell = cells.set_index(["sample", "barcode"])[within]
    return of_cell.reindex(pd.MultiIndex.from_frame(frame[["sample", "barcode"]])).astype(str).to_numpy()


def _clonotypes(frame: pd.DataFrame, group: np.ndarray, receptor_arms: str, field: str) -> pd.Series:
    """Name the clonotype of each cell: numbers by falling size, then by receptor."""
    arms = {arm: frame[f"IR_{arm}_1_{field}"] for arm in ("VJ", "VDJ")}
    if receptor_arms in arms:
        parts, known = [arms[receptor_arms]], arms[receptor_arms].notna()
    else:
        parts, known = [*arms.values()], pd.concat(arms.values(), axis=1).notna().any(axis=1)
    keys = pd.DataFrame({"group": group, **{str(i): part.fillna("") for i, part in enumerate(parts)}}, frame.index)
    keys = keys[known]
    code = _joined(keys) if receptor_arms == "any" else keys.groupby([*keys], sort=True).ngroup().to_numpy()
    # the first receptor of a clonotype, by letters, decides between those of one size
    order = keys.assign(code=code).sort_values([*keys]).drop_duplicates("code")["code"]
    sizes = np.bincount(code)[order]
    number = np.empty(len(order), int)
    number[order.to_numpy()[np.argsort(-sizes, kind="stable")]] = np.arange(len(order))
    return pd.Series(number[code].astype(str), keys.index, dtype=object).reindex(frame.index)


def _joined(keys: pd.DataFrame) -> np.ndarray:
    """Find connected components of cells that share a chain of either arm, within a group."""
    n = len(keys)
    links, n_chains = [], 0
    for arm in [*keys][1:]:
        there = np.flatnonzero(keys[arm] != "")
        chain = keys.iloc[there].groupby(["group", arm], sort=False).ngroup().to_numpy()
        links.append((there, n + n_chains + chain))
        n_chains += chain.max(initial=-1) + 1
    rows, columns = (np.concatenate(part) for part in zip(*links, strict=True))
    graph = sparse.coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(n + n_chains,) * 2)
    return pd.factorize(sparse.csgraph.connected_components(graph, directed=False)[1][:n])[0]


def _names(frame: pd.DataFrame, names: str | None, source: str) -> pd.Index:
    if names is None:
        names = "{sample}_{barcode}" if (frame["sample"] != "").any() else "{barcode}"
    labels = [names.format(sample=s, barcode=b) for s, b in zip(frame["sample"], frame["barcode"], strict=True)]
    index = pd.Index(labels, dtype=object)
    if (twice := index.duplicated()).any():
        example = index[twice][0]
        msg = f"{source}: {twice.sum():,} cells would share a name, such as {example!r}; put {{sample}} in names=."
        raise ValueError(msg)
    return index
