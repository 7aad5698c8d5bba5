"""A file from the first mirror that gives it whole: HTTP with resuming, retries and back-off. Knows no cache.

A download is written to ``<name>.part`` and goes on where it stopped, after a broken connection or in another process
later. Where the hash is not known, it only goes on if the server says that its file is still the same (``If-Range``),
so that two versions are never joined.
"""

from __future__ import annotations

import http.client
import logging
import re
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm.auto import tqdm

from .._disk import size_text
from ._cache import check_space

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger("cellhermes")

TIMEOUT = 60.0  # seconds without a byte
WAIT = 1.0  # seconds before the second try; doubled for each further one
LONGEST_WAIT = 60.0
TRIES = 5  # in a row without progress
PROGRESS = 2**20  # bytes that make a try count as progress
CHUNK = 2**18
T = TypeVar("T")
LATER = {408, 425, 429, 500, 502, 503, 504}  # what a server says when the same question may be answered later


class _TryAgainError(Exception):
    """The same mirror may do better in a moment."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class RefusedError(ConnectionError):
    """The server knows the file and does not give it: a login or a licence is needed."""


class _OnlyWeb(HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted connection to one that is not, and keeps logins to their host."""

    def redirect_request(self, req: Request, *args: object) -> Request | None:
        new = super().redirect_request(req, *args)
        if new is not None and req.full_url.startswith("https:") and not new.full_url.startswith("https:"):
            msg = f"it redirects to {new.full_url}, which is not encrypted"
            raise URLError(msg)
        if new is not None and urlsplit(new.full_url).netloc == urlsplit(req.full_url).netloc:
            for name, value in req.unredirected_hdrs.items():
                if name == "Authorization":
                    new.add_unredirected_header(name, value)
        return new


