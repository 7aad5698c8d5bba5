"""Training: question-answer pairs, their mixtures and files, and the models that are tuned on them."""

from ._config import TrainConfig
from ._corpus import read_pairs, write_pairs
from ._fit import fit
from ._gene_sets import gene_set_questions
from ._groups import Group, Groups, answer_groups
from ._groups_cells import cell_groups, gene_in_cell_groups
from ._groups_graph import gene_groups
from ._merge import merge
from ._mixture import mixture
from ._negatives import balance, sample_negatives
from ._pairs import Pairs
from ._pairs_cells import ar_pairs, mlm_pairs
from ._pairs_graph import link_pairs, node_pairs
from ._pairs_lists import link_list_pairs, neighbor_pairs, walk_pairs
from ._reason_pairs import reason_pairs
from ._reinforce import reinforce
from ._reinforce_config import ReinforceConfig
from ._reward import reason_reward
from ._run_file import run
from ._settings import settings, split
from ._splits import (
    LeakError,
    check_split,
    split_by,
    split_random,
    split_unseen_combinations,
    split_unseen_genes,
)
from ._task_pairs import task_pairs

__all__ = [
    "Group",
    "Groups",
    "LeakError",
    "Pairs",
    "ReinforceConfig",
    "TrainConfig",
    "answer_groups",
    "ar_pairs",
    "balance",
    "cell_groups",
    "check_split",
    "fit",
    "gene_groups",
    "gene_in_cell_groups",
    "gene_set_questions",
    "link_list_pairs",
    "link_pairs",
    "merge",
    "mixture",
    "mlm_pairs",
    "neighbor_pairs",
    "node_pairs",
    "read_pairs",
    "reason_pairs",
    "reason_reward",
    "reinforce",
    "run",
    "sample_negatives",
    "settings",
    "split",
    "split_by",
    "split_random",
    "split_unseen_combinations",
    "split_unseen_genes",
    "task_pairs",
    "walk_pairs",
    "write_pairs",
]
