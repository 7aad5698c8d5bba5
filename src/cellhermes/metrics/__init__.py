"""Measures on arrays and frames: what an embedding knows, and how good answers are."""

from ._classification import classification
from ._clusters import cluster_enrichment
from ._gene_pairs import gene_pairs, overlap
from ._gene_property import gene_property
from ._integration import integration
from ._knn import knn_accuracy
from ._roc import roc
from ._semantic import semantic_correlation
from ._temperature import fit_temperature

__all__ = [
    "classification",
    "cluster_enrichment",
    "fit_temperature",
    "gene_pairs",
    "gene_property",
    "integration",
    "knn_accuracy",
    "overlap",
    "roc",
    "semantic_correlation",
]
