"""Weights of the registry: adapters in our cache, bases in the model hub's own.

A repository whose commit the registry does not know is taken at its newest one, once: commit and hashes are written to
``lock.json`` beside the files, and hold from then on.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from .._disk import cache_folder, json_object, noted, size_text, write_json
from . import _hosts
from ._cache import check_space, locked, offline, writable
from ._data import announce
from ._download import RefusedError, read_url
from ._files import fetch
from ._hosts import Repository
from ._registry import COMMIT, Entry, File, find, registry

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("cellhermes")

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
WANTED = (  # of a base: weights that cannot run code, tokenizer, and how both are put together
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer*",
    "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt",
)  # fmt: skip
UNWANTED = ("*/*",)  # copies in other formats, checkpoints of a training
LOCK = "lock.json"


def is_registered(repository: str) -> bool:
    """Whether the registry has weights of this name."""
    return repository in registry()["model"]


def weights(repository: str, commit: str = "") -> tuple[Path, bool]:
    """Folder of released weights, and whether they are an adapter; downloaded if they are not there."""
    entry = find("model", repository)
    locked_at = _locked(entry)
    if set(ADAPTER) <= set(locked_at.files):
        return _adapter(entry, locked_at), True
    return base(repository, commit or locked_at.commit), False


def lock_of(repository: str) -> Path:
    """Where commit and hashes of a repository are recorded."""
    return adapter_folder(repository) / LOCK


def adapter_folder(repository: str) -> Path:
    """Where an adapter of a repository is kept."""
    return cache_folder() / "models" / repository.replace("/", "--")


def _locked(entry: Entry) -> Repository:
    """Commit and files of a repository: of the registry, of an earlier use, or of the hub today."""
    if entry.files and COMMIT.fullmatch(entry.commit):
        return Repository(entry.commit, {file.name: file for file in entry.files})
    path = lock_of(entry.name)
    if path.is_file():
        return read_lock(path)
    if how := offline():
        msg = (
            f"{entry.name} was never downloaded here, and {how} forbids the network. Unset it once, or import a bundle "
            "that another machine exported (`cellhermes cache export`, `cellhermes cache import`)."
        )
        raise ConnectionError(msg)
    with writable(), locked(str(path)):
        if path.is_file():  # another process was faster
            return read_lock(path)
        with _explained(entry.name):
            listing = _hosts.of_hub(entry.name, entry.commit if COMMIT.fullmatch(entry.commit) else "")
        path.parent.mkdir(parents=True, exist_ok=True)
        held = {"commit": listing.commit, "files": {name: asdict(file) for name, file in listing.files.items()}}
        write_json(path, held)
    logger.warning(
        "%s is used at commit %s, the newest one today; commit and hashes are kept in `%s`.",
        entry.name, listing.commit, path,
    )  # fmt: skip
    return listing


def read_lock(path: Path) -> Repository:
    """Return what was recorded of a repository."""
    try:
        held = json_object(path.read_bytes(), "it")
        files = {name: File(**{**file, "urls": tuple(file["urls"])}) for name, file in held["files"].items()}
        if not all(isinstance(text, str) for text in (held["commit"], *(file.hash for file in files.values()))):
            msg = "commit and hashes are texts"
            raise TypeError(msg)
        return Repository(held["commit"], files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} is damaged ({error!r}). Delete it to take the repository's newest commit."
        raise ValueError(msg) from error


def locked_files(path: Path) -> dict[str, str]:
    """Hashes by name of the repository that a file of our cache belongs to."""
    lock = path.parent.parent / LOCK
    if not lock.is_file() or not lock.is_relative_to(cache_folder()):
        return {}
    return {name: file.known for name, file in read_lock(lock).files.items()}


def _adapter(entry: Entry, found: Repository) -> Path:
    folder = adapter_folder(entry.name) / found.commit
    missing = [found.files[name] for name in ADAPTER if not (folder / name).is_file()]
    if missing and not offline():
        size = sum(file.size for file in missing)
        announce(entry, "the adapter", size)
        check_space(folder, size, entry.name)
    for name in ADAPTER:
        file = found.files[name]
        if not file.known:
            msg = f"{_hosts.endpoint()} gives no hash for {name} of {entry.name}, so it is not downloaded."
            raise ValueError(msg)
        place = (folder / name).relative_to(cache_folder()).as_posix()
        urls = [f"{_hosts.endpoint()}/{entry.name}/resolve/{found.commit}/{name}", *file.urls]
        advice = f"If a login is needed: `hf auth login`, or HF_TOKEN. {entry.name} is described at {entry.source}."
        headers = {} if offline() or not missing else _hosts.login()
        fetch(list(dict.fromkeys(urls)), place, known=file.known, size=file.size, advice=advice, headers=headers)
    return folder


# ---- bases, which the hub's library keeps


def base(repository: str, commit: str = "") -> Path:
    """Folder of a base model in the hub's cache, whole; downloaded if it is not."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    folder = cached_base(repository, commit)
    if folder is not None:
        return folder
    if how := offline():
        msg = (
            f"{repository} is not in the model hub's cache, and {how} forbids the network. Unset it once, import a "
            "bundle that another machine exported (`cellhermes cache export`), or pass the folder of a copy."
        )
        raise ConnectionError(msg)
    _prepare(repository, commit)
    try:
        path = snapshot_download(
            repository, revision=commit or None, allow_patterns=list(WANTED), ignore_patterns=list(UNWANTED),
            endpoint=_hosts.endpoint(),
        )  # fmt: skip
    except (HfHubHTTPError, OSError) as error:
        msg = (
            f"Could not download {repository} from {_hosts.endpoint()}: {error} What arrived is kept; call again to go "
            "on."
        )
        raise ConnectionError(msg) from error
    if problem := _incomplete(Path(path)):
        msg = f"{repository} did not arrive whole: {problem}. Call again."
        raise ConnectionError(msg)
    return Path(path)


