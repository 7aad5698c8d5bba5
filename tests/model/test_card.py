"""Names, folders, hub ids and adapters become a model, or a message that says what to do."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import cellhermes as ch
from cellhermes.model import _card, _load


@pytest.mark.parametrize("name", sorted(_card.named()))
def test_every_named_model_says_what_it_is(name):
    card = _card.named()[name]
    assert card.description
    assert card.license
    assert card.wrap in {"chat", *ch.text.Wrap.names()}
    assert set(card.tasks) <= set(ch.text.Task.names())
    assert hasattr(torch, card.dtype)
    assert card.base.startswith("bundled:") or len(bytes.fromhex(card.revision)) == 20


def test_unknown_name_says_what_is_known():
    with pytest.raises(ValueError, match=r"No model 'minni'.*mini, .*cellhermes.*folder"):
        ch.CellHermes.from_pretrained("minni")


@pytest.mark.parametrize("name", ["C:/models", r"C:\models\llama", r"..\llama", "D:llama/a"])
def test_a_folder_of_windows_is_no_hub_id(name, tmp_path):
    with pytest.raises(ValueError, match="No model"):
        ch.CellHermes.from_pretrained(name)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
    with pytest.raises(ValueError, match="a folder that is not there"):
        _card.resolve(tmp_path)


def test_folder_without_a_model_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="neither config.json nor adapter_config.json; found .'notes.txt'"):
        ch.CellHermes.from_pretrained(tmp_path)


def test_hub_models_are_read_from_safetensors_only(monkeypatch, folders):
    seen = {}

    def look(*args, **options):
        seen.update(options)
        return real(*args, **options)

    real = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(_load.AutoModelForCausalLM, "from_pretrained", look)
    ch.CellHermes.from_pretrained(folders("llama"), device="cpu")
    assert seen["use_safetensors"] is True
    assert not seen.get("trust_remote_code")


@pytest.mark.parametrize("damage", ["cut", "header"])
def test_damaged_weights_say_so(tmp_path, folders, damage):
    folder = shutil.copytree(folders("llama"), tmp_path / "model")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\xff" * 64 + content[64:])
    with pytest.raises(ValueError, match="damaged.*fetch it again"):
        ch.CellHermes.from_pretrained(folder)


def test_damaged_bundled_file_is_found_by_its_hash(tmp_path, folders):
    folder = folders("llama")
    with pytest.raises(ValueError, match="damaged: expected sha256 00ff, found [0-9a-f]{64}"):
        _card.check_files(folder, {"model.safetensors": "00ff"})
    with pytest.raises(ValueError, match="found no file"):
        _card.check_files(tmp_path, {"model.safetensors": "00ff"})


def test_damaged_adapter_config_says_so(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="adapter_config.json is not JSON.*Fetch or write it again"):
        ch.CellHermes.from_pretrained(tmp_path)


def test_tokenizer_of_another_model_is_refused(tmp_path, folders):
    folder = shutil.copytree(folders("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = 10
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    for name in [n for n in weights if "embed_tokens" in n or "lm_head" in n]:
        weights[name] = weights[name][:10].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="do not belong together"):
        ch.CellHermes.from_pretrained(folder)


@pytest.mark.parametrize("dtype", ["float99", "int64"])
def test_dtype_must_be_a_float(folders, dtype):
    with pytest.raises(ValueError, match="not a floating-point type"):
        ch.CellHermes.from_pretrained(folders("llama"), dtype=dtype)


def test_read_at_must_be_known(folders):
    with pytest.raises(ValueError, match="read_at=.'end'. is not known.*prompt_end"):
        ch.CellHermes.from_pretrained(folders("llama"), read_at="end")


def test_dtype_and_wrap_can_be_chosen(folders):
    model = ch.CellHermes.from_pretrained(folders("llama"), device="cpu", dtype="bfloat16", wrap="plain")
    assert (model.dtype, model.wrap, model.device) == ("bfloat16", "plain", "cpu")
    assert model.embed(["Gene CD4"]).dtype == np.float32


# ---- folders, adapters and their notes


def edit(path, **changes):
    """Change entries of a JSON file, which is made if it is not there."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | changes))


