"""The model argument of the tools, and what is stored about it."""

import json
from dataclasses import asdict
from pathlib import Path

from .._keys import Param
from ..model import CellHermes
from ..text import Template


def as_model(model: str | Path | CellHermes) -> CellHermes:
    """Load a model by name or folder; one that is loaded already is taken as it is."""
    if isinstance(model, CellHermes):
        return model
    if isinstance(model, str | Path):
        return CellHermes.from_pretrained(model)
    msg = f"model is a {type(model).__name__}; expected a name, a folder, or ch.CellHermes.from_pretrained(...)."
    raise TypeError(msg)


def dim_of(model: str | Path | CellHermes) -> int:
    """Width of a model's vectors, told before its weights are read."""
    if not isinstance(model, str | Path):
        return as_model(model).dim
    from ..model._card import resolve
    from ..model._load import width_of

    return width_of(resolve(model))


def provenance(model: CellHermes, template: Template | None = None) -> dict[str, Param]:
    """Tell how a model read its prompts: enough to make vectors, or answers, again."""
    card = model.card
    of_template = {} if template is None else {"template": template.name, "template_version": template.version}
    return {
        "model": card.name,
        "model_sha256": model.sha256,
        "base": card.base,
        "revision": card.revision,
        "adapters": " -> ".join(card.adapters),
        "wrap": model.wrap,
        "wrap_parts": json.dumps(asdict(model.around), sort_keys=True),
        "read_at": card.read_at if isinstance(card.read_at, str) else json.dumps(dict(card.read_at), sort_keys=True),
        "dtype": model.dtype,
        "quantize": model.quantize,
        **of_template,
    }
