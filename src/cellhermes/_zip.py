"""Zip archives with a name that is no text, for which the standard library lets a bare ``UnicodeDecodeError`` out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from zipfile import BadZipFile

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def named() -> Iterator[None]:
    """While an archive, or a member of it, is opened: a name that cannot be decoded is damage like any other."""
    try:
        yield
    except UnicodeDecodeError as error:
        msg = f"the name of a member is no text: {error.object[:80]!r}"
        raise BadZipFile(msg) from error
