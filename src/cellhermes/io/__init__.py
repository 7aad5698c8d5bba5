"""Readers of the field's files: interaction graphs, tables of databases, released questions."""

from ._contigs import read_contigs
from ._depmap import read_depmap
from ._embeddings import read_embeddings
from ._gene_categories import read_gene_categories
from ._gene_labels import read_gene_labels
from ._genetic_interactions import read_genetic_interactions
from ._gmt import read_gmt
from ._graphs import read_biogrid, read_edges, read_string
from ._perturbation_effects import read_perturbation_effects
from ._tables import read_table

__all__ = [
    "read_biogrid",
    "read_contigs",
    "read_depmap",
    "read_edges",
    "read_embeddings",
    "read_gene_categories",
    "read_gene_labels",
    "read_genetic_interactions",
    "read_gmt",
    "read_perturbation_effects",
    "read_string",
    "read_table",
]
