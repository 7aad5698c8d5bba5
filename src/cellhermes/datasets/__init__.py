"""Data sets: generated ones for examples and tests, and the paper's by name, from one checked cache."""

from ._cells import cells
from ._genes import gene_properties, gene_sets
from ._graphs import ppi
from ._questions import questions
from ._toy import toy

__all__ = ["cells", "gene_properties", "gene_sets", "ppi", "questions", "toy"]
