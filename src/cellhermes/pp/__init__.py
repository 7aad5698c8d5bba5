"""Preparing: the genes that may stand in a sentence, the sentences of the cells, and what perturbations change."""

from ._genes import mask_genes
from ._map_genes import map_genes
from ._perturbation import perturbation_effects
from ._sentences import cell_sentences

__all__ = ["cell_sentences", "map_genes", "mask_genes", "perturbation_effects"]