def open_url(url: str, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
    """Ask for a page; a login goes to its host only, and not along with redirects."""
    request = Request(url, headers={"User-Agent": "cellhermes"})
    for name, value in (headers or {}).items():
        add = request.add_unredirected_header if name == "Authorization" else request.add_header
        add(name, value)
    return build_opener(_OnlyWeb).open(request, timeout=TIMEOUT)


def read_url(url: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Read a small page, such as what a host tells of its files; errors name it."""
    try:
        return _patiently(lambda: _page(url, headers), url)
    except ConnectionError as error:
        msg = f"{url}: {error}"
        raise type(error)(msg) from error


def _page(url: str, headers: Mapping[str, str] | None) -> bytes:
    try:
        with open_url(url, headers) as response:
            return response.read()
    except (HTTPError, URLError, http.client.HTTPException, OSError) as error:
        raise _sorted_out(error) from error


def download(
    urls: Sequence[str],
    part: Path,
    *,
    check: Callable[[Path], object],
    is_known: bool,
    size: int = 0,
    headers: Mapping[str, str] | None = None,
) -> str:
    """Write ``part`` from the first of the mirrors whose file passes ``check``, and return its address.

    ``check`` raises ValueError for what is not the file; nothing of that is kept. ``is_known`` says that it compares
    with a known hash. ``size`` is the size in bytes, 0 if not known.

    Raises
    ------
    ConnectionError
        If no mirror gave the file; the message has each mirror's reason. What arrived stays for the next call.
    ValueError
        If what came was not the file.
    """
    reasons: list[str] = []
    is_wrong = False
    for url in urls:
        try:
            pieces = _get(url, part, size, headers, is_known=is_known)
            try:
                check(part)
            except ValueError:
                _remove(part)
                if pieces == 1:
                    raise
                _get(url, part, size, headers, is_known=is_known)  # one of the pieces may be what was wrong
                check(part)
        except ConnectionError as error:
            reasons.append(f"{url}: {str(error).rstrip('.')}")
        except ValueError as error:
            _remove(part)
            reasons.append(f"{url}: {str(error).rstrip('.')}")
            is_wrong = True
        else:
            return url
        logger.info("%s", reasons[-1])
    raise (ValueError if is_wrong else ConnectionError)("; ".join(reasons))


def _get(url: str, part: Path, size: int, headers: Mapping[str, str] | None, *, is_known: bool) -> int:
    """Get all of a file, and return 1 if it came in one piece, else more."""

    def attempt() -> int:
        try:
            return _stream(url, part, size, headers, is_known=is_known)
        except (HTTPError, URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
            raise _sorted_out(error) from error

    return _patiently(attempt, url, part)


def _patiently(attempt: Callable[[], T], url: str, part: Path | None = None) -> T:
    """Try until it works, or until several tries in a row have brought nothing."""
    tries = 0
    while True:
        before = _length(part)
        try:
            return attempt()
        except _TryAgainError as error:
            tries = 1 if _length(part) - before >= PROGRESS else tries + 1
            if tries >= TRIES:
                msg = f"{error}, {TRIES} times"
                raise ConnectionError(msg) from error
            wait = min(max(error.wait, WAIT * 2 ** (tries - 1)), LONGEST_WAIT)
            logger.info("%s: %s; trying again in %.0f s.", url, error, wait)
            time.sleep(wait)


def _length(part: Path | None) -> int:
    return part.stat().st_size if part is not None and part.is_file() else 0


def _sorted_out(error: Exception) -> Exception:
    """Sort errors into what can be tried again and what is final."""
    if isinstance(error, HTTPError):
        error.close()
        if error.code in LATER:
            return _TryAgainError(f"the server answers {error.code} ({error.reason})", _asked_to_wait(error))
        answer = f"the server answers {error.code} ({error.reason})"
        if error.code in (401, 403):
            return RefusedError(f"{answer}; is a login or a licence needed?")
        return ConnectionError(answer)
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, socket.gaierror):
        return ConnectionError(f"its host is not found, is there a network? ({reason.strerror})")
    if isinstance(reason, ConnectionRefusedError):
        return ConnectionError(f"its host refuses the connection ({reason.strerror})")
    if isinstance(error, URLError) and not isinstance(reason, TimeoutError | ConnectionError):
        return ConnectionError(str(reason))  # no route, no trust: does not pass in seconds
    text = f"no answer for {TIMEOUT:.0f} s" if isinstance(reason, TimeoutError) else f"connection lost ({reason!r})"
    return _TryAgainError(text)


def _asked_to_wait(error: HTTPError) -> float:
    """Seconds that a server asks for, as a number or as a date."""
    text = error.headers.get("Retry-After", "") if error.headers else ""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError, OSError):  # a date that the clock of this system cannot show
        return 0.0


def _stream(url: str, part: Path, size: int, headers: Mapping[str, str] | None, *, is_known: bool) -> int:
    """Write what is missing of a file, or all of it, and return in how many pieces it came at least."""
    start, asked = _continuation(url, part, is_known=is_known)
    if size and start == size:
        return 2
    try:
        response = open_url(url, {**(headers or {}), **asked})
    except HTTPError as error:
        if error.code != 416:  # there is no such range
            raise
        total = (error.headers or {}).get("Content-Range", "").rpartition("/")[2]
        error.close()
        if total == str(start) and is_known:
            return 2  # all of it was there already
        _remove(part)
        msg = "the server has no more of the file than is here already"
        raise _TryAgainError(msg) from error
    with response:
        start, total = _extent(response, part, start)
        if size and total and total != size:
            msg = f"the server offers {total:,} bytes, expected {size:,}"
            raise ValueError(msg)
        check_space(part.parent, (size or total) - start, part.name.removesuffix(".part"))
        _note(url, part, response)
        _write(response, part, start, size or total)
    if (n_bytes := _length(part)) < (size or total):
        msg = f"the connection ended after {n_bytes:,} of {size or total:,} bytes"
        raise _TryAgainError(msg)
    return 2 if start else 1


def _continuation(url: str, part: Path, *, is_known: bool) -> tuple[int, dict[str, str]]:
    """Where to go on, and how to ask for it."""
    start = _length(part)
    if not start:
        return 0, {}
    asked = {"Range": f"bytes={start}-"}
    if is_known:
        return start, asked
    note = part.with_name(part.name + ".etag")
    from_url, _, tag = note.read_text("utf-8").partition("\n") if note.is_file() else ("", "", "")
    return (start, {**asked, "If-Range": tag}) if from_url == url and tag else (0, {})


def _extent(response: http.client.HTTPResponse, part: Path, start: int) -> tuple[int, int]:
    """First byte that comes, and the size of the whole file (0 if not told)."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match and int(match[1]) == start:
            return start, 0 if match[2] == "*" else int(match[2])
        _remove(part)
        msg = f"asked for bytes from {start}, the server sends {response.headers.get('Content-Range')!r}"
        raise _TryAgainError(msg)
    return 0, int(response.headers.get("Content-Length") or 0)  # this server sends all of it, whatever was asked


def _note(url: str, part: Path, response: http.client.HTTPResponse) -> None:
    """Remember which file it is half of."""
    tag = response.headers.get("ETag", "")
    note = part.with_name(part.name + ".etag")
    if tag and not tag.startswith("W/"):  # a weak one does not promise the same bytes
        note.write_text(f"{url}\n{tag}", "utf-8", newline="\n")
    else:
        note.unlink(missing_ok=True)


def _write(response: http.client.HTTPResponse, part: Path, start: int, total: int) -> None:
    name = part.name.removesuffix(".part")
    with (
        part.open("r+b" if start else "wb") as file,
        tqdm(total=total or None, initial=start, desc=name, unit="B", unit_scale=True, delay=2, leave=False) as bar,
    ):
        file.seek(start)
        while block := response.read1(CHUNK):  # what has come so far: a stalled connection must not lose it
            file.write(block)
            bar.update(len(block))
            if total and file.tell() > total:
                msg = f"more than the expected {size_text(total)} came"
                raise ValueError(msg)


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".etag").unlink(missing_ok=True)