@pytest.fixture
def chain(tmp_path, folders, add_adapter):
    """Folders of a base, of an adapter on it, and of one on both."""
    base = shutil.copytree(folders("llama"), tmp_path / "base")
    first = add_adapter(base, tmp_path / "first", 1)
    return base, first, add_adapter(base, tmp_path / "second", 2, parent=first)


def test_adapter_folder_follows_its_bases(chain):
    base, first, second = chain
    card = _card.resolve(second)
    assert (card.base, card.adapters) == (str(base), (str(first), str(second)))
    assert (card.wrap, card.read_at) == ("", "prompt_end")
    assert "adapter second: see its own card" in card.license


def test_base_may_be_a_folder_beside_the_adapter(chain, monkeypatch):
    base, first, second = chain
    edit(second / "adapter_config.json", base_model_name_or_path="../first")
    assert [Path(a).resolve() for a in _card.resolve(second).adapters] == [first, second]
    monkeypatch.chdir(base.parent)
    edit(second / "adapter_config.json", base_model_name_or_path="first")  # as peft wrote it where it was started
    assert [Path(a).resolve() for a in _card.resolve("second").adapters] == [first, second]


def test_base_may_be_a_name_whose_card_is_inherited(tmp_path, add_adapter):
    mini = _card.named()["mini"]
    folder = add_adapter(_card.location(mini), tmp_path / "mine", 1, parent="mini")
    card = _card.resolve(folder)
    assert card.adapters == (str(folder),)
    assert (card.base, card.wrap, card.dtype, card.sha256) == (mini.base, mini.wrap, mini.dtype, mini.sha256)
    assert card.license.startswith(mini.license)
    prompts = ["Gene CD4"]
    changed = ch.CellHermes.from_pretrained(folder, device="cpu").embed(prompts)
    assert np.abs(changed - ch.CellHermes.from_pretrained("mini", device="cpu").embed(prompts)).max() > 0.01


def test_bundled_base_of_an_adapter_is_checked_against_its_hashes(tmp_path, add_adapter, monkeypatch):
    mini = _card.named()["mini"]
    folder = add_adapter(_card.location(mini), tmp_path / "mine", 1, parent="mini")
    monkeypatch.setitem(_card.named(), "mini", dataclasses.replace(mini, sha256={"config.json": "00ff"}))
    with pytest.raises(ValueError, match="config.json is damaged: expected sha256 00ff"):
        ch.CellHermes.from_pretrained(folder)


def test_adapter_on_a_name_stands_on_its_chain(chain):
    edit(chain[1] / "adapter_config.json", base_model_name_or_path="cellhermes")
    cellhermes = _card.named()["cellhermes"]
    card = _card.resolve(chain[1])
    assert (card.base, card.adapters) == (cellhermes.base, (*cellhermes.adapters, str(chain[1])))


def test_adapter_on_a_hub_base_takes_its_known_or_recorded_revision(chain):
    llama = _card.named()["llama-3.1-8b-instruct"]
    edit(chain[1] / "adapter_config.json", base_model_name_or_path=llama.base)
    card = _card.resolve(chain[1])
    assert (card.base, card.revision, card.wrap, card.description) == (llama.base, llama.revision, llama.wrap, "")
    edit(chain[1] / "adapter_config.json", revision="c0ffee")
    assert _card.resolve(chain[2]).revision == "c0ffee"


def test_base_folder_that_is_gone_is_named(chain):
    shutil.rmtree(chain[0])
    with pytest.raises(ValueError, match="first.adapter_config.json names the base model '.*base', a folder that is n"):
        _card.resolve(chain[2])


