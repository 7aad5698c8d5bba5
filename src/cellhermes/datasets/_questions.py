"""The authors' questions and answers, read from the archives of their record."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from .. import io
from ._cells import member

if TYPE_CHECKING:
    import pandas as pd

BIOUNIBENCH = (
    "Perturbation", "DepMap_in_cell_line", "GI_synthetic", "GI_phenotypic", "GI_general", "GI_dosage", "Cellmarker",
    "Gene2disease", "Gene2phenotype", "r_Gene2disease",
)  # fmt: skip
PRETRAINING = ("cell_sentence_sft_ar", "cell_sentence_sft_mlm", "graph_mask_node", "graph_mask_link")


def biounibench(name: str, split: str = "training") -> pd.DataFrame:
    """Questions of BioUniBench: ten training sets and the settings they are tested in.

    Parameters
    ----------
    name
        A training set: ``"Perturbation"``, ``"DepMap_in_cell_line"``, ``"GI_synthetic"``, ``"GI_phenotypic"``,
        ``"GI_general"``, ``"GI_dosage"``, ``"Cellmarker"``, ``"Gene2disease"``, ``"Gene2phenotype"`` or
        ``"r_Gene2disease"`` (rare diseases).
    split
        ``"training"``, or a part of the name of a test file; the message of the error for one that is not there lists
        the files.

    Returns
    -------
    As of :func:`cellhermes.io.read_questions`: ``question``, ``answer``, ``instruction``, ``input``.

    Raises
    ------
    ValueError
        If there is no such set, or no single file for it.

    Examples
    --------
    >>> import cellhermes as ch
    >>> frame = ch.datasets.biounibench("GI_synthetic", "test")  # doctest: +SKIP
    """
    _check(name, BIOUNIBENCH)
    with member("biounibench", rf"(^|/){name}[^/]*{re.escape(split)}[^/]*\.jsonl?$") as path:
        return io.read_questions(path)


def pretraining_pairs(name: str = "cell_sentence_sft_mlm") -> pd.DataFrame:
    """The authors' pretraining questions and answers.

    Parameters
    ----------
    name
        ``"cell_sentence_sft_ar"``, ``"cell_sentence_sft_mlm"``, ``"graph_mask_node"`` or ``"graph_mask_link"``.

    Returns
    -------
    As of :func:`cellhermes.io.read_questions`: ``question``, ``answer``, ``instruction``, ``input``.

    Raises
    ------
    ValueError
        If there is no such set.

    Examples
    --------
    >>> import cellhermes as ch
    >>> frame = ch.datasets.pretraining_pairs("graph_mask_link")  # doctest: +SKIP
    """
    _check(name, PRETRAINING)
    with member("pretraining-pairs", rf"(^|/){name}[^/]*\.jsonl?$") as path:
        return io.read_questions(path)


def melanoma_t_cells(split: Literal["train", "test"] = "train") -> pd.DataFrame:
    """T cells of melanoma patients as ranked genes, and whether they react to the tumour: the authors' questions.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``, or a part of the name of a file; the message of the error for one that is not there
        lists the files.

    Returns
    -------
    As of :func:`cellhermes.io.read_questions`: ``question``, ``answer`` (the label), ``instruction`` and ``input`` (the
    ranked genes).

    Raises
    ------
    ValueError
        If no single file of the archive matches.

    Examples
    --------
    >>> import cellhermes as ch
    >>> frame = ch.datasets.melanoma_t_cells("test")  # doctest: +SKIP
    """
    with member("melanoma-t-cells", rf"{re.escape(split)}[^/]*\.jsonl?$") as path:
        return io.read_questions(path)


def _check(name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        msg = f"name={name!r}; expected one of {list(known)}."
        raise ValueError(msg)
