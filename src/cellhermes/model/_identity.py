"""What a model is by its content, whatever it is called and wherever it stands: one hash of all files that make it."""

import hashlib
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from .._disk import json_hash, sha256_of
from ._card import ADAPTER, UNSEEN, ModelCard, location, read_json
from ._store import located

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG = "config.json"
FILES = (  # that stand in the folder of a model or adapter and decide about its numbers
    "*.safetensors", "*.safetensors.index.json", CONFIG, "generation_config.json", ADAPTER, "tokenizer*", "vocab.*",
    "merges.txt", "*.model", "added_tokens.json", "special_tokens_map.json", "chat_template*", UNSEEN,
)  # fmt: skip
PLACES = ("_name_or_path", "base_model_name_or_path", "revision")  # fields of the configs: where something stood once


def sha256(card: ModelCard) -> str:
    """Hash a model's content: weights (all files), tokenizer and config of its base, then of each adapter in order.

    Two cards have the same one if the same bytes are read, whatever the folders are called: the base that an adapter
    names stands in it by its own files. How the model is read (wrap, token, number format) is not part of it. Works for
    bundled models, folders, chains of adapters and hub ids; what is not on this machine is downloaded. Large files are
    read once and then known by size, times and inode, so that a second call is cheap.

    Raises
    ------
    ValueError
        If a config is damaged.
    OSError
        If a file can't be read, or a hub model can't be had.
    """
    card = located(card)
    digest = hashlib.sha256()
    for folder in (location(card), *card.adapters):
        parts = {str(path.relative_to(folder)): _content(path) for path in _files(Path(folder))}
        digest.update(json.dumps(parts, sort_keys=True).encode())
    return digest.hexdigest()


def sha256_of_weights(lm: "PreTrainedModel", tokenizer: str) -> str:
    """Hash a model that is in memory and came from nowhere: config, tensors, and the hash of its tokenizer."""
    import torch

    digest = hashlib.sha256(json.dumps([lm.config.to_dict(), tokenizer], sort_keys=True, default=str).encode())
    for name, tensor in lm.state_dict().items():
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """List the files of a folder that make a model, and those that the index of its weights names."""
    named = {path.name for path in folder.iterdir() if any(fnmatch(path.name, pattern) for pattern in FILES)}
    for index in folder.glob("*.safetensors.index.json"):
        named |= {str(name) for name in dict(read_json(index).get("weight_map") or {}).values()}
    return (folder / name for name in sorted(named) if (folder / name).is_file())


def _content(path: Path) -> str:
    if path.name not in (CONFIG, ADAPTER):
        return sha256_of(path)
    config = {key: value for key, value in read_json(path).items() if key not in PLACES}
    return json_hash(config)
