"""Explanations: importance of genes, recurrent genes, rationales, and how far to believe them."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from .. import _adata
from .._explained import explanation_of, recurrence_of
from .._keys import CURVES, EXPLAIN, FAITHFULNESS, SENTENCE, TABLE, read_params, uns_of

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
    """Return the importance of the genes of cells.

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
    explained, params = explanation_of(adata, key), read_params(adata, key)
    matrix, answer = explained.matrix, explained.answer
    sentences = _adata.require_obs(adata, params["fields"][SENTENCE], "The sentences that were explained are gone.")
    known = answer[answer.notna()].index
    wanted = known if cells is None else [cells] if isinstance(cells, str) else list(cells)
    if missing := sorted({*wanted} - {*known}):
        msg = f"{len(missing)} cells are not explained, such as {missing[0]!r}; {len(known):,} are. Pass cells=."
        raise KeyError(msg)
    parts = []
    for row in adata.obs_names.get_indexer(wanted):
        stored = slice(matrix.indptr[row], matrix.indptr[row + 1])
        order = np.argsort(-matrix.data[stored], kind="stable")[:n_top]
        position = {gene: i for i, gene in enumerate(str(sentences.iloc[row]).split(), 1)}
        genes = explained.symbols[matrix.indices[stored][order]]
        listed = {"cell": adata.obs_names[row], "answer": str(answer.iloc[row]), "gene": genes}
        listed |= {"position": [position.get(gene, 0) for gene in genes], "importance": matrix.data[stored][order]}
        parts.append(pd.DataFrame(listed))
    return pd.concat(parts, ignore_index=True)


def explain(
    data: "AnnData | MuData",
    table: Literal["recurrence", "heads", "reasons"] = "recurrence",
    *,
    answer: str | None = None,
    n_top: int = 10,
    key: str = EXPLAIN,
    mod: str | None = None,
) -> pd.DataFrame:
    """Return a table of an explanation.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.explain` done; for ``"reasons"``, :func:`cellhermes.tl.reasons`.
    table
        ``"recurrence"``: genes that are important in many cells, by answer. ``"heads"``: the heads that attention was
        read from. ``"reasons"``: rationales in the model's own words.
    answer
        Only cells with this answer; None takes all answers.
    n_top
        Of ``"recurrence"``: how many genes of a cell count as its top genes.
    key
        Entry of ``uns`` with the explanation.
    mod
        Modality of a MuData.

    Returns
    -------
    ``"recurrence"``: one row for each gene of a sentence and answer, the most frequent first: ``answer``, ``gene``,
    ``n_cells`` (with the answer), ``n_listed`` (which list the gene), ``n_top`` (among whose ``n_top`` genes with a
    positive importance it is), ``frequency`` (``n_top`` / ``n_cells``) and ``mean_importance`` (where it is listed).
    ``"heads"``: ``head``, ``entropy``, ``gene_share``, ``n_cells`` (see :func:`cellhermes.tl.explain`). ``"reasons"``:
    ``cell``, ``answer``, ``given``, ``reason``, ``text``, ``genes``, ``n_genes``, ``n_absent`` (see
    :func:`cellhermes.tl.reasons`).

    Raises
    ------
    KeyError
        If there is no such table, or no explained cell with the answer.
    ValueError
        If ``table`` is not known, or has no answers, or ``n_top`` is below 1.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> list(ch.get.explain(adata))[:5]
    ['answer', 'gene', 'n_cells', 'n_listed', 'n_top']
    >>> list(ch.get.explain(adata, "heads"))
    ['head', 'entropy', 'gene_share', 'n_cells']
    """
    known = ("recurrence", "heads", "reasons")
    if table not in known or n_top < 1:
        msg = f"table={table!r}, n_top={n_top}; expected one of {known}, and at least 1."
        raise ValueError(msg)
    adata = _adata.resolve(data, mod)
    stored = recurrence_of(adata, n_top, key) if table == "recurrence" else uns_of(adata, key).get(table)
    if stored is None:
        tool = "reasons" if table == "reasons" else "explain"
        msg = f"`adata.uns[{key!r}][{table!r}]` not found. Run `ch.tl.{tool}(adata, model, task)` first."
        raise KeyError(msg)
    if answer is None:
        return stored.reset_index(drop=True)
    if "answer" not in stored:
        msg = f"answer={answer!r}, but table={table!r} is of all answers; leave answer out."
        raise ValueError(msg)
    if answer not in {*stored["answer"]}:
        msg = f"No explained cell has the answer {answer!r}; known: {[*stored['answer'].unique()]}."
        raise KeyError(msg)
    return stored[stored["answer"] == answer].reset_index(drop=True)


def faithfulness(
    data: "AnnData | MuData",
    table: Literal["curves", "quality"] = "curves",
    *,
    key: str = EXPLAIN,
    mod: str | None = None,
) -> pd.DataFrame:
    """Return how an explanation stood its test.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.faithfulness` done.
    table
        ``"curves"``: the answer's probability without, or with only, the most important genes. ``"quality"``: deletion,
        insertion and agreement, each beside its control.
    key
        Entry of ``uns`` with the explanation.
    mod
        Modality of a MuData.

    Returns
    -------
    The ``curves`` or the ``table`` of :func:`cellhermes.tl.faithfulness`. Where ``low`` of ``"quality"`` is above 0,
    the explanation is better than the control; where it is not, do not tell a story about the genes.

    Raises
    ------
    KeyError
        If it was not tested.
    ValueError
        If there is no such table.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> ch.tl.explain(adata, "mini", "t_cell_reactivity")
    >>> ch.tl.faithfulness(adata, "mini", "t_cell_reactivity", steps=[1, 3], cells=5)
    >>> sorted(ch.get.faithfulness(adata)["k"].unique().tolist())
    [0, 1, 3]
    >>> ch.get.faithfulness(adata, "quality")["against"].unique().tolist()
    ['equal rank', 'any rank']
    """
    names = {"curves": CURVES, "quality": TABLE}
    if table not in names:
        msg = f"table={table!r} is not known; expected one of {[*names]}."
        raise ValueError(msg)
    stored = uns_of(_adata.resolve(data, mod), key).get(FAITHFULNESS)
    if stored is None:
        msg = f"`adata.uns[{key!r}]['faithfulness']` not found. Run `ch.tl.faithfulness(adata, model, task)` first."
        raise KeyError(msg)
    return stored[names[table]].reset_index(drop=True)


class Html(str):
    """Text that a notebook shows as HTML."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)


def sentence_html(data: "AnnData | MuData", cell: str, *, key: str = EXPLAIN, mod: str | None = None) -> str:
    """Return the sentence of a cell with its genes shaded by importance, for a notebook or a web page.

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
