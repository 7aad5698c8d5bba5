"""A corpus on disk is the pairs, whatever happens while it is written."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cellhermes as ch
from cellhermes import _blocks
from cellhermes.text import Prompt, QAPair
from cellhermes.train.corpus import Pairs, _parts, _write

FIELDS = ["instruction", "input", "output", "task", "template", "version", "variant", "source"]


@pytest.fixture
def pairs(adata, ppi):
    ch.pp.cell_sentences(adata, n_genes=40)
    sets = [
        ch.train.corpus.mlm_pairs(adata, metadata=["cell_type"]),
        ch.train.corpus.ar_pairs(adata, n_prefix=(5, 20), n_answer=5),
    ]
    return ch.train.corpus.mixture([*sets, ch.train.corpus.node_pairs(ppi)], None)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(_parts, "PART", 300)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.parquet"])
@pytest.mark.parametrize("n_workers", [1, 2])
def test_what_is_read_is_what_was_written(pairs, tmp_path, name, n_workers):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    card = pairs.write(tmp_path / name, n_workers=n_workers)
    assert list(ch.train.corpus.Pairs.read(tmp_path / name)) == list(pairs)
    assert names(tmp_path) == [name, name + ".card.json"]
    assert card == json.loads((tmp_path / (name + ".card.json")).read_text())


@pytest.mark.parametrize("moment", ["before the file has its name", "after"])
def test_parts_are_cleared_once_the_file_of_them_has_its_name(pairs, tmp_path, monkeypatch, moment):
    path, pairs = tmp_path / "corpus.jsonl", pairs.take(np.arange(400))
    pairs.take(np.arange(9)).write(path)
    with monkeypatch.context() as patch:
        patch.setattr(_write.Work, "remove", lambda _: None)
        if moment != "after":
            patch.setattr(_write, "flush", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError) if moment != "after" else nullcontext():
            pairs.write(path, overwrite=True)
    with pytest.raises(FileExistsError, match="is there already"):
        pairs.write(path)
    assert (tmp_path / "corpus.jsonl.parts").exists() == (moment != "after")
    pairs.write(path, overwrite=True)
    assert list(ch.train.corpus.Pairs.read(path)) == list(pairs)
    assert names(tmp_path) == ["corpus.jsonl", "corpus.jsonl.card.json"]


def test_a_file_does_not_depend_on_the_number_of_workers(pairs, tmp_path):
    sums = {pairs.write(tmp_path / "corpus.jsonl", n_workers=n, overwrite=True)["sha256"] for n in (1, 2, 3)}
    assert len(sums) == 1


def test_pairs_can_be_copied_to_processes_where_forks_are_not_safe(pairs, tmp_path, monkeypatch):
    expected = pairs.write(tmp_path / "expected.jsonl")["sha256"]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert pairs.write(tmp_path / "corpus.jsonl", n_workers=2)["sha256"] == expected


def test_records_have_the_layout_that_trainers_read(pairs, tmp_path):
    path = tmp_path / "corpus.jsonl"
    pairs.write(path)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record, pair in zip(records, pairs, strict=True):
        assert list(record) == FIELDS
        assert "\n".join([record["instruction"], record["input"]]) == pair.prompt.text
        assert "\n" not in record["instruction"]
        assert record["output"] == pair.answer
        assert record["source"] == pair.source
    frame = pd.read_json(path, lines=True)
    assert frame.columns.tolist() == FIELDS
    assert len(frame) == len(pairs)


def test_parquet_is_a_table_of_the_same_records(pairs, tmp_path):
    pytest.importorskip("pyarrow")
    pairs.write(tmp_path / "corpus.jsonl")
    pairs.write(tmp_path / "corpus.parquet")
    lines = pd.DataFrame(json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines())
    table = pd.read_parquet(tmp_path / "corpus.parquet")
    pd.testing.assert_frame_equal(table.astype(lines.dtypes), lines)


@pytest.mark.parametrize(("name", "form"), [("corpus.jsonl", "json"), ("corpus.parquet", "parquet")])
def test_hugging_face_datasets_reads_it(pairs, tmp_path, name, form):
    datasets = pytest.importorskip("datasets")
    pairs.write(tmp_path / name)
    found = datasets.load_dataset(form, data_files=str(tmp_path / name), cache_dir=str(tmp_path / "cache"))["train"]
    assert found.column_names == FIELDS
    assert found[7]["output"] == pairs[7].answer
    assert len(found) == len(pairs)


def test_the_card_says_what_the_corpus_is(pairs, adata, tmp_path):
    source = tmp_path / "cells.h5ad"
    adata.write_h5ad(source)
    card = pairs.write(tmp_path / "corpus.jsonl", inputs=[source])
    content = (tmp_path / "corpus.jsonl").read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    assert card["bytes"] == len(content)
    expected = hashlib.sha256(source.read_bytes()).hexdigest()
    assert card["inputs"] == [{"name": "cells.h5ad", "bytes": source.stat().st_size, "sha256": expected}]
    frame = pd.read_json(tmp_path / "corpus.jsonl", lines=True)
    assert {name: seen["pairs"] for name, seen in card["templates"].items()} == dict(frame["template"].value_counts())
    lengths = [len(pair.prompt.text) + len(pair.answer) for pair in pairs]
    longest = [seen["longest_pair"] for seen in card["templates"].values()]
    assert max(lengths) == max(lengths[i] for i in longest)
    for name, seen in card["templates"].items():
        assert pairs[seen["longest_pair"]].prompt.kind == name
        assert seen["characters_longest"] == lengths[seen["longest_pair"]]
        assert seen["tokens_longest"] >= seen["tokens_mean"] > 0
        assert seen["version"] == ch.text.Template.load(name).version
    assert card["about"]["parts"]["masked_genes"]["seed"] == 0
    assert card["pairs"] == len(pairs) == sum(seen["pairs"] for seen in card["templates"].values())
    assert card["dropped"] == dict(pairs.dropped)


def test_counted_tokens_are_those_of_the_bundled_model(adata):
    from transformers import AutoTokenizer

    ch.pp.cell_sentences(adata)
    pair = ch.train.corpus.mlm_pairs(adata)[0]
    tokenizer = AutoTokenizer.from_pretrained(str(ch.model.__path__[0]) + "/mini")
    n = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in (pair.prompt.text, pair.answer))
    assert _write._n_tokens(pair) == n


# ---- interruptions

SLOW = """
import sys, time
import cellhermes as ch
from cellhermes.train.corpus import _parts, ar_pairs, mixture, mlm_pairs, node_pairs
_parts.PART = 300
write = _parts.write_part
def slowly(*args):
    time.sleep(float(sys.argv[2]))
    write(*args)
