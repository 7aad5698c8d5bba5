"""Checkpoints that are whole or do not count.

A list of their files, with hashes, is written last, and read before one is trusted. What has neither the list nor the
mark with which one begins is not ours, and stays.
"""

from __future__ import annotations

import logging
import re
import shutil
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from .._disk import FULL, flush, is_as_written, noted, sha256_of, write_json

logger = logging.getLogger("cellhermes")

BEGUN, COMPLETE = "begun.json", "complete.json"
NAME = re.compile(r"checkpoint-[0-9]+")


def check(folder: Path) -> None:
    """Refuse what stands where checkpoints are to be, and is none of ours.

    Raises
    ------
    FileExistsError
        If there is such a thing; nothing was changed.
    """
    ours = checkpoints(folder)
    if others := [path for path in folder.glob("checkpoint-*") if NAME.fullmatch(path.name) and path not in ours]:
        msg = f"{others[0]} is no checkpoint of this run, so it stays. Move it away, and call again."
        raise FileExistsError(msg)


def begin(folder: Path) -> None:
    """Mark a folder, which is not there yet, as a checkpoint that is being written."""
    folder.mkdir(parents=True)
    (folder / BEGUN).write_bytes(b"{}")


def seal(folder: Path) -> None:
    """Mark a checkpoint as whole: its files have reached the disk, and here are their hashes."""
    (folder / BEGUN).rename(folder / COMPLETE)  # so that one of the two is there all the time
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / COMPLETE)
    flush(*paths)
    files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}
    write_json(folder / COMPLETE, files)


def is_whole(folder: Path) -> bool:
    """Tell whether a checkpoint was sealed, and its files are what they were."""
    files = noted(folder / COMPLETE)
    return bool(files) and all(is_as_written(folder / name, found) for name, found in files.items())


def step_of(folder: Path) -> int:
    """Read the step of ``checkpoint-<step>``."""
    return int(folder.name.rpartition("-")[2])


def checkpoints(folder: Path) -> list[Path]:
    """List all checkpoints of the run, whole or not, in the order of their steps."""
    folders = [path for path in folder.glob("checkpoint-*") if NAME.fullmatch(path.name) and not path.is_symlink()]
    return sorted((path for path in folders if any((path / name).is_file() for name in (BEGUN, COMPLETE))), key=step_of)


def latest(folder: Path) -> Path | None:
    """Find the last whole checkpoint. Later ones, which an interruption left half-written, are named in the log."""
    for checkpoint in reversed(checkpoints(folder)):
        if is_whole(checkpoint):
            return checkpoint
        logger.warning("%s is half-written or was changed, and is skipped", checkpoint)
    return None


def remove_half_written(folder: Path) -> None:
    """Remove checkpoints that do not count, so that none is rotated against them."""
    for checkpoint in checkpoints(folder):
        if not is_whole(checkpoint):
            remove(checkpoint)


def rotate(folder: Path, *, keep: int, best: str | None) -> None:
    """Remove all but the last checkpoints, by their steps; the best one is among those that are kept.

    The times of files mislead where a clock was set or a folder copied.
    """
    folders = checkpoints(folder)
    others = [checkpoint for checkpoint in folders if best is None or checkpoint.name != Path(best).name]
    n_others = keep - (len(folders) - len(others))
    for checkpoint in others[:-n_others]:
        remove(checkpoint)


def remove(checkpoint: Path) -> None:
    """Remove what a checkpoint holds; of a whole one, what its list names and nobody has changed."""
    files = noted(checkpoint / COMPLETE)
    if not files:  # begun, and not sealed: all in it is half-written
        shutil.rmtree(checkpoint)
        return
    for name in files:
        if is_as_written(checkpoint / name, files[name]):
            (checkpoint / name).unlink()
    (checkpoint / COMPLETE).unlink(missing_ok=True)
    for path in (*sorted(checkpoint.rglob("*"), reverse=True), checkpoint):
        with suppress(OSError):  # holds something that is not the checkpoint's
            path.rmdir()
    if checkpoint.exists():
        kept = checkpoint.rename(checkpoint.with_name(f"{checkpoint.name}.{token_hex(4)}.kept"))
        logger.warning("%s held files that no run has written like this; they are in %s now.", checkpoint, kept.name)


def remove_all(folder: Path) -> None:
    """Remove all checkpoints of a run, and their folder if nothing else is in it."""
    for checkpoint in checkpoints(folder):
        remove(checkpoint)
    with suppress(OSError):
        folder.rmdir()


def is_full_disk(error: BaseException) -> bool:
    """Tell whether writing failed for want of space, in the ways of Python, torch and safetensors."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    text = str(error)
    return any(
        mark in text for mark in ("No space left", "os error 28", "PytorchStreamWriter failed", "unexpected pos")
    )
