"""Downloads, the cache and archives: a server on this machine stands for the internet, and goes wrong in every way."""

import gzip
import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import namedtuple
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
import safetensors.numpy
from anndata.compat import H5File
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellhermes._disk import cache_folder
from cellhermes._fetch import _cache, _download, fetch, members, unpacked

pytestmark = pytest.mark.usefixtures("cache")
ADVICE = "Pass a file instead."
CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
FILE = "/data.bin"


@pytest.fixture
def file(site):
    """A server with one file."""
    site.files[FILE] = CONTENT
    return site


def get(site, *, known=SHA256, **options):
    return fetch(site.url + FILE, "a/data.bin", known=known, advice=ADVICE, **options)


def left(cache, *, notes=False):
    """Names in the cache, without locks."""
    names = {p.name for p in cache.rglob("*") if p.is_file() and p.parent.name != "locks"}
    return sorted(n for n in names if notes or not n.endswith(".sha256"))


# ---- one file


def test_a_file_is_downloaded_once_and_then_read_without_a_connection(file, cache):
    path = get(file)
    assert path == cache / "a" / "data.bin"
    file.close()
    assert get(file).read_bytes() == CONTENT
    assert left(cache, notes=True) == ["data.bin", "data.bin.sha256"]  # nothing else
    assert len(file.seen) == 1


def test_the_hash_stands_beside_the_file_as_sha256sum_writes_it(file):
    path = get(file, known="")
    assert path.with_name("data.bin.sha256").read_text("utf-8") == f"{SHA256[7:]}  data.bin\n"


def test_that_nobody_publishes_a_hash_is_said_once(file, caplog):
    for _ in range(2):
        get(file, known="")
    assert caplog.text.count("No checksum of data.bin is published") == 1
    assert "is published" not in (caplog.clear() or caplog.text)


@pytest.mark.parametrize("known", ["", SHA256, f"md5:{hashlib.md5(CONTENT).hexdigest()}"])
def test_a_changed_file_is_refused_and_fetched_again_when_deleted(file, known):
    path = get(file, known=known)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(
        ValueError, match="has changed: its (sha256|md5) is .*, but was .*Delete it to download it again"
    ):
        get(file, known=known)
    path.unlink()
    assert get(file, known=known).read_bytes() == CONTENT


def test_git_hash_is_that_of_git(file, tmp_path):
    (tmp_path / "f").write_bytes(CONTENT)
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    expected = subprocess.run(["git", "hash-object", tmp_path / "f"], capture_output=True, text=True, check=True).stdout
    assert get(file, known=f"git:{expected.strip()}").read_bytes() == CONTENT


def test_a_server_that_gives_another_file_later_is_refused(file, cache):
    path = get(file, known="")
    path.unlink()
    file.files[FILE] = b"other"
    with pytest.raises(ValueError, match="is another file: its sha256 is .* but was .*Delete .*sha256. to accept"):
        get(file, known="")
    assert left(cache) == []
    path.with_name("data.bin.sha256").unlink()
    assert get(file, known="").read_bytes() == b"other"


def test_a_wrong_hash_keeps_nothing_and_says_both(file, cache):
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(ValueError, match=f"its sha256 is {SHA256[7:]}, but was {other}"):
        get(file, known=f"sha256:{other}")
    assert left(cache, notes=True) == []


def test_what_is_not_the_file_that_was_asked_for_is_not_kept(file, cache):
    def check(path):
        msg = "it holds no gene sets."
        raise ValueError(msg)

    with pytest.raises(ValueError, match=r"did not give what was asked for: .*: it holds no gene sets\. +Pass a file"):
        get(file, known="", check=check)
    assert left(cache, notes=True) == []


@pytest.mark.parametrize("url", ["{url}/nothing", "http://127.0.0.1:1/data.bin", "http://no.such.host.invalid/x"])
def test_without_a_connection_the_error_says_what_works(site, cache, url):
    with pytest.raises(ConnectionError, match=r"could not download data.bin \(http.*Pass a file instead\."):
        fetch(url.format(url=site.url), "data.bin", advice=ADVICE)
    assert left(cache, notes=True) == []


