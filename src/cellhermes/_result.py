"""A result on disk: a zarr store of cells without expression that anndata reads, filled block by block.

While it grows it stands in ``<out>.parts``; it has its own name when it is whole. Blocks are written as chunks of zarr
format 2 by ourselves: an uncompressed chunk is the bytes of the array, so that a block is a file that is there or not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype, is_string_dtype

from ._blocks import Shard, Work, check_same, check_space, commit, wait
from ._keys import stored_params

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from ._adata import Column
    from ._blocks import Keeper

logger = logging.getLogger("cellhermes")

NAMES = 65_536  # rows of a chunk of what is written at the end


@dataclass(frozen=True)
class Numbers:
    """Chunks of a numeric array as their bytes."""

    dtype: str
    """As zarr writes it, such as ``"<f4"``."""
    width: int | None = None
    """Columns; None for an array of one dimension."""

    def meta(self) -> dict[str, object]:
        return {"dtype": self.dtype, "compressor": None, "filters": None, "fill_value": 0}

    def encode(self, block: np.ndarray, rows: int) -> bytes:
        whole = np.zeros((rows, self.width) if self.width else rows, self.dtype)  # also the last chunk has its length
        whole[: len(block)] = block
        return whole.tobytes()

    def decode(self, content: bytes, rows: int) -> np.ndarray:
        block = np.frombuffer(content, self.dtype)
        return block.reshape(-1, self.width)[:rows] if self.width else block[:rows]

    def size(self, rows: int) -> int:
        return np.dtype(self.dtype).itemsize * rows * (self.width or 1)


@dataclass(frozen=True)
class Texts:
    """Chunks of texts: the length of each in four bytes and its UTF-8, compressed with a checksum."""

    width = None

    def meta(self) -> dict[str, object]:
        packer = {"id": "zstd", "level": 1, "checksum": True}
        return {"dtype": "|O", "compressor": packer, "filters": [{"id": "vlen-utf8"}], "fill_value": ""}

    def encode(self, block: Sequence[str] | Encoded, rows: int) -> bytes:
        if isinstance(block, Encoded):
            body, n = block.body, block.n
        else:
            texts = [text.encode() for text in block]
            body, n = b"".join([part for text in texts for part in (len(text).to_bytes(4, "little"), text)]), len(texts)
        return self._packer().encode(b"".join([rows.to_bytes(4, "little"), body, bytes(4 * (rows - n))]))

    def decode(self, content: bytes, rows: int) -> list[str]:
        from numcodecs.vlen import VLenUTF8

        return VLenUTF8().decode(self._packer().decode(content))[:rows].tolist()

    def size(self, rows: int) -> None:
        return None

    def _packer(self) -> object:
        from numcodecs import Zstd

        return Zstd(level=1, checksum=True)


@dataclass(frozen=True)
class Encoded:
    """Texts of a block as :class:`Texts` writes them, each with its length before it."""

    body: bytes | memoryview
    n: int


class Chunks:
    """An array of a store that is filled chunk by chunk; a keeper of blocks.

    Parameters
    ----------
    folder
        Of the array.
    n_rows
        Rows of the array.
    size
        Rows of a chunk.
    codec
        How a chunk is written.
    attrs
        What anndata has to know of the array.
    """

    def __init__(
        self, folder: Path, n_rows: int, size: int, codec: Numbers | Texts, attrs: Mapping[str, object] | None = None
    ) -> None:
        self.folder, self.n_rows, self.size, self.codec = folder, n_rows, max(1, min(size, n_rows)), codec
        self.n = -(-n_rows // self.size)
        folder.mkdir(parents=True, exist_ok=True)
        wide = [codec.width] if codec.width else []
        meta = {"zarr_format": 2, "shape": [n_rows, *wide], "chunks": [self.size, *wide], "order": "C", **codec.meta()}
        kind = "string-array" if isinstance(codec, Texts) else "array"
        commit(folder / ".zarray", json.dumps(meta, indent=1).encode(), sync=False)
        commit(folder / ".zattrs", json.dumps(attrs or encoding(kind, "0.2.0")).encode(), sync=False)

    def rows(self, i: int) -> slice:
        """Rows of block ``i``."""
        return slice(i * self.size, min((i + 1) * self.size, self.n_rows))

    def path(self, i: int) -> Path:
        """File of block ``i``."""
        return self.folder / (f"{i}.0" if self.codec.width else str(i))

    def has(self, i: int) -> bool:
        try:
            size = self.path(i).stat().st_size
        except FileNotFoundError:
            return False
        return size == (self.codec.size(self.size) or size or None)

    def load(self, i: int) -> np.ndarray | list[str]:
        rows = self.rows(i)
        return self.codec.decode(self.path(i).read_bytes(), rows.stop - rows.start)

    def save(self, i: int, block: np.ndarray | Sequence[str] | Encoded) -> None:
        commit(self.path(i), self.codec.encode(block, self.size))

    def write(self, blocks: Iterable[np.ndarray | Sequence[str]]) -> None:
        """Write all blocks, in their order."""
        for i, block in enumerate(blocks):
            self.save(i, block)


def _frame(names: Sequence[str]) -> dict[str, object]:
    return {**encoding("dataframe", "0.2.0"), "_index": "_index", "column-order": list(names)}


def encoding(kind: str, version: str) -> dict[str, object]:
    """Attributes by which anndata knows what an element is."""
    return {"encoding-type": kind, "encoding-version": version}


class Result:
    """A store that grows in ``<out>.parts`` and gets its name at the end.

    Use it as a context: inside, no other process works on the same share.

    Parameters
    ----------
    out
        The store to make.
    names
        Names of the cells.

    Raises
    ------
    FileExistsError
        If something else stands at ``out``.
    BlockingIOError, OSError
        As for :class:`~cellhermes._blocks.Work`.
    """

    def __init__(self, out: str | Path, names: pd.Index) -> None:
        self.out, self.names = Path(out), names
        self.shard = Shard.here()
        self.work = Work(self.out.with_name(self.out.name + ".parts"), self.shard)
        if self.out.suffix != ".zarr":
            msg = f"out={str(out)!r}; expected a name that ends with .zarr, for a folder that anndata reads."
            raise ValueError(msg)

    def __enter__(self) -> Result:
        if not self.out.parent.is_dir():
            msg = f"The folder {self.out.parent} of {self.out.name} does not exist."
            raise FileNotFoundError(msg)
        self._stamp()  # is there something else?
        self.work.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.work.__exit__(kind, error, trace)
        if self.out.exists() and self.work.folder.exists():
            self.work.remove()

    @property
    def whole(self) -> Path:
        """The store while it grows."""
        return self.work.folder / self.out.name

    def begin(self, about: Mapping[str, object], needed: int = 0) -> bool:
        """Note what the result depends on; return False if it is there already.

        Parameters
        ----------
        about
            What it depends on, besides the names of the cells.
        needed
            Bytes that will be written.

        Raises
        ------
        ValueError
            If ``out``, or what there is of it, belongs to another call.
        OSError
            If there is no room.
        """
        self.about = {"cells": len(self.names), "names_sha256": hashed(self.names), **about}
        if (found := self._stamp()) is not None:
            check_same(found, self.about, self.out)
            return False
        if not (self.work.folder / "about.json").is_file():
            check_space(self.work.folder, needed)
        self.work.claim(self.about)
        return True

    def _stamp(self) -> dict[str, object] | None:
        """What a finished store depends on; None if there is none."""
        if not self.out.exists():
            return None
        try:
            found = json.loads((self.out / ".zattrs").read_text("utf-8"))["cellhermes"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            found = None
        if not isinstance(found, dict):
            msg = f"{self.out} is there already and is no result of cellhermes. Write to another path."
            raise FileExistsError(msg)
        return found

    def array(self, slot: str, size: int, codec: Numbers | Texts) -> Chunks:
        """An array of the store, such as ``"obsm/X_cellhermes"``."""
        return Chunks(self.whole / slot, len(self.names), size, codec)

    def staged(self, name: str, size: int, codec: Numbers | Texts) -> Chunks:
        """An array that is not part of the store, from which some of it is made at the end."""
        return Chunks(self.work.folder / name, len(self.names), size, codec)

    def finish(self, keeper: Keeper, n: int, write: Callable[[], None]) -> bool:
        """Once all blocks are there, complete the store and give it its name.

        The process that comes first does it. Where processes were started together, all return when it is done.

        Parameters
        ----------
        keeper, n
            The blocks, and how many there are.
        write
            Writes what else belongs into the store.

        Returns
        -------
        Whether the store is whole.
        """
        if not wait(keeper, n, self.shard, self.out.exists):
            return False
        with self.work.ending():
            if not self.out.exists():
                write()
                self._complete()
        return True

    def columns(self, names: Sequence[str]) -> None:
        """Say which columns ``obs`` has."""
        self.group("obs", _frame(names))

    def carry(self, obs: Mapping[str, Column]) -> list[str]:
        """Write columns of the cells along, one after another; return which could be written."""
        import anndata as ad
        import zarr

        self.columns([])
        group, written = zarr.open_group(self.whole / "obs", mode="a"), []
        for name, column in obs.items():
            values = column[:]
            known = (is_bool_dtype, is_numeric_dtype, is_string_dtype)
            if "/" in name or not (isinstance(values.dtype, pd.CategoricalDtype) or any(is_(values) for is_ in known)):
                logger.warning("obs[%r] (%s) is not written to %s.", name, values.dtype, self.out)
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of anndata, about the format of zarr
                ad.io.write_elem(group, name, values._values)
            written.append(name)
        return written

    def frame(self, slot: str, names: Sequence[str]) -> None:
        """Begin a frame of the cells, such as ``"obsm/cell_type"``, with these columns."""
        self.group(slot, _frame(names))
        self._names(f"{slot}/_index")

    def categories(self, slot: str, labels: Sequence[str]) -> None:
        """Begin a categorical column, whose codes are another array."""
        self.group(slot, {**encoding("categorical", "0.2.0"), "ordered": False})
        Chunks(self.whole / slot / "categories", len(labels), len(labels), Texts()).write([labels] if labels else [])

    def _names(self, slot: str) -> None:
        names = self.names.astype(str)
        chunks = self.array(slot, NAMES, Texts())
        chunks.write(names[chunks.rows(i)].tolist() for i in range(chunks.n))

    def group(self, slot: str, attrs: Mapping[str, object]) -> None:
        """Make a group of the store."""
        folder = self.whole / slot
        folder.mkdir(parents=True, exist_ok=True)
        commit(folder / ".zgroup", b'{"zarr_format": 2}', sync=False)
        commit(folder / ".zattrs", json.dumps(attrs).encode(), sync=False)

    def params(self, key: str, params: Mapping[str, object]) -> None:
        """Store how the result was made in ``uns[key]["params"]``."""
        import anndata as ad
        import zarr

        for slot in ("uns", f"uns/{key}"):
            self.group(slot, encoding("dict", "0.1.0"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of anndata, about the format of zarr
            ad.io.write_elem(zarr.open_group(self.whole / "uns" / key, mode="a"), "params", stored_params(params))

    def _complete(self) -> None:
        """Names, empty genes and attributes; then everything gets its place at once."""
        for left in [*self.whole.rglob("*.part"), *self.whole.rglob("*.partial")]:  # ours, zarr's: a process was killed
            if left.is_file():
                left.unlink()
        self._names("obs/_index")
        if not (self.whole / "obs" / ".zattrs").is_file():
            self.columns([])
        self.group("var", _frame([]))
        Chunks(self.whole / "var" / "_index", 0, 1, Texts())
        for slot in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
            if not (self.whole / slot / ".zgroup").is_file():
                self.group(slot, encoding("dict", "0.1.0"))
        self.group("", {**encoding("anndata", "0.1.0"), "cellhermes": self.about})
        _consolidate(self.whole)
        _sync(self.whole, inside=True)
        self.whole.replace(self.out)
        _sync(self.out.parent)


def _consolidate(folder: Path) -> None:
    """Gather the metadata in one file, which readers of remote stores look for."""
    found = {
        path.relative_to(folder).as_posix(): json.loads(path.read_text("utf-8"))
        for path in sorted(folder.rglob(".z*"))
        if path.name in (".zarray", ".zattrs", ".zgroup")
    }
    content = {"zarr_consolidated_format": 1, "metadata": found}
    commit(folder / ".zmetadata", json.dumps(content, indent=1).encode(), sync=False)


def _sync(folder: Path, *, inside: bool = False) -> None:
    """Ask the system to write a folder to the disk, and what stands in it but chunks, which are there already."""
    if os.name != "posix":
        return
    others = (path for path in folder.rglob("*") if path.is_dir() or path.name.startswith(".z") or "uns" in path.parts)
    for path in (folder, *(others if inside else ())):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def hashed(texts: Iterable[object]) -> str:
    """SHA-256 of texts."""
    digest = hashlib.sha256()
    part: list[str] = []
    for text in texts:
        part.append(str(text))
        if len(part) == 4096:
            digest.update("\0".join([*part, ""]).encode())
            part.clear()
    digest.update("\0".join([*part, ""]).encode())
    return digest.hexdigest()
