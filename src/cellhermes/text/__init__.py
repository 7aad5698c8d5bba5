"""Strings only: prompts, templates, tasks and the ranking of genes. Knows neither AnnData nor tensors."""

from ._modality import Modality
from ._question import Question
from ._task import Task
from ._template import Prompt, QAPair, Template
from ._wrap import Wrap

__all__ = ["Modality", "Prompt", "QAPair", "Question", "Task", "Template", "Wrap"]
