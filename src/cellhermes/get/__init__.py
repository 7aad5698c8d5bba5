"""Readers: fresh frames from what the tools stored. They never write."""

from ._prompts import prompts

__all__ = ["prompts"]
