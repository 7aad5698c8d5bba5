"""Training: question-answer pairs, their mixtures and files, and the models that are tuned on them."""

from ._config import TrainConfig
from ._corpus import read_pairs, write_pairs
from ._fit import fit
from ._merge import merge
from ._mixture import mixture
from ._pairs import Pairs
from ._pairs_cells import ar_pairs, mlm_pairs
from ._pairs_graph import link_pairs, node_pairs
from ._run_file import run

__all__ = [
    "Pairs",
    "TrainConfig",
    "ar_pairs",
    "fit",
    "link_pairs",
    "merge",
    "mixture",
    "mlm_pairs",
    "node_pairs",
    "read_pairs",
    "run",
    "write_pairs",
]
