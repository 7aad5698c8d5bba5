"""What readers of tables share: opening of files, and frames that say what was read and what was left out."""

from __future__ import annotations

import csv
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import pandas as pd

from ._graphs import DAMAGED, _lines, _unpacked

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence
    from pathlib import Path

logger = logging.getLogger("cellhermes")


def is_symbol(text: object) -> bool:
    return isinstance(text, str) and len(text.split()) == 1 and text not in ("-", "NA", "nan", "None")


def first_line(path: Path, member: str | None) -> tuple[list[str], str]:
    """Names in the first line, and what stands between them."""
    line = next(_lines(path, member), b"").decode("utf-8", "replace").rstrip("\r\n")
    sep = "\t" if "\t" in line else ","
    try:
        return next(csv.reader([line.lstrip("\ufeff")], delimiter=sep), []), sep
    except csv.Error as error:
        msg = f"{path} cannot be read as a table, line 1: {error}."
        raise ValueError(msg) from None


@contextmanager
def opened(path: Path, member: str | None) -> Iterator[BinaryIO]:
    """A file, a gzip file or one file of a zip archive; what cannot be read is a ``ValueError`` that names the file."""
    with path.open("rb") as raw:
        try:
            yield _unpacked(raw, path, member)
        except DAMAGED as error:
            msg = f"{path} is damaged or not complete: {error}. Download it again."
            raise ValueError(msg) from error
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            msg = f"{path} cannot be read as a table: {error}"
            raise ValueError(msg) from error


def once(frame: pd.DataFrame, key: Sequence[str], path: Path, dropped: Counter[str], **about: object) -> pd.DataFrame:
    """The first row of each key."""
    first = ~frame.duplicated(list(key))
    dropped["repeated"] += int((~first).sum())
    return told(frame[first].reset_index(drop=True), path, dropped, **about)


def told(frame: pd.DataFrame, path: Path, dropped: Counter[str], **about: object) -> pd.DataFrame:
    """The frame with what was read and dropped in its ``attrs`` and in the log."""
    counts = {reason: number for reason, number in dropped.items() if number}
    listed = ", ".join(f"{reason}: {number:,}" for reason, number in counts.items()) or "nothing"
    if frame.empty:
        msg = f"{path} has no row that can be used. Dropped: {listed}."
        raise ValueError(msg)
    frame.attrs = {**about, "source": path.name, "rows": len(frame) + sum(counts.values()), "dropped": counts}
    logger.info("%s: %s rows (%s). Dropped: %s.", path, f"{len(frame):,}", about["format"], listed)
    return frame