def test_a_file_that_was_put_there_by_hand_is_taken_over(file, cache, caplog):
    (cache / "a").mkdir(parents=True)
    (cache / "a" / "data.bin").write_bytes(CONTENT)
    get(file, known="")
    assert "there without a recorded hash" in caplog.text
    assert get(file).read_bytes() == CONTENT
    assert file.seen == []


def test_the_cache_is_where_the_system_keeps_such_files(monkeypatch):
    monkeypatch.delenv("CELLHERMES_CACHE")
    assert cache_folder().name == "cellhermes"


# ---- first use: nothing is known of what comes


def packed(kind):
    made = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(made, "w") as opened:
            opened.writestr("a.txt", CONTENT[:5000])
    else:
        with tarfile.open(fileobj=made, mode="w") as opened:
            member = tarfile.TarInfo("a.txt")
            member.size = 20_000
            opened.addfile(member, io.BytesIO(CONTENT[:20_000]))
    return made.getvalue()


def hdf5(version):
    """An h5ad file by the oldest or the newest rules of its format."""
    made = io.BytesIO()
    with H5File(made, "w", libver=version) as opened:
        opened["X"] = np.arange(20_000)
    return made.getvalue()


WHOLE = {
    "cells.h5ad": hdf5("earliest"),
    "new.h5ad": hdf5("latest"),
    "a.zip": packed("zip"),
    "a.tar": packed("tar"),
    "links.txt.gz": gzip.compress(b"protein1 protein2\n" * 999),
    "adapter.safetensors": safetensors.numpy.save({"a": np.zeros(500, np.float32), "b": np.ones(3, np.int8)}),
    "list.json": b'{"datasets": []}',
    "sets.gmt": b"A\tx\tCD3E\tCD4\n",
    "labels.txt": b"1\n0\n",
    "table.csv": b"a,b\n1,2\n",
    "of_no_known_kind.bin": CONTENT[:100],
}
PAGE = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"


def arrive(site, name, content):
    site.files[f"/{name}"] = content
    return fetch(f"{site.url}/{name}", name, advice=ADVICE)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_of_each_kind_is_taken_and_its_hash_recorded(site, cache, name):
    path = arrive(site, name, WHOLE[name])
    assert path.read_bytes() == WHOLE[name]
    assert _cache.recorded(path) == f"sha256:{hashlib.sha256(WHOLE[name]).hexdigest()}"


WRONG = [(name, what) for name in WHOLE for what in ("page", "empty", "other kind", "half")]
WRONG = [
    (name, what)
    for name, what in WRONG
    if not (what == "half" and name.endswith((".gmt", "labels.txt", ".csv", ".bin")))  # which do not tell
    and not (what == "other kind" and name.endswith(".bin"))
]


