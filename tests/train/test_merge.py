"""A merged model is the base with its adapters, written whole or not at all."""

import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import cellhermes as ch
from cellhermes.model import _card, _load
from cellhermes.train._merge import merge

PROMPTS = ["Gene CD4", "A cell with genes ranked by expression: MALAT1 CD4"]


def embedded(name, **options):
    return ch.CellHermes.from_pretrained(name, device="cpu", **options).embed(PROMPTS)


def edit(path, **changes):
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | changes))


@pytest.fixture
def chain(tmp_path, folders, add_adapter):
    """Folders of a base, of an adapter on it, and of one on both."""
    base = shutil.copytree(folders("llama"), tmp_path / "base")
    first = add_adapter(base, tmp_path / "first", 1)
    return base, first, add_adapter(base, tmp_path / "second", 2, parent=first)


@pytest.fixture
def no_weights(monkeypatch):
    monkeypatch.setattr(_load, "load_weights", lambda *_, **__: pytest.fail("weights were read"))


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_merged_model_equals_base_with_adapters(chain, tmp_path):
    base, first, second = chain
    expected = embedded(second)
    out = merge(base, [first, second], tmp_path / "merged", dtype="float32")
    assert out == tmp_path / "merged"
    np.testing.assert_array_equal(embedded(out), expected)
    assert np.abs(expected - embedded(base)).max() > 0.01
    assert left(tmp_path) == ["base", "first", "merged", "second"]
    assert _card.resolve(out).adapters == ()


@pytest.mark.parametrize("how", ["top adapter alone", "adapter as base", "one path"])
def test_adapters_below_are_merged_too(chain, tmp_path, how):
    _, first, second = chain
    arguments = {"top adapter alone": (second, []), "adapter as base": (first, [second]), "one path": (first, second)}
    out = merge(*arguments[how], tmp_path / "merged", dtype="float32")
    np.testing.assert_array_equal(embedded(out), embedded(second))


def test_adapter_on_the_merged_model_gives_the_same(chain, tmp_path, add_adapter):
    """Merging at once and merging step by step are one model."""
    base, first, second = chain
    step = merge(base, first, tmp_path / "step", dtype="float32")
    edit(second / "adapter_config.json", base_model_name_or_path=str(step))
    np.testing.assert_allclose(embedded(second), embedded(merge(step, second, tmp_path / "all", dtype="float32")))
    with pytest.raises(ValueError, match=r"trained on '.*step', but would be merged into '.*first'"):
        merge(base, [first, second], tmp_path / "wrong")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_the_cast_of_the_float32_sum(chain, tmp_path, dtype):
    base, first, second = chain
    halves, whole = (
        AutoModelForCausalLM.from_pretrained(merge(base, [first, second], tmp_path / kind, dtype=kind)).state_dict()
        for kind in (dtype, "float32")
    )
    assert all(halves[name].dtype == getattr(torch, dtype) for name in halves)
    assert all(torch.equal(halves[name], whole[name].to(halves[name].dtype)) for name in whole)


def test_plain_transformers_loads_the_merged_model(chain, tmp_path):
    base, first, second = chain
    out = merge(base, [first, second], tmp_path / "merged", dtype="float32")
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    ids = tokenizer("Gene CD4", return_tensors="pt", add_special_tokens=False).input_ids
    with torch.inference_mode():
        states = lm.model(ids).last_hidden_state[0, -1].numpy()
    plain = ch.CellHermes.from_pretrained(second, device="cpu", wrap="plain")
    bos = torch.tensor([[tokenizer.bos_token_id, *ids[0]]])
    with torch.inference_mode():
        with_bos = lm.model(bos).last_hidden_state[0, -1].numpy()
    np.testing.assert_allclose(plain.embed(["Gene CD4"])[0], with_bos, rtol=1e-4, atol=1e-5)
    assert np.abs(states - with_bos).max() > 1e-3
    assert "cellhermes" not in (out / "config.json").read_text()


