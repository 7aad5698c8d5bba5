"""Pairs on disk as token ids: nothing lost, nothing silently cut."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import cellhermes as ch
from cellhermes.text import Prompt, QAPair
from cellhermes.train import _encoded
from cellhermes.train.corpus import Pairs


@pytest.fixture
def encoder(model):
    return model._encoder


def encode(sources, encoder, folder, *, max_tokens=64, caps=None, seed=0, key="key"):
    _encoded.encode(sources, encoder, folder, max_tokens=max_tokens, caps=caps or {}, seed=seed, key=key)
    return _encoded.load(folder)


def pairs_of(n, task="demo"):
    return [QAPair(Prompt(f"Gene number {i}"), f"answer {i}", task) for i in range(n)]


def test_examples_are_prompt_and_answer_of_the_encoder(encoder, tmp_path):
    pairs = pairs_of(5, "a") + pairs_of(3, "b")
    found = encode({"one": pairs[:5], "two": pairs[5:]}, encoder, tmp_path / "t")
    for i, pair in enumerate(pairs):
        question = encoder.prompts([pair.prompt])[0].ids
        assert found.ids[found.ends[i] : found.ends[i + 1]].tolist() == question + encoder.answer(pair.answer)
        assert found.n_prompt[i] == len(question)
        assert found.tasks[found.task[i]] == pair.task
    assert found.sources == {"one": 5, "two": 3}
    assert found.about()["tasks"] == {"a": 5, "b": 3}


def test_answers_end_with_the_end_token(encoder, tmp_path):
    found = encode({"one": pairs_of(4)}, encoder, tmp_path / "t")
    assert {int(found.ids[end - 1]) for end in found.ends[1:]} == set(encoder.end)


def test_too_long_examples_lose_the_same_share_of_question_and_answer(encoder):
    genes = ["CD3E", "MS4A1", "NKG7", "LYZ"] * 50
    pair = QAPair(Prompt("Genes " + " ".join(genes[:150])), " ".join(genes[:49]), "demo")
    (example,) = encoder.examples([pair], max_tokens=110)
    whole = encoder.prompts([pair.prompt])[0].ids
    around = len(encoder.head) + len(encoder.tail)
    n_text, n_answer = len(whole) - around, len(encoder.answer(pair.answer))
    assert example.is_cut
    assert len(example.ids) == 110
    kept_text, kept_answer = example.n_prompt - around, len(example.ids) - example.n_prompt
    assert kept_text / n_text == pytest.approx(kept_answer / n_answer, abs=1 / n_answer + 1 / n_text)
    # the turn around the question stays, and what is left begins as the whole did
    assert example.ids[: example.n_prompt] == whole[: len(encoder.head) + kept_text] + encoder.tail
    assert example.ids[example.n_prompt :] == encoder.answer(pair.answer)[:kept_answer]


def test_what_fits_exactly_is_not_cut(encoder):
    pair = pairs_of(1)[0]
    (whole,) = encoder.examples([pair], max_tokens=1000)
    (same,) = encoder.examples([pair], max_tokens=len(whole.ids))
    (cut,) = encoder.examples([pair], max_tokens=len(whole.ids) - 1)
    assert same == whole
    assert not same.is_cut
    assert cut.is_cut


def test_pairs_without_room_for_an_answer_are_dropped_and_counted(encoder, tmp_path):
    long = QAPair(Prompt("Genes " + " ".join(["CD3E"] * 500)), "Yes", "demo")
    found = encode({"one": [long, *pairs_of(2)]}, encoder, tmp_path / "t", max_tokens=40)
    assert len(found) == 2
    assert found.dropped == {"demo: no room for any of the answer in 40 tokens": 1}


def test_max_tokens_below_the_turn_markers_is_an_error(encoder):
    with pytest.raises(ValueError, match="max_tokens is 8, of which 10 stand around every question"):
        encoder.examples(pairs_of(1), max_tokens=8)


@pytest.mark.parametrize("kind", ["list", "pairs", "jsonl"])
def test_a_cap_draws_pairs_of_every_kind_of_source(adata, encoder, tmp_path, kind):
    ch.pp.cell_sentences(adata)
    pairs = ch.train.corpus.mlm_pairs(adata)[:40]
    source = {"list": list(pairs), "pairs": pairs, "jsonl": tmp_path / "c.jsonl"}[kind]
    if kind == "jsonl":
        pairs.write(source)
    found = [
        encode({"one": source}, encoder, tmp_path / f"t{seed}", max_tokens=1024, caps={"one": 7}, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert [len(part) for part in found] == [7, 7, 7]
    np.testing.assert_array_equal(found[0].ids, found[1].ids)
    assert found[0].ids.tolist() != found[2].ids.tolist()
    every = {tuple(example.ids) for example in encoder.examples(list(pairs), max_tokens=1024)}
    drawn = {tuple(part.tolist()) for part in np.split(found[0].ids, found[0].ends[1:-1])}
    assert len(drawn) == 7
    assert drawn <= every


def test_ids_are_made_once_and_again_when_something_changed(encoder, tmp_path):
    folder = tmp_path / "t"
    encode({"one": pairs_of(3)}, encoder, folder, key="a")
    before = (folder / "ids.bin").stat().st_mtime_ns
    assert len(encode({"one": pairs_of(4)}, encoder, folder, key="a")) == 3
    assert (folder / "ids.bin").stat().st_mtime_ns == before
    assert len(encode({"one": pairs_of(4)}, encoder, folder, key="b")) == 4
    # an interruption leaves no about.json, so the rest does not count
    (folder / "about.json").unlink()
    assert len(encode({"one": pairs_of(5)}, encoder, folder, key="b")) == 5


@pytest.mark.parametrize("name", ["ids.bin", "index.npz"])
@pytest.mark.parametrize("damage", ["one bit", "cut short", "gone"])
def test_damaged_ids_are_made_again(encoder, tmp_path, name, damage):
    folder = tmp_path / "t"
    expected = encode({"one": pairs_of(30)}, encoder, folder).ids.tolist()
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content if damage == "one bit" else content[:-8])
    assert encode({"one": pairs_of(30)}, encoder, folder).ids.tolist() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="names of open files are read from /proc")
def test_ids_are_on_the_disk_before_they_count(encoder, tmp_path, monkeypatch):
    """A power failure may take whatever was not flushed: both files are, before the note that names them."""
    flushed, folder = [], tmp_path / "t"
    fsync, replace = os.fsync, Path.replace

    def follow(number):
        flushed.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        fsync(number)

    monkeypatch.setattr(os, "fsync", follow)
    monkeypatch.setattr(Path, "replace", lambda path, to: flushed.append(str(to)) or replace(path, to))
    encode({"one": pairs_of(3)}, encoder, folder)
    assert flushed[:2] == [str(folder / "ids.bin"), str(folder / "index.npz")]
    assert "about.json" in flushed[2]
    assert flushed[3] == str(folder / "about.json")


def test_files_of_others_among_the_ids_stay(encoder, tmp_path):
    encode({"one": pairs_of(3)}, encoder, tmp_path / "tokens" / "train")
    (tmp_path / "tokens" / "train" / "x.txt").write_text("mine")
    encode({"one": pairs_of(4)}, encoder, tmp_path / "tokens" / "train", key="other")
    _encoded.remove(tmp_path / "tokens")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x.txt"]


def test_fingerprints_are_of_values_and_not_of_what_pairs_say_of_themselves():
    def made(answer):
        return Pairs(lambda numbers: [QAPair(Prompt(f"Gene {i}"), answer, "demo") for i in numbers], 5, task="demo")

    assert (
        _encoded.fingerprint(made("Yes"))
        == _encoded.fingerprint(made("Yes"))
        == _encoded.fingerprint(list(made("Yes")))
    )
    assert _encoded.fingerprint(made("Yes")) != _encoded.fingerprint(made("No"))
    assert _encoded.fingerprint(made("Yes")) != _encoded.fingerprint(made("Yes")[:4])


def test_a_stream_gives_every_pair_once_and_knows_its_first_ones():
    pairs = pairs_of(_encoded.HEAD + 7)
    for stream in (_encoded.Stream(iter(pairs)), _encoded.Stream(pairs)):
        assert list(stream) == pairs
        assert stream.head == pairs[: _encoded.HEAD]
    assert list(_encoded.Stream(iter(pairs[:3]))) == pairs[:3]


def test_fingerprints_tell_contents_apart(tmp_path):
    one, two = pairs_of(3), pairs_of(3)
    assert _encoded.fingerprint(one) == _encoded.fingerprint(two)
    two[1] = QAPair(two[1].prompt, "other", "demo")
    assert _encoded.fingerprint(one) != _encoded.fingerprint(two)
    path = tmp_path / "c.json"
    path.write_text(json.dumps([{"instruction": "a", "output": "b"}]))
    first = _encoded.fingerprint(path)
    path.write_text(json.dumps([{"instruction": "a", "output": "c"}]))
    assert _encoded.fingerprint(path) != first


@pytest.mark.parametrize(
    ("pairs", "error", "match"),
    [
        ({"a": 3}, TypeError, "pairs of 'a' are a int"),
        (["text"], TypeError, "hold a str; expected ch.text.QAPair"),
        ("missing.jsonl", FileNotFoundError, "missing.jsonl is not a file"),
        ("corpus.csv", ValueError, "expected one of .jsonl"),
    ],
)
def test_other_sources_are_errors(pairs, error, match):
    with pytest.raises(error, match=match):
        _encoded.as_sources(pairs)
