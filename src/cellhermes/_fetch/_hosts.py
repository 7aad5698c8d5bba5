"""What hosts tell of their files: sizes and hashes of a Zenodo record, and of a repository of the model hub."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from .._disk import json_object
from ._download import read_url
from ._registry import COMMIT, HASH, File

if TYPE_CHECKING:
    from collections.abc import Iterator


def endpoint() -> str:
    """Address of the model hub, or of the mirror that its own variable names."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def login() -> dict[str, str]:
    """Return the user's login to the model hub, if there is one."""
    from huggingface_hub import get_token

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def of_zenodo(file: File) -> File:
    """Return a file with the hash and size that its Zenodo record lists."""
    parts = urlsplit(file.urls[0])
    match = re.match(r"/records?/(\d+)/files/([^/?]+)", parts.path)
    if match is None:
        msg = f"{file.urls[0]} is not the address of a file of a Zenodo record."
        raise ValueError(msg)
    page = f"{parts.scheme}://{parts.netloc}/api/records/{match[1]}"
    record = _json(page)
    with _understood(page, record):
        listed = {entry.get("key") or entry.get("filename"): entry for entry in record.get("files", [])}
        if match[2] not in listed:
            msg = f"{page} lists no file {match[2]!r}; it has {sorted(map(str, listed))}"
            raise ValueError(msg)
        entry = listed[match[2]]
        checksum = str(entry.get("checksum", ""))
        checksum = checksum if ":" in checksum else f"md5:{checksum}"
        if not HASH.fullmatch(checksum):
            msg = f"{page} gives no checksum for {match[2]!r}: {checksum!r}"
            raise ValueError(msg)
        return File(file.name, file.urls, checksum, int(entry.get("size") or entry.get("filesize") or 0))


@dataclass(frozen=True, slots=True)
class Repository:
    """Files of a repository of the model hub at one commit."""

    commit: str
    files: dict[str, File]


def of_hub(repository: str, commit: str) -> Repository:
    """List the files of a repository, at a commit or (``""``) at the newest."""
    page = f"{endpoint()}/api/models/{repository}/revision/{commit or 'main'}?blobs=true"
    listing = _json(page, login())
    revision = str(listing.get("sha", ""))
    if not COMMIT.fullmatch(revision) or (commit and commit != revision):
        msg = f"{page} tells of commit {revision!r}; expected {commit or '40 hexadecimal digits'}"
        raise ValueError(msg)
    held = {}
    with _understood(page, listing):
        for entry in listing.get("siblings", []):
            name, large = entry["rfilename"], entry.get("lfs") or {}
            known = f"sha256:{large['sha256']}" if large else f"git:{entry.get('blobId', '')}"
            url = f"{endpoint()}/{repository}/resolve/{revision}/{quote(name)}"
            held[name] = File(name, (url,), known, int(large.get("size") or entry.get("size") or 0))
    if not any(name.endswith(".safetensors") for name in held):
        msg = f"{page} lists no weights (safetensors); it has {sorted(held)[:20]}"
        raise ValueError(msg)
    return Repository(revision, held)


def _json(page: str, headers: dict[str, str] | None = None) -> dict:
    text = read_url(page, headers)
    try:
        return json_object(text, page)
    except ValueError as error:
        msg = f"{page} answers with {text[:80]!r}, which is no JSON object (a login page?)"
        raise ConnectionError(msg) from error


@contextmanager
def _understood(page: str, told: dict) -> Iterator[None]:
    """JSON of another form than the host's is an error that names the page."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"{page} answers in another form than expected: {str(told)[:80]}"
        raise ConnectionError(msg) from error
