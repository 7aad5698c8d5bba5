"""Long computations in blocks that are kept in a folder: what is finished is not computed again.

A block has its name only when it is whole and on the disk, so that a process may die at any moment. One process at a
time works on one share of the blocks; several shares may be worked on at once, here or on any machine that sees the
folder. Knows nothing of what is computed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from tqdm.auto import tqdm

from ._disk import Lock, commit, explained, noted, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

logger = logging.getLogger("cellhermes")

SHARD = "CELLHERMES_SHARD"  # environment variable: "0/4" is the first of four shares
STAMP = "about.json"
MARK = "blocks of cellhermes"  # a key of the stamp: its folder is ours
LOCKS = re.compile(r"(\d+-of-\d+|end)\.lock|about\.json\.[0-9a-f]{8}\.part")  # what there may be before the stamp
OURS = re.compile(rf"{LOCKS.pattern}|about\.json|(\d{{6}}|whole|card)\.\w+(\.[0-9a-f]{{8}}\.part)?")
BLOCK = re.compile(r"\d+(\.\w+)?|whole\.\w+")
PATIENCE = 1.0  # seconds: a process that was killed may have children, which end with it, but not at once
WAIT = 0.5  # seconds between two looks at what other processes have finished

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Which share of the blocks is this process' own: block ``k``, ``k + n``, ``k + 2 n``, ..."""

    k: int = 0
    n: int = 1
    waits: bool = False
    """Whether the processes were started together, so that each may wait for the others."""

    @classmethod
    def here(cls) -> Shard:
        """Read the environment: ``CELLHERMES_SHARD``, or the launcher (torchrun, accelerate)."""
        if text := os.environ.get(SHARD, "").strip():
            match = re.fullmatch(r"(\d+)/(\d+)", text)
            if not match or int(match[1]) >= int(match[2]):
                msg = f"{SHARD} (--shard) is {text!r}; expected k/n with k from 0 to n - 1, such as 0/4."
                raise ValueError(msg)
            return cls(int(match[1]), int(match[2]))
        distributed = sys.modules.get("torch.distributed")
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size(), waits=True)
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)), waits=True)


class Keeper(Protocol[T]):
    """Where the blocks of one result are kept."""

    def has(self, i: int) -> bool:
        """Whether block ``i`` is finished."""

    def load(self, i: int) -> T:
        """Block ``i``."""

    def save(self, i: int, block: T) -> None:
        """Keep block ``i``."""


class Held(dict[int, T]):
    """Blocks in memory."""

    has = dict.__contains__
    load = dict.pop  # each is read once
    save = dict.__setitem__


class Sourced(Generic[T]):
    """A keeper that notes what each block was made of, where that is read only while blocks are made.

    Parameters
    ----------
    keeper
        Of the blocks.
    folder
        Of the notes.
    source
        Gives a hash of what block ``i`` is made of, when it is kept.
    """

    def __init__(self, keeper: Keeper[T], folder: Path, source: Callable[[int], str]) -> None:
        self.keeper, self.folder, self.source, self.load = keeper, folder, source, keeper.load
        folder.mkdir(exist_ok=True)

    def has(self, i: int) -> bool:
        """Whether block ``i`` is finished; one without its note, which a power failure may take, is not."""
        return bool(self.note(i)) and self.keeper.has(i)

    def save(self, i: int, block: T) -> None:
        """Keep block ``i``; the note comes first, so that no block is without."""
        commit(self.folder / str(i), self.source(i).encode(), sync=False)
        self.keeper.save(i, block)

    def note(self, i: int) -> str:
        """Return what block ``i`` was made of, ``""`` if that is not known."""
        try:
            text = (self.folder / str(i)).read_bytes()
        except FileNotFoundError:
            return ""
        return text.decode() if re.fullmatch(rb"[0-9a-f]{64}", text) else ""

    def check(self, n: int, now: Callable[[list[int]], Iterable[str]]) -> None:
        """Refuse finished blocks, of ``n``, that were made of something else; ``now`` hashes what some are made of."""
        begun = [i for i in range(n) if self.has(i)]
        for i, digest in zip(begun, now(begun), strict=True):
            if digest != self.note(i):
                msg = (
                    f"{self.folder.parent} holds blocks of other data: what block {i} was made of differs. Write to "
                    "another path, or delete this one to start again."
                )
                raise ValueError(msg)


