"""Whether an explanation is true: what becomes of the answer without the genes that it names, and with no others."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.special import softmax
from tqdm.auto import tqdm

from .. import _adata
from .._explained import explanation_of
from .._keys import CURVES, EXPLAIN, FAITHFULNESS, PARAMS, REASONS, SENTENCE, TABLE, read_params, version
from ..model import CellHermes
from ..text import Question, Task
from ._ask import prior_of
from ._explain import check_model, drawn, explained_question
from ._importance import BLOCK, Listed, score
from ._model import as_model
from ._predict import rows_of

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger("cellhermes")

STRATUM = 10  # neighbours in a sentence that count as equally expressed
STEPS = (1, 2, 5, 10, 20, 50)
N_TOP = 10
ORDERS = ("importance", "equal rank", "any rank")
N_MARKERS = 50  # of a group of sc.tl.rank_genes_groups
Z = 1.959963984540054  # 97.5% of a normal distribution


def faithfulness(
    data: "AnnData | MuData",
    model: str | Path | CellHermes,
    task: str | Path | Task | Question,
    *,
    steps: Sequence[int] = STEPS,
    cells: int | Sequence[str] | None = 200,
    markers: str | Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    others: Sequence[str] = (),
    n_top: int = N_TOP,
    batch_size: int | None = None,
    rng: int | np.random.Generator | None = 0,
    key: str = EXPLAIN,
    mod: str | None = None,
) -> None:
    """Test whether the genes that an explanation names decide the answer.

    *Deletion*: the k most important genes are taken out of the cell's sentence, and the probability of the explained
    answer is read again; it falls quickly where the explanation is true. *Insertion*: only these genes are left, in
    their order; the probability is high where they suffice (comprehensiveness and sufficiency of DeYoung et al. 2020,
    doi:10.18653/v1/2020.acl-main.408). Two controls take as many genes away that are not named: ``"equal rank"``, for
    which importances are shuffled within every ten neighbours of the sentence, so that its genes are as highly
    expressed; and ``"any rank"``, for which they are shuffled over the whole sentence. An explanation that does no
    better than ``"equal rank"`` says no more than that highly expressed genes matter.

    *Agreement*: how many of a cell's top genes are also named by its rationale, are markers of its answer, or are top
    genes of another explanation such as occlusion; and how many would be if importances were shuffled within every ten
    neighbours, which is calculated and not drawn.

    Parameters
    ----------
    data
        Annotated data with :func:`cellhermes.tl.explain` done.
    model, task
        What was explained: the task is enough, and how it was asked stands in the explanation.
    steps
        Numbers k of genes. A cell always keeps one: where it has fewer genes, all others are taken.
    cells
        Names of explained cells, or how many are drawn, for deletion and insertion; None takes all. Each needs some
        36 forward passes.
    markers
        Genes that are known to belong to the answers: answer to genes, one list for all answers, or the entry of
        ``uns`` of ``sc.tl.rank_genes_groups``, whose groups are answers, of which the first 50 genes are taken.
    others
        Other explanations (their ``key_added``) of the same cells.
    n_top
        How many genes of a cell count as its top genes, for agreement.
    batch_size
        Questions per forward pass; None chooses from the memory that is free.
    rng
        Seed or generator of what is drawn.
    key
        The explanation that is tested.
    mod
        Modality of a MuData.

    Returns
    -------
    Nothing; writes into ``uns[key]["faithfulness"]``

    ``curves`` : DataFrame
        ``test`` (``"deletion"``, ``"insertion"``), ``order`` (``"importance"``, ``"equal rank"``, ``"any rank"``),
        ``answer`` (``""`` for all cells), ``k``, ``probability`` (mean over cells), ``error`` (standard error),
        ``kept`` (share of cells whose answer stays the same), ``n_cells``.
    ``table`` : DataFrame
        ``test`` (``"deletion"``, ``"insertion"``, ``"agreement"``), ``against``, ``answer``, ``n_cells``, ``value``,
        ``expected``, ``gain``, ``low``, ``high``. For the curves, ``value`` and ``expected`` are mean probabilities
        over the steps, of the explanation and of the control; for agreement, shares of the top genes. ``gain`` is
        their difference, positive where the explanation is better, with its 95% interval (normal, over cells).
    ``params`` : dict
        Arguments.

    Raises
    ------
    KeyError
        If an explanation, markers or cells are not there.
    ValueError
        If model or task are not those of the explanation, or sentences have changed since.

    See Also
    --------
    cellhermes.get.faithfulness, cellhermes.get.faithfulness, cellhermes.pl.faithfulness

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=10)
    >>> model = ch.CellHermes.from_pretrained("mini")
    >>> ch.tl.explain(adata, model, "t_cell_reactivity")
    >>> ch.tl.faithfulness(adata, model, "t_cell_reactivity", steps=[1, 3], cells=5)
    >>> ch.get.faithfulness(adata, "quality")["test"].unique().tolist()
    ['deletion', 'insertion']
    """
    adata = _adata.writable(data, mod)
    steps = _checked_steps(steps)
    if not n_top >= 1:
        msg = f"n_top={n_top}; expected at least 1."
        raise ValueError(msg)
    explanation = explanation_of(adata, key)
    matrix, answer = explanation.matrix, explanation.answer
    question = explained_question(adata, task, key)
    sentence_key = question.column_of(SENTENCE)
    rng = np.random.default_rng(rng)
    explained = np.flatnonzero(answer.notna())
    rows = drawn(adata.obs_names, explained, cells, rng)
    frame = rows_of(data, mod, question).read(slice(None))
    every = _ExplainedCells.of(adata, frame[sentence_key].to_numpy()[explained], explained, matrix, sentence_key)
    compared = _agreements(adata, key, markers, others, every, answer.iloc[explained], n_top)
    model = as_model(model)
    check_model(model, adata, key)

    some = every.of_rows(rows)
    codes = pd.Index(question.answers).get_indexer(answer.iloc[rows])
    options = {"batch_size": batch_size, "prior": prior_of(question, model)}
    full = softmax(score(question, model, frame.iloc[rows], some.genes, **options), axis=1)
    read = np.empty((len(rows), 2, len(ORDERS), len(steps), 2))  # tests, orders, steps; probability, same answer
    for part, asked, genes in _reduced(some, steps, rng):
        probability = softmax(score(question, model, frame.iloc[rows[asked]], genes, **options), axis=1)
        given = np.stack(
            [probability[np.arange(len(probability)), codes[asked]], probability.argmax(1) == codes[asked]], axis=1
        )
        read[part] = given.reshape(len(part), *read.shape[1:])

    names = answer.iloc[rows].astype(str).to_numpy()
    start = full[np.arange(len(rows)), codes]
    table = pd.concat([_table(read[..., 0], names), *compared], ignore_index=True)
    about = {"steps": list(steps), "n_cells": len(rows), "others": list(others), "version": version()}
    tested = {CURVES: _curves(read, start, steps, names), TABLE: table, PARAMS: about}
    adata.uns[key] = {**adata.uns[key], FAITHFULNESS: tested}
    logger.info("Faithfulness of %s cells in uns[%r]['faithfulness'].", f"{len(rows):,}", key)


# --------------------------------------------------------------------------------------------------------- checks


def _checked_steps(steps: Sequence[int]) -> tuple[int, ...]:
    steps = tuple(sorted({int(k) for k in steps}))
    if not steps or steps[0] < 1:
        msg = f"steps={list(steps)}; expected numbers of genes, 1 or more."
        raise ValueError(msg)
    return steps


# ---------------------------------------------------------------------------------------------------------- cells


@dataclass(frozen=True, slots=True)
class _ExplainedCells:
    """Genes of some cells in the order of their sentences, their columns, and their importance."""

    rows: np.ndarray
    genes: list[list[str]]
    columns: list[np.ndarray]
    values: list[np.ndarray]

    @classmethod
    def of(
        cls, adata: AnnData, sentences: Sequence[str], rows: np.ndarray, matrix: sparse.csr_matrix, sentence_key: str
    ) -> "_ExplainedCells":
        listed = Listed.of(adata, sentences, sentence_key)
        values = [in_order(matrix, row, columns) for row, columns in zip(rows, listed.columns, strict=True)]
        if changed := [row for row, found in zip(rows, values, strict=True) if found is None]:
            msg = (
                f"The sentences of {len(changed):,} cells, such as {adata.obs_names[changed[0]]!r}, have other genes "
                "than when they were explained. Run `ch.tl.explain` again."
            )
            raise ValueError(msg)
        return cls(rows, listed.genes, listed.columns, values)

    def of_rows(self, rows: np.ndarray) -> "_ExplainedCells":
        at = np.searchsorted(self.rows, rows)
        return _ExplainedCells(rows, *([part[i] for i in at] for part in (self.genes, self.columns, self.values)))


def in_order(matrix: sparse.csr_matrix, row: int, columns: np.ndarray) -> np.ndarray | None:
    """Entries of a row in the order of some columns; None if these are not its columns."""
    stored = slice(matrix.indptr[row], matrix.indptr[row + 1])
    indices = matrix.indices[stored]
    order, back = np.argsort(indices), np.argsort(columns)
    if not np.array_equal(indices[order], columns[back]):
        return None
    values = np.empty(len(columns))
    values[back] = matrix.data[stored][order]
    return values


# ----------------------------------------------------------------------------------------- deletion and insertion


def _reduced(
    cells: _ExplainedCells, steps: Sequence[int], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, list[list[str]]]]:
    """Cells of a block, the cell of each question, and the genes that are left in it.

    The questions of a cell are: deletion and insertion, each in all orders, each with all steps.
    """
    n_each = 2 * len(ORDERS) * len(steps)
    size = max(1, BLOCK // n_each)
    for start in tqdm(range(0, len(cells.genes), size), desc="faithfulness", delay=2, leave=False):
        part = np.arange(start, min(start + size, len(cells.genes)))
        genes = []
        for i in part:
            ranks = [np.argsort(-values, kind="stable") for values in orders_of(cells.values[i], rng)]
            for inserts in (False, True):
                for rank in ranks:
                    genes += [_left(cells.genes[i], rank, k, inserts=inserts) for k in steps]
        yield part, np.repeat(part, n_each), genes


def orders_of(values: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Return importances, the same shuffled within strata of a sentence, and shuffled altogether."""
    within = [rng.permutation(values[at : at + STRATUM]) for at in range(0, len(values), STRATUM)]
    return [values, np.concatenate(within), rng.permutation(values)]


