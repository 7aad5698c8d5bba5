"""Names, folders, hub ids and adapters become a model, or a message that says what to do."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import cellhermes as ch
from cellhermes.model import _card, _load


@pytest.mark.parametrize("name", sorted(_card.named()))
def test_every_named_model_says_what_it_is(name):
    card = _card.named()[name]
    assert card.description
    assert card.license
    assert card.wrap in ch.text.wraps()
    assert hasattr(torch, card.dtype)
    assert card.base.startswith("bundled:") or len(bytes.fromhex(card.revision)) == 20


def test_unknown_name_says_what_is_known():
    with pytest.raises(ValueError, match=r"No model 'minni'.*mini, .*cellhermes.*folder"):
        ch.CellHermes.from_pretrained("minni")


def test_adapters_without_a_checksum_are_not_downloaded_by_name():
    with pytest.raises(ValueError, match="no checksum.*Fetch the adapter's folder"):
        ch.CellHermes.from_pretrained("cellhermes")


def test_folder_without_a_model_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="neither config.json nor adapter_config.json; found .'notes.txt'"):
        ch.CellHermes.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("You are trying to access a gated repo.", "is gated: accept its licence.*HF_TOKEN"),
        ("We couldn't connect to the hub", "absent, misspelt, or no network.*folder of a copy"),
    ],
)
def test_hub_failure_says_what_to_do(monkeypatch, reason, message):
    def fail(*_, **__):
        raise OSError(reason)

    monkeypatch.setattr(_load.AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(OSError, match=message):
        ch.CellHermes.from_pretrained("somebody/something")


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
    with pytest.raises(ValueError, match="adapter_config.json is damaged"):
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


def add_adapter(base, folder, seed, parent=None):
    """A LoRA adapter with random weights, trained by nobody."""
    lm = AutoModelForCausalLM.from_pretrained(base)
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        lora = get_peft_model(lm, LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", init_lora_weights=False))
    lora.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(parent or base)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_adapter_folder_follows_its_bases_and_merges_in_float32(tmp_path, folders):
    base = folders("llama")
    first = add_adapter(base, tmp_path / "first", 1)
    second = add_adapter(base, tmp_path / "second", 2, parent=first)
    card = _card.resolve(second)
    assert card.base == str(base)
    assert card.adapters == (str(first), str(second))
    weights = load_file(base / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    expected = weights[name].float()
    for folder in (first, second):
        lora = load_file(folder / "adapter_model.safetensors")
        a, b = (lora[f"base_model.model.{name.removesuffix('.weight')}.lora_{x}.weight"] for x in "AB")
        expected = expected + b @ a * (4 / 2)  # equation 6, scaled by alpha / rank
    model = ch.CellHermes.from_pretrained(second, device="cpu")
    torch.testing.assert_close(dict(model._lm.named_parameters())[name].data, expected, rtol=1e-5, atol=1e-6)
    plain = ch.CellHermes.from_pretrained(base, device="cpu").embed(["Gene CD4"])
    assert np.abs(model.embed(["Gene CD4"]) - plain).max() > 0.01


def test_adapter_that_is_its_own_base_is_refused(tmp_path, folders):
    add_adapter(folders("llama"), tmp_path / "a", 1, parent=tmp_path / "a")
    with pytest.raises(ValueError, match="its own base"):
        _card.resolve(tmp_path / "a")


def test_adapter_without_safetensors_is_refused(tmp_path, folders):
    folder = add_adapter(folders("llama"), tmp_path / "a", 1)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match="no adapter_model.safetensors"):
        ch.CellHermes.from_pretrained(folder)


def test_list_of_models_has_mini_bundled():
    table = ch.model.list_models()
    assert table.loc["mini", "bundled"]
    assert not table.loc["cellhermes", "bundled"]
