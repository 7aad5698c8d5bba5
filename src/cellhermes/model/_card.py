"""Names of models become cards: what to load, in which order, and how to read it. No tensors here."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

ReadAt = Literal["prompt_end", "entity_end", "mean"]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """How to load a model and how to read it.

    Parameters
    ----------
    name
        What the user asked for.
    base
        Folder or hub repository of the base model.
    revision
        Commit of the hub repository, ``""`` for a folder.
    adapters
        Folders of LoRA adapters, merged into the base in this order.
    wrap
        A key of :func:`cellhermes.text.wraps`; ``""`` takes ``"llama3-chat"`` where the tokenizer knows its tokens,
        else ``"plain"``.
    read_at
        Which token is the vector: the last of the wrapped prompt (``"prompt_end"``, the released weights), the last of
        the entity's own name (``"entity_end"``, the paper's Methods), or the ``"mean"`` over the entity's tokens. One
        value, or one per kind of prompt with ``"default"``.
    dtype
        Of the weights on an accelerator; a CPU always computes in float32.
    license
        Of the weights.
    description
        One line.
    sha256
        File name to hash, for what ships with the package.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.CellHermes.from_pretrained("mini").card.wrap
    'llama3-chat-blank'
    """

    name: str
    base: str
    revision: str = ""
    adapters: tuple[str, ...] = ()
    wrap: str = ""
    read_at: ReadAt | Mapping[str, ReadAt] = "prompt_end"
    dtype: str = "bfloat16"
    license: str = "see the model's own card"
    description: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [self.read_at] if isinstance(self.read_at, str) else list(self.read_at.values())
        if unknown := set(given) - set(get_args(ReadAt)):
            msg = f"read_at={sorted(unknown)} is not known; expected one of {list(get_args(ReadAt))}."
            raise ValueError(msg)

    def read(self, kind: str) -> ReadAt:
        """Which token to read for a kind of prompt (the name of its template)."""
        if isinstance(self.read_at, str):
            return self.read_at
        return self.read_at.get(kind, self.read_at.get("default", "prompt_end"))


@cache
def named() -> dict[str, ModelCard]:
    """Cards of ``models.toml`` by name."""
    table = tomllib.loads((files(__package__) / "models.toml").read_text("utf-8"))
    return {
        name: ModelCard(name=name, **entry | {"adapters": tuple(entry["adapters"])}) for name, entry in table.items()
    }


def list_models() -> pd.DataFrame:
    """Models that can be asked for by name.

    Returns
    -------
    One row a model, indexed by name: ``description``, ``base``, ``adapters``, ``license`` (str) and ``bundled`` (bool).

    Examples
    --------
    >>> import cellhermes as ch
    >>> bool(ch.model.list_models().loc["mini", "bundled"])
    True
    """
    rows = {
        card.name: {
            "description": card.description,
            "base": card.base,
            "adapters": " -> ".join(card.adapters),
            "license": card.license,
            "bundled": card.base.startswith("bundled:"),
        }
        for card in named().values()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def resolve(name: str | Path) -> ModelCard:
    """Card of a name of ``models.toml``, a folder (model or adapter) or a hub id, in this order."""
    if str(name) in named():
        return _checked(named()[str(name)])
    folder = Path(name)
    if folder.is_dir():
        return _of_folder(folder)
    if isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return ModelCard(name=name, base=name, dtype="bfloat16")
    msg = (
        f"No model {str(name)!r}. Known names: {', '.join(named())}. Otherwise pass a folder that exists, with a "
        "config.json or an adapter_config.json, or a hub id such as 'Qwen/Qwen2.5-0.5B'."
    )
    raise ValueError(msg)


def _checked(card: ModelCard) -> ModelCard:
    if card.adapters:
        msg = (
            f"Model {card.name!r} needs {' and '.join(card.adapters)}, for which this version holds no checksum, so "
            f"nothing is downloaded by name. Fetch the adapter's folder yourself (its base is {card.base!r}) and pass "
            "that folder, for example CellHermes.from_pretrained('path/to/CellHermes-v1.0'), or use 'mini'."
        )
        raise ValueError(msg)
    return card


def _of_folder(folder: Path) -> ModelCard:
    """A model's folder, or an adapter's, whose bases are followed down to a model."""
    adapters: list[str] = []
    at: str = str(folder)
    while (config := Path(at) / "adapter_config.json").is_file():
        adapters.insert(0, at)
        base = _json(config).get("base_model_name_or_path")
        if not base:
            msg = f"{config} names no base model (base_model_name_or_path)."
            raise ValueError(msg)
        if base in adapters:
            msg = f"Adapter {base!r} is its own base, by way of {config}."
            raise ValueError(msg)
        at = str(Path(at) / base) if (Path(at) / base).is_dir() else base
    if not adapters and not (folder / "config.json").is_file():
        found = sorted(path.name for path in folder.iterdir())[:8]
        msg = f"{folder} holds neither config.json nor adapter_config.json; found {found}."
        raise ValueError(msg)
    known = next((card for card in named().values() if at == card.base and not card.adapters), None)
    revision = known.revision if known else ""
    return ModelCard(name=str(folder), base=at, revision=revision, adapters=tuple(adapters))


def _json(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is damaged ({error}). Fetch or write it again."
        raise ValueError(msg) from error


def location(card: ModelCard) -> str:
    """Folder or hub id of the base, with the files of a bundled model checked against their hashes."""
    if not card.base.startswith("bundled:"):
        return card.base
    folder = Path(str(files(__package__) / card.base.removeprefix("bundled:")))
    check_files(folder, card.sha256)
    return str(folder)


def check_files(folder: Path, sha256: Mapping[str, str]) -> None:
    """Compare files with their hashes."""
    for file, expected in sha256.items():
        path = folder / file
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if found != expected:
            msg = f"{path} is damaged: expected sha256 {expected}, found {found}. Install the package again."
            raise ValueError(msg)
