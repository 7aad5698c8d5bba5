"""What is had without a language model: answers, and embeddings of genes and cells, that a model has to beat."""

from ._answer import answer
from ._cells import embed_cells
from ._deg_then_direction import deg_then_direction
from ._genes import embed_genes

__all__ = ["answer", "deg_then_direction", "embed_cells", "embed_genes"]
