"""What can be downloaded by name says all of what a user must know, and the tool that refreshes it works."""

import dataclasses
import json
import re
import runpy
import shutil
import tomllib
from pathlib import Path

import pytest

from cellhermes import _fetch
from cellhermes._fetch import _registry
from cellhermes.model import _card

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "src" / "cellhermes" / "registry.toml"
ENTRIES = [(kind, entry) for kind, entries in _fetch.registry().items() for entry in entries.values()]
IDS = [f"{kind}/{entry.name}" for kind, entry in ENTRIES]
FROM = {"zenodo", "hub", "first use"}


@pytest.mark.parametrize(("kind", "entry"), ENTRIES, ids=IDS)
def test_no_entry_lacks_a_field(kind, entry):
    assert all(getattr(entry, name) for name in ("description", "version", "license", "citation"))
    assert entry.source.startswith("https://")
    raw = tomllib.loads(PATH.read_text("utf-8"))[kind][entry.name]
    about = {"description", "version", "license", "citation", "source", "files"}
    assert about | ({"commit", "parent"} if kind == "model" else set()) <= set(raw)
    assert entry.files or kind == "model"


@pytest.mark.parametrize(("kind", "entry"), ENTRIES, ids=IDS)
def test_every_file_has_mirrors_and_a_hash_or_says_where_one_comes_from(kind, entry):
    assert len({file.name for file in entry.files}) == len(entry.files)
    for file in entry.files:
        assert re.fullmatch(r"[\w.-]+", file.name)
        assert file.urls
        assert all(url.startswith("https://") for url in file.urls)
        assert _registry.HASH.fullmatch(file.hash) or file.hash in FROM
        assert file.size >= 0
        assert file.size or not file.known
        if file.hash == "zenodo":
            assert re.match(r"https://zenodo\.org/records/\d+/files/", file.urls[0])
        if any("githubusercontent" in url for url in file.urls):
            assert all(re.search(r"[/@][0-9a-f]{40}/", url) for url in file.urls)  # a branch would move


def test_facts_of_the_integration_data():
    data = _fetch.registry()["data"]
    facts = {name: (data[name].files[0].size, data[name].files[0].hash) for name in ("immune", "pancreas", "lung")}
    assert facts == {
        "immune": (2_064_748_344, "md5:482a6a3117432d41a46effd8376b8ee0"),
        "pancreas": (315_955_785, "md5:5aa155652b998c90395a0c9bd731b4b3"),
        "lung": (1_019_664_664, "md5:aac0832c3e3413ae279343f5de02a2c6"),
    }


def test_chains_of_models_toml_are_those_of_the_registry():
    known = _fetch.registry()["model"]
    for card in _card.named().values():
        chain = [card.base, *card.adapters]
        if card.base.startswith("bundled:"):
            continue
        assert set(chain) <= set(known)
        assert [known[name].parent for name in chain] == ["", *chain[:-1]]
        assert known[card.base].commit == card.revision


@pytest.mark.parametrize("entry", _fetch.registry()["model"].values(), ids=lambda entry: entry.name)
def test_weights_have_a_commit_or_say_that_it_is_taken_at_first_use(entry):
    assert _registry.COMMIT.fullmatch(entry.commit) or entry.commit == _registry.FIRST_USE
    assert "Llama 3.1 Community License" in entry.license or entry.license == "Apache-2.0"
    assert ("GPL-3.0" in entry.license) == bool(entry.parent)
    assert not entry.parent or entry.parent in _fetch.registry()["model"]


@pytest.mark.parametrize(("kind", "name"), [("data", "imune"), ("model", "EthanGao123/CellHermes")])
def test_unknown_names_say_which_was_meant(kind, name):
    with pytest.raises(ValueError, match="Did you mean '.*'.*Known: "):
        _fetch.find(kind, name)


# ---- the tool


@pytest.fixture
def tool(tmp_path):
    path = tmp_path / "registry.toml"
    shutil.copy(PATH, path)
    space = runpy.run_path(str(ROOT / "tools" / "refresh_registry.py"))
    return path, space


def test_refreshing_changes_what_was_missing_and_nothing_else(tool):
    path, space = tool
    before = path.read_text("utf-8")

    def ask(entry, file):
        return dataclasses.replace(file, hash="md5:" + "0" * 32, size=7) if file.hash == "zenodo" else file

    space["refresh"](path, ask=ask, ask_hub=lambda entry: None)
    after = tomllib.loads(path.read_text("utf-8"))
    for name, entry in tomllib.loads(before)["data"].items():
        for old, new in zip(entry["files"], after["data"][name]["files"], strict=True):
            filled = {"hash": "md5:" + "0" * 32, "size": 7} if old["hash"] == "zenodo" else {}
            assert new == old | filled
    assert before.count("\n") == path.read_text("utf-8").count("\n")


def test_refreshing_pins_commits_and_files_of_weights(tool):
    path, space = tool
    files = tuple(
        _registry.File(name, (f"https://x/{name}",), "sha256:" + "1" * 64, 5) for name in _fetch._weights.ADAPTER
    )
    found = _fetch._hosts.Repository("a" * 40, {file.name: file for file in files})
    space["refresh"](path, ask=lambda entry, file: file, ask_hub=lambda entry: found)
    after = tomllib.loads(path.read_text("utf-8"))["model"]
    for name, entry in _fetch.registry()["model"].items():
        if entry.parent:
            assert after[name]["commit"] == "a" * 40
            assert [file["name"] for file in after[name]["files"]] == list(_fetch._weights.ADAPTER)
        else:
            assert after[name]["commit"] == entry.commit  # a base that is pinned already


def test_refreshing_never_changes_a_known_hash(tool):
    path, space = tool
    with pytest.raises(SystemExit, match="immune: Immune_ALL_human.h5ad: the host says .*, the registry "):
        space["refresh"](
            path,
            ask=lambda entry, file: dataclasses.replace(file, hash="md5:" + "0" * 32, size=1),
            ask_hub=lambda entry: None,
        )
    assert json.dumps(tomllib.loads(path.read_text("utf-8"))) == json.dumps(tomllib.loads(PATH.read_text("utf-8")))