_parts.write_part = slowly
adata, ppi = ch.datasets.toy(), ch.datasets.ppi("toy")
ch.pp.cell_sentences(adata, n_genes=40)
sets = [mlm_pairs(adata, metadata=["cell_type"]), ar_pairs(adata, n_prefix=(5, 20), n_answer=5), node_pairs(ppi)]
pairs = mixture(sets, None)
pairs.write(sys.argv[1], n_workers=int(sys.argv[3]))
"""


def parts_of(path):
    folder = path.with_name(path.name + ".parts")
    return folder, sorted(folder.glob("0*.json")) if folder.is_dir() else []


@pytest.mark.parametrize(("name", "n_workers"), [("corpus.jsonl", 1), ("corpus.jsonl", 2), ("corpus.parquet", 2)])
def test_a_killed_run_goes_on_and_gives_the_same_file(pairs, tmp_path, name, n_workers, monkeypatch):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    run = subprocess.Popen([sys.executable, "-c", SLOW, str(path), "0.1", str(n_workers)])
    while len(parts_of(path)[1]) < 3:
        assert run.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    run.kill()
    run.wait()
    time.sleep(0.3)  # its workers end by themselves
    assert not path.exists()
    done = {note.name for note in parts_of(path)[1]}
    assert 3 <= len(done) < len(pairs) / 300
    written = []
    write = _parts.write_part
    monkeypatch.setattr(_parts, "write_part", lambda *args: (written.append(f"{args[-1]:06d}.json"), write(*args)))
    card = pairs.write(path)
    assert not done & set(written)
    assert names(tmp_path) == [name, name + ".card.json"]
    again = pairs.write(path, overwrite=True)
    assert again == card
    assert list(ch.train.corpus.Pairs.read(path)) == list(pairs)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_workers_end_with_a_killed_parent(tmp_path):
    path = tmp_path / "corpus.jsonl"
    run = subprocess.Popen([sys.executable, "-c", SLOW, str(path), "0.2", "2"])
    while len(parts_of(path)[1]) < 1:
        assert run.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    assert len(children) == 2
    run.kill()
    run.wait()
    for _ in range(100):
        alive = [pid for pid in children if _runs(pid)]
        if not alive:
            break
        time.sleep(0.05)
    assert alive == []


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
@pytest.mark.parametrize(("n_workers", "limit"), [(1, 150_000), (2, 150_000), (2, 20_000)])  # while joining, in a part
def test_a_full_disk_leaves_no_half_file(pairs, tmp_path, n_workers, limit):
    path = tmp_path / "corpus.jsonl"
    command = [sys.executable, "-c", FULL + SLOW, str(path), "0", str(n_workers), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "the same call goes on from there" in done.stderr
    assert names(tmp_path) == ["corpus.jsonl.parts"]
    assert not list((tmp_path / "corpus.jsonl.parts").glob("*.part"))
    pairs.write(path)
    assert list(ch.train.corpus.Pairs.read(path)) == list(pairs)


def broken_after(n, monkeypatch):
    """The disk is full when part n is written."""
    write = _parts.write_part

    def full(*args):
        if args[-1] == n:
            raise OSError(28, "No space left on device")
        write(*args)

    monkeypatch.setattr(_parts, "write_part", full)
    return write


def test_damaged_parts_are_made_again(pairs, tmp_path, monkeypatch):
    path = tmp_path / "corpus.jsonl"
    expected = pairs.write(tmp_path / "expected.jsonl")["sha256"]
    write = broken_after(3, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        pairs.write(path)
    monkeypatch.setattr(_parts, "write_part", write)
    folder = tmp_path / "corpus.jsonl.parts"
    write(pairs, folder, ".jsonl", 300, 4)
    write(pairs, folder, ".jsonl", 300, 5)
    part = folder / "000004.jsonl"
    part.write_bytes(part.read_bytes()[:-10])  # cut
    write(pairs, folder, ".jsonl", 300, 2)  # joined, but not yet removed
    with (folder / "whole.jsonl").open("ab") as whole:
        whole.write(b'{"instruction": "ha')  # half a part
    made = []
    monkeypatch.setattr(_parts, "write_part", lambda *args: (made.append(args[-1]), write(*args)))
    assert pairs.write(path)["sha256"] == expected
    assert made[:2] == [3, 4]
    assert 5 not in made
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected


def test_a_lost_beginning_is_made_again(pairs, tmp_path, monkeypatch):
    path = tmp_path / "corpus.jsonl"
    write = broken_after(3, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        pairs.write(path)
    monkeypatch.setattr(_parts, "write_part", write)
    os.truncate(tmp_path / "corpus.jsonl.parts" / "whole.jsonl", 1000)
    pairs.write(path)
    assert list(ch.train.corpus.Pairs.read(path)) == list(pairs)


def test_parts_of_another_corpus_are_not_mixed_in(pairs, tmp_path, monkeypatch):
    broken_after(1, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        pairs.write(tmp_path / "corpus.jsonl")
    with pytest.raises(ValueError, match="blocks of another run: fingerprint, pairs, sample differ"):
        pairs[1:].write(tmp_path / "corpus.jsonl")


def test_a_second_writer_is_refused_and_the_first_goes_on(pairs, tmp_path, monkeypatch):
    path, write, refused = tmp_path / "corpus.jsonl", _parts.write_part, []

    def meanwhile(*args):
        if not refused:
            with pytest.raises(BlockingIOError, match="Another process is writing") as error:
                pairs.write(path)
            refused.append(error)
        write(*args)

    monkeypatch.setattr(_blocks, "PATIENCE", 0)
    monkeypatch.setattr(_parts, "write_part", meanwhile)
    pairs.write(path)
    assert refused
    assert list(ch.train.corpus.Pairs.read(path)) == list(pairs)
    assert names(tmp_path) == ["corpus.jsonl", "corpus.jsonl.card.json"]


def dies(numbers):
    if numbers[0] >= 600:
        os._exit(1)
    return [QAPair(Prompt(f"pair {i}"), "a", "demo") for i in numbers]


@pytest.mark.skipif(sys.platform != "linux", reason="the function is known to forked processes only")
def test_a_killed_worker_is_an_error(tmp_path):
    with pytest.raises(Exception, match="terminated abruptly") as caught:
        Pairs(dies, 1200, task="demo").write(tmp_path / "corpus.jsonl", n_workers=2)
    assert "the same call goes on" in caught.value.__notes__[0]
    assert names(tmp_path) == ["corpus.jsonl.parts"]


# ---- what is refused


def test_wrong_targets_are_explained(pairs, tmp_path):
    with pytest.raises(ValueError, match=r"ends with '.csv'; expected a name that ends with .jsonl or .parquet"):
        pairs.write(tmp_path / "corpus.csv")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        pairs.write(tmp_path / "no" / "corpus.jsonl")
    with pytest.raises(ValueError, match="at least one of each"):
        pairs[:0].write(tmp_path / "corpus.jsonl")
    with pytest.raises(ValueError, match="n_workers=0"):
        pairs.write(tmp_path / "corpus.jsonl", n_workers=0)
    (tmp_path / "corpus.jsonl").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        pairs.write(tmp_path / "corpus.jsonl")
    assert (tmp_path / "corpus.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"instruction": "Q", "output": "A"}\n{"instruction": "Q", "outp\n', r"line 2 is not JSON.*outp"),
        ('{"instruction": "Q", "input": ""}\n', "line 1: expected a record with instruction, input and output, got"),
        ('{"instruction": "", "output": "A"}\n', "line 1: expected a record"),
        ("[1, 2]\n", "line 1: expected a record"),
    ],
)
def test_bad_records_are_named_by_line(tmp_path, content, message):
    (tmp_path / "corpus.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        list(ch.train.corpus.Pairs.read(tmp_path / "corpus.jsonl"))


def test_released_layout_is_read(tmp_path):
    records = [{"instruction": "Which gene?", "input": "A B", "output": "C"}, {"instruction": "Q", "output": "A"}]
    (tmp_path / "set.json").write_text(json.dumps(records))
    found = list(ch.train.corpus.Pairs.read(tmp_path / "set.json"))
    assert [(pair.prompt.text, pair.answer, pair.task) for pair in found] == [
        ("Which gene?\nA B", "C", ""),
        ("Q", "A", ""),
    ]


def test_missing_files_are_named_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.jsonl is not a file"):
        ch.train.corpus.Pairs.read(tmp_path / "nowhere.jsonl")
    with pytest.raises(ValueError, match="'.txt'; expected one of .jsonl, .json, .parquet"):
        ch.train.corpus.Pairs.read(tmp_path / "corpus.txt")


# What is the user's ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["folder", "link", "dangling link", "card", "card that is a folder", "input"])
def test_what_no_corpus_has_written_stays(pairs, tmp_path, kind, overwrite) -> None:
    path, other = tmp_path / "corpus.jsonl", tmp_path / "other.jsonl"
    inputs = []
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        other.write_text("mine")
        path.symlink_to(other)
    elif kind == "dangling link":
        path.symlink_to(other)
    elif kind == "card":
        (tmp_path / "corpus.jsonl.card.json").write_text('{"name": "mine"}')
    elif kind == "card that is a folder":
        (tmp_path / "corpus.jsonl.card.json").mkdir()
    else:
        path.write_text("mine")
        inputs = [path]
    before = {one: one.read_bytes() if one.is_file() else one.is_symlink() for one in tmp_path.rglob("*")}
    with pytest.raises(FileExistsError, match="is a link|is a folder|no card of a corpus|which is read"):
        pairs.write(path, inputs=inputs, overwrite=overwrite)
    assert {one: one.read_bytes() if one.is_file() else one.is_symlink() for one in tmp_path.rglob("*")} == before


def test_a_full_disk_is_found_before_pairs_are_made(pairs, tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    size = pairs.write(tmp_path / "first.jsonl")["bytes"]
    for free, fits in ((size * 0.8, False), (size * 1.2, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(size, 0, int(free)))
        if fits:
            pairs.write(tmp_path / "second.jsonl")
        else:
            with pytest.raises(OSError, match="B are to be written"):
                pairs.write(tmp_path / "second.jsonl")
            assert not list(tmp_path.glob("second*"))


def test_parts_of_other_pairs_that_say_the_same_of_themselves_are_refused(tmp_path, monkeypatch) -> None:
    def made(answer):
        return Pairs(lambda numbers: [QAPair(Prompt(f"Gene {i}"), answer, "x") for i in numbers], 40, task="x")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_write, "_card", stop)
        with pytest.raises(KeyboardInterrupt):
            made("Yes").write(tmp_path / "c.jsonl")
    with pytest.raises(ValueError, match="another run: sample differ"):
        made("No").write(tmp_path / "c.jsonl")
    made("Yes").write(tmp_path / "c.jsonl")
    assert {pair.answer for pair in ch.train.corpus.Pairs.read(tmp_path / "c.jsonl")} == {"Yes"}
