"""``python -m cellhermes``."""

from .cli import app

app()
