"""Tools: what a language model computes from AnnData, written where its axes belong."""

from ._embed_cells import embed_cells
from ._embed_genes import embed_genes

__all__ = ["embed_cells", "embed_genes"]
