"""Preparing: the genes that may stand in a sentence, and the sentences of the cells."""

from ._genes import mask_genes
from ._sentences import cell_sentences

__all__ = ["cell_sentences", "mask_genes"]
