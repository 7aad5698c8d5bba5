"""Data sets: generated ones for examples and tests."""

from ._toy import toy, toy_ppi

__all__ = ["toy", "toy_ppi"]
