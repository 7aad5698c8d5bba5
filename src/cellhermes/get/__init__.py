"""Readers: fresh frames from what the tools stored. They never write."""

from ._answers import answers
from ._degree_change import degree_change
from ._enrich import enrich
from ._explain import explain, faithfulness, importance, sentence_html
from ._gene_network import gene_network
from ._gene_vectors import gene_vectors
from ._modules import modules
from ._prompts import prompts
from ._training_log import training_log

__all__ = [
    "answers",
    "degree_change",
    "enrich",
    "explain",
    "faithfulness",
    "gene_network",
    "gene_vectors",
    "importance",
    "modules",
    "prompts",
    "sentence_html",
    "training_log",
]
