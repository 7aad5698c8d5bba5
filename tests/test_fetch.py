"""The cache of downloads: a server on this machine stands for the internet."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cellhermes._fetch import cache_folder, fetch

ADVICE = "Pass a file instead."


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # one request a connection, so that closing the server leaves none open

    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path):
    """A folder on a server: (folder, url)."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sets.gmt").write_text("A\t\tCD3E\n", "utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLHERMES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


def get(url, **options):
    return fetch(f"{url}/sets.gmt", "enrichr/sets.gmt", check=options.pop("check", lambda path: None), advice=ADVICE)


def test_a_file_is_downloaded_once_and_then_read_without_a_connection(site, cache):
    folder, url = site
    path = get(url)
    assert path == cache / "enrichr" / "sets.gmt"
    (folder / "sets.gmt").unlink()
    assert get(url).read_text("utf-8") == "A\t\tCD3E\n"
    assert sorted(p.name for p in path.parent.iterdir()) == ["sets.gmt", "sets.gmt.sha256"]  # nothing else is left


def test_the_hash_stands_beside_the_file_as_sha256sum_writes_it(site):
    path = get(site[1])
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.with_name("sets.gmt.sha256").read_text("utf-8") == f"{expected}  sets.gmt\n"


def test_a_changed_file_is_refused_and_fetched_again_when_deleted(site):
    path = get(site[1])
    path.write_text("A\t\tCD3D\n", "utf-8")
    with pytest.raises(ValueError, match="has changed.*Delete it to download it again"):
        get(site[1])
    path.unlink()
    assert get(site[1]).read_text("utf-8") == "A\t\tCD3E\n"


def test_a_server_that_gives_another_file_later_is_refused(site):
    folder, url = site
    path = get(url)
    path.unlink()
    (folder / "sets.gmt").write_text("A\t\tCD8A\n", "utf-8")
    with pytest.raises(ValueError, match="another file than when it was first downloaded"):
        get(url)
    assert not path.exists()
    path.with_name("sets.gmt.sha256").unlink()
    assert get(url).read_text("utf-8") == "A\t\tCD8A\n"


def test_what_is_not_the_file_that_was_asked_for_is_not_kept(site, cache):
    def check(path):
        msg = "it holds no gene sets."
        raise ValueError(msg)

    with pytest.raises(ValueError, match=r"did not give what was asked for: it holds no gene sets\. Pass a file"):
        get(site[1], check=check)
    assert list(cache.rglob("*.*")) == []


@pytest.mark.parametrize("place", ["{url}/nothing", "http://127.0.0.1:1"])
def test_without_a_connection_the_error_says_what_works(site, cache, place):
    with pytest.raises(ConnectionError, match=r"could not download http.*Pass a file instead\."):
        get(place.format(url=site[1]))
    assert list(cache.rglob("*.*")) == []


def test_the_cache_is_where_the_system_keeps_such_files(monkeypatch):
    monkeypatch.delenv("CELLHERMES_CACHE")
    assert cache_folder().name == "cellhermes"
