"""Explanations: importance of genes, recurrent genes, rationales, and how far to believe them."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import _adata
from .._explained import importance_of
from .._keys import EXPLAIN, SENTENCE, read_params, uns_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def importance(
    data: "AnnData | MuData",
    cells: str | Sequence[str] | None = None,
    *,
    n_top: int | None = None,
    key: str = EXPLAIN,
    mod: str | None = None,
) -> pd.DataFrame:
    """Importance of the genes of cells, as a table.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.explain` done.
    cells
        Name of a cell, or several; None takes all that are explained.
    n_top
        Only so many genes of each cell, the most important ones; None takes all.
    key
        Entry of ``layers`` and ``uns`` with the explanation.
    mod
        Modality of a MuData.

    Returns
    -------
    One row for each gene of a cell's sentence, the most important first: ``cell``, ``answer`` (that is explained),
    ``gene``, ``position`` (in the sentence, from 1), ``importance``.

    Raises
    ------
    KeyError
        If there is no explanation, or not of a cell.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> list(ch.get.importance(adata, n_top=3))
    ['cell', 'answer', 'gene', 'position', 'importance']
    """
    adata = _adata.resolve(data, mod)
    matrix, answer = importance_of(adata, key)
    params = read_params(adata, key)
    symbols = _adata.symbols(adata, params["gene_symbols"] or None)
    sentences = _adata.require_obs(adata, params["fields"][SENTENCE], "The sentences that were explained are gone.")
    explained = answer[answer.notna()].index
    wanted = explained if cells is None else [cells] if isinstance(cells, str) else list(cells)
    if missing := sorted({*wanted} - {*explained}):
        msg = f"{len(missing)} cells are not explained, such as {missing[0]!r}; {len(explained):,} are. Pass cells=."
        raise KeyError(msg)
    parts = []
    for row in adata.obs_names.get_indexer(wanted):
        stored = slice(matrix.indptr[row], matrix.indptr[row + 1])
        order = np.argsort(-matrix.data[stored], kind="stable")[:n_top]
        position = {gene: i for i, gene in enumerate(str(sentences.iloc[row]).split(), 1)}
        genes = symbols[matrix.indices[stored][order]]
        found = {"cell": adata.obs_names[row], "answer": str(answer.iloc[row]), "gene": genes}
        found |= {"position": [position.get(gene, 0) for gene in genes], "importance": matrix.data[stored][order]}
        parts.append(pd.DataFrame(found))
    return pd.concat(parts, ignore_index=True)


def recurrence(
    data: "AnnData | MuData", answer: str | None = None, *, key: str = EXPLAIN, mod: str | None = None
) -> pd.DataFrame:
    """Genes that are important in many cells, by answer.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.explain` done.
    answer
        Only cells with this answer; None takes all answers.
    key
        Entry of ``uns`` with the explanation.
    mod
        Modality of a MuData.

    Returns
    -------
    One row for each gene of a sentence and answer, the most frequent first: ``answer``, ``gene``, ``n_cells``,
    ``n_listed``, ``n_top``, ``frequency``, ``mean_importance`` (see :func:`cellhermes.tl.explain`).

    Raises
    ------
    KeyError
        If there is no explanation, or no explained cell with the answer.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> list(ch.get.recurrence(adata))[:5]
    ['answer', 'gene', 'n_cells', 'n_listed', 'n_top']
    """
    table = _table(data, "genes", key, mod, "Run `ch.tl.explain(adata, model, task)` first.")
    if answer is None:
        return table
    if answer not in {*table["answer"]}:
        msg = f"No explained cell has the answer {answer!r}; known: {[*table['answer'].unique()]}."
        raise KeyError(msg)
    return table[table["answer"] == answer].reset_index(drop=True)


def reasons(data: "AnnData | MuData", *, key: str = EXPLAIN, mod: str | None = None) -> pd.DataFrame:
    """Rationales in the model's own words.

    Parameters
    ----------
    data
        Annotated data with ``ch.tl.explain(..., reasons=n)`` done.
    key
        Entry of ``uns`` with the explanation.
    mod
        Modality of a MuData.

    Returns
    -------
    One row a cell: ``cell``, ``answer``, ``given``, ``reason``, ``text``, ``genes``, ``n_genes``, ``n_absent`` (see
    :func:`cellhermes.tl.explain`).

    Raises
    ------
    KeyError
        If there are none.

    Examples
    --------
    >>> import warnings
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> with warnings.catch_warnings(action="ignore"):  # the bundled model says that its words mean nothing
    ...     ch.tl.explain(adata, "mini", "t_cell_reactivity", reasons=1, max_new_tokens=5)
    >>> len(ch.get.reasons(adata))
    1
    """
    return _table(data, "reasons", key, mod, "Run `ch.tl.explain(adata, model, task, reasons=n)` first.")


def explanation_quality(data: "AnnData | MuData", *, key: str = EXPLAIN, mod: str | None = None) -> pd.DataFrame:
    """How far an explanation can be believed: deletion, insertion and agreement, each beside its control.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.faithfulness` done.
    key
        Entry of ``uns`` with the explanation.
    mod
        Modality of a MuData.

    Returns
    -------
    The ``table`` of :func:`cellhermes.tl.faithfulness`. Where ``low`` is above 0, the explanation is better than the
    control; where it is not, do not tell a story about the genes.

    Raises
    ------
    KeyError
        If it was not tested.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> ch.tl.faithfulness(adata, "mini", "t_cell_reactivity", steps=[1, 3], cells=5)
    >>> ch.get.explanation_quality(adata)["against"].unique().tolist()
    ['equal rank', 'any rank']
    """
    return _tested(data, "table", key, mod)


def faithfulness(data: "AnnData | MuData", *, key: str = EXPLAIN, mod: str | None = None) -> pd.DataFrame:
    """Deletion and insertion curves: the answer's probability without, or with only, the most important genes.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.faithfulness` done.
    key
        Entry of ``uns`` with the explanation.
    mod
        Modality of a MuData.

    Returns
    -------
    The ``curves`` of :func:`cellhermes.tl.faithfulness`.

    Raises
    ------
    KeyError
        If it was not tested.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> ch.tl.faithfulness(adata, "mini", "t_cell_reactivity", steps=[1, 3], cells=5)
    >>> sorted(ch.get.faithfulness(adata)["k"].unique().tolist())
    [0, 1, 3]
    """
    return _tested(data, "curves", key, mod)


def _tested(data: "AnnData | MuData", name: str, key: str, mod: str | None) -> pd.DataFrame:
    found = uns_of(_adata.resolve(data, mod), key).get("faithfulness")
    if found is None:
        msg = f"`adata.uns[{key!r}]['faithfulness']` not found. Run `ch.tl.faithfulness(adata, model, task)` first."
        raise KeyError(msg)
    return found[name].reset_index(drop=True)


def _table(data: "AnnData | MuData", name: str, key: str, mod: str | None, hint: str) -> pd.DataFrame:
    found = uns_of(_adata.resolve(data, mod), key).get(name)
    if found is None:
        msg = f"`adata.uns[{key!r}][{name!r}]` not found. {hint}"
        raise KeyError(msg)
    return found.reset_index(drop=True)


class Html(str):
    """Text that a notebook shows as HTML."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)


