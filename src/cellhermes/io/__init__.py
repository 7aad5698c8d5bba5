"""Readers of the field's files: interaction graphs."""

from ._graphs import read_biogrid, read_edges, read_string

__all__ = ["read_biogrid", "read_edges", "read_string"]