def _prepare(repository: str, commit: str) -> None:
    """Whether one may have it and whether there is room, before gigabytes move."""
    from huggingface_hub import constants

    with _explained(repository):
        state = _hosts.of_hub(repository, commit)
        read_url(f"{_hosts.endpoint()}/{repository}/resolve/{state.commit}/config.json", _hosts.login())
    size = sum(file.size for file in state.files.values() if _is_wanted(file.name))
    check_space(Path(constants.HF_HUB_CACHE), size, repository)
    if is_registered(repository):
        announce(find("model", repository), "the base model", size)
    else:
        logger.info("Downloading %s (%s).", repository, size_text(size))


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Errors of the model hub name the repository and say what to do."""
    try:
        yield
    except RefusedError as error:
        msg = (
            f"{repository!r} is gated ({error}). Accept its licence on {_hosts.endpoint()}/{repository}, then log in "
            "(`hf auth login`) or set HF_TOKEN. Or pass the folder of a copy that you have."
        )
        raise PermissionError(msg) from error
    except (ConnectionError, ValueError) as error:
        msg = (
            f"Could not ask the model hub for {repository!r}: {error}. Is it spelt right (`ch.cache.list()` has "
            "the known names)? Without a network pass the folder of a copy, or import a bundle that another machine "
            "exported."
        )
        raise (ConnectionError if isinstance(error, ConnectionError) else ValueError)(msg) from error


def _is_wanted(name: str) -> bool:
    return any(fnmatch(name, p) for p in WANTED) and not any(fnmatch(name, p) for p in UNWANTED)


def cached_base(repository: str, commit: str = "") -> Path | None:
    """Folder of a base model that is whole in the hub's cache, None if it is not."""
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    ref = root / "refs" / "main"
    commit = commit or (ref.read_text("utf-8").strip() if ref.is_file() else "")
    folder = root / "snapshots" / commit
    return folder if commit and folder.is_dir() and not _incomplete(folder) else None


def _incomplete(folder: Path) -> str:
    """Return what a model's folder lacks, ``""`` for nothing."""
    names = {path.name for path in folder.iterdir() if path.exists()}  # a link may lead nowhere
    if "config.json" not in names:
        return "no config.json"
    if not any(name.startswith(("tokenizer.", "vocab.")) for name in names):
        return "no tokenizer"
    index = next((name for name in sorted(names) if name.endswith(".safetensors.index.json")), "")
    if index:
        needed = noted(folder / index).get("weight_map")
        if not isinstance(needed, dict):
            return f"{index} is damaged"
        needed = set(map(str, needed.values()))
        return f"without {', '.join(sorted(needed - names))}" if needed - names else ""
    return "" if any(name.endswith(".safetensors") for name in names) else "no safetensors weights"


def is_hub_id(name: str) -> bool:
    """Whether a name could be a repository."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not Path(name).is_dir()
