"""Data sets: generated ones for examples and tests, and the paper's by name, from one checked cache."""

from ._cells import aorta, immune, lung, melanoma_counts, pancreas, pbmc, tabula_sapiens
from ._genes import gene_pairs, gene_properties, gene_sets
from ._graphs import ppi
from ._questions import biounibench, melanoma_t_cells, pretraining_pairs
from ._toy import toy, toy_ppi

__all__ = [
    "aorta",
    "biounibench",
    "gene_pairs",
    "gene_properties",
    "gene_sets",
    "immune",
    "lung",
    "melanoma_counts",
    "melanoma_t_cells",
    "pancreas",
    "pbmc",
    "ppi",
    "pretraining_pairs",
    "tabula_sapiens",
    "toy",
    "toy_ppi",
]
