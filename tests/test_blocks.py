"""Blocks in a folder: who may write, what belongs together, what a full disk leaves."""

import errno
import json
import os
import sys
import types
from pathlib import Path

import pytest

from cellhermes import _blocks
from cellhermes._blocks import SHARD, Held, Shard, Work, fill, missing, wait
from cellhermes._disk import check_space, commit


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in (SHARD, "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_says_which_share_is_ours(monkeypatch):
    assert Shard.here() == Shard(0, 1, waits=True)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Shard.here() == Shard(2, 4, waits=True)
    monkeypatch.setenv(SHARD, "1/3")
    assert Shard.here() == Shard(1, 3, waits=False)


def test_processes_of_torch_count_where_they_are_joined(monkeypatch):
    joined = types.SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, get_rank=lambda: 1, get_world_size=lambda: 2
    )
    monkeypatch.setitem(sys.modules, "torch.distributed", joined)
    assert Shard.here() == Shard(1, 2, waits=True)


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/2", "0/0"])
def test_a_share_that_is_none_is_explained(monkeypatch, text):
    monkeypatch.setenv(SHARD, text)
    with pytest.raises(ValueError, match=r"expected k/n with k from 0 to n - 1"):
        Shard.here()


def test_shares_have_all_blocks_and_each_once():
    held = Held({3: "x"})
    shares = [missing(held, 10, Shard(k, 3)) for k in range(3)]
    assert sorted(i for share in shares for i in share) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_filling_computes_what_is_missing_and_says_whether_all_is_there():
    held, made = Held({1: 10}), []
    fill(held, 4, lambda i: made.append(i) or 10 * i, Shard(0, 2), desc="")
    assert (held, made) == ({1: 10, 0: 0, 2: 20}, [0, 2])
    assert not wait(held, 4, Shard(0, 2))
    assert wait(held, 4, Shard(0, 2, waits=True), lambda: True)
    held[3] = 30
    assert wait(held, 4, Shard(0, 2))


def test_two_processes_of_one_share_or_of_different_numbers_are_refused(tmp_path):
    for first, second in [
        (Shard(), Shard()),
        (Shard(0, 2), Shard(0, 2)),
        (Shard(1, 2), Shard(0, 3)),
        (Shard(), Shard(1, 2)),
    ]:
        with Work(tmp_path / "w", first), pytest.raises(BlockingIOError, match="Another process is writing to"):
            Work(tmp_path / "w", second).__enter__()
    with Work(tmp_path / "w", Shard(0, 2)), Work(tmp_path / "w", Shard(1, 2)):
        pass
    with Work(tmp_path / "w", Shard()):  # all have let go
        pass


def test_blocks_of_another_run_are_refused_and_named(tmp_path):
    with Work(tmp_path / "w", Shard()) as work:
        work.claim({"model": "a", "n": (1, 2)})
        work.claim({"model": "a", "n": [1, 2]})
        with pytest.raises(
            ValueError, match=r"blocks of another run: extra, model differ. Write to another path, or delete"
        ):
            work.claim({"model": "b", "n": [1, 2], "extra": 1})


def test_a_full_disk_leaves_no_half_file_and_says_what_to_do(tmp_path, monkeypatch):
    commit(tmp_path / "a", b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space is left for .*Finished blocks are kept: free some space"):
        commit(tmp_path / "a", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


def test_a_folder_that_may_not_be_written_is_told_at_once(tmp_path, monkeypatch):
    def read_only(self, **_):
        raise PermissionError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(PermissionError, match="may not be written .*Pass the path of a folder of yours"):
        Work(tmp_path / "w", Shard()).__enter__()


def test_too_little_space_is_told_before_the_work(tmp_path):
    with pytest.raises(OSError, match=r"1,000,000 GB are to be written, but .* left. Free some"):
        check_space(tmp_path, 10**15)


def test_without_locks_a_warning_stands_for_them(tmp_path, monkeypatch, caplog):
    import filelock

    def none(*_, **__):
        raise NotImplementedError("no flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    with Work(tmp_path / "w", Shard()):
        pass
    assert "no locks on this file system; start one process only" in caplog.text


def test_a_folder_goes_when_nobody_works_in_it(tmp_path):
    with Work(tmp_path / "w", Shard(0, 2)) as one:
        with Work(tmp_path / "w", Shard(1, 2)):
            pass
        other = Work(tmp_path / "w", Shard(1, 2))
        other.__enter__()
    one.remove()
    assert (tmp_path / "w").is_dir()
    other.__exit__(None, None, None)
    other.remove()
    assert not (tmp_path / "w").exists()


def test_a_stamp_is_json(tmp_path):
    with Work(tmp_path / "w", Shard()) as work:
        work.claim({"a": "é"})
    assert json.loads((tmp_path / "w" / _blocks.STAMP).read_text("utf-8")) == {_blocks.MARK: {"a": "é"}}


def test_a_folder_that_we_did_not_begin_is_never_removed(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "000000.npy").write_text("mine")
    work = Work(tmp_path / "w", Shard())
    work.remove()
    with pytest.raises(FileExistsError, match="is there already and holds no blocks"):
        work.__enter__()
    assert (tmp_path / "w" / "000000.npy").read_text() == "mine"