def test_mini_keeps_how_it_is_read_and_its_licence(tmp_path, add_adapter):
    adapter = add_adapter(_card.location(_card.resolve("mini")), tmp_path / "adapter", 1, parent="mini")
    out = merge("mini", adapter, tmp_path / "merged")
    card = _card.resolve(out)
    assert card.wrap == "llama3-chat-blank"
    assert card.license == "CC-BY-4.0; adapter adapter: see its own card"
    np.testing.assert_allclose(embedded(out, dtype="float32"), embedded(adapter), rtol=0.1, atol=0.1)
    text = (out / "README.md").read_text()
    assert "made from mini" in text
    weights = load_file(_card.location(_card.resolve("mini")) + "/model.safetensors")
    assert f"| parameters | {sum(weight.numel() for weight in weights.values()):,} |" in text
    assert "| stored in | bfloat16 |" in text
    assert str(tmp_path) not in text + (out / "cellhermes.json").read_text() + (out / "config.json").read_text()


def test_last_note_says_how_the_merged_model_is_read(chain, tmp_path):
    base, first, second = chain
    edit(first / "cellhermes.json", wrap="plain", read_at="mean", license="A")
    edit(second / "cellhermes.json", wrap="llama3-chat", license="B")
    card = _card.resolve(merge(base, [first, second], tmp_path / "merged"))
    assert (card.wrap, card.read_at, card.license) == ("llama3-chat", "mean", "B")


@pytest.mark.usefixtures("no_weights")
def test_wrong_order_is_an_error_that_names_both(chain, tmp_path):
    base, first, second = chain
    with pytest.raises(ValueError, match=r"'.*second' was trained on '.*first', but would be merged into '.*base'"):
        merge(base, [second, first], tmp_path / "merged")


@pytest.mark.usefixtures("no_weights")
def test_adapter_of_another_base_is_an_error_that_names_both(chain, tmp_path):
    _, first, _ = chain
    with pytest.raises(ValueError, match=r"trained on '.*base', but would be merged into 'mini'.*adapter_config.json"):
        merge("mini", first, tmp_path / "merged")
    edit(first / "adapter_config.json", base_model_name_or_path="/data/of/somebody/else")
    with pytest.raises(ValueError, match=r"trained on '/data/of/somebody/else', but would be merged into 'mini'"):
        merge("mini", first, tmp_path / "merged")


def test_base_that_was_renamed_needs_one_edit(chain, tmp_path):
    base, first, _ = chain
    moved = base.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=f"write '{moved}' as base_model_name_or_path in .*first.adapter_config.json"):
        merge(moved, first, tmp_path / "merged")
    edit(first / "adapter_config.json", base_model_name_or_path=str(moved))
    merge(moved, first, tmp_path / "merged")


def test_adapter_that_names_the_base_but_does_not_fit_is_refused(chain, tmp_path):
    base, first, _ = chain
    edit(base / "config.json", num_hidden_layers=2)
    with pytest.raises(ValueError, match="its layer model.layers.2.* is not there"):
        merge(base, first, tmp_path / "merged")
    assert left(tmp_path) == ["base", "first", "second"]


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("base", "adapters", "out", "error", "message"),
    [
        ("base", ["nowhere"], "merged", FileNotFoundError, "nowhere' is not there: expected a folder with adapter_con"),
        ("base", [], "merged", ValueError, "Nothing to merge: .*base' is a model without adapters"),
        ("base", ["first"], "no/merged", FileNotFoundError, "no of out=.* does not exist"),
        ("base", ["first"], "base/config.json/x", FileNotFoundError, "does not exist"),
        ("base", ["first"], "base", FileExistsError, "base.*, which is read"),
        ("base", ["first"], "first", FileExistsError, "first.*, which is read"),
        ("base", ["first"], "base/merged", FileExistsError, "lies in .*base.*, which is read"),
        ("nowhere", ["first"], "merged", ValueError, "No model '.*nowhere'"),
    ],
)
def test_errors_come_before_weights_are_read(chain, tmp_path, base, adapters, out, error, message):
    assert chain
    with pytest.raises(error, match=message):
        merge(tmp_path / base, [tmp_path / name for name in adapters], tmp_path / out)
    assert left(tmp_path) == ["base", "first", "second"]


