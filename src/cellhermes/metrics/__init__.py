"""Measures on arrays and frames: what an embedding knows, how good answers are, and what trivial methods reach."""

from ._baselines import baseline, deg_then_direction
from ._classification import classification
from ._knn import knn_accuracy
from ._roc import roc
from ._temperature import fit_temperature

__all__ = ["baseline", "classification", "deg_then_direction", "fit_temperature", "knn_accuracy", "roc"]
