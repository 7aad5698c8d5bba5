"""Files are there whole or not at all, are read as what they are, and have the hashes that other programs give."""

import errno
import hashlib
import json
import os
import subprocess
import sys

import pytest

from cellhermes import _disk

DEEP = b"[" * 100_000


def test_a_file_has_its_name_only_once_it_is_whole(tmp_path):
    path = tmp_path / "a.json"
    _disk.commit(path, b"old")
    with pytest.raises(KeyboardInterrupt), _disk.whole(path) as part:  # noqa: PT012
        part.write_bytes(b"ha")
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.json": b"old"}


def test_files_are_on_the_disk_before_they_have_their_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda number: seen.append((os.fstat(number).st_size, [*tmp_path.iterdir()])))
    _disk.commit(tmp_path / "a", b"four")
    _disk.commit(tmp_path / "b", b"", sync=False)
    ((size, names),) = seen
    assert size == 4
    assert tmp_path / "a" not in names


@pytest.mark.parametrize("content", [{"a": [1, None, "é\u2028"]}, {"half of a character": "\udc80"}, {}])
def test_json_is_read_as_it_was_written(tmp_path, content):
    _disk.write_json(tmp_path / "a.json", content)
    assert _disk.noted(tmp_path / "a.json") == json.loads((tmp_path / "a.json").read_bytes()) == content


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"null", DEEP])
def test_half_a_note_is_none_and_says_so_where_one_is_needed(tmp_path, content):
    path = tmp_path / "a.json"
    assert _disk.noted(path) == {}
    path.write_bytes(content)
    assert _disk.noted(path) == {}
    with pytest.raises(ValueError, match=r"^.*a\.json (is not JSON: |holds \w+; expected a JSON object$)"):
        _disk.json_object(content, path)


@pytest.mark.parametrize("content", [b"a = ", b"a = 1\na = 2", b"\xff", b"a = " + DEEP])
def test_what_is_no_toml_is_named(content):
    assert _disk.parsed(b"\xef\xbb\xbfa = 1", "x", "TOML") == {"a": 1}
    with pytest.raises(ValueError, match="^run.toml is not TOML: "):
        _disk.parsed(content, "run.toml", "TOML")


@pytest.mark.parametrize("kind", ["sha256", "md5", "git"])
def test_hashes_are_those_of_other_programs(tmp_path, kind):
    path = tmp_path / "a"
    path.write_bytes(b"some\nbytes" * 99_999)
    if kind == "git":
        told = subprocess.run(["git", "hash-object", "--no-filters", path], capture_output=True, text=True, check=True)
        expected = told.stdout.strip()
    else:
        expected = hashlib.new(kind, path.read_bytes(), usedforsecurity=False).hexdigest()
    assert _disk.file_hash(path, kind) == expected


def test_a_link_is_not_what_was_written(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    found = hashlib.sha256(b"1").hexdigest()
    assert _disk.is_as_written(tmp_path / "a", None, found)
    assert not _disk.is_as_written(tmp_path / "a", "0" * 64, None)
    assert not _disk.is_as_written(tmp_path / "b", None)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert not _disk.is_as_written(tmp_path / "b", found)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_a_name_may_be_any_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(_disk, "SETTLED", -1)
    monkeypatch.setattr(_disk, "LARGE", 1)
    monkeypatch.setenv(_disk.CACHE, str(tmp_path / "cache"))
    path = tmp_path / os.fsdecode(b"\xff")
    path.write_bytes(b"1")
    assert _disk.sha256_of(path) == hashlib.sha256(b"1").hexdigest()
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    assert _disk.noted(note)["file"] == str(path.resolve())


def test_room_is_looked_for_in_the_folder_that_is_there(tmp_path):
    _disk.check_space(tmp_path / "new" / "folder", 1)
    with pytest.raises(OSError, match=r"^a.h5ad needs 1,000,000 GB, but .* has .* left. Free some, or go\.$") as caught:
        _disk.check_space(tmp_path / "new" / "folder", 10**15, "a.h5ad", "go")
    assert str(tmp_path) + " has" in str(caught.value)


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.EROFS, "x may not be written .*. Mine"), (errno.EDQUOT, "No space is left for x. Yours")],
)
def test_errors_of_the_disk_say_what_to_do(number, message):
    with pytest.raises(OSError, match=message) as caught, _disk.explained("x", "Mine", "Yours"):
        raise OSError(number, os.strerror(number))
    assert caught.value.errno == number


def test_other_errors_stay_what_they_are():
    with pytest.raises(IsADirectoryError, match="^.Errno 21. mine$"), _disk.explained("x"):
        raise OSError(errno.EISDIR, "mine")