def test_topmost_note_says_how_to_read(chain):
    base, first, second = chain
    edit(base / "cellhermes.json", wrap="plain", read_at="mean", license="MIT", description="a base", base="elsewhere")
    assert _card.resolve(base).description == "a base"
    assert _card.resolve(base).base == str(base)  # a note tells where weights come from, not where they are
    card = _card.resolve(second)
    assert (card.wrap, card.read_at, card.description) == ("plain", "mean", "")
    assert card.license.startswith("MIT; adapter first: ")
    edit(first / "cellhermes.json", wrap="llama3-chat", read_at={"gene": "entity_end", "default": "mean"}, license="X")
    card = _card.resolve(second)
    assert (card.wrap, card.read("gene"), card.read("cell")) == ("llama3-chat", "entity_end", "mean")
    assert card.license == "X; adapter second: see its own card"
    edit(second / "cellhermes.json", wrap="llama3-chat-blank", license="Y")
    card = _card.resolve(second)
    assert (card.wrap, card.read("gene"), card.license) == ("llama3-chat-blank", "entity_end", "Y")
    assert ch.CellHermes.from_pretrained(second, device="cpu").wrap == "llama3-chat-blank"


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ("{", "cellhermes.json is not JSON"),
        ("[1]", "cellhermes.json holds list; expected a JSON object"),
        ('{"wrapp": "plain"}', r"unknown keys \['wrapp'\]; this version knows \['wrap', "),
        ('{"wrap": "chatml"}', "wrap is 'chatml'; expected one of .*plain"),
        ('{"wrap": 3}', "wrap is 3; expected text"),
        ('{"tasks": "cell_type"}', "tasks is 'cell_type'; expected a list of texts"),
        ('{"tasks": [1]}', "tasks is .1.; expected a list of texts"),
        ('{"system": 1}', "system is 1; expected text"),
        ('{"read_at": "end"}', "cellhermes.json: read_at=.'end'. is not known.*prompt_end"),
        ('{"read_at": {"gene": 1}}', "read_at is .*expected text"),
    ],
)
def test_bad_note_is_named(chain, note, message):
    (chain[0] / "cellhermes.json").write_text(note)
    with pytest.raises(ValueError, match=message):
        ch.CellHermes.from_pretrained(chain[0])


def test_tasks_are_those_of_notes_and_records_all_the_way_down(chain):
    base, first, second = chain
    edit(base / "cellhermes.json", tasks=["cell_type"])
    record = {
        "run": {"pairs": {"a": {"task": "cell_fitness", "about": {"task": "cell_fitness"}}, "b": {"file": "b.jsonl"}}},
        "data": {"train": {"tasks": {"mine": 12}}, "evaluation": {"tasks": {"seen in evaluation only": 3}}},
    }
    edit(first / "training.json", **record)
    assert _card.resolve(first).tasks == ("cell_type", "cell_fitness", "mine")
    edit(second / "training.json", run={"method": "reinforce", "pairs": {"about": {"task": "t_cell_reactivity"}}})
    edit(second / "cellhermes.json", tasks=["mine", "yours"])
    assert _card.resolve(second).tasks == ("cell_type", "cell_fitness", "mine", "yours", "t_cell_reactivity")
    edit(base / "training.json", run=3, data=[])  # of another program
    assert _card.resolve(base).tasks == ("cell_type",)


@pytest.mark.parametrize("name", ["mini", "llama-3.1-8b-instruct", "Qwen/Qwen2.5-0.5B"])
def test_reference_finds_the_same_model_again(name):
    card = _card.resolve(name)
    assert dataclasses.replace(_card.resolve(_card.reference(card)), name=name) == card


def test_reference_is_portable_where_it_can_be(chain, monkeypatch):
    assert _card.reference(_card.resolve("mini")) == "mini"
    assert _card.reference(_card.named()["cellhermes"]) == "cellhermes"
    assert _card.reference(_card.resolve("llama-3.1-8b-instruct")) == "meta-llama/Llama-3.1-8B-Instruct"
    monkeypatch.chdir(chain[0].parent)
    assert _card.reference(_card.resolve("second")) == str(chain[2].resolve())
    assert _card.trained_on(Path("second")) == str(chain[1].resolve())


def test_adapter_that_is_its_own_base_is_refused(chain):
    _, first, second = chain
    edit(first / "adapter_config.json", base_model_name_or_path=str(second))
    with pytest.raises(ValueError, match="its own base, by way of .*first.adapter_config.json"):
        _card.resolve(second)


def test_list_has_mini_in_the_package(cache):
    table = ch.cache.list()
    folder = ch.cache.fetch("mini")
    assert table.loc["mini", "cached"]
    assert table.loc["mini", "size"] == sum(path.stat().st_size for path in folder.iterdir())
    assert not table.loc["cellhermes", "cached"]
    assert table.loc["cellhermes", "holds"] == "meta-llama/Llama-3.1-8B-Instruct -> EthanGao123/CellHermes-v1.0"
