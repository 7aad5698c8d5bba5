"""Plots: each draws what a tool stored, on the axes it is given, and returns them. Nothing is computed or saved."""

from ._degree_change import degree_change
from ._enrich import enrich
from ._faithfulness import faithfulness
from ._gene_network import gene_network
from ._importance import importance
from ._jaccard import jaccard
from ._module_scores import module_scores
from ._modules import modules
from ._recurrence import recurrence
from ._roc import roc
from ._scores import scores
from ._sentence import sentence
from ._training import training

__all__ = [
    "degree_change",
    "enrich",
    "faithfulness",
    "gene_network",
    "importance",
    "jaccard",
    "module_scores",
    "modules",
    "recurrence",
    "roc",
    "scores",
    "sentence",
    "training",
]
