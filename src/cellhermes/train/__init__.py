"""Training: from question-answer pairs to an adapter or a model. What to train on is made in two rooms of its own."""

from . import corpus, questions
from ._config import TrainConfig
from ._fit import fit
from ._merge import merge
from ._reinforce import reinforce
from ._reinforce_config import ReinforceConfig
from ._reward import reason_reward
from ._run_file import run

__all__ = ["ReinforceConfig", "TrainConfig", "fit", "merge", "reason_reward", "reinforce", "run"]
