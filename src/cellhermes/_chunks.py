"""Arrays of a zarr store that are filled chunk by chunk.

They are of format 2 and written by ourselves, each chunk with a checksum: a block is a file that is there and whole, or
not.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._disk import commit, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger("cellhermes")

PACKER = {"id": "zstd", "level": 1, "checksum": True}


def _packed(content: bytes) -> bytes:
    from numcodecs import Zstd

    return Zstd(level=PACKER["level"], checksum=PACKER["checksum"]).encode(content)


def _unpacked(content: bytes) -> bytes:
    """Unpack a chunk; RuntimeError where it is damaged."""
    from numcodecs import Zstd

    return Zstd().decode(content)


@dataclass(frozen=True)
class Numbers:
    """Chunks of a numeric array: their bytes, compressed with a checksum. What is missing reads as missing."""

    dtype: str
    """As zarr writes it, such as ``"<f4"``."""
    width: int | None = None
    """Columns; None for an array of one dimension."""

    def meta(self) -> dict[str, object]:
        fill_value = "NaN" if np.dtype(self.dtype).kind == "f" else -1  # the code of no category
        return {"dtype": self.dtype, "compressor": PACKER, "filters": None, "fill_value": fill_value}

    def encode(self, block: np.ndarray, rows: int) -> bytes:
        whole = np.zeros((rows, self.width) if self.width else rows, self.dtype)  # also the last chunk has its length
        whole[: len(block)] = block
        return _packed(whole.tobytes())

    def decode(self, content: bytes, rows: int) -> np.ndarray:
        block = np.frombuffer(_unpacked(content), self.dtype)
        return block.reshape(-1, self.width)[:rows] if self.width else block[:rows]

    def is_whole(self, content: bytes, rows: int) -> bool:
        return len(_unpacked(content)) == np.dtype(self.dtype).itemsize * rows * (self.width or 1)


@dataclass(frozen=True)
class TextCodec:
    """Chunks of texts: the length of each in four bytes and its UTF-8, compressed with a checksum."""

    width = None

    def meta(self) -> dict[str, object]:
        return {"dtype": "|O", "compressor": PACKER, "filters": [{"id": "vlen-utf8"}], "fill_value": ""}

    def encode(self, block: Sequence[str] | EncodedTexts, rows: int) -> bytes:
        if isinstance(block, EncodedTexts):
            body, n = block.body, block.n
        else:
            texts = [text.encode() for text in block]
            body, n = b"".join([part for text in texts for part in (len(text).to_bytes(4, "little"), text)]), len(texts)
        return _packed(b"".join([rows.to_bytes(4, "little"), body, bytes(4 * (rows - n))]))

    def decode(self, content: bytes, rows: int) -> list[str]:
        from numcodecs.vlen import VLenUTF8

        return VLenUTF8().decode(_unpacked(content))[:rows].tolist()

    def is_whole(self, content: bytes, rows: int) -> bool:
        return _unpacked(content)[:4] == rows.to_bytes(4, "little")


@dataclass(frozen=True)
class EncodedTexts:
    """Texts of a block as :class:`TextCodec` writes them, each with its length before it."""

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
        self,
        folder: Path,
        n_rows: int,
        size: int,
        codec: Numbers | TextCodec,
        attrs: Mapping[str, object] | None = None,
    ) -> None:
        self.folder, self.n_rows, self.size, self.codec = folder, n_rows, max(1, min(size, n_rows)), codec
        self.n = -(-n_rows // self.size)
        self._seen: dict[int, bool] = {}  # which blocks were looked at, and are whole
        folder.mkdir(parents=True, exist_ok=True)
        wide = [codec.width] if codec.width else []
        meta = {"zarr_format": 2, "shape": [n_rows, *wide], "chunks": [self.size, *wide], "order": "C", **codec.meta()}
        kind = "string-array" if isinstance(codec, TextCodec) else "array"
        write_json(folder / ".zarray", meta, sync=False)
        write_json(folder / ".zattrs", attrs or encoding(kind, "0.2.0"), sync=False)

    def rows(self, i: int) -> slice:
        """Rows of block ``i``."""
        return slice(i * self.size, min((i + 1) * self.size, self.n_rows))

    def path(self, i: int) -> Path:
        """File of block ``i``."""
        return self.folder / (f"{i}.0" if self.codec.width else str(i))

    def has(self, i: int) -> bool:
        """Whether block ``i`` is there and whole; it is read once."""
        if self._seen.get(i):
            return True
        try:
            is_whole = self.codec.is_whole(self.path(i).read_bytes(), self.size)
        except FileNotFoundError:
            return False
        except (RuntimeError, ValueError, MemoryError):  # of the packer
            is_whole = False
        if not is_whole and i not in self._seen:
            logger.warning("%s is damaged and is made again.", self.path(i))
        self._seen[i] = is_whole
        return is_whole

    def load(self, i: int) -> np.ndarray | list[str]:
        rows = self.rows(i)
        return self.codec.decode(self.path(i).read_bytes(), rows.stop - rows.start)

    def save(self, i: int, block: np.ndarray | Sequence[str] | bytes) -> None:
        """Keep block ``i``, which may be encoded already."""
        commit(self.path(i), block if isinstance(block, bytes) else self.codec.encode(block, self.size))
        self._seen[i] = True

    def write(self, blocks: Iterable[np.ndarray | Sequence[str]]) -> None:
        """Write all blocks, in their order."""
        for i, block in enumerate(blocks):
            self.save(i, block)


class Together:
    """Arrays of one length, whose blocks are kept together; a keeper of blocks.

    Parameters
    ----------
    arrays
        With as many rows and chunks each.
    """

    def __init__(self, arrays: Sequence[Chunks]) -> None:
        self.arrays = arrays
        self.n, self.size, self.rows = arrays[0].n, arrays[0].size, arrays[0].rows

    def has(self, i: int) -> bool:
        """Whether block ``i`` of each is there and whole."""
        return all(array.has(i) for array in self.arrays)

    def load(self, i: int) -> list[np.ndarray | list[str]]:
        return [array.load(i) for array in self.arrays]

    def save(self, i: int, blocks: Sequence[np.ndarray | Sequence[str] | bytes]) -> None:
        """Keep block ``i`` of each, in their order."""
        for array, block in zip(self.arrays, blocks, strict=True):
            array.save(i, block)


def encoding(kind: str, version: str) -> dict[str, object]:
    """Attributes by which anndata knows what an element is."""
    return {"encoding-type": kind, "encoding-version": version}
