"""Language models on AnnData: embed genes and cells, predict, explain.

Only names live here. Subpackages load on first use (:pep:`562`), so that ``import cellhermes`` costs little more than
``import anndata`` and loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import baselines, cache, datasets, get, io, metrics, model, pl, pp, text, tl, train
    from .model import CellHermes

__version__ = "0.1.0"
__all__ = [
    "CellHermes",
    "baselines",
    "cache",
    "datasets",
    "get",
    "io",
    "metrics",
    "model",
    "pl",
    "pp",
    "text",
    "tl",
    "train",
]


def __getattr__(name: str) -> object:
    if name == "CellHermes":
        return import_module(".model", __name__).CellHermes
    if name in __all__:
        return import_module(f".{name}", __name__)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
