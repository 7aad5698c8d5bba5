"""Checkpoints that are whole or do not count: a list of their files is written last, and read before one is trusted."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from pathlib import Path

logger = logging.getLogger("cellhermes")

COMPLETE = "complete.json"


def seal(folder: Path) -> None:
    """Mark a checkpoint as whole: its files have reached the disk, and here are their sizes."""
    sizes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != COMPLETE):
        with path.open("r+b") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
        sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    unfinished = folder / (COMPLETE + ".unfinished")
    with unfinished.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(sizes, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / COMPLETE)


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint was sealed, and its files still have their sizes."""
    try:
        sizes = json.loads((folder / COMPLETE).read_text("utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def step_of(folder: Path) -> int:
    """Step of ``checkpoint-<step>``."""
    return int(folder.name.rpartition("-")[2])


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints, whole or not, in the order of their steps."""
    found = [p for p in folder.glob("checkpoint-*") if p.is_dir() and p.name.rpartition("-")[2].isdecimal()]
    return sorted(found, key=step_of)


def latest(folder: Path) -> Path | None:
    """The last whole checkpoint. Later ones, which an interruption left half-written, are named in the log."""
    for checkpoint in reversed(checkpoints(folder)):
        if is_whole(checkpoint):
            return checkpoint
        logger.warning("%s is half-written and skipped", checkpoint)
    return None


def remove_half_written(folder: Path) -> None:
    """Remove checkpoints that do not count, so that none is rotated against them."""
    for checkpoint in checkpoints(folder):
        if not is_whole(checkpoint):
            shutil.rmtree(checkpoint)


def rotate(folder: Path, *, keep: int, best: str | None) -> None:
    """Remove all but the last checkpoints, by their steps; the best one is among those that are kept.

    The times of files mislead where a clock was set or a folder copied.
    """
    found = checkpoints(folder)
    others = [checkpoint for checkpoint in found if best is None or checkpoint.name != Path(best).name]
    n_others = keep - (len(found) - len(others))
    for checkpoint in others[:-n_others]:
        shutil.rmtree(checkpoint)


def is_full_disk(error: BaseException) -> bool:
    """Whether writing failed for want of space, in the ways of Python, torch and safetensors."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error)
    return any(
        mark in text for mark in ("No space left", "os error 28", "PytorchStreamWriter failed", "unexpected pos")
    )
