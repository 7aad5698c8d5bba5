"""A result on disk: a zarr store of cells without expression that anndata reads, filled block by block.

While it grows it stands in ``<out>.parts``; it has its own name when it is whole. Blocks are written as chunks of zarr
format 2 by ourselves, each with a checksum, so that a block is a file that is there and whole, or not. A finished store
notes what it was made of and the hash of each of its files.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype, is_string_dtype

from ._blocks import STAMP, Shard, Sourced, Work, check_same, wait
from ._chunks import Chunks, Numbers, TextCodec, encoding
from ._disk import check_space, commit, file_hash, flush, noted, write_json
from ._hash import hashed, hashed_column, total
from ._keys import PARAMS, stored_params

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from ._adata import Column
    from ._blocks import Keeper

logger = logging.getLogger("cellhermes")

NAMES = 65_536  # rows of a chunk of what is written at the end
METADATA = ".zmetadata"
FILES, VALUES = "files", "values"  # hashes: of the stamp of a finished store, besides what its blocks depend on


def _frame(names: Sequence[str]) -> dict[str, object]:
    return {**encoding("dataframe", "0.2.0"), "_index": "_index", "column-order": list(names)}


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

    def check(self) -> bool:
        """Whether there is no store yet; refuse what is there and not ours."""
        if not self.out.parent.is_dir():
            msg = f"The folder {self.out.parent} of {self.out.name} does not exist."
            raise FileNotFoundError(msg)
        is_new = self._stamp() is None
        if is_new:
            self.work.check()
        return is_new

    def __enter__(self) -> Result:
        self._works = self.check()
        if self._works:
            self.work.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._works:
            self.work.__exit__(kind, error, trace)
            if self.out.exists():
                self.work.remove()

    @property
    def whole(self) -> Path:
        """The store while it grows."""
        return self.work.folder / self.out.name

    def begin(self, about: Mapping[str, object], needed: int = 0, values: Callable[[], str] | None = None) -> bool:
        """Note what the result depends on; return False, with a warning, if it is there already.

        Parameters
        ----------
        about
            What it depends on, besides the names of the cells.
        needed
            Bytes that will be written.
        values
            Hash of values that are read only while blocks are made (see ``finish``); called if the result is there.

        Raises
        ------
        ValueError
            If ``out``, or what there is of it, belongs to another call or other data, or is damaged.
        OSError
            If there is no room.
        """
        self.about = {"cells": len(self.names), "names_sha256": hashed(self.names), **about}
        if (stamp := self._stamp()) is not None:
            files, noted = stamp.pop(FILES, {}), stamp.pop(VALUES, None)
            check_same(stamp, self.about, self.out)
            check_same({VALUES: noted}, {VALUES: values and values()}, self.out)
            self._check_files(files)
            msg = f"Not computed: {self.out} is there already, made by the same call of the same data."
            warnings.warn(msg, UserWarning, stacklevel=4)
            self.work.clear(self.about)
            return False
        if not (self.work.folder / STAMP).is_file():
            check_space(self.work.folder, needed)
        self.work.claim(self.about)
        return True

    def _check_files(self, files: Mapping[str, str]) -> None:
        """Refuse a finished store of which files are missing or changed."""
        hashes = {name: file_hash(self.out / name) if (self.out / name).is_file() else "" for name in files}
        other = [name for name in files if hashes[name] != files[name]]
        gathered = self.out / METADATA
        if not other and not (gathered.is_file() and gathered.read_bytes() == _metadata(self.out)):
            other.append(METADATA)
        if other:
            msg = (
                f"{self.out} is damaged or was changed: {len(other)} of its {len(files)} files are missing or not as "
                f"they were written, such as {other[0]}. Delete it and call again."
            )
            raise ValueError(msg)

    def _stamp(self) -> dict[str, object] | None:
        """Return what a finished store depends on; None if there is none."""
        if not os.path.lexists(self.out):
            return None
        stamp = noted(self.out / ".zattrs").get("cellhermes")
        if not isinstance(stamp, dict):
            msg = f"{self.out} is there already and is no (whole) result of cellhermes. Write to another path."
            raise FileExistsError(msg)
        return stamp

    def array(self, slot: str, size: int, codec: Numbers | TextCodec) -> Chunks:
        """Return an array of the store, such as ``"obsm/X_cellhermes"``."""
        return Chunks(self.whole / slot, len(self.names), size, codec)

    def staged(self, name: str, size: int, codec: Numbers | TextCodec) -> Chunks:
        """Return an array that is not part of the store, from which some of it is made at the end."""
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
                made_of = {VALUES: total(map(keeper.note, range(n)))} if isinstance(keeper, Sourced) else {}
                self._complete({**self.about, **made_of})
        return True

    def columns(self, names: Sequence[str]) -> None:
        """Say which columns ``obs`` has."""
        self.group("obs", _frame(names))

    def carried(self, obs: Mapping[str, Column]) -> dict[str, str]:
        """Hashes of columns of the cells that :meth:`carry` will write along, by what to call them in the stamp."""
        hashes = {}
        for name, column in obs.items():
            values = column[:]
            if _can_be_written(name, values):
                hashes[f"obs[{name!r}]"] = hashed_column(values)
            else:
                logger.warning("obs[%r] (%s) is not written to %s.", name, values.dtype, self.out)
        return hashes

    def carry(self, obs: Mapping[str, Column]) -> list[str]:
        """Write columns of the cells along, one after another; return which could be written."""
        import anndata as ad
        import zarr

        self.columns([])
        group, written = zarr.open_group(self.whole / "obs", mode="a"), []
        for name, column in obs.items():
            values = column[:]
            if _can_be_written(name, values):
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
        Chunks(self.whole / slot / "categories", len(labels), len(labels), TextCodec()).write(
            [labels] if labels else []
        )

    def _names(self, slot: str) -> None:
        names = self.names.astype(str)
        chunks = self.array(slot, NAMES, TextCodec())
        chunks.write(names[chunks.rows(i)].tolist() for i in range(chunks.n))

    def group(self, slot: str, attrs: Mapping[str, object]) -> None:
        """Make a group of the store."""
        folder = self.whole / slot
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / ".zgroup", {"zarr_format": 2}, sync=False)
        write_json(folder / ".zattrs", attrs, sync=False)

    def params(self, key: str, params: Mapping[str, object]) -> None:
        """Store how the result was made in ``uns[key]["params"]``."""
        import anndata as ad
        import zarr

        for slot in ("uns", f"uns/{key}"):
            self.group(slot, encoding("dict", "0.1.0"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of anndata, about the format of zarr
            ad.io.write_elem(zarr.open_group(self.whole / "uns" / key, mode="a"), PARAMS, stored_params(params))

    def _complete(self, about: Mapping[str, object]) -> None:
        """Names, empty genes and attributes; then everything gets its place at once."""
        for partial in [
            *self.whole.rglob("*.part"),
            *self.whole.rglob("*.partial"),
        ]:  # ours, zarr's: a process was killed
            if partial.is_file():
                partial.unlink()
        self._names("obs/_index")
        if not (self.whole / "obs" / ".zattrs").is_file():
            self.columns([])
        self.group("var", _frame([]))
        Chunks(self.whole / "var" / "_index", 0, 1, TextCodec())
        for slot in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
            if not (self.whole / slot / ".zgroup").is_file():
                self.group(slot, encoding("dict", "0.1.0"))
        self.group("", {})
        names = (path.relative_to(self.whole).as_posix() for path in sorted(self.whole.rglob("*")) if path.is_file())
        files = {name: file_hash(self.whole / name) for name in names if name not in (".zattrs", METADATA)}
        self.group("", {**encoding("anndata", "0.1.0"), "cellhermes": {**about, FILES: files}})
        commit(self.whole / METADATA, _metadata(self.whole), sync=False)
        flush(*self.whole.rglob("*"), self.whole)
        self.whole.replace(self.out)
        flush(self.out.parent)


def _can_be_written(name: str, values: pd.Series) -> bool:
    """Whether zarr has a place for a column and anndata a way to write it."""
    known = (is_bool_dtype, is_numeric_dtype, is_string_dtype)
    return "/" not in name and (isinstance(values.dtype, pd.CategoricalDtype) or any(is_(values) for is_ in known))


def _metadata(folder: Path) -> bytes:
    """All metadata in one file, which readers of remote stores look for."""
    metadata = {
        path.relative_to(folder).as_posix(): json.loads(path.read_text("utf-8"))
        for path in sorted(folder.rglob(".z*"))
        if path.name in (".zarray", ".zattrs", ".zgroup")
    }
    return json.dumps({"zarr_consolidated_format": 1, "metadata": metadata}, indent=1).encode()