@pytest.mark.parametrize(("name", "what"), WRONG)
def test_what_cannot_be_the_file_never_becomes_the_hash(site, cache, name, what):
    other = WHOLE["cells.h5ad" if name == "a.zip" else "a.zip"]
    content = {"page": PAGE, "empty": b"", "other kind": other, "half": WHOLE[name][: len(WHOLE[name]) * 2 // 3]}[what]
    with pytest.raises(ValueError, match=rf"(?s)download of {name} did not give .*127\.0\.0\.1.*{ADVICE}"):
        arrive(site, name, content)
    assert left(cache, notes=True) == []
    assert arrive(site, name, WHOLE[name]).read_bytes() == WHOLE[name]


@pytest.mark.parametrize("content", [PAGE, b""])
def test_a_packed_page_is_no_packed_table(site, content):
    with pytest.raises(ValueError, match="a gzip file of"):
        arrive(site, "links.txt.gz", gzip.compress(content))


def test_a_page_that_somebody_saved_is_not_taken_over(site, cache):
    cache.mkdir()
    (cache / "cells.h5ad").write_bytes(PAGE)
    assert arrive(site, "cells.h5ad", WHOLE["cells.h5ad"]).read_bytes() == WHOLE["cells.h5ad"]


def test_the_next_mirror_is_asked_when_one_gives_its_login_page(site):
    site.files |= {"/page": PAGE, "/cells": WHOLE["cells.h5ad"]}
    path = fetch([f"{site.url}/page", f"{site.url}/cells"], "cells.h5ad", advice=ADVICE)
    assert path.read_bytes() == WHOLE["cells.h5ad"]


# ---- servers that go wrong


@pytest.mark.parametrize(
    "faults",
    [
        [("status", 500), ("status", 503), ("status", 429, {"Retry-After": "1"})],
        [("cut", 100_000)],
        [("cut", 100_000), ("cut", 50_000), ("cut", 1), ("cut", 0)],
        [("stall", 1.5)],
        [("trickle", 30_000)],
        [("cut", 100_000), ("whole",)],
        [("cut", 100_000), ("shifted",)],
        [("cut", 100_000), ("corrupt",)],
        [("corrupt",)] * 0,
        [("length", len(CONTENT) + 50)],
    ],
    ids=lambda faults: "+".join(str(f[0]) for f in faults) or "none",
)
@pytest.mark.parametrize("size", [0, len(CONTENT)])
def test_faults_that_pass_are_survived(file, cache, faults, size):
    if size and faults and faults[0][0] == "length":
        pytest.skip("a wrong length is final where the right one is known")
    file.faults[FILE] = list(faults)
    assert get(file, size=size).read_bytes() == CONTENT
    assert left(cache) == ["data.bin"]


def test_a_download_goes_on_where_it_stopped(file):
    file.faults[FILE] = [("cut", 100_000)]
    get(file)
    assert file.asked(FILE) == ["", "bytes=100000-"]


def test_another_range_than_was_asked_for_never_becomes_the_file(file):
    file.faults[FILE] = [("cut", 100_000), ("shifted",)]
    assert get(file, known="").read_bytes() == CONTENT
    assert file.asked(FILE) == ["", "bytes=100000-", ""]


def test_a_dying_server_is_gone_back_to_as_long_as_something_comes(file, monkeypatch):
    monkeypatch.setattr(_download, "PROGRESS", 20_000)
    file.faults[FILE] = [("cut", 20_000)] * 14
    assert get(file).read_bytes() == CONTENT
    assert len(file.seen) == 15


def test_another_process_goes_on_where_one_stopped(file, cache, monkeypatch):
    monkeypatch.setattr(_download, "TRIES", 1)
    file.faults[FILE] = [("cut", 100_000)]
    with pytest.raises(ConnectionError, match="ended after 100,000 of 300,000 bytes, 1 times"):
        get(file)
    assert left(cache) == ["data.bin.part", "data.bin.part.etag"]  # never under the final name
    assert get(file).read_bytes() == CONTENT
    assert file.asked(FILE)[-1] == "bytes=100000-"
    assert left(cache) == ["data.bin"]


@pytest.mark.parametrize("tags", [True, False, "weak"])
@pytest.mark.parametrize("changed", [True, False])
def test_halves_of_two_versions_are_never_joined(file, monkeypatch, tags, changed):
    """Where no hash would tell."""
    monkeypatch.setattr(_download, "TRIES", 1)
    file.tags, file.faults[FILE] = tags, [("cut", 100_000)]
    with pytest.raises(ConnectionError):
        get(file, known="")
    expected = file.files[FILE] = CONTENT[::-1] if changed else CONTENT
    assert get(file, known="").read_bytes() == expected
    assert file.asked(FILE)[-1] == ("bytes=100000-" if tags is True else "")


def test_a_half_that_is_as_long_as_the_file_is_not_taken_for_it(file, cache):
    """The server has nothing behind it, and does not look whether it is of the same version."""
    (cache / "a").mkdir(parents=True)
    (cache / "a" / "data.bin.part").write_bytes(CONTENT[::-1])
    (cache / "a" / "data.bin.part.etag").write_text(f'{file.url}{FILE}\n"old"', "utf-8")
    file.faults[FILE] = [("blind",)]
    assert get(file, known="").read_bytes() == CONTENT
    assert file.asked(FILE) == ["bytes=300000-", ""]


@pytest.mark.parametrize("begun", [False, True])
def test_more_than_was_promised_is_not_the_file(file, cache, monkeypatch, begun):
    """Where no length is told before, and no hash tells afterwards."""
    if begun:  # the answer to a request for the rest tells how long the whole is
        monkeypatch.setattr(_download, "TRIES", 1)
        file.faults[FILE] = [("cut", 100_000)]
        with pytest.raises(ConnectionError):
            get(file, known="")
    file.faults[FILE] = [("endless", 1)]
    with pytest.raises(ValueError, match="more than the expected 300 kB came"):
        get(file, known="", size=0 if begun else len(CONTENT))
    assert left(cache, notes=True) == []


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_final_answers_are_not_asked_for_again(file, code):
    file.faults["*"] = ("status", code)
    with pytest.raises(ConnectionError, match=f"answers {code}.*Pass a file"):
        get(file)
    assert len(file.seen) == 1


@pytest.mark.parametrize("code", [429, 500, 504])
def test_patience_ends(file, code):
    file.faults["*"] = ("status", code)
    with pytest.raises(ConnectionError, match=f"answers {code} .*5 times"):
        get(file)
    assert len(file.seen) == 5


def test_a_silent_server_is_given_up(file, monkeypatch):
    monkeypatch.setattr(_download, "TIMEOUT", 0.1)
    file.faults[FILE] = [("stall", 0.6)] * 5
    monkeypatch.setattr(_download, "PROGRESS", 10**9)
    file.files[FILE] = CONTENT[:1]
    with pytest.raises(ConnectionError, match="no answer for 0 s, 5 times"):
        get(file)


def test_a_server_is_left_alone_as_long_as_it_asks(file, monkeypatch):
    waited = []
    monkeypatch.setattr(_download, "LONGEST_WAIT", 60.0)
    monkeypatch.setattr(_download.time, "sleep", waited.append)
    file.faults[FILE] = [("status", 429, {"Retry-After": "7"}), ("status", 503), ("status", 503)]
    get(file)
    assert waited == [7.0, 0.02, 0.04]


def test_a_page_in_place_of_the_file_is_seen_from_its_size(file, cache):
    file.files[FILE] = b"<html>Please log in</html>"
    with pytest.raises(ValueError, match="offers 26 bytes, expected 300,000"):
        get(file, size=len(CONTENT))
    assert left(cache, notes=True) == []


def test_the_next_mirror_is_asked(file, cache):
    other = {"/gone": ("status", 404), "/broken": ("corrupt",), "/busy": ("status", 503)}
    for path, fault in other.items():
        file.files[path], file.faults[path] = CONTENT, [fault] * 9
    urls = [file.url + path for path in (*other, FILE)]
    assert fetch(urls, "data.bin", known=SHA256).read_bytes() == CONTENT
    assert [file.asked(path) for path in ("/gone", "/broken", FILE)] == [[""], [""], [""]]


def test_a_half_from_one_mirror_is_completed_by_the_next(file, monkeypatch):
    monkeypatch.setattr(_download, "TRIES", 1)
    file.files["/dying"], file.faults["/dying"] = CONTENT, [("cut", 70_000)]
    fetch([file.url + "/dying", file.url + FILE], "data.bin", known=SHA256)
    assert file.asked(FILE) == ["bytes=70000-"]


def test_all_mirrors_are_named_when_none_works(file):
    with pytest.raises(ConnectionError, match="/one: .*404.*/two: .*404"):
        fetch([file.url + "/one", file.url + "/two"], "data.bin")


def test_redirects_are_followed_with_the_range_and_without_the_login(file):
    away = type(file)()
    away.files["/elsewhere"], away.faults["/elsewhere"] = CONTENT, [("cut", 100_000)]
    file.faults[FILE] = [("redirect", f"{away.url}/elsewhere")] * 2
    get(file, headers={"Authorization": "Bearer secret"})
    away.close()
    assert [headers.get("Authorization") for _, headers in file.seen] == ["Bearer secret"] * 2
    assert [headers.get("Authorization") for _, headers in away.seen] == [None] * 2
    assert away.asked("/elsewhere") == ["", "bytes=100000-"]


def test_encryption_is_not_given_up_by_a_redirect():
    from urllib.request import Request

    handler = _download._OnlyWeb()
    with pytest.raises(OSError, match="not encrypted"):
        handler.redirect_request(Request("https://a/x"), None, 302, "", {}, "http://a/x")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 4000), max_size=4), size=st.integers(1, 5000), is_known=st.booleans())