class Work:
    """A folder with the finished blocks of one computation, open for one process of each share.

    Parameters
    ----------
    folder
        Made if it is not there.
    shard
        The share of this process.

    Raises
    ------
    FileExistsError
        If something else stands there, which is left alone.
    BlockingIOError
        If another process works on the same share, or the blocks are shared out in another way just now.
    OSError
        If the folder can't be written.
    """

    def __init__(self, folder: Path, shard: Shard) -> None:
        self.folder, self.shard = folder, shard

    def check(self) -> None:
        """Refuse what is there and not ours."""
        if os.path.lexists(self.folder) and not self.is_ours():
            msg = f"{self.folder} is there already and holds no blocks of this version of cellhermes. It is left as it "
            msg += "is: write to another path, or move it away."
            raise FileExistsError(msg)

    def __enter__(self) -> Work:
        self.check()
        self._is_new = not self.folder.exists()
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked(f"{self.shard.k}-of-{self.shard.n}", seconds=PATIENCE)
        if self._lock is None:
            raise self._taken()
        for other in self.folder.glob("*.lock"):
            if other.stem == "end" or other.stem.endswith(f"-of-{self.shard.n}"):
                continue
            lock = self._locked(other.stem)
            if lock is None:
                self._lock.release()
                raise self._taken()
            lock.release()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        if error is not None and self._is_new and not self._has_blocks():
            self.remove()  # else the call that is put right would be told of another run

    def _has_blocks(self) -> bool:
        names = (path for path in self.folder.rglob("*") if path.is_file() and path.parent.name != "sources")
        return any(BLOCK.fullmatch(path.name) for path in names)

    def _locked(self, name: str, seconds: float = 0) -> Lock | None:
        lock = Lock(self.folder / f"{name}.lock")
        return lock if lock.acquire(seconds) else None

    def _taken(self) -> BlockingIOError:
        msg = f"Another process is writing to {self.folder}. Wait until it has ended, or write to another path."
        return BlockingIOError(msg)

    def is_ours(self) -> bool:
        """Whether the folder is empty, or was begun by us."""
        if not self.folder.is_dir():
            return False
        if (self.folder / STAMP).exists():
            return isinstance(self._stamp(), dict)
        return all(LOCKS.fullmatch(path.name) for path in self.folder.iterdir())

    def _stamp(self) -> dict[str, object] | None:
        """Read what an earlier run has noted; None if nothing that can be read."""
        return noted(self.folder / STAMP).get(MARK)

    def claim(self, about: Mapping[str, object]) -> None:
        """Note what the blocks depend on, or compare it with what an earlier run has noted.

        Raises
        ------
        ValueError
            If the folder holds blocks of another computation.
        """
        if (stamp := self._stamp()) is not None:
            check_same(stamp, about, self.folder)
        else:
            write_json(self.folder / STAMP, {MARK: about})

    @contextmanager
    def ending(self) -> Iterator[None]:
        """One process at a time; the others wait."""
        lock = Lock(self.folder / "end.lock")
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def clear(self, about: Mapping[str, object]) -> None:
        """Take the folder away if it was left by a process that was killed when its result, of this, was whole."""
        stamp, about = self._stamp(), json.loads(json.dumps(about))
        is_of_it = stamp and all(about.get(key) == value for key, value in stamp.items())
        if is_of_it and not any(self.folder.glob("whole.*")):  # which would still have to get its name
            self.remove()

    def remove(self) -> None:
        """Take the folder away, if no other process works in it; what is not ours stays, and the folder around it."""
        locks = [self._locked(path.stem) for path in self.folder.glob("*.lock")]
        if all(locks) and self.is_ours():
            for path in self.folder.iterdir():
                if path.is_dir() and path.name in ("sources", "blocks", self.folder.stem):
                    shutil.rmtree(path, ignore_errors=True)
                elif OURS.fullmatch(path.name):
                    path.unlink(missing_ok=True)
            with suppress(OSError):
                self.folder.rmdir()
        for lock in filter(None, locks):
            lock.release()


def check_same(stamp: Mapping[str, object], about: Mapping[str, object], where: Path) -> None:
    """Refuse what was made by another call, or with another version, which notes more or less."""
    before, now = ({key: json.dumps(value, sort_keys=True) for key, value in each.items()} for each in (stamp, about))
    if other := [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]:
        msg = (
            f"{where} holds blocks of another run: {', '.join(other)} differ. "
            "Write to another path, or delete this one to start again."
        )
        raise ValueError(msg)


def fill(keeper: Keeper[T], n: int, compute: Callable[[int], T], shard: Shard, *, desc: str, of: int = 1) -> None:
    """Compute what is missing of this process' share of ``n`` blocks.

    ``of`` is the number of rows of a block, for the progress bar.
    """
    todo = missing(keeper, n, shard)
    quiet = {"disable": True} if len(todo) < 2 else {}  # a given False would beat $TQDM_DISABLE
    for i in tqdm(todo, desc=desc, delay=2, unit_scale=of, **quiet):
        keeper.save(i, compute(i))


def missing(keeper: Keeper[T], n: int, shard: Shard) -> list[int]:
    """Blocks of a share that are not there."""
    return [i for i in range(shard.k, n, shard.n) if not keeper.has(i)]


def wait(keeper: Keeper[T], n: int, shard: Shard, ended: Callable[[], bool] = lambda: False) -> bool:
    """Whether all ``n`` blocks are there; where processes were started together, as soon as they are.

    ``ended`` says whether another process has made the result of them meanwhile.
    """
    others = [i for i in range(n) if not keeper.has(i)]
    if others and not shard.waits and not ended():
        logger.info("Share %s/%s is finished; %s of %s blocks are there.", shard.k, shard.n, n - len(others), n)
        return False
    while others and not ended():
        time.sleep(WAIT)
        others = [i for i in others if not keeper.has(i)]
    return True