def _left(genes: list[str], rank: np.ndarray, k: int, *, inserts: bool) -> list[str]:
    """Return what is left of a sentence without its first k genes by rank, or with nothing else."""
    top = {*rank[: min(k, max(1, len(genes) - 1))].tolist()}
    remaining = [gene for i, gene in enumerate(genes) if (i in top) == inserts]
    return remaining or genes  # a cell of one gene keeps it


def _curves(read: np.ndarray, start: np.ndarray, steps: Sequence[int], names: np.ndarray) -> pd.DataFrame:
    """Means over cells, of all and by answer; deletion begins with nothing deleted."""
    rows = []
    for name in ["", *sorted({*names})]:
        mine = np.ones(len(names), bool) if name == "" else names == name
        for t, test in enumerate(("deletion", "insertion")):
            for o, order in enumerate(ORDERS):
                points = [(k, *read[mine, t, o, s].T) for s, k in enumerate(steps)]
                if test == "deletion":
                    points = [(0, start[mine], np.ones(mine.sum())), *points]
                rows += [(test, order, name, k, p.mean(), _error(p), same.mean(), len(p)) for k, p, same in points]
    columns = ["test", "order", "answer", "k", "probability", "error", "kept", "n_cells"]
    return pd.DataFrame(rows, columns=columns)


