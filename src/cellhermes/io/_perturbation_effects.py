"""Tables of differential expression after perturbations, whatever tool made them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from .._symbols import is_control, joined_genes
from ._tables import first_line, numbers, once, read_texts

EFFECTS = {  # what a column of a table of differential expression may be called, compared in lower case
    "perturbation": (
        "perturbation", "perturbations", "perturb", "perturbed_gene", "target", "target_gene", "condition",
    ),
    "cell_line": ("cell_line", "cellline", "cell line", "cell_type", "celltype", "cell"),
    "gene": ("gene", "genes", "names", "symbol", "gene_symbol", "gene_name", "feature"),
    "log2fc": (
        "log2fc", "log2foldchange", "log2_fold_change", "logfoldchanges", "logfoldchange", "avg_log2fc", "logfc", "lfc",
    ),
    "padj": ("padj", "pvals_adj", "p_val_adj", "adj.p.val", "adj_p_val", "p_adj", "p.adjust", "fdr", "qvalue", "qval"),
}  # fmt: skip


def read_perturbation_effects(
    path: str | Path,
    *,
    cell_line: str | None = None,
    max_padj: float = 0.05,
    min_log2fc: float = 0.0,
    member: str | None = None,
) -> pd.DataFrame:
    r"""Read a table of differential expression after perturbations, such as those of Perturbase.

    A row is a gene under a perturbation. Columns are found by the names that common tools give them (DESeq2, edgeR,
    limma, scanpy, Seurat), upper or lower case. Of several perturbed genes (``"AHR;FEV"``, ``"AHR_FEV"``), those that
    stand for a control (``"AHR+ctrl"``) are left out, and the others are joined by ``+`` in the order of the alphabet.

    Parameters
    ----------
    path
        A table with tabs or commas: plain, gzip or zip.
    cell_line
        Name of the cells, for a table without a column for it.
    max_padj
        A gene changes (``"Yes"``) if its adjusted p-value is below this, and
    min_log2fc
        its log2 fold change is at least this far from 0.
    member
        Name of the file inside a zip archive with several.

    Returns
    -------
    ``perturbation``, ``cell_line``, ``gene``, ``log2fc``, ``padj``, ``answer`` (``"Yes"`` or ``"No"``) and
    ``direction`` (``"Up"``, ``"Down"``, or missing where the answer is No): ready for the tasks ``perturbation_deg``
    and, after ``frame[frame["answer"] == "Yes"]``, ``perturbation_direction``. ``attrs`` as in
    :func:`read_gene_categories`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is not found (the message says which were recognised), a value is no number, or no row is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "effects.csv")
    ...     _ = path.write_text(
    ...         "target,names,logfoldchanges,pvals_adj\nKLF1+ctrl,HBZ,2.1,1e-9\nKLF1+ctrl,ACTB,0.1,0.8\n"
    ...     )
    ...     frame = ch.io.read_perturbation_effects(path, cell_line="K562")
    >>> frame[["perturbation", "gene", "answer", "direction"]].to_numpy().tolist()
    [['KLF1', 'HBZ', 'Yes', 'Up'], ['KLF1', 'ACTB', 'No', nan]]
    """
    path = Path(path)
    header = first_line(path, member)
    by_lower = {name.strip().lower(): name for name in reversed(header.names)}
    positions = {
        what: next((by_lower[alias] for alias in aliases if alias in by_lower), None)
        for what, aliases in EFFECTS.items()
    }
    missing = [what for what, name in positions.items() if name is None and not (what == "cell_line" and cell_line)]
    if missing:
        known = {what: name for what, name in positions.items() if name}
        hint = " Pass cell_line= for a table of one kind of cells." if "cell_line" in missing else ""
        msg = (
            f"{path}: no column for {', '.join(missing)}. Recognised: {known or 'nothing'}; all columns: "
            f"{header.names[:30]}. Rename a column to one of {', '.join(EFFECTS[missing[0]])}.{hint}"
        )
        raise ValueError(msg)
    table = read_texts(path, member, header, columns=[name for name in positions.values() if name])
    table = table.rename(columns={name: what for what, name in positions.items() if name})
    if "cell_line" not in table:
        table["cell_line"] = cell_line
    for what in ("log2fc", "padj"):
        table[what] = numbers(table[what], path, positions[what])
    table = table.mask(table == "")
    dropped: Counter[str] = Counter()
    table["perturbation"] = table["perturbation"].map(_perturbed, na_action="ignore")
    is_whole = table.notna().all(axis=1) & (table["perturbation"] != "")
    dropped["value missing, or control"] = int((~is_whole).sum())
    table = table.loc[is_whole, list(EFFECTS)]
    changed = (table["padj"] < max_padj) & (table["log2fc"].abs() >= min_log2fc) & (table["log2fc"] != 0)
    frame = table.assign(
        answer=np.where(changed, "Yes", "No"),
        direction=pd.Series(np.where(table["log2fc"] > 0, "Up", "Down"), table.index, dtype=object).where(changed),
    )
    return once(frame, ["perturbation", "cell_line", "gene"], path, dropped, format="differential expression")


def _perturbed(value: object) -> str:
    """Sort perturbed genes and join them by ``+``, without what stands for a control."""
    return "+".join(sorted({gene for gene in joined_genes(value) if not is_control(gene)}))