@pytest.mark.usefixtures("no_weights")
def test_folder_that_cannot_be_written_is_an_error(chain, tmp_path, monkeypatch):
    def mkdir(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(PermissionError, match="merged' cannot be written .Permission denied.; pass a folder that can"):
        merge(chain[0], chain[1], tmp_path / "merged")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("out", ["base", "first", "."])
def test_overwriting_never_removes_an_input_or_something_else(chain, tmp_path, out):
    with pytest.raises(FileExistsError, match="is, holds or lies in .*, which is read"):
        merge(chain[0], chain[1], tmp_path / out, overwrite=True)
    assert left(tmp_path) == ["base", "first", "second"]


def test_overwriting_keeps_a_card_that_the_user_has_written_to(chain, tmp_path):
    out = merge(chain[0], chain[1], tmp_path / "merged")
    (out / "README.md").write_text("mine")
    with pytest.raises(FileExistsError, match="holds README.md, which a merge has not written, or not like this"):
        merge(*chain[:2], out, overwrite=True)
    assert (out / "README.md").read_text() == "mine"


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    "names",
    [["config.json"], ["config.json", "model.safetensors", "cellhermes.json"], ["x.txt"], ["merged.json"]],
)
def test_overwriting_never_removes_what_no_merge_has_written(chain, tmp_path, names):
    out = tmp_path / "mine"
    out.mkdir()
    for name in names:
        (out / name).write_text("mine")
    with pytest.raises(FileExistsError, match="holds .*, which a merge has not written"):
        merge(chain[0], chain[1], out, overwrite=True)
    assert {path.name: path.read_text() for path in out.iterdir()} == dict.fromkeys(names, "mine")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("record", ['{"files": {}}', '{"files": 3, "merged in": 1}', '{"merged in": "float32"}', "[1]"])
def test_a_file_of_the_users_with_the_name_of_the_record_stays(chain, tmp_path, record):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "merged.json").write_text(record)
    with pytest.raises(FileExistsError, match="holds merged.json, which a merge has not written"):
        merge(chain[0], chain[1], tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "merged.json").read_text() == record


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "link to a folder", "link to nothing"])
def test_a_file_or_a_link_as_target_stays(chain, tmp_path, kind, overwrite):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        (tmp_path / "elsewhere").mkdir() if kind == "link to a folder" else None
        out.symlink_to(tmp_path / "elsewhere")
    before = left(tmp_path)
    with pytest.raises(FileExistsError, match="is a file" if kind == "file" else "is a link"):
        merge(chain[0], chain[1], out, overwrite=overwrite)
    assert left(tmp_path) == before


