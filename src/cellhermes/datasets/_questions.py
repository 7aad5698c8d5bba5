"""Published questions and answers by name."""

from __future__ import annotations

from glob import escape

import pandas as pd

from .. import _fetch, io
from ._archives import archived, member

PARTS = ("train", "valid", "test")


def questions(name: str, split: str = "train") -> pd.DataFrame:
    """Read published questions and their answers.

    - BioUniBench: ``"Perturbation"``, ``"DepMap_in_cell_line"``, ``"GI_synthetic"``, ``"GI_phenotypic"``,
      ``"GI_general"``, ``"GI_dosage"``, ``"Cellmarker"``, ``"Gene2disease"``, ``"Gene2phenotype"`` and
      ``"r_Gene2disease"`` (rare diseases), ten training sets with the settings they are tested in.
    - ``"melanoma"``: T cells of melanoma patients as ranked genes, and whether they react to the tumour.
    - The authors' pretraining pairs: ``"cell_sentence_sft_ar"``, ``"cell_sentence_sft_mlm"``, ``"graph_mask_node"``
      and ``"graph_mask_link"``, which have no test set.
    - ``"gene_pairs"``: whether two genes share a function, as Gene2vec published it (Du et al. 2019), in the parts
      ``"train"``, ``"valid"`` and ``"test"``.

    Parameters
    ----------
    name
        One of these.
    split
        ``"train"``, ``"test"``, or another part of the name of a file; the message of the error for one that is not
        there lists the files.

    Returns
    -------
    ``question``, ``answer``, ``instruction`` and ``input``, as of :func:`cellhermes.io.read_table`; of gene pairs
    ``gene_a``, ``gene_b`` (symbols) and ``answer`` (``"Yes"`` or ``"No"``).

    Raises
    ------
    ValueError
        If there are no such questions, or no single file for them.
    ConnectionError
        If they are not in the cache and cannot be downloaded.

    Examples
    --------
    >>> import cellhermes as ch
    >>> frame = ch.datasets.questions("GI_synthetic", "test")  # doctest: +SKIP
    """
    if name == "gene_pairs":
        return _gene_pairs(split)
    archives = archived(".json")
    if name not in archives:
        raise ValueError(_fetch.unknown("questions", name, [*archives, "gene_pairs"]))
    entry, pattern = archives[name]
    if "{split}" not in pattern and split != "train":
        msg = f"split={split!r}; {name} has one part only, 'train'."
        raise ValueError(msg)
    with member(entry, pattern.replace("{split}", escape(split))) as path:
        return io.read_table(path)


def _gene_pairs(split: str) -> pd.DataFrame:
    """Pairs and labels, which stand in two files."""
    if split not in PARTS:
        msg = f"split={split!r}; expected one of {list(PARTS)}."
        raise ValueError(msg)
    entry = _fetch.find("data", "gene-pairs")
    files = {file.name: file for file in entry.files}
    text, label = (_fetch.data_file(entry, files[f"{split}_{kind}.txt"]) for kind in ("text", "label"))
    pairs = [line.split() for line in text.read_text("utf-8").splitlines() if line.strip()]
    labels = label.read_text("utf-8").split()
    if len(pairs) != len(labels) or {len(pair) for pair in pairs} != {2} or not {*labels} <= {"0", "1"}:
        msg = (
            f"{text.name} has {len(pairs):,} lines and {label.name} {len(labels):,} labels {sorted({*labels})[:5]}; "
            "expected a pair of symbols and 0 or 1 for each."
        )
        raise ValueError(msg)
    frame = pd.DataFrame(pairs, columns=["gene_a", "gene_b"])
    return frame.assign(answer=["Yes" if label == "1" else "No" for label in labels])
