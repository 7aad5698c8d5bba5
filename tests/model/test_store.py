"""Released weights by name: a server on this machine stands for the model hub, tiny models for large ones."""

import hashlib
import json
import shutil
import subprocess
from collections import namedtuple

import numpy as np
import pytest

import cellhermes as ch
from cellhermes import _fetch
from cellhermes.model import _card, _store

BASE = "meta-llama/Llama-3.1-8B-Instruct"
FIRST, SECOND = "EthanGao123/CellHermes-v1.0", "EthanGao123/CellHermes-Multi-Task-v1.0"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
README = {"rfilename": "README.md", "size": 3, "blobId": "0" * 40}


def commit(repository):
    return hashlib.sha1(repository.encode()).hexdigest()


def git_hash(content):
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@pytest.fixture
def hub(site, cache, monkeypatch, tmp_path):
    """The model hub, and an empty cache of its own library; ``hub.put(repository, folder)`` publishes a folder."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repository, folder):
        listed = []
        for path in sorted(p for p in folder.iterdir() if p.is_file()):
            content = path.read_bytes()
            site.files[f"/{repository}/resolve/{commit(repository)}/{path.name}"] = content
            entry = {"rfilename": path.name, "size": len(content), "blobId": git_hash(content)}
            if path.suffix == ".safetensors":
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            listed.append(entry)
        told = json.dumps({"id": repository, "sha": commit(repository), "siblings": listed}).encode()
        site.files[f"/api/models/{repository}/revision/main"] = told

    site.put = put
    return site


def in_hub_cache(tmp_path, repository, revision, folder):
    """Put a model where the hub's library would have put it."""
    place = tmp_path / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / revision
    return shutil.copytree(folder, place)


@pytest.fixture
def released(hub, tmp_path, folders, add_adapter):
    """A base in the hub's cache, and two adapters on the hub: (folder of the base, of the first, of the second)."""
    base = folders("llama")
    first = add_adapter(base, tmp_path / "first", 1)
    second = add_adapter(base, tmp_path / "second", 2, parent=first)
    in_hub_cache(tmp_path, BASE, _card.named()["cellhermes"].revision, base)
    hub.put(FIRST, first)
    hub.put(SECOND, second)
    return base, first, second


def vectors(name):
    return ch.CellHermes.from_pretrained(name, device="cpu", wrap="plain").embed(["Gene CD4", "A cell"])


def test_a_name_becomes_its_chain(released, hub, caplog):
    _, first, second = released
    np.testing.assert_array_equal(vectors("cellhermes"), vectors(first))
    np.testing.assert_array_equal(vectors("cellhermes-multitask"), vectors(second))
    assert np.abs(vectors("cellhermes") - vectors("cellhermes-multitask")).max() > 0.01
    for part in ("GPL-3.0, by the paper; on a base under the Llama 3.1 Community License", f"commit {commit(FIRST)}"):
        assert part in caplog.text
    got = [path for path, _ in hub.seen if "/resolve/" in path]
    assert sorted(got) == sorted(f"/{r}/resolve/{commit(r)}/{name}" for r in (FIRST, SECOND) for name in ADAPTER)
    assert {headers.get("Authorization") for path, headers in hub.seen} == {"Bearer hf_secret"}


def test_the_card_keeps_the_names(released):
    card = ch.CellHermes.from_pretrained("cellhermes", device="cpu").card
    assert (card.base, card.adapters) == (BASE, (FIRST,))


def test_the_repository_on_top_of_a_chain_is_its_chain(released):
    np.testing.assert_array_equal(vectors(SECOND), vectors("cellhermes-multitask"))


def test_an_adapter_may_stand_on_a_name(released, tmp_path, add_adapter):
    mine = add_adapter(released[0], tmp_path / "mine", 3, parent="cellhermes")
    same = add_adapter(released[0], tmp_path / "same", 3, parent=released[1])
    np.testing.assert_array_equal(vectors(mine), vectors(same))


def test_weights_are_taken_once_and_hold(released, hub, monkeypatch):
    expected = vectors("cellhermes")
    hub.put(FIRST, released[2])  # the hub has another version now
    hub.files[f"/api/models/{FIRST}/revision/main"] = b"{}"
    asked = len(hub.seen)
    monkeypatch.setenv("CELLHERMES_OFFLINE", "1")
    np.testing.assert_array_equal(vectors("cellhermes"), expected)
    assert len(hub.seen) == asked
    monkeypatch.delenv("CELLHERMES_OFFLINE")
    ch.cache.remove("cellhermes")
    with pytest.raises(ValueError, match="its sha256 is .*, but was|its git is .*, but was|bytes, expected"):
        vectors("cellhermes")


