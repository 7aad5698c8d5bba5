"""What perturbations change: differential expression of a perturbation screen as a table of questions."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from tqdm.auto import tqdm

from .. import _adata, _rows
from .._keys import GENE_MASK, SENTENCE
from .._symbols import is_control, joined_genes
from ..text import _cell
from ._genes import gene_mask, stored_mask

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger("cellhermes")

BLOCK = 4096  # cells read at once
N_GENES = 100  # of the sentence of the mean control cell, at most, as of other sentences


def perturbation_effects(
    data: AnnData | MuData,
    perturbation: str,
    control: str,
    *,
    cell_line: str = "cell_line",
    max_padj: float = 0.05,
    min_log2fc: float = 0.25,
    min_cells: int = 10,
    method: Literal["wilcoxon", "t-test"] = "wilcoxon",
    layer: str | None = None,
    use_raw: bool = False,
    gene_symbols: str | None = None,
    mod: str | None = None,
) -> pd.DataFrame:
    """Compare the cells of each perturbation with unperturbed ones of the same line, gene by gene.

    Uses :func:`scanpy.tl.rank_genes_groups`, one perturbation and line at a time, with the correction of Benjamini and
    Hochberg over the genes. The object is not changed.

    Parameters
    ----------
    data
        AnnData with log-normalised values, or MuData.
    perturbation
        Column of ``obs`` with the perturbed gene; several are joined by ``+``, or by ``_`` where the whole is no symbol
        and each part is. Parts that stand for no perturbation
        (``"KLF1+ctrl"``) are left out, and the others put in the order of the alphabet.
    control
        Value of that column for unperturbed cells.
    cell_line
        Column of ``obs`` with the name of the line, or of the kind of cells.
    max_padj
        A gene changes (``"Yes"``) if its adjusted p-value is below this, and
    min_log2fc
        its log2 fold change is at least this far from 0. The paper states neither; both are ours.
    min_cells
        A perturbation needs at least so many cells in a line, and so does the control; a gene is asked for where at
        least so many cells of the line express it.
    method
        Test.
    layer
        Layer to read; default: ``X``.
    use_raw
        Read ``data.raw``.
    gene_symbols
        Column of ``var`` with the symbols; default: what :func:`~cellhermes.pp.map_genes` wrote, else ``var_names``.
    mod
        Modality to use, if ``data`` is a MuData.

    Returns
    -------
    A row for each line, perturbation and gene: ``perturbation``, ``cell_line``, ``gene``, ``log2fc``, ``padj``,
    ``answer`` (``"Yes"`` or ``"No"``), ``direction`` (``"Up"``, ``"Down"``, missing where the answer is No) and
    ``cell_sentence`` (the ranked genes of the line's mean control cell): ready for the tasks ``perturbation_deg`` and,
    after ``frame[frame["answer"] == "Yes"]``, ``perturbation_direction``. ``attrs["dropped"]`` counts what is left out.

    Raises
    ------
    KeyError
        If a column is missing, or no cell has the value ``control``.
    ValueError
        If values are counts, negative or not finite, or no perturbation is left.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> adata.obs["cell_line"] = "blood"
    >>> effects = ch.pp.perturbation_effects(adata, "batch", "batch_1")  # as if the second batch were perturbed
    >>> effects[["perturbation", "cell_line"]].drop_duplicates().to_numpy().tolist()
    [['batch_2', 'blood']]
    """
    adata = _adata.resolve(data, mod)
    _adata.check_not_empty(adata)
    hint = "Pass the name of the column of obs"
    perturbed = _names(_adata.require_obs(adata, perturbation, f"{hint} with the perturbations."), control)
    lines = _adata.require_obs(adata, cell_line, f"{hint} with the kind of cells as cell_line=.").astype(str).to_numpy()
    symbols = _adata.symbols(adata, gene_symbols, use_raw=use_raw)
    matrix = _checked(_adata.expression(adata, layer, use_raw=use_raw))
    _adata.warn_unlogged(adata, matrix)
    stored = stored_mask(adata, GENE_MASK, use_raw=use_raw)
    mask = gene_mask(symbols, matrix) if stored is None else stored
    vocabulary = _cell.vocabulary(symbols, mask)
    is_asked = np.zeros(len(symbols), bool)
    is_asked[_adata.one_column_each(symbols, matrix, mask)] = True
    dropped: Counter[str] = Counter({"gene without symbol, or repeated": int((~is_asked).sum())})

    parts = []
    n_tests = len(set(zip(lines, perturbed, strict=True)))
    with tqdm(desc="perturbation effects", total=n_tests, delay=2) as progress:
        for line in sorted(set(lines)):
            here, labels = matrix[lines == line], perturbed[lines == line]
            tested = _enough(labels, min_cells, dropped)
            asked = np.flatnonzero(is_asked & (here.getnnz(axis=0) >= min_cells))
            tables = [
                _tested(here[:, asked], labels, name, symbols[asked], method, progress).assign(cell_line=line)
                for name in tested
            ]
            if tables:
                mean = sparse.csr_matrix(here[labels == ""].mean(axis=0))
                sentence = _cell.cell_sentences(mean, vocabulary, N_GENES)[0]
                parts.append(pd.concat(tables).assign(**{SENTENCE: sentence}))
    if not parts:
        msg = f"no perturbation and control have {min_cells} cells in one line. Left out: {dict(dropped)}."
        raise ValueError(msg)
    frame = _with_answers(pd.concat(parts, ignore_index=True), max_padj, min_log2fc)
    frame.attrs = {"method": method, "dropped": {reason: n for reason, n in dropped.items() if n}}
    n_yes = int((frame["answer"] == "Yes").sum())
    logger.info("perturbation_effects: %s questions, %s with the answer Yes", f"{len(frame):,}", f"{n_yes:,}")
    return frame


def _names(column: pd.Series, control: str) -> np.ndarray:
    """Perturbed genes of each cell, sorted and joined by ``+``; ``""`` for unperturbed cells."""
    if column.isna().any():
        msg = f"`adata.obs[{column.name!r}]` has no value for {int(column.isna().sum()):,} cells; leave them out."
        raise ValueError(msg)
    values = sorted(set(column.astype(str)))
    if control not in values:
        msg = f"no cell has {control!r} in `adata.obs[{column.name!r}]`; there are {values[:10]}."
        raise KeyError(msg)
    names = {control: ""}
    for value in {*values} - {control}:
        genes = {gene for gene in joined_genes(value) if gene != control and not is_control(gene)}
        names[value] = "+".join(sorted(genes))
    return np.array([names[value] for value in column.astype(str)], object)


def _checked(matrix: object) -> sparse.csr_matrix:
    """Read the expression into memory, if it is log-normalised."""
    blocks = [block for _, block in _rows.row_blocks(matrix, BLOCK)]
    values = sparse.vstack(blocks, format="csr")
    if values.nnz and not (np.isfinite(values.data).all() and values.data.min() >= 0):
        msg = "the expression has negative, infinite or missing values; expected log-normalised ones. Pass layer=."
        raise ValueError(msg)
    if _rows.is_counts(blocks[0]):
        msg = (
            "the expression looks like raw counts (whole numbers); expected log-normalised values. Run "
            "sc.pp.normalize_total(adata, target_sum=1e4) and sc.pp.log1p(adata) first, or pass layer=."
        )
        raise ValueError(msg)
    return values


def _enough(labels: np.ndarray, min_cells: int, dropped: Counter[str]) -> list[str]:
    """Perturbations with enough cells, in a line whose control has enough."""
    names, counts = np.unique(labels.astype(str), return_counts=True)
    if counts[names == ""].sum() < min_cells:
        dropped["cell line with too few control cells"] += 1
        return []
    dropped["perturbation with too few cells"] += int((counts[names != ""] < min_cells).sum())
    return names[(counts >= min_cells) & (names != "")].tolist()


def _tested(
    matrix: sparse.csr_matrix, labels: np.ndarray, name: str, genes: np.ndarray, method: str, progress: tqdm
) -> pd.DataFrame:
    """Fold change and adjusted p-value of each gene, cells of one perturbation against the control."""
    import scanpy as sc

    rows = (labels == name) | (labels == "")
    sides = pd.Categorical(np.where(labels[rows] == "", "control", "perturbed"))
    names = [str(i) for i in range(int(rows.sum()))]
    table = AnnData(matrix[rows], obs=pd.DataFrame({"side": sides}, index=names), var=pd.DataFrame(index=list(genes)))
    options = {"tie_correct": True} if method == "wilcoxon" else {}
    sc.tl.rank_genes_groups(table, "side", groups=["perturbed"], reference="control", method=method, **options)
    tests = sc.get.rank_genes_groups_df(table, "perturbed").set_index("names").loc[list(genes)]
    progress.update()
    return pd.DataFrame(
        {
            "perturbation": name,
            "gene": genes,
            "log2fc": tests["logfoldchanges"].to_numpy(np.float32),
            "padj": tests["pvals_adj"].fillna(1).to_numpy(),  # no variance, no change
        }
    )


def _with_answers(frame: pd.DataFrame, max_padj: float, min_log2fc: float) -> pd.DataFrame:
    log2fc = frame["log2fc"]
    changed = (frame["padj"] < max_padj) & (log2fc.abs() >= min_log2fc) & (log2fc != 0)
    frame["answer"] = np.where(changed, "Yes", "No")
    frame["direction"] = pd.Series(np.where(log2fc > 0, "Up", "Down"), frame.index, dtype=object).where(changed)
    return frame[["perturbation", "cell_line", "gene", "log2fc", "padj", "answer", "direction", SENTENCE]]
