"""The test settings of the paper by name: which task is asked, and what no training question had."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import pandas as pd

from ._splits import FRACTIONS, SPLIT, split_by, split_random, split_unseen_combinations, split_unseen_genes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

logger = logging.getLogger("cellhermes")


@dataclass(frozen=True, slots=True)
class Setting:
    """A test setting: which task is asked, and what was not seen in training.

    Parameters
    ----------
    tasks
        Names of the tasks that use the split.
    unseen
        What a test question has that no training question had.
    how
        The function that splits.
    arguments
        Its arguments.
    """

    tasks: tuple[str, ...]
    unseen: str
    how: Callable[..., pd.DataFrame]
    arguments: Mapping[str, object] = field(default_factory=dict)


def _made() -> dict[str, Setting]:
    """The paper's thirteen (Methods, "CellHermes as a predictor", and Supplementary Note 5), and two of its T cells."""
    effects = ("perturbation_deg", "perturbation_direction")
    found = {
        "perturbation/unseen_gene": Setting(effects, "perturbed gene", split_unseen_genes, {"columns": "perturbation"}),
        "perturbation/unseen_combination": Setting(
            effects, "combination of perturbed genes", split_unseen_combinations, {}
        ),
        "perturbation/unseen_cell_line": Setting(effects, "cell line", split_by, {"columns": "cell_line"}),
        "cell_fitness/unseen_gene": Setting(("cell_fitness",), "gene", split_unseen_genes, {"columns": "gene"}),
        "cell_fitness/unseen_cell_line": Setting(("cell_fitness",), "cell line", split_by, {"columns": "cell_line"}),
    }
    for kind in ("synthetic", "phenotypic", "general", "dosage"):
        name = f"genetic_interaction_{kind}"
        arguments = {"columns": ("gene_a", "gene_b"), "unordered": True}
        found[name] = Setting((name,), "pair of genes", split_by, arguments)
    for kind in ("cell_type", "disease", "phenotype", "rare_disease"):
        name = f"gene_set_{kind}"
        found[name] = Setting((name,), "gene of the category", split_by, {"columns": ("gene", "category")})
    found["t_cell_reactivity/cell"] = Setting(("t_cell_reactivity",), "cell", split_random, {})
    found["t_cell_reactivity/clonotype"] = Setting(
        ("t_cell_reactivity",), "T-cell receptor", split_by, {"columns": "clonotype"}
    )
    return found


SETTINGS: Mapping[str, Setting] = MappingProxyType(_made())
ALSO = {"clonotype": "clone_id"}  # what a column is called by readers, ours and scirpy's, where it is another name
CHAINS = ("IR_VJ_1_junction", "IR_VDJ_1_junction")


def settings() -> pd.DataFrame:
    """The test settings that :func:`~cellhermes.train.questions.split` knows.

    Returns
    -------
    By name: ``tasks``, ``unseen`` (what a test question has that no training question had), and ``function`` with its
    ``arguments``.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.train.questions.settings().loc["cell_fitness/unseen_gene", "unseen"]
    'gene'
    """
    rows = [
        (name, ", ".join(one.tasks), one.unseen, one.how.__name__, dict(one.arguments))
        for name, one in SETTINGS.items()
    ]
    return pd.DataFrame(rows, columns=["setting", "tasks", "unseen", "function", "arguments"]).set_index("setting")


def split(frame: pd.DataFrame, setting: str, *, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> pd.DataFrame:
    """Split for a test setting of the paper, by name.

    Gene-set tables (``gene``, ``category``) are split before questions are made of them: a gene that is shown for a
    category in the test was never shown for it in training.

    Parameters
    ----------
    frame
        Questions, or genes and categories, as the readers of :mod:`cellhermes.io` return them.
    setting
        A name of :func:`settings`.
    fractions
        Shares of training, validation and test.
    seed
        Seed of the draw.

    Returns
    -------
    A frame with the column ``split``; rows that belong to no part are left out and counted in ``attrs["dropped"]``.
    Clonotypes are read from ``clonotype`` or ``clone_id``; where the table holds the chains of the receptors, as that
    of :func:`cellhermes.io.read_contigs`, ``attrs["shared"]`` and the log say how many chains of validation and test
    stand in another receptor of training.

    Raises
    ------
    KeyError
        If the setting or a column is not there.
    ValueError
        If a part would be empty.

    Examples
    --------
    >>> import pandas as pd
    >>> import cellhermes as ch
    >>> frame = pd.DataFrame({"gene": list("ABCDEFGHIJ"), "cell_line": "K562", "answer": "Yes"})
    >>> ch.train.questions.split(frame, "cell_fitness/unseen_gene").groupby("split")["gene"].count().to_dict()
    {'test': 1, 'train': 8, 'valid': 1}
    """
    if setting not in SETTINGS:
        msg = f"No setting {setting!r}. Known: {', '.join(SETTINGS)}."
        raise KeyError(msg)
    chosen = SETTINGS[setting]
    arguments = dict(chosen.arguments)
    if (column := arguments.get("columns")) in ALSO and column not in frame:
        arguments["columns"] = ALSO[column]
        if ALSO[column] not in frame:
            msg = f"the frame has neither {column!r} nor {ALSO[column]!r}; its columns are {list(frame)}."
            raise KeyError(msg)
    found = chosen.how(frame, **arguments, fractions=fractions, seed=seed)
    if column in ALSO and (shared := _shared(found)):
        found.attrs = {**found.attrs, "shared": shared}
        said = "; ".join(f"{n:,} of {of:,} {chain}" for chain, (n, of) in shared.items())
        logger.info("%s: of the chains of validation and test, training has %s, in other receptors", setting, said)
    return found


def _shared(frame: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """For each chain of a receptor: how many sequences outside of training are in it too, of how many."""
    is_train = (frame[SPLIT] == "train").to_numpy()
    parts = {
        chain: (frame[chain][is_train].dropna(), frame[chain][~is_train].dropna()) for chain in CHAINS if chain in frame
    }
    return {chain: (len({*train} & {*rest}), len({*rest})) for chain, (train, rest) in parts.items()}
