"""The command line: thin, on the public functions (and the folder of finished blocks)."""

from ._app import app

__all__ = ["app"]
