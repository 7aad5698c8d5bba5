"""The folder of a run: whose it is, what it holds, and how far the run has come."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .._blocks import PATIENCE, Lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RECORD, LOG, TOKENS, CHECKPOINTS = "training.json", "log.jsonl", "tokens", "checkpoints"
WEIGHTS = ("adapter_model.safetensors", "adapter_config.json", "model.safetensors", "model.safetensors.index.json")


def check_writable(out: Path) -> None:
    """Make the folder, and raise where it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        msg = f"out={str(out)!r} cannot be written ({error.strerror}); pass a folder that can."
        raise type(error)(error.errno, msg) from error


@contextmanager
def held(out: Path, *, is_first: bool) -> Iterator[None]:
    """Keep other runs out of the folder. The first process of a run does it for all of them.

    Raises
    ------
    BlockingIOError
        If another run is writing to the folder.
    """
    if not is_first:
        yield
        return
    file = out / ".lock"
    lock = Lock(file)
    if not lock.acquire(PATIENCE):
        msg = f"Another run is writing to {out}. Wait until it has ended, or pass another out=."
        raise BlockingIOError(msg)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            file.unlink()
        lock.release()


def is_finished(out: Path, run: Mapping[str, object], *, overwrite: bool) -> bool:
    """Whether a folder holds the finished result of this very run; one with another run, or other weights, is an error.

    A run is what decides its result: equal runs, equal results.
    """
    found = read(out / RECORD)
    if overwrite:
        return False
    if not found:
        if any((out / name).exists() for name in (*WEIGHTS, CHECKPOINTS)):
            msg = f"{out} holds weights of something else. Pass another out=, or overwrite=True to replace them."
            raise FileExistsError(msg)
        return False
    there = found.get("run", {})
    others = [name for name, value in run.items() if there.get(name) != value]
    if others:
        others += [
            f"config.{name}"
            for name, value in run["config"].items()
            if "config" in others and there.get("config", {}).get(name) != value
        ]
        differ = ", ".join(others)
        msg = f"{out} holds a run that differs in {differ}. Pass another out=, or overwrite=True to replace it."
        raise FileExistsError(msg)
    return "results" in found


def clear(out: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for name in (*WEIGHTS, RECORD, LOG, "README.md", "cellhermes.json"):
        (out / name).unlink(missing_ok=True)
    for name in (TOKENS, CHECKPOINTS, "unfinished"):
        shutil.rmtree(out / name, ignore_errors=True)


def read(path: Path) -> dict:
    """JSON of a file, empty where there is none or half of one."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def write(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON, whole or not at all."""
    write_whole(path, json.dumps(content, indent=1))


def write_whole(path: Path, text: str) -> None:
    """Write a file under another name first, so that it is whole under its own."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, "utf-8", newline="\n")
    unfinished.replace(path)