def sentence_html(data: "AnnData | MuData", cell: str, *, key: str = EXPLAIN, mod: str | None = None) -> str:
    """Sentence of a cell with its genes shaded by importance, for a notebook or a web page.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.explain` done.
    cell
        Name of the cell.
    key
        Entry of ``layers`` and ``uns`` with the explanation.
    mod
        Modality of a MuData.

    Returns
    -------
    HTML, which a notebook shows: orange speaks for the answer, blue against it (occlusion only), as strongly as the
    importance stands to the largest one of the cell.

    Raises
    ------
    KeyError
        If the cell is not explained.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> ch.get.sentence_html(adata, adata.obs_names[0]).count("<span")
    10
    """
    table = importance(data, cell, key=key, mod=mod).sort_values("position", kind="stable")
    most = table["importance"].abs().max() or 1
    spans = [
        f'<span style="background: rgba({"213,94,0" if value > 0 else "0,114,178"},{0.8 * abs(value) / most:.2f}); '
        f'padding: 0 2px; border-radius: 2px" title="{value:.3g}">{html.escape(gene)}</span>'
        for gene, value in zip(table["gene"], table["importance"], strict=True)
    ]
    head = f"<b>{html.escape(cell)}: {html.escape(table['answer'].iloc[0])}</b>"
    return Html(f'<div style="line-height: 1.7">{head}<br>{" ".join(spans)}</div>')
