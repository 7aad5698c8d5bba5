"""Measures on arrays and frames: what an embedding knows, how good answers are, and what trivial methods reach."""

from ._baselines import baseline, deg_then_direction
from ._classification import classification
from ._clusters import cluster_enrichment
from ._embeddings import expression_embedding, graph_embedding, ngram_embedding, random_embedding
from ._gene_pairs import gene_pairs, overlap
from ._gene_property import gene_property
from ._integration import integration, reference_embeddings
from ._knn import knn_accuracy
from ._roc import roc
from ._semantic import semantic_correlation
from ._temperature import fit_temperature

__all__ = [
    "baseline",
    "classification",
    "cluster_enrichment",
    "deg_then_direction",
    "expression_embedding",
    "fit_temperature",
    "gene_pairs",
    "gene_property",
    "graph_embedding",
    "integration",
    "knn_accuracy",
    "ngram_embedding",
    "overlap",
    "random_embedding",
    "reference_embeddings",
    "roc",
    "semantic_correlation",
]
