"""A file with everything that another machine needs: exported here, imported there, each file checked.

It is a tar with ``SHA256SUMS`` in front (``sha256sum -c`` reads it), files of our cache below ``cache/`` and files of
the model hub below ``hub/``.
"""

from __future__ import annotations

import io
import logging
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from .._disk import cache_folder, file_hash, whole
from ._cache import check_space, difference, writable
from ._unpack import opened_archive, safe_members

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger("cellhermes")

SUMS = "SHA256SUMS"


def _roots() -> dict[str, Path]:
    from huggingface_hub import constants

    return {"cache": cache_folder(), "hub": Path(constants.HF_HUB_CACHE)}


def write_bundle(target: Path, paths: Sequence[Path]) -> None:
    """Write files of both caches into one, which has its name only once it is whole."""
    named = {_name(path): path for path in paths}
    if not named:
        msg = "Nothing to export: none of what was asked for is in the cache. Fetch it first."
        raise FileNotFoundError(msg)
    if target.exists() or target.is_symlink():
        msg = f"{target} is there already; pass another path, or move it away."
        raise FileExistsError(msg)
    check_space(target.resolve().parent, sum(path.stat().st_size for path in named.values()), target.name)
    with whole(target) as unfinished, tarfile.open(unfinished, "w") as bundle:
        hashes = {name: file_hash(path) for name, path in tqdm(named.items(), desc="hashes", delay=2, leave=False)}
        _add_text(bundle, SUMS, "".join(f"{digest}  {name}\n" for name, digest in hashes.items()))
        for name, path in tqdm(named.items(), desc=target.name, delay=2, leave=False):
            bundle.add(path.resolve(), name, recursive=False)
    logger.info("%s files exported to `%s`.", f"{len(named):,}", target)


def _name(path: Path) -> str:
    """Name in a bundle; links of the hub's cache become the files that they lead to."""
    for name, root in _roots().items():
        if path.is_relative_to(root):
            return f"{name}/{path.relative_to(root).as_posix()}"
    msg = f"{path} is in neither cache."
    raise ValueError(msg)


def _add_text(bundle: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(text.encode())
    bundle.addfile(info, io.BytesIO(text.encode()))


def read_bundle(source: Path) -> list[Path]:
    """Put the files of a bundle into both caches; what is there already and the same is left alone."""
    with opened_archive(source) as bundle:
        if not isinstance(bundle, tarfile.TarFile):
            msg = f"{source} is no bundle."
            raise ValueError(msg)
        held = safe_members(source, bundle)
        hashes = _hashes(source, bundle, held)
        check_space(cache_folder(), sum(size for _, size in held.values()), source.name)
        placed = []
        with writable():
            for name, digest in tqdm(hashes.items(), desc=source.name, delay=2, leave=False):
                root, _, rest = name.partition("/")
                path = _roots()[root] / rest
                if not path.is_file() or file_hash(path) != digest:
                    _place(bundle, held[name][0], path, digest, f"{source}: {name}")
                placed.append(path)
    logger.info("%s files imported from `%s`.", f"{len(placed):,}", source)
    return placed


def _hashes(source: Path, bundle: tarfile.TarFile, held: Mapping[str, tuple[tarfile.TarInfo, int]]) -> dict[str, str]:
    """Hashes by name; every file must have one."""
    if SUMS not in held:
        msg = f"{source} is no bundle: it has no {SUMS}."
        raise ValueError(msg)
    with bundle.extractfile(held[SUMS][0]) as file:
        lines = file.read().decode("utf-8", "replace").splitlines()
    hashes = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if odd := sorted({*hashes} ^ ({*held} - {SUMS})) or [n for n in hashes if n.partition("/")[0] not in _roots()]:
        msg = f"{source} is damaged: {SUMS} and its files differ in {odd[:3]}."
        raise ValueError(msg)
    return hashes


def _place(bundle: tarfile.TarFile, member: tarfile.TarInfo, path: Path, digest: str, what: str) -> None:
    if path.exists():
        msg = f"{path} is another file than the bundle's. Delete the one that you do not want; nothing was changed."
        raise ValueError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as new:
        with bundle.extractfile(member) as source, new.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
        if how := difference(new, f"sha256:{digest}"):
            msg = f"{what} is damaged: {how}."
            raise ValueError(msg)
