"""Tools: what a language model computes from AnnData, written where its axes belong."""

from ._answer import answer
from ._embed_cells import embed_cells
from ._embed_genes import embed_genes
from ._enrich import enrich
from ._explain import explain
from ._faithfulness import faithfulness
from ._gene_network import gene_network
from ._modules import modules
from ._predict import predict
from ._reasons import reasons
from ._split_groups import split_groups

__all__ = [
    "answer",
    "embed_cells",
    "embed_genes",
    "enrich",
    "explain",
    "faithfulness",
    "gene_network",
    "modules",
    "predict",
    "reasons",
    "split_groups",
]
