"""Training: question-answer pairs of the pretraining corpus, their mixtures, and the files they are written to."""

from ._corpus import read_pairs, write_pairs
from ._mixture import mixture
from ._pairs import Pairs
from ._pairs_cells import ar_pairs, mlm_pairs
from ._pairs_graph import link_pairs, node_pairs

__all__ = ["Pairs", "ar_pairs", "link_pairs", "mixture", "mlm_pairs", "node_pairs", "read_pairs", "write_pairs"]