def test_a_repository_with_merged_weights_is_the_base(released, hub, tmp_path, folders):
    """Whether the first release is an adapter is not known."""
    merged = ch.train.merge(released[0], released[1], tmp_path / "merged", dtype="float32")
    hub.put(FIRST, merged)
    in_hub_cache(tmp_path, FIRST, commit(FIRST), merged)
    card = _store.located(_card.named()["cellhermes-multitask"])
    assert (card.base.endswith(commit(FIRST)), len(card.adapters)) == (True, 1)
    np.testing.assert_allclose(vectors("cellhermes"), vectors(released[1]), atol=1e-5)
    np.testing.assert_allclose(vectors("cellhermes-multitask"), vectors(released[2]), atol=1e-5)


def test_a_damaged_adapter_is_not_kept(released, hub, cache):
    hub.faults[f"/{FIRST}/resolve/{commit(FIRST)}/adapter_model.safetensors"] = [("corrupt",)]
    with pytest.raises(ValueError, match="adapter_model.safetensors did not give what was asked for.*its sha256 is"):
        vectors("cellhermes")
    assert not list(cache.rglob("adapter_model*"))
    vectors("cellhermes")


def test_offline_says_what_is_missing_and_how_to_get_it(released, hub, monkeypatch):
    monkeypatch.setenv("CELLHERMES_OFFLINE", "1")
    with pytest.raises(
        ConnectionError, match="CellHermes-v1.0 was never downloaded here, and CELLHERMES_OFFLINE=1.*bun"
    ):
        ch.cache.fetch("cellhermes")
    with pytest.raises(ConnectionError, match="somebody/something is not in the model hub's cache, and CELLHERMES_OFF"):
        ch.CellHermes.from_pretrained("somebody/something")
    assert hub.seen == []
    assert ch.cache.fetch("mini").name == "mini"


def test_a_gated_base_is_explained_before_gigabytes_move(hub):
    path = f"/api/models/{BASE}/revision/{_card.named()['llama-3.1-8b-instruct'].revision}"
    hub.faults[path] = [("status", 403, {"X-Error-Code": "GatedRepo"})]
    with pytest.raises(PermissionError, match="is gated.*Accept its licence on .*Llama-3.1-8B-Instruct.*hf auth login"):
        ch.cache.fetch("llama-3.1-8b-instruct")
    assert len(hub.seen) == 1


def test_a_base_that_shows_its_list_but_not_its_files_is_gated_too(hub, folders):
    hub.put(BASE, folders("llama"))
    revision = _card.named()["llama-3.1-8b-instruct"].revision
    listed = json.loads(hub.files.pop(f"/api/models/{BASE}/revision/main")) | {"sha": revision}
    hub.files[f"/api/models/{BASE}/revision/{revision}"] = json.dumps(listed).encode()
    hub.faults[f"/{BASE}/resolve/{revision}/config.json"] = [("status", 401)]
    with pytest.raises(PermissionError, match="is gated.*401.*hf auth login"):
        ch.cache.fetch("llama-3.1-8b-instruct")


def test_a_hub_that_is_away_says_what_works(hub):
    hub.close()
    with pytest.raises(ConnectionError, match="Could not ask the model hub .*pass the folder of a copy"):
        ch.cache.fetch("llama-3.1-8b-instruct")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no such host", "its host is not found, is there a network"),
        ("refused", "its host refuses the connection"),
        ("404", "answers 404"),
        ("500", "answers 500.*5 times"),
        ("a page", "no JSON object .a login page"),
        ("another form", "answers in another form than expected"),
        ("no weights", r"lists no weights .safetensors.; it has \['README.md'\]"),
    ],
)
def test_released_weights_that_cannot_be_asked_for_are_named_with_their_host(hub, cache, monkeypatch, what, told):
    page, host = f"/api/models/{FIRST}/revision/main", hub.url
    pages = {"a page": b"<html>log in", "another form": {"siblings": "none"}, "no weights": {"siblings": [README]}}
    if what == "no such host":
        host = "http://no.such.host.invalid"
        monkeypatch.setenv("HF_ENDPOINT", host)
    elif what == "refused":
        hub.close()
    elif what in pages:
        form = pages[what]
        hub.files[page] = form if isinstance(form, bytes) else json.dumps({"sha": commit(FIRST)} | form).encode()
    else:
        hub.faults[page] = [("status", int(what))] * 5
    with pytest.raises((ConnectionError, ValueError), match=rf"(?s){FIRST}'.*{host}/api.*{told}.*pass the folder of a"):
        ch.cache.fetch("cellhermes")
    assert not list(cache.rglob("lock.json"))  # so that the next call asks again


