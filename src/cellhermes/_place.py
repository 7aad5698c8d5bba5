"""Where results may go: nothing of the user's is in the way, and nothing that is read is written over."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


def check_apart(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse a place that is, holds or lies in something that is read.

    Raises
    ------
    FileExistsError
        If it does; nothing was changed.
    """
    for path in inputs:
        if not path.exists():
            continue
        if _is_in(path, out) or (path.is_dir() and _is_in(out, path)):
            msg = f"out={str(out)!r} is, holds or lies in {str(path)!r}, which is read. Pass another path."
            raise FileExistsError(msg)


def check_free(path: Path, what: str) -> None:
    """Refuse a link, and a folder where a file is to be, or the other way round.

    Raises
    ------
    FileExistsError
        If there is one; nothing was changed.
    """
    if path.is_symlink():
        msg = f"{path} is a link to {path.readlink()}, and stays as it is. Pass the path of the {what} itself."
        raise FileExistsError(msg)
    if path.exists() and (path.is_dir() if what == "file" else not path.is_dir()):
        there = "a folder" if path.is_dir() else "a file"
        msg = f"{path} is {there}; expected the path of a {what}, new or written by cellhermes. Pass another path."
        raise FileExistsError(msg)


def check_new(path: Path, endings: Sequence[str], inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse to write a file of another kind, where there is no folder, or over what stands there."""
    if path.suffix not in endings:
        msg = f"{path} ends with {path.suffix!r}; expected a name that ends with {' or '.join(endings)}."
        raise ValueError(msg)
    if not path.parent.is_dir():
        msg = f"The folder {path.parent} does not exist."
        raise FileNotFoundError(msg)
    check_apart(path, inputs)
    check_free(path, "file")
    if path.exists() and not overwrite:
        msg = f"{path} is there already; pass overwrite=True to replace it, or another path."
        raise FileExistsError(msg)


@contextmanager
def writable(out: Path) -> Iterator[None]:
    """While a place is made and tried: errors say what cannot be written."""
    try:
        yield
    except OSError as error:
        msg = f"out={str(out)!r} cannot be written ({error.strerror}); pass a folder that can."
        raise type(error)(error.errno, msg) from error


def _is_in(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or below it, whatever both are called."""
    if not folder.exists():
        return False
    here = path.resolve()
    return any(one.exists() and one.samefile(folder) for one in (here, *here.parents))
