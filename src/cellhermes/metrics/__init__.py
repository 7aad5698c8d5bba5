"""Measures on arrays: what an embedding knows."""

from ._knn import knn_accuracy

__all__ = ["knn_accuracy"]