@pytest.mark.parametrize("code", [401, 403])
def test_released_weights_that_need_a_login_say_so(hub, code):
    hub.faults[f"/api/models/{FIRST}/revision/main"] = [("status", code)]
    with pytest.raises(PermissionError, match=rf"{FIRST}' is gated .*{hub.url}.*{code}.*hf auth login.*HF_TOKEN"):
        ch.cache.fetch("cellhermes")


def test_any_repository_is_asked_for_in_the_same_way(hub):
    hub.faults["/api/models/somebody/something/revision/main"] = [("status", 403, {"X-Error-Code": "GatedRepo"})]
    with pytest.raises(PermissionError, match="is gated.*Accept its licence"):
        ch.CellHermes.from_pretrained("somebody/something")
    hub.close()
    with pytest.raises(ConnectionError, match="spelt right.*pass the folder of a copy"):
        ch.CellHermes.from_pretrained("somebody/something")


def test_room_for_a_base_is_looked_for_first(hub, monkeypatch):
    revision = _card.named()["llama-3.1-8b-instruct"].revision
    sizes = {"model-00001-of-00001.safetensors": 16 * 10**9, "original/consolidated.00.pth": 10**12, "config.json": 100}
    told = {"id": BASE, "sha": revision, "gated": False}
    told["siblings"] = [{"rfilename": name, "size": size} for name, size in sizes.items()]
    hub.files[f"/api/models/{BASE}/revision/{revision}"] = json.dumps(told).encode()
    hub.files[f"/{BASE}/resolve/{revision}/config.json"] = b"{}"
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 10**9))
    with pytest.raises(OSError, match=r"needs 16\.0 GB, but .* has 1\.0 GB left.*HF_HOME"):
        ch.cache.fetch("llama-3.1-8b-instruct")


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_half_a_base_is_not_taken_for_whole(released, tmp_path, missing, monkeypatch):
    monkeypatch.setenv("CELLHERMES_OFFLINE", "1")
    snapshot = next((tmp_path / "hub").rglob("snapshots/*"))
    assert _fetch.base(BASE, snapshot.name) == snapshot
    (snapshot / missing).unlink()
    with pytest.raises(ConnectionError, match="is not in the model hub's cache"):
        _fetch.base(BASE, snapshot.name)


def test_only_safe_and_needed_files_of_a_base_are_asked_for():
    from cellhermes._fetch._weights import _is_wanted

    names = {
        "model-00001-of-00004.safetensors": True, "model.safetensors.index.json": True, "tokenizer.json": True,
        "tokenizer_config.json": True, "config.json": True, "original/consolidated.00.pth": False,
        "original/tokenizer.model": False, "pytorch_model.bin": False, "modeling_x.py": False, "LICENSE": False,
    }  # fmt: skip
    assert {name: _is_wanted(name) for name in names} == names


# ---- verify, remove, bundles


def test_verify_and_remove(released, cache):
    assert sorted(path.name for path in ch.cache.fetch("cellhermes").glob("adapter*[a-z]")) == sorted(ADAPTER)
    assert ch.cache.list().loc["cellhermes", "cached"]
    table = ch.cache.verify("cellhermes")
    assert set(table["name"]) == {BASE, FIRST}
    assert set(table.loc[table["name"] == FIRST, "state"]) == {"good"}
    path = next(cache.rglob("adapter_config.json"))
    path.write_text("{}")
    changed = ch.cache.verify("cellhermes").set_index("file")["state"][str(path)]
    assert changed.startswith("changed: its sha256 is ")
    assert ch.cache.remove("cellhermes") > 0
    assert set(ch.cache.verify("cellhermes")["name"]) == {BASE}
    with pytest.raises(ValueError, match="No model or data set 'x'. Known: mini"):
        ch.cache.verify("x")


def test_a_bundle_of_a_model_makes_a_machine_without_a_network_complete(released, hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    expected = vectors("cellhermes-multitask")
    ch.cache.export_bundle(tmp_path / "model.tar", ["cellhermes-multitask"])
    listed = subprocess.run(["tar", "tf", tmp_path / "model.tar"], capture_output=True, text=True, check=True).stdout
    assert listed.startswith("SHA256SUMS\n")
    monkeypatch.setenv("CELLHERMES_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere_hub"))
    monkeypatch.setenv("CELLHERMES_OFFLINE", "1")
    asked = len(hub.seen)
    ch.cache.import_bundle(tmp_path / "model.tar")
    np.testing.assert_array_equal(vectors("cellhermes-multitask"), expected)
    assert len(hub.seen) == asked
