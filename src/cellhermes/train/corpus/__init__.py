"""The pretraining corpus: question-answer pairs, groups of prompts, mixtures, and files of pairs."""

from ._groups import Groups, answer_groups
from ._groups_cells import cell_groups, gene_in_cell_groups
from ._groups_graph import gene_groups
from ._mixture import mixture
from ._pairs import Pairs
from ._pairs_cells import ar_pairs, mlm_pairs
from ._pairs_graph import link_pairs, node_pairs
from ._pairs_lists import list_pairs

__all__ = [
    "Groups",
    "Pairs",
    "answer_groups",
    "ar_pairs",
    "cell_groups",
    "gene_groups",
    "gene_in_cell_groups",
    "link_pairs",
    "list_pairs",
    "mixture",
    "mlm_pairs",
    "node_pairs",
]
