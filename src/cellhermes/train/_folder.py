"""The folder of a run: whose it is, what it holds, and how far the run has come.

A folder is a run's if it was empty when the run began, and holds the run's record (``training.json``) since. Nothing is
written to any other folder that holds something. What a run has written stands in its record, or in a list of its own
(tokens, checkpoints); nothing else is ever removed.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from .. import _place
from .._blocks import PATIENCE
from .._disk import Lock, flush, is_as_written, json_hash, noted, sha256_of, write_json
from . import _checkpoints, _encoded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

logger = logging.getLogger("cellhermes")

RECORD, LOG, TOKENS, CHECKPOINTS = "training.json", "log.jsonl", "tokens", "checkpoints"
LEFT_OVER = re.compile(r"\.lock|training\.json\.[0-9a-f]{8}\.part")  # where a run was killed before it had a record
SHOWN = 5


def check(out: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse a folder that is neither new, nor empty, nor a run's.

    Raises
    ------
    FileExistsError
        If there is something else, or one of the inputs; nothing was changed.
    """
    _place.check_apart(out, inputs)
    _place.check_free(out, "folder")
    if not out.is_dir():
        return
    if _is_record(noted(out / RECORD)):
        for name, kind in {RECORD: "file", LOG: "file", TOKENS: "folder", CHECKPOINTS: "folder"}.items():
            _place.check_free(out / name, kind)
        _checkpoints.check(out / CHECKPOINTS)
        return
    if names := sorted(path.name for path in out.iterdir() if not LEFT_OVER.fullmatch(path.name)):
        more = ", ..." if len(names) > SHOWN else ""
        msg = (
            f"{out} holds {', '.join(names[:SHOWN])}{more} and no record of a run ({RECORD}), so it is not ours to "
            "write to. Nothing was changed. Pass a new or an empty folder as out=."
        )
        raise FileExistsError(msg)


def _is_record(record: Mapping[str, object]) -> bool:
    run, files = record.get("run"), record.get("files", {})
    is_run = isinstance(run, dict) and "base" in run and isinstance(run.get("config"), dict)
    return is_run and isinstance(files, dict) and all(Path(name).name == name for name in files)


def check_writable(out: Path) -> None:
    """Make the folder, and raise where it cannot be written."""
    with _place.writable(out):
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f"{RECORD}.{token_hex(4)}.part"
        probe.write_bytes(b"")
        probe.unlink()


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
    """Tell whether a folder holds the finished result of this very run, as it was written.

    A run is what decides its result: equal runs, equal results. Where weights are gone, it is not finished.

    Raises
    ------
    FileExistsError
        If the folder holds another run, or the weights are not those that the run wrote.
    """
    check(out)  # again, now that no other run can write
    record = noted(out / RECORD)
    if overwrite or not record or not _has_work(out, record):
        return False
    _check_same(out, record["run"], run)
    if "results" not in record:
        return False
    written = record.get("files", {})
    missing = [name for name in written if name != "README.md" and not (out / name).is_file()]
    weights = [name for name in written if name.endswith(".safetensors") and name not in missing]
    if changed := [name for name in weights if sha256_of(out / name) != written[name]]:
        msg = (
            f"{out} holds this run, finished, but {', '.join(changed)} is not what the run wrote. Put it back, pass "
            "another out=, or overwrite=True to train again."
        )
        raise FileExistsError(msg)
    if missing:
        logger.warning("%s: %s of this run are gone. It goes on from its last checkpoint.", out, ", ".join(missing))
        return False
    logger.warning("%s holds this run already, finished: nothing is computed", out)
    return True


def _has_work(out: Path, record: Mapping[str, object]) -> bool:
    """Tell whether a run has come further than its tokens; else it gives way, as after an error of its input."""
    return "results" in record or bool(record.get("files")) or bool(_checkpoints.checkpoints(out / CHECKPOINTS))


def _check_same(out: Path, there: Mapping[str, object], run: Mapping[str, object]) -> None:
    others = [name for name, value in run.items() if there.get(name) != value]
    if not others:
        return
    others += _differences("config", there.get("config", {}), run["config"])
    msg = f"{out} holds a run that differs in {', '.join(others)}. Pass another out=, or overwrite=True to replace it."
    raise FileExistsError(msg)


def _differences(prefix: str, there: Mapping[str, object], config: Mapping[str, object]) -> list[str]:
    """Name the fields of a config, and of those in it, that differ."""
    names = []
    for name, value in config.items():
        if isinstance(value, dict) and isinstance(there.get(name), dict):
            names += _differences(f"{prefix}.{name}", there[name], value)
        elif there.get(name) != value:
            names.append(f"{prefix}.{name}")
    return names


def begin(out: Path, run: Mapping[str, object], *, overwrite: bool) -> None:
    """Make the folder this run's; with ``overwrite``, remove what an earlier one has written, and nothing else."""
    before = noted(out / RECORD)
    written = before.get("files", {})
    if overwrite and before:
        for name in written:
            if not _set_aside(out / name, {written[name]}):
                (out / name).unlink(missing_ok=True)
        (out / LOG).unlink(missing_ok=True)
        shutil.rmtree(unfinished(out, before["run"]), ignore_errors=True)
        _encoded.remove(out / TOKENS)
        _checkpoints.remove_all(out / CHECKPOINTS)
        written = {}
    write_json(out / RECORD, {"run": run, "files": written})


def unfinished(out: Path, run: Mapping[str, object]) -> Path:
    """Name the folder of weights that have no names yet; the same in all processes of a run."""
    return out / f"unfinished.{json_hash(run)[:8]}"


def settle(folder: Path, out: Path) -> dict[str, str]:
    """Give files their names in the folder of the run, and tell the hash of each.

    A file of the user's that has such a name keeps what is in it, under another one.
    """
    before, paths = noted(out / RECORD), sorted(folder.iterdir())
    flush(*paths)
    files = {path.name: sha256_of(path) for path in paths}
    write_json(out / RECORD, {**before, "files": files})  # first: what stands there from now on is the run's
    for path in paths:
        _set_aside(out / path.name, {before.get("files", {}).get(path.name), files[path.name]})
        path.replace(out / path.name)
    folder.rmdir()
    return files


def _set_aside(path: Path, ours: set[str | None]) -> bool:
    """Give what stands there another name, if its content has none of our hashes; whether there was such a thing."""
    if not os.path.lexists(path) or is_as_written(path, *ours):
        return False
    kept = path.rename(path.with_name(f"{path.name}.{token_hex(4)}.kept"))
    logger.warning("%s was not written by this run; it is %s now.", path, kept.name)
    return True
