"""Weights and data sets by name: what there is, what is on this machine, and moving it to another one."""

from ._cached import export_bundle, fetch, import_bundle, list, remove, verify  # noqa: A004

__all__ = ["export_bundle", "fetch", "import_bundle", "list", "remove", "verify"]
