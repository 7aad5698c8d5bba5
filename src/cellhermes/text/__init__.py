"""Strings only: prompts, templates, tasks and the ranking of genes. Knows neither AnnData nor tensors."""

from ._modality import Modality, modalities, modality
from ._task import Task, task, tasks
from ._template import Prompt, QAPair, Template, template, templates
from ._wrap import Wrap, wrap, wraps

__all__ = [
    "Modality",
    "Prompt",
    "QAPair",
    "Task",
    "Template",
    "Wrap",
    "modalities",
    "modality",
    "task",
    "tasks",
    "template",
    "templates",
    "wrap",
    "wraps",
]
