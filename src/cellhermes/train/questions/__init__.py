"""Tables of questions: splits that prove that nothing leaks, negatives, and pairs to train on."""

from ._gene_sets import gene_set_questions
from ._negatives import balance, sample_negatives
from ._splits import LeakError, check_split, split
from ._task_pairs import task_pairs

__all__ = [
    "LeakError",
    "balance",
    "check_split",
    "gene_set_questions",
    "sample_negatives",
    "split",
    "task_pairs",
]
