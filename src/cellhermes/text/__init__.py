"""Strings only: prompts, templates and the ranking of genes. Knows neither AnnData nor tensors."""

from ._template import Prompt, QAPair, Template, template, templates
from ._wrap import Wrap, wrap, wraps

__all__ = ["Prompt", "QAPair", "Template", "Wrap", "template", "templates", "wrap", "wraps"]
