"""Beside weights stands what they are, for people and for programs."""

import json

import pytest

from cellhermes._keys import version
from cellhermes.model import _card
from cellhermes.train._export import write_card

HUB = _card.ModelCard("somebody/something", base="somebody/something", revision="c0ffee", license='Some: "own" licence')


def front(text):
    """The lines of the head; each is `key: value` with a JSON string or a word, or an entry of a list."""
    head, body = text.removeprefix("---\n").split("\n---\n", 1)
    return head.splitlines(), body


@pytest.fixture
def write(tmp_path):
    def write(card=HUB, base="somebody/something", kind="adapter", facts=None):
        write_card(tmp_path, card=card, base=base, kind=kind, facts=facts or {})
        note = json.loads((tmp_path / "cellhermes.json").read_text())
        return (tmp_path / "README.md").read_text(), note

    return write


def test_note_is_read_again(tmp_path, write):
    read_at = {"gene": "entity_end", "default": "mean"}
    card = _card.ModelCard("x", base="x/y", wrap="plain", read_at=read_at, tasks=("demo",), license="MIT")
    _, note = write(card, "x/y", "model")
    assert note == {
        "wrap": "plain", "read_at": read_at, "tasks": ["demo"], "base": "x/y", "revision": "", "license": "MIT",
        "description": "Language model made from x/y", "version": version(),
    }  # fmt: skip
    (tmp_path / "config.json").write_text("{}")
    found = _card.resolve(tmp_path)
    assert (found.wrap, found.read_at, found.tasks, found.license) == ("plain", read_at, ("demo",), "MIT")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "cellhermes.json", "config.json"]


@pytest.mark.parametrize(("kind", "library"), [("adapter", "peft"), ("model", "transformers")])
def test_front_matter_is_what_model_hubs_read(write, kind, library):
    lines, body = front(write(kind=kind)[0])
    assert lines[:4] == [
        'base_model: "somebody/something"', "license: other", "license_name: some-own-licence",
        f"library_name: {library}",
    ]  # fmt: skip
    assert ("- lora" in lines) == (kind == "adapter")
    assert "Derived from `somebody/something`" in body
    assert 'Some: "own" licence' in body


def test_hubs_get_no_base_that_they_do_not_have(write):
    mini = _card.resolve("mini")
    lines, body = front(write(mini, "mini")[0])
    assert lines[0] == "license: cc-by-4.0"
    assert not any(line.startswith(("base_model", "license_name")) for line in lines)
    assert "# LoRA adapter for mini" in body
    folder = _card.ModelCard("/home/me/model", base="/home/me/model")
    assert "base_model" not in "".join(front(write(folder, "/home/me/model")[0])[0])


def test_facts_become_tables(write):
    facts = {
        "parameters": 20_971_520,
        "finished": True,
        "nothing": None,
        "results": {"loss": 0.123456789, "seconds": 61.0, "evaluation": {}},
        "data": {"pairs": {"sequence": {"n": 1200, "tasks": ["a|b", "c\nd"]}}, "long": "x" * 500},
    }
    body = front(write(facts=facts)[0])[1]
    for line in (
        "| parameters | 20,971,520 |", "| finished | yes |", "| loss | 0.12346 |", "| seconds | 61 |", "## Results",
        "| pairs: sequence: n | 1,200 |", r"| pairs: sequence: tasks | a\|b, c d |", f"| long | {'x' * 196} ... |",
    ):  # fmt: skip
        assert line in body.splitlines()
    assert "nothing" not in body
    assert "evaluation" not in body


def test_rewriting_keeps_one_card(write, tmp_path):
    write(facts={"loss": 1.0})
    body = write(facts={"loss": 2.0})[0]
    assert "| loss | 2 |" in body
    assert "| loss | 1 |" not in body
    assert len(list(tmp_path.iterdir())) == 2