def _table(probability: np.ndarray, names: np.ndarray) -> pd.DataFrame:
    """Explanation against controls: (cells, tests, orders, steps) in."""
    area = probability.mean(-1)
    parts = []
    for t, (test, sign) in enumerate((("deletion", -1), ("insertion", 1))):
        for o, control in enumerate(ORDERS[1:], 1):
            parts.append(_compared(test, control, area[:, t, 0], area[:, t, o], names, sign))
    return pd.concat(parts, ignore_index=True)


def _compared(
    test: str, against: str, value: np.ndarray, expected: np.ndarray, names: np.ndarray, sign: int = 1
) -> pd.DataFrame:
    """Rows of the table for all cells and each answer."""
    rows = []
    for name in ["", *sorted({*names})]:
        mine = np.ones(len(names), bool) if name == "" else names == name
        gain = sign * (value[mine] - expected[mine])
        reach = Z * _error(gain)
        means = (value[mine].mean(), expected[mine].mean(), gain.mean(), gain.mean() - reach, gain.mean() + reach)
        rows.append((test, against, name, int(mine.sum()), *means))
    columns = ["test", "against", "answer", "n_cells", "value", "expected", "gain", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _error(values: np.ndarray) -> float:
    """Return standard error of a mean; NaN for a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


# ------------------------------------------------------------------------------------------------------ agreement


def _agreements(
    adata: AnnData,
    key: str,
    markers: str | Sequence[str] | Mapping[str, Sequence[str]] | None,
    others: Sequence[str],
    cells: _ExplainedCells,
    answer: pd.Series,
    n_top: int,
) -> list[pd.DataFrame]:
    """Rows of the table for everything there is to agree with."""
    names = answer.astype(str).to_numpy()
    sets: dict[str, list[set[str] | None]] = {}
    if (reasons := adata.uns[key].get(REASONS)) is not None and len(reasons):
        named = {
            cell: {*genes.split(";")} for cell, genes in zip(reasons["cell"], reasons["genes"].astype(str), strict=True)
        }
        sets["reasons"] = [named.get(cell) for cell in answer.index]
    if markers is not None:
        known = _markers(adata, key, markers, names)
        sets["markers"] = [known.get(name) for name in names]
    for other in others:
        matrix = explanation_of(adata, other).matrix
        each = zip(cells.rows, cells.genes, cells.columns, strict=True)
        sets[other] = [_tops(matrix, row, genes, columns, n_top) for row, genes, columns in each]
    agreements = []
    for name, each in sets.items():
        there = [i for i, one in enumerate(each) if one is not None]
        if not there:
            msg = (
                f"No cell of explanation {key!r} can be compared with {name!r}: they have no cell or answer in common."
            )
            raise ValueError(msg)
        both = np.array([overlap(cells.genes[i], cells.values[i], each[i], n_top) for i in there])
        agreements.append(_compared("agreement", name, *both.T, names[there]))
    return agreements


def _markers(
    adata: AnnData, key: str, markers: str | Sequence[str] | Mapping[str, Sequence[str]], answers: np.ndarray
) -> dict[str, set[str]]:
    """Symbols of the markers of each answer; scanpy and users may name genes as ``var_names`` does."""
    if isinstance(markers, str):
        if "names" not in adata.uns.get(markers, {}):
            msg = f"`adata.uns[{markers!r}]['names']` not found. Run `sc.tl.rank_genes_groups(adata, groupby)` first."
            raise KeyError(msg)
        names = adata.uns[markers]["names"]
        of_answer = {group: names[group][:N_MARKERS] for group in names.dtype.names}
    else:
        of_answer = markers if isinstance(markers, Mapping) else dict.fromkeys({*answers}, markers)
    how = {"gene_symbols": str(read_params(adata, key)["gene_symbols"]) or None}
    how["use_raw"] = explanation_of(adata, key).use_raw
    return {str(answer): {*_adata.symbols_of_genes(adata, genes, **how)} for answer, genes in of_answer.items()}


def _tops(matrix: sparse.csr_matrix, row: int, genes: list[str], columns: np.ndarray, n_top: int) -> set[str] | None:
    """Top genes of another explanation; None for a cell that it does not explain."""
    values = in_order(matrix, row, columns)
    if values is None:
        return None
    rank = np.argsort(-values, kind="stable")[:n_top]
    return {genes[i] for i in rank if values[i] > 0}


def overlap(genes: Sequence[str], values: np.ndarray, other: set[str], n_top: int) -> tuple[float, float]:
    """Share of the top genes that are in another set, and its expectation under shuffling within strata."""
    rank = np.argsort(-values, kind="stable")[:n_top]
    is_top = np.zeros(len(genes), bool)
    is_top[rank[values[rank] > 0]] = True
    if not is_top.any():
        return 0.0, 0.0
    hit = np.array([gene in other for gene in genes])
    strata = [slice(at, at + STRATUM) for at in range(0, len(genes), STRATUM)]
    expected = sum(is_top[one].sum() * hit[one].mean() for one in strata)
    return float((is_top & hit).sum() / is_top.sum()), float(expected / is_top.sum())
