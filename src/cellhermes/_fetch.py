"""One folder of downloaded files, each checked against its SHA-256 whenever it is used.

The hash of a file that has no published one is recorded when the file is first fetched, in ``<file>.sha256`` beside it
(the format of ``sha256sum``), and holds from then on, also when the file is fetched again. Knows nothing of what the
files hold.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("cellhermes")

FOLDER = "CELLHERMES_CACHE"  # environment variable


def cache_folder() -> Path:
    """Where downloads are kept: ``$CELLHERMES_CACHE``, or the cache folder that the system gives to programs."""
    import pooch

    return Path(os.environ.get(FOLDER) or pooch.os_cache("cellhermes"))


def fetch(url: str, name: str, *, check: Callable[[Path], object], advice: str) -> Path:
    """Return the file ``name`` of the cache; where it is missing, download it from ``url``.

    ``check`` reads a new file and raises ValueError if it is not what was asked for (servers answer errors with pages),
    so that nothing but good files is recorded. ``advice`` says what works without the download.
    """
    import pooch

    path = cache_folder() / name
    record = path.with_name(f"{path.name}.sha256")
    known = record.read_text("utf-8").split()[0] if record.is_file() else None
    if path.is_file() and known is not None:
        if (found := pooch.file_hash(str(path))) != known:
            msg = f"`{path}` has changed: its sha256 is {found}, but was {known}. Delete it to download it again."
            raise ValueError(msg)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        new = Path(folder) / path.name
        _download(url, new, advice)
        try:
            check(new)
        except ValueError as error:
            msg = f"{url} did not give what was asked for: {error} {advice}"
            raise ValueError(msg) from error
        found = pooch.file_hash(str(new))
        if known not in (None, found):
            msg = (
                f"{url} gives another file than when it was first downloaded: its sha256 is {found}, but was {known}. "
                f"Delete `{record}` to accept it; results may differ from earlier ones."
            )
            raise ValueError(msg)
        record.write_text(f"{found}  {path.name}\n", "utf-8")  # first, so that no file is ever without one
        new.replace(path)
    logger.info("Downloaded %s to `%s` (sha256 %s...).", url, path, found[:12])
    return path


def _download(url: str, path: Path, advice: str) -> None:
    """Download, or say what works without."""
    import pooch

    logger.info("Downloading %s.", url)
    try:
        pooch.HTTPDownloader(timeout=60)(url, str(path), None)
    except OSError as error:  # also what requests raises
        msg = f"could not download {url} ({error}). {advice}"
        raise ConnectionError(msg) from error
