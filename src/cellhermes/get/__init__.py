"""Readers: fresh frames from what the tools stored. They never write."""

from ._answers import answers
from ._degree_change import degree_change
from ._enrich import enrich
from ._explain import explanation_quality, faithfulness, importance, reasons, recurrence, sentence_html
from ._gene_network import gene_network
from ._gene_vectors import gene_vectors
from ._modules import jaccard, module_genes, module_nulls, module_scores, modules
from ._prompts import prompts
from ._training_log import training_log

__all__ = [
    "answers",
    "degree_change",
    "enrich",
    "explanation_quality",
    "faithfulness",
    "gene_network",
    "gene_vectors",
    "importance",
    "jaccard",
    "module_genes",
    "module_nulls",
    "module_scores",
    "modules",
    "prompts",
    "reasons",
    "recurrence",
    "sentence_html",
    "training_log",
]
