"""Strings only: prompts, templates and the ranking of genes. Knows neither AnnData nor tensors."""

from ._modality import Modality, modalities, modality
from ._template import Prompt, QAPair, Template, template, templates
from ._wrap import Wrap, wrap, wraps

__all__ = [
    "Modality",
    "Prompt",
    "QAPair",
    "Template",
    "Wrap",
    "modalities",
    "modality",
    "template",
    "templates",
    "wrap",
    "wraps",
]
