"""Genes with properties and sets of genes, as frames and dicts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd

from .. import _fetch
from ..io import read_gmt

if TYPE_CHECKING:
    from pathlib import Path

# property -> class -> (file, column or None)
PROPERTIES = {
    "dosage_sensitivity": {
        "sensitive": ("dosage_sens_tf_labels.csv", "dosage_sensitive"),
        "insensitive": ("dosage_sens_tf_labels.csv", "dosage_insensitive"),
    },
    "bivalent_vs_non_methylated": {
        "bivalent": ("bivalent_gene_labels.txt", None),
        "non-methylated": ("no_methylation_gene_labels.txt", None),
    },
    "bivalent_vs_lys4_only": {
        "bivalent": ("bivalent_gene_labels.txt", None),
        "Lys4-only": ("lys4_only_gene_labels.txt", None),
    },
}


def gene_properties(name: str = "dosage_sensitivity") -> pd.DataFrame:
    """Read genes of two classes, for the paper's gene-level tasks (labels of Geneformer, Theodoris et al. 2023).

    The fourth task of the paper, the range of transcription factors, is published as a pickle only, which is not read.

    Parameters
    ----------
    name
        ``"dosage_sensitivity"`` of transcription factors, ``"bivalent_vs_non_methylated"`` or
        ``"bivalent_vs_lys4_only"`` promoters.

    Returns
    -------
    ``ensembl_id`` and ``answer`` (the class); each gene once in a class. ``attrs["in_both"]`` lists ids of both,
    which are left in.

    Raises
    ------
    ValueError
        If there is no such property, or a file is not what it should be.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.datasets.gene_properties("dosage_sensitivity")["answer"].value_counts()  # doctest: +SKIP
    """
    if name not in PROPERTIES:
        msg = f"name={name!r}; expected one of {list(PROPERTIES)}."
        raise ValueError(msg)
    paths = _fetch.data_files(_fetch.find("data", "gene-properties"))
    parts = {answer: _ids(paths[file], column) for answer, (file, column) in PROPERTIES[name].items()}
    first, second = parts.values()
    frame = pd.DataFrame(
        [(gene, answer) for answer, genes in parts.items() for gene in genes], columns=["ensembl_id", "answer"]
    )
    frame.attrs = {"in_both": sorted({*first} & {*second})}
    return frame


def _ids(path: Path, column: str | None) -> list[str]:
    """Ensembl ids of a list or of a column, each once."""
    table = pd.read_csv(path, dtype=str) if column else pd.read_csv(path, dtype=str, names=["id"], header=None)
    if (column or "id") not in table:
        msg = f"{path} has no column {column!r}; it has {list(table)}."
        raise ValueError(msg)
    ids = list(dict.fromkeys(table[column or "id"].dropna().str.strip()))
    if odd := [gene for gene in ids if not re.fullmatch(r"ENSG\d{11}", gene)]:
        msg = f"{path} holds {odd[0]!r}, which is no Ensembl id of a human gene."
        raise ValueError(msg)
    return ids


def gene_sets(name: str = "go_bp") -> dict[str, list[str]]:
    """Read sets of genes by name, for ``gene_sets`` of :func:`cellhermes.tl.enrich`.

    Parameters
    ----------
    name
        ``"go_bp"``, ``"go_cc"``, ``"go_mf"``, ``"hallmark"``, ``"reactome"`` or ``"kegg"`` (for academic use only).
        Any other library of Enrichr goes into :func:`cellhermes.tl.enrich` by its own name.

    Returns
    -------
    Term to gene symbols.

    Raises
    ------
    ValueError
        If there is no such collection, or the file is no GMT file.

    Examples
    --------
    >>> import cellhermes as ch
    >>> sets = ch.datasets.gene_sets("hallmark")  # doctest: +SKIP
    """
    prefix = "gene-sets-"
    known = [entry.removeprefix(prefix) for entry in _fetch.registry()["data"] if entry.startswith(prefix)]
    if (key := name.replace("_", "-")) not in known:
        msg = f"name={name!r}; expected one of {[key.replace('-', '_') for key in known]}."
        raise ValueError(msg)
    entry = _fetch.find("data", prefix + key)
    return read_gmt(_fetch.data_file(entry, entry.files[0], check=read_gmt))
