"""A model is known by its content: whatever changes its numbers changes the hash, and a copy has the same one."""

import json
import os
import shutil

import pytest
from safetensors.torch import load_file, save_file

import cellhermes as ch
from cellhermes import _disk
from cellhermes._disk import sha256_of
from cellhermes.model import _card
from cellhermes.model._identity import sha256


def identity(folder):
    return sha256(_card.resolve(str(folder)))


def flip(path, at=None):
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def copy(tmp_path, folders):
    return shutil.copytree(folders("llama"), tmp_path / "copy")


@pytest.fixture
def chain(tmp_path, copy, add_adapter):
    add_adapter(copy, tmp_path / "first", seed=1)
    add_adapter(copy, tmp_path / "second", seed=2, parent=tmp_path / "first")
    return tmp_path / "second"


def test_a_copy_is_the_same_model(copy, folders, tmp_path):
    assert identity(copy) == identity(folders("llama"))
    (copy / "README.md").write_text("# notes")
    edit(copy / "config.json", _name_or_path="elsewhere")
    assert identity(copy) == identity(folders("llama"))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_one_bit_of_any_file_is_seen(copy, folders, name):
    flip(copy / name)
    assert identity(copy) != identity(folders("llama"))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}),
        ("tokenizer_config.json", {"bos_token": "x"}),
    ],
)
def test_config_and_tokens_are_part_of_it(copy, folders, name, changes):
    edit(copy / name, **changes)
    assert identity(copy) != identity(folders("llama"))


def test_each_of_several_files_of_weights_counts(copy):
    tensors = load_file(copy / "model.safetensors")
    (copy / "parts").mkdir()
    names = {"one": "one.safetensors", "two": "parts/two.safetensors"}
    where = {key: names["one" if i % 2 else "two"] for i, key in enumerate(tensors)}
    for name in names.values():
        part = {key: tensors[key] for key in tensors if where[key] == name}
        save_file(part, copy / name, metadata={"format": "pt"})
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    found = {identity(copy)}
    for name in names.values():
        flip(copy / name)
        found.add(identity(copy))
    assert len(found) == 3


def test_every_adapter_and_the_base_below_count(chain, tmp_path, copy):
    found = [identity(chain)]
    for path in ("copy/model.safetensors", "first/adapter_model.safetensors", "second/adapter_model.safetensors"):
        flip(tmp_path / path)
        found.append(identity(chain))
    edit(tmp_path / "first" / "adapter_config.json", lora_alpha=77)
    found += [identity(chain), identity(tmp_path / "first"), identity(copy)]
    assert len(set(found)) == len(found)


def test_the_order_of_adapters_counts(chain, tmp_path, copy):
    card = _card.resolve(str(chain))
    turned = type(card)(name="x", base=card.base, adapters=card.adapters[::-1])
    assert sha256(card) != sha256(turned)


def test_an_adapter_moved_with_its_base_is_the_same(chain, tmp_path):
    before = identity(chain)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("copy", "first", "second"):
        shutil.copytree(tmp_path / name, moved / name)
    for name, base in (("first", "copy"), ("second", "first")):
        edit(moved / name / "adapter_config.json", base_model_name_or_path=str(moved / base))
    shutil.rmtree(tmp_path / "first")
    assert identity(moved / "second") == before


def test_a_loaded_model_keeps_the_hash_of_what_was_read(copy):
    model, before = ch.CellHermes.from_pretrained(copy, device="cpu"), identity(copy)
    flip(copy / "model.safetensors")
    assert model.sha256 == before != identity(copy)


def test_a_model_made_of_tensors_is_hashed_by_them(copy, tokenizer):
    model = ch.CellHermes.from_pretrained(copy, device="cpu")
    found = set()
    for _ in range(2):
        made = ch.CellHermes(model._reader.lm, tokenizer, model.card)
        found.add(made.sha256)
        next(iter(model._reader.lm.parameters())).data[0, 0] += 1
    assert len(found) == 2


# Hashes of files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A file that was written long enough ago, and how often it was read."""
    path, reads = tmp_path / "weights.bin", []
    path.write_bytes(b"1" * 1000)
    monkeypatch.setattr(_disk, "_seen", {})
    monkeypatch.setattr(_disk, "SETTLED", -1)
    monkeypatch.setattr(_disk, "LARGE", 1)
    hashed = _disk.file_hash
    monkeypatch.setattr(_disk, "file_hash", lambda path: reads.append(path) or hashed(path))
    return path, reads


def test_a_file_is_read_once_also_by_the_next_process(old, cache, monkeypatch):
    path, reads = old
    first = sha256_of(path)
    monkeypatch.setattr(_disk, "_seen", {})
    assert sha256_of(path) == first == sha256_of(path)
    assert len(reads) == 1


def test_a_change_that_keeps_size_and_time_is_seen(old, cache):
    path, _ = old
    first, stat = sha256_of(path), path.stat()
    with path.open("r+b") as file:
        file.write(b"2")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert sha256_of(path) != first


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sha256": "00", "state": []}', '{"sha256": 5}'])
def test_a_damaged_note_is_not_believed(old, cache, monkeypatch, content):
    path, reads = old
    first = sha256_of(path)
    monkeypatch.setattr(_disk, "_seen", {})
    for note in (cache / "hashes").iterdir():
        note.write_text(content)
    assert sha256_of(path) == first
    assert len(reads) == 2


def test_a_file_that_was_just_written_is_read_again(old, cache, monkeypatch):
    path, reads = old
    monkeypatch.setattr(_disk, "SETTLED", 60)
    assert sha256_of(path) == sha256_of(path)
    assert len(reads) == 2