def test_whatever_is_cut_off_the_file_arrives_whole(site, cache, cuts, size, is_known):
    content = CONTENT[:size]
    site.files[FILE], site.faults[FILE] = content, [("cut", n) for n in cuts]
    shutil.rmtree(cache, ignore_errors=True)
    known = f"sha256:{hashlib.sha256(content).hexdigest()}" if is_known else ""
    assert get(site, known=known).read_bytes() == content


# ---- offline, locks, disks


@pytest.mark.parametrize("name", _cache.OFFLINE)
def test_offline_means_no_request_and_an_answer_what_to_do(file, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(
        ConnectionError, match=f"data.bin is not there, and {name}=1 forbids.*import a bundle.*Pass a f"
    ):
        get(file)
    assert file.seen == []
    monkeypatch.setenv(name, "0")
    get(file)
    monkeypatch.setenv(name, "1")
    assert get(file).read_bytes() == CONTENT


def test_two_processes_download_once(file, cache):
    file.faults[FILE] = [("trickle", 20_000)]
    code = (
        "import logging, sys; logging.basicConfig(); from cellhermes._fetch import fetch;"
        f"print(len(fetch({file.url + FILE!r}, 'a/data.bin', known={SHA256!r}).read_bytes()))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=60) for process in running]
    assert [out.strip() for out, _ in told] == ["300000"] * 2
    assert len(file.seen) == 1
    assert left(cache) == ["data.bin"]


def test_the_second_says_that_it_waits(file, caplog):
    held, done = threading.Event(), threading.Event()

    def hold():
        with _cache.locked("a/data.bin"):
            held.set()
            done.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    threading.Timer(0.4, done.set).start()
    get(file)
    holder.join()
    assert "Another process is getting a/data.bin; waiting" in caplog.text


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root, and Windows, may write everywhere")
def test_a_cache_that_may_not_be_written_says_so(file, cache):
    cache.mkdir()
    cache.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PermissionError, match="may not be written.*Set CELLHERMES_CACHE"):
        get(file)
    cache.chmod(stat.S_IRWXU)


def test_a_cache_that_refuses_writing_says_so(file, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match="may not be written.*Set CELLHERMES_CACHE"):
        get(file)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_a_read_only_cache_is_read(file, cache):
    path = get(file, known="")
    for place in [path, path.parent, cache]:
        place.chmod(place.stat().st_mode & ~0o222)
    assert get(file, known="").read_bytes() == CONTENT
    for place in [cache, path.parent]:
        place.chmod(0o755)


def test_room_is_looked_for_before_anything_moves(file, cache, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 1000))
    with pytest.raises(OSError, match="needs 300 kB, but .* has 1.0 kB left.*CELLHERMES_CACHE"):
        get(file)
    assert left(cache, notes=True) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_disk_that_fills_up_keeps_what_came(file, cache):
    """A limit on the size of files stands for a full disk."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "import errno, os; from cellhermes._fetch import _download, fetch; write = _download._write\n"
        "def full(*args):\n"
        "    try: write(*args)\n"
        "    except OSError as error: raise OSError(errno.ENOSPC, 'No space left on device') from error\n"
        "_download._write = full\n"
        f"fetch({file.url + FILE!r}, 'a/data.bin', known={SHA256!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "No space is left for" in done.stderr
    assert "goes on where it stopped" in done.stderr
    assert left(cache) == ["data.bin.part", "data.bin.part.etag"]
    assert get(file).read_bytes() == CONTENT
    assert file.asked(FILE)[-1] == f"bytes={100_000}-"


@pytest.mark.slow
def test_300_megabytes_arrive_over_a_dying_connection_in_little_memory(site, monkeypatch):
    resource = pytest.importorskip("resource")  # not on Windows
    monkeypatch.setattr(_download, "TIMEOUT", 60.0)
    content = np.random.default_rng(1).bytes(300 * 10**6)
    site.files[FILE] = content
    site.faults[FILE] = [("cut", 90 * 10**6)] * 3
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = get(site, known=f"md5:{hashlib.md5(content).hexdigest()}", size=len(content))
    assert path.stat().st_size == len(content)
    assert site.asked(FILE) == ["", *(f"bytes={n * 90 * 10**6}-" for n in (1, 2, 3))]
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 700 * 10**6  # the server's own copies


# ---- archives


def write_zip(path, files, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("write", [write_zip, write_tar], ids=["zip", "tar"])
def test_members_are_unpacked_for_a_while(tmp_path, cache, write):
    path = write(tmp_path / "a", {"x/one.json": b"1", "x/two.txt": b"22", "README": b"333"})
    assert members(path) == {"x/one.json": 1, "x/two.txt": 2, "README": 3}
    with unpacked(path, r"\.(json|txt)$") as paths:
        assert [(p.name, p.read_bytes()) for p in paths] == [("one.json", b"1"), ("two.txt", b"22")]
        assert all(p.is_relative_to(cache) for p in paths)
    assert left(cache) == []


@pytest.mark.parametrize("write", [write_zip, write_tar], ids=["zip", "tar"])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:\\evil", "C:evil"])
def test_members_that_lead_out_are_refused(tmp_path, cache, write, name):
    path = write(tmp_path / "a", {"good": b"1", name: b"2"})
    with pytest.raises(ValueError, match="is not unpacked: its member .*evil' leads out"), unpacked(path):
        pass
    assert left(cache) == []
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("name", ["x/a:stream", "con", "x/NUL.txt", "aux .h5", "lpt1", "a?", "ends.", "x /y"])
def test_names_that_windows_reads_otherwise_are_refused_there(tmp_path, monkeypatch, name):
    path = write_tar(tmp_path / "a", {"console.txt": b"1", ".hidden/auxiliary.v1": b"2", name: b"3"})
    monkeypatch.setattr("cellhermes._fetch._unpack.WINDOWS", False)
    assert len(members(path)) == 3
    monkeypatch.setattr("cellhermes._fetch._unpack.WINDOWS", True)
    with pytest.raises(ValueError, match=f"its member {re.escape(repr(name))} is no name of a file on Windows"):
        members(path)


@pytest.mark.parametrize("n_places", [1, 2], ids=["before the file", "everywhere"])
def test_names_that_are_no_text_are_damage(tmp_path, cache, n_places):
    path = write_zip(tmp_path / "a", {"é": b"1"})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xc3\x28", n_places))
    with (
        pytest.raises(ValueError, match="a is damaged, or no archive: the name of a member is no text"),
        unpacked(path),
    ):
        pass
    assert left(cache) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ValueError, match="'link' is a link or a device"):
        members(tmp_path / "a.tar")


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match="'link' is a link"):
        members(tmp_path / "a.zip")


@pytest.mark.parametrize(("write", "mode"), [(write_zip, {}), (write_tar, {"mode": "w:gz"})], ids=["zip", "tar"])
def test_bombs_are_refused_before_anything_is_written(tmp_path, cache, write, mode):
    path = write(tmp_path / "bomb", {"zeros": bytes(60 * 10**6)}, **mode)
    with pytest.raises(ValueError, match=r"is not unpacked: .*kB would become 60\.0 MB"), unpacked(path):
        pass
    assert left(cache) == []


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path, cache):
    path = write_zip(tmp_path / "a.zip", {"zeros": bytes(10**6)})
    content = path.read_bytes()
    path.write_bytes(content.replace((10**6).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="damaged"), unpacked(path):
        pass
    assert left(cache) == []


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", "1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x", "2")
    with pytest.raises(ValueError, match="two members 'x'"):
        members(tmp_path / "a.zip")


def test_members_that_are_one_file_on_some_systems_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"x/Genes.tsv": CONTENT, "x/genes.tsv": CONTENT})
    with pytest.raises(ValueError, match=r"two members 'x/Genes.tsv' and 'x/genes.tsv', which are one file"):
        members(path)


@pytest.mark.parametrize("text", ["²", "Fri, 01 Jan 0001 00:00:00 -0000", "Fri, 31 Dec 9999 23:59:59 -0000", "soon"])
def test_a_time_to_wait_that_is_none_is_no_error(text):
    headers = Message()
    headers["Retry-After"] = text
    assert _download._asked_to_wait(HTTPError("http://x", 503, "busy", headers, None)) >= 0


@pytest.mark.parametrize("damage", ["cut", "text"])
def test_a_damaged_archive_says_so(tmp_path, damage):
    path = write_zip(tmp_path / "a.zip", {"x": CONTENT})
    path.write_bytes(path.read_bytes()[:-40] if damage == "cut" else b"<html>not found</html>")
    with pytest.raises(ValueError, match="a.zip is damaged, or no archive.*Delete it"):
        members(path)