def test_files_beside_a_merged_model_are_told_before_it_is_replaced(chain, tmp_path):
    out = merge(chain[0], chain[1], tmp_path / "merged")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds notes.txt, which a merge has not written"):
        merge(chain[0], chain[1], out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_overwriting_replaces_the_model(chain, tmp_path):
    base, first, second = chain
    out = tmp_path / "merged"
    out.mkdir()  # an empty folder is no obstacle
    merge(base, first, out, dtype="float32")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        merge(base, first, out)
    np.testing.assert_array_equal(embedded(out), embedded(first))
    merge(base, [first, second], out, dtype="float32", overwrite=True)
    np.testing.assert_array_equal(embedded(out), embedded(second))
    assert left(tmp_path) == ["base", "first", "merged", "second"]


@pytest.mark.parametrize("error", [SafetensorError("Error while serializing: I/O error: No space left on device"),
                                   KeyboardInterrupt()])  # fmt: skip
def test_interrupted_write_leaves_the_old_model(chain, tmp_path, monkeypatch, error):
    base, first, second = chain
    out = merge(base, first, tmp_path / "merged", dtype="float32")

    def save(self, folder):
        Path(folder, "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", save)
    expected = OSError if isinstance(error, SafetensorError) else KeyboardInterrupt
    with pytest.raises(expected, match="could not be written.*No space left" if expected is OSError else None):
        merge(base, [first, second], out, overwrite=True)
    assert left(tmp_path) == ["base", "first", "merged", "second"]
    np.testing.assert_array_equal(embedded(out), embedded(first))


def test_failed_rename_puts_the_old_model_back(chain, tmp_path, monkeypatch):
    base, first, second = chain
    out = merge(base, first, tmp_path / "merged", dtype="float32")
    real = Path.rename

    def rename(self, target):
        if self.name == "unfinished":
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output error"):
        merge(base, [first, second], out, overwrite=True)
    assert left(tmp_path) == ["base", "first", "merged", "second"]
    np.testing.assert_array_equal(embedded(out), embedded(first))


@pytest.mark.usefixtures("no_weights")
def test_too_small_a_disk_is_found_before_weights_are_read(chain, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"[MkB]+ are to be written, but .* has 1.0 kB left"):
        merge(chain[0], chain[1], tmp_path / "merged")
    assert left(tmp_path) == ["base", "first", "second"]


def test_names_beside_the_target_are_never_taken(chain, tmp_path):
    """Whatever stands beside ``out``, under whatever name a process might choose, stays."""
    beside = [tmp_path / f"merged.{os.getpid()}.{what}" for what in ("unfinished", "old", "part")]
    for path in beside:
        path.write_text("mine")
    merge(chain[0], chain[1], tmp_path / "merged")
    assert [path.read_text() for path in beside] == ["mine"] * 3


def test_an_adapter_whose_base_was_changed_is_refused(chain, tmp_path):
    """The base has its name still, but other weights than the adapter was trained on."""
    base, _, _ = chain
    pairs = [ch.text.QAPair(ch.text.Prompt("Is CD3E a T-cell gene?"), "Yes", "demo")]
    adapter = ch.train.fit(pairs, ch.train.TrainConfig(max_steps=1), base=base, out=tmp_path / "a", device="cpu")
    merge(base, adapter, tmp_path / "before")
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] += 1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="a' was trained on other weights than '.*base' holds now"):
        merge(base, adapter, tmp_path / "after")
    with pytest.raises(ValueError, match="a' was trained on other weights than '.*base' holds now"):
        ch.train.fit(pairs, ch.train.TrainConfig(max_steps=1), base=adapter, out=tmp_path / "b", device="cpu")
    assert not (tmp_path / "after").exists()
    assert not (tmp_path / "b").exists()


def test_merged_folder_has_the_permissions_of_any_other(chain, tmp_path):
    out = merge(chain[0], chain[1], tmp_path / "merged")
    (tmp_path / "other").mkdir()
    assert out.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")  # of peft
@pytest.mark.parametrize("family", ["mixtral", "olmoe"])
def test_an_adapter_of_experts_is_loaded_and_merged(tmp_path, tokenizer, family):
    """What ``fit`` writes for a mixture of experts changes tensors that hold all experts, as peft computes it."""
    shape = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    experts = {"num_key_value_heads": 2, "num_experts_per_tok": 2, "vocab_size": len(tokenizer), "pad_token_id": None}
    config = AutoConfig.for_model(family, **shape, **experts, **{"num_local_experts": 3, "num_experts": 3})
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    pairs = [ch.text.QAPair(ch.text.Prompt(f"Gene {i} is"), "Yes", "demo") for i in range(8)]
    learn = ch.train.TrainConfig(max_steps=3, learning_rate=1e-1)
    adapter = ch.train.fit(pairs, learn, base=tmp_path / "base", out=tmp_path / "a", device="cpu")
    assert any("experts" in name for name in load_file(adapter / "adapter_model.safetensors"))
    model = ch.CellHermes.from_pretrained(adapter, device="cpu")
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), adapter)
    ids = torch.tensor([model._encoder.prompts([ch.text.Prompt("Gene CD4")])[0].ids])
    with torch.inference_mode():
        expected = tuned(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1].numpy()
    np.testing.assert_allclose(model.embed(["Gene CD4"])[0], expected, atol=1e-4)
    assert np.abs(expected - embedded(tmp_path / "base")[0]).max() > 0.01
    merged = merge(tmp_path / "base", adapter, tmp_path / "merged", dtype="float32")
    np.testing.assert_allclose(embedded(merged), embedded(adapter), atol=1e-5)
