"""An adapter is merged as equation 6 says, or refused before it touches a weight."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import cellhermes as ch
from cellhermes.model import _adapter, _card, _load

IDS = torch.tensor([[1, 30, 60, 90, 120, 7]])
LAYER = "model.layers.0.self_attn.q_proj"


def plain(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def merged(base, *adapters):
    return _adapter.merge(plain(base), adapters, torch.float32)


def logits(lm):
    with torch.inference_mode():
        return lm(IDS).logits


def largest_difference(one, other):
    others = other.state_dict()
    return max((value - others[name]).abs().max().item() for name, value in one.state_dict().items())


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def adapter(tmp_path, folders, add_adapter):
    return add_adapter(folders("llama"), tmp_path / "adapter", 1)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize(
    "options",
    [{}, {"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"q_proj": 5}, "alpha_pattern": {"v_proj": 1}}],
    ids=["plain", "rslora", "dora", "patterns"],
)
def test_merged_equals_unmerged(tmp_path, folders, add_adapter, family, options):
    folder = add_adapter(folders(family), tmp_path / "a", 1, **options)
    expected = logits(PeftModel.from_pretrained(plain(folders(family)), folder).eval())
    assert (expected - logits(plain(folders(family)))).abs().max() > 0.1
    torch.testing.assert_close(logits(merged(folders(family), folder)), expected, rtol=1e-4, atol=1e-5)


def test_merged_is_equation_6_for_each_adapter(tmp_path, folders, add_adapter):
    base = folders("llama")
    first = add_adapter(base, tmp_path / "first", 1)
    second = add_adapter(base, tmp_path / "second", 2, parent=first)
    expected = load_file(base / "model.safetensors")[f"{LAYER}.weight"].float()
    for folder in (first, second):
        lora = load_file(folder / "adapter_model.safetensors")
        a, b = (lora[f"base_model.model.{LAYER}.lora_{x}.weight"] for x in "AB")
        expected = expected + b @ a * (4 / 2)  # scaled by alpha / rank
    lm = _load.load_weights(_card.resolve(second), "float32")
    torch.testing.assert_close(lm.get_submodule(LAYER).weight.data, expected, rtol=1e-5, atol=1e-6)


def test_plain_adapters_add_up_in_any_order(tmp_path, folders, add_adapter):
    base = folders("llama")
    one, two = (add_adapter(base, tmp_path / str(seed), seed) for seed in (1, 2))
    assert largest_difference(merged(base, one, two), merged(base, two, one)) < 1e-6
    assert largest_difference(merged(base, one, two), merged(base, one)) > 0.1


def test_order_matters_where_an_adapter_is_not_a_sum(tmp_path, folders, add_adapter):
    base = folders("llama")
    one, two = (add_adapter(base, tmp_path / str(seed), seed, use_dora=True) for seed in (1, 2))
    both = merged(base, one, two)
    assert largest_difference(both, merged(base, two, one)) > 0.1
    # the second, put on the merged first without being merged, gives the same: this is the order it is meant for
    stacked = PeftModel.from_pretrained(merged(base, one), two).eval()
    torch.testing.assert_close(logits(both), logits(stacked), rtol=1e-4, atol=1e-4)


def test_half_precision_is_the_cast_of_the_float32_sum(tmp_path, folders, add_adapter):
    base = folders("llama")
    first = add_adapter(base, tmp_path / "first", 1)
    card = _card.resolve(add_adapter(base, tmp_path / "second", 2, parent=first))
    half, whole = (_load.load_weights(card, dtype).state_dict() for dtype in ("bfloat16", "float32"))
    assert all(torch.equal(half[name], whole[name].bfloat16()) for name in whole)
    stepwise = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    for folder in card.adapters:
        stepwise = _adapter.merge(stepwise, [folder], torch.bfloat16)
    assert not torch.equal(stepwise.state_dict()[f"{LAYER}.weight"], half[f"{LAYER}.weight"])


@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=["plain", "dora"])
def test_half_precision_rounds_no_more_than_a_merged_folder_does(tmp_path, folders, add_adapter, options):
    """Positions have frequencies that transformers keeps in float32, and a cast of the whole model would round them."""
    adapter = add_adapter(folders("llama"), tmp_path / "adapter", 1, **options)
    folder = ch.train.merge(folders("llama"), adapter, tmp_path / "merged", dtype="bfloat16")
    lms = [_load.load_weights(_card.resolve(one), "bfloat16") for one in (adapter, folder)]
    for name, buffer in lms[1].named_buffers():
        assert torch.equal(lms[0].get_buffer(name), buffer), name
    assert largest_difference(*lms) == 0
    prompts = ["Gene CD4", "A cell with genes ranked by expression: CD4 MALAT1 " * 5]
    vectors = [
        ch.CellHermes.from_pretrained(one, device="cpu", dtype="bfloat16").embed(prompts) for one in (adapter, folder)
    ]
    np.testing.assert_array_equal(*vectors)


def test_a_sum_is_one_in_float32_whatever_the_base_is_stored_in(tmp_path, folders, add_adapter):
    base = tmp_path / "half"
    shutil.copytree(folders("llama"), base)
    plain(base).bfloat16().save_pretrained(base)
    first = add_adapter(base, tmp_path / "first", 1)
    card = _card.resolve(add_adapter(base, tmp_path / "second", 2, parent=first))
    assert torch.equal(
        _load.load_weights(card, "float32").get_submodule(LAYER).weight,
        merged(base, *card.adapters).get_submodule(LAYER).weight,
    )
    assert _load.load_weights(card, "float32").dtype == torch.float32


def test_loading_leaves_the_random_state(adapter):
    before = torch.get_rng_state()
    ch.CellHermes.from_pretrained(adapter, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("base", ["folder", "hub"])
def test_folder_in_the_released_layout_loads(tmp_path, folders, adapter, monkeypatch, base):
    """Two files, and a config with fewer entries than peft writes today."""
    folder = tmp_path / "released"
    folder.mkdir()
    shutil.copy(adapter / "adapter_model.safetensors", folder)
    held = json.loads((adapter / "adapter_config.json").read_text())
    keys = ("auto_mapping", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern",
            "layers_to_transform", "lora_alpha", "lora_dropout", "modules_to_save", "peft_type", "r", "revision",
            "target_modules", "task_type")  # fmt: skip
    config = {key: held[key] for key in keys} | {"base_model_name_or_path": str(folders("llama"))}
    if base == "hub":
        config["base_model_name_or_path"] = "somebody/something"
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        place = tmp_path / "hub" / "models--somebody--something"
        shutil.copytree(folders("llama"), place / "snapshots" / "0123abc")
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("0123abc")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    found = ch.CellHermes.from_pretrained(folder, device="cpu").embed(["Gene CD4"])
    expected = ch.CellHermes.from_pretrained(adapter, device="cpu").embed(["Gene CD4"])
    np.testing.assert_array_equal(found, expected)


STARTS = {"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"}, {"init_lora_weights": False}


@pytest.mark.parametrize(("below", "above"), [(0, 1), (1, 0), (2, 0), (1, 2)])
def test_adapters_that_start_from_the_base_are_merged_one_after_another(tmp_path, folders, add_adapter, below, above):
    """PiSSA and OLoRA take their start out of the weights that they find: what peft does, one adapter at a time."""
    base, expected = folders("llama"), plain(folders("llama"))
    chain = [
        move(add_adapter(base, tmp_path / str(i), i, **STARTS[kind])) for i, kind in enumerate((below, above), start=1)
    ]
    for adapter in chain:
        expected = PeftModel.from_pretrained(expected, adapter).eval().merge_and_unload()
    card = _card.ModelCard("x", base=str(base), adapters=tuple(map(str, chain)))
    found = _load.load_weights(card, "float32")
    torch.testing.assert_close(logits(found), logits(expected), rtol=1e-4, atol=1e-4)


def move(adapter):
    """As if it had been trained: PiSSA and OLoRA change nothing at their start."""
    path = adapter / "adapter_model.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_file({name: weight + 0.1 * torch.randn_like(weight) for name, weight in load_file(path).items()}, path)
    return adapter


EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")  # peft's own, for experts
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target_modules": ["q_proj"], "target_parameters": EXPERTS},
        {"target_modules": [], "target_parameters": EXPERTS[1:]},
        {"target_modules": ["gate"]},
    ],
    ids=["all linear", "experts and queries", "one of two", "router"],
)
def test_adapters_of_experts_equal_unmerged_ones(tmp_path, tokenizer, write_tiny, add_adapter, options):
    base = write_tiny(tmp_path / "base", tokenizer, "mixtral", num_local_experts=3, num_experts_per_tok=2)
    folder = add_adapter(base, tmp_path / "a", 1, **options)
    expected = logits(PeftModel.from_pretrained(plain(base), folder).eval())
    assert (expected - logits(plain(base))).abs().max() > 0.01
    found = _load.load_weights(_card.ModelCard("x", base=str(base), adapters=(str(folder),)), "float32")
    torch.testing.assert_close(logits(found), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")  # peft's own, for experts
def test_adapter_that_fit_writes_for_experts_is_loaded(tmp_path, tokenizer, write_tiny):
    base = write_tiny(tmp_path / "base", tokenizer, "mixtral", num_local_experts=3, num_experts_per_tok=2)
    pairs = [ch.text.QAPair(ch.text.Prompt("Is CD4 a gene?"), "Yes", "demo")] * 4
    config = ch.train.TrainConfig(max_steps=2, learning_rate=0.01)
    adapter = ch.train.fit(pairs, config, base=base, out=tmp_path / "adapter", device="cpu")
    expected = logits(PeftModel.from_pretrained(plain(base), adapter).eval())
    found = _load.load_weights(_card.resolve(adapter), "float32")
    torch.testing.assert_close(logits(found), expected, rtol=1e-4, atol=1e-4)


# ---- what does not fit


@pytest.fixture
def refused(monkeypatch):
    """Loads a base with an adapter that does not fit; the weights of the base must not be read for that."""

    def check(base, adapter, message):
        card = _card.ModelCard("x", base=str(base), adapters=(str(adapter),))
        with monkeypatch.context() as patch:
            patch.setattr(_load.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("weights read"))
            with pytest.raises(ValueError, match=message):
                _load.load_weights(card, "float32")

    return check


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 64}, "its model.layers.0.mlp.down_proj has 48 outputs, expected 64"),
        ({"intermediate_size": 100}, "its model.layers.0.mlp.down_proj has 96 inputs, expected 100"),
        ({"num_hidden_layers": 2}, "its layer model.layers.2.mlp.down_proj is not there"),
    ],
)
def test_adapter_of_another_model_is_refused_before_weights_are_read(
    tmp_path, adapter, folders, refused, changes, message
):
    base = shutil.copytree(folders("llama"), tmp_path / "other")
    edit(base / "config.json", **changes)
    refused(base, adapter, f"adapter' does not fit '.*other': {message}. It was trained on base '.*llama")


def test_one_wrong_adapter_of_several_changes_nothing(tmp_path, folders, add_adapter, adapter, refused):
    wrong = add_adapter(folders("llama"), tmp_path / "wrong", 2)
    weights = load_file(wrong / "adapter_model.safetensors")
    name = f"base_model.model.{LAYER}.lora_A.weight"
    weights[name] = torch.ones(2, 7)
    save_file(weights, wrong / "adapter_model.safetensors")
    refused(folders("llama"), wrong, f"its {LAYER} has 7 inputs, expected 48")
    lm = plain(folders("llama"))
    with pytest.raises(ValueError, match="7 inputs"):
        _adapter.merge(lm, [wrong], torch.float32)
    assert largest_difference(lm, plain(folders("llama"))) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only 'LORA'"),
        ({"peft_type": "ADALORA"}, "peft_type is 'ADALORA'; only 'LORA'"),
        ({"peft_type": None}, "peft_type is None; only 'LORA'"),
        (
            {"layer_replication": [[0, 2], [0, 1]]},
            "an adapter with layer_replication is more than",
        ),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices is more than weights"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens is more than weights"),
        ({"of_a_later_peft": 1}, "of_a_later_peft is more than weights"),
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4'.*path_initial_model_for_weight_conversion"),
    ],
)
def test_adapter_of_another_kind_is_refused(folders, adapter, refused, changes, message):
    edit(adapter / "adapter_config.json", **changes)
    refused(folders("llama"), adapter, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": ["query"]}, "does not fit '.*': .*'query'.* not found"),
        (
            {"target_modules": ["q_proj"]},
            "contradicts itself: .* differ in 36 tensors; the config does not ask for",
        ),
        ({"r": 3}, "does not fit"),
    ],
)
def test_config_that_contradicts_the_file_is_refused(folders, adapter, changes, message):
    edit(adapter / "adapter_config.json", **changes)
    with pytest.raises(ValueError, match=message):
        merged(folders("llama"), adapter)


@pytest.mark.parametrize(("part", "n"), [("", 2), (".lora_A", 1), (".lora_B", 1)])
def test_adapter_that_lacks_tensors_is_refused(folders, adapter, part, n):
    weights = load_file(adapter / "adapter_model.safetensors")
    kept = {name: value for name, value in weights.items() if LAYER + part not in name}
    save_file(kept, adapter / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=f"differ in {n} tensors; the file lacks {LAYER}"):
        merged(folders("llama"), adapter)


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({}, {"use_dora": True}, "the file lacks .*lora_magnitude_vector"),
        ({"use_dora": True}, {"use_dora": False}, "the config does not ask for .*lora_magnitude_vector"),
        ({}, {"modules_to_save": ["lm_head"]}, "does not fit .*lm_head"),
    ],
)
def test_adapter_with_tensors_of_another_kind_is_refused(tmp_path, folders, add_adapter, options, changes, message):
    folder = add_adapter(folders("llama"), tmp_path / "a", 1, **options)
    edit(folder / "adapter_config.json", **changes)
    with pytest.raises(ValueError, match=f"Adapter '{folder}' .*{message}"):
        merged(folders("llama"), folder)


def test_adapter_is_read_with_the_tokenizer_beside_it(folders, adapter, tokenizer):
    """Trainers save the tokenizer that they trained with, its chat template included."""
    assert ch.CellHermes.from_pretrained(adapter, device="cpu").wrap == "plain"
    own = copy.deepcopy(tokenizer)
    own.chat_template = "{% for m in messages %}Q: {{ m.content }} A:{% endfor %}"
    own.save_pretrained(adapter)
    read = ch.CellHermes.from_pretrained(adapter, device="cpu")._encoder
    assert read.prompts([ch.text.Prompt("Is CD4 a gene?")])[0].ids == own("Q: Is CD4 a gene? A:")["input_ids"]


def test_adapter_that_is_not_finite_is_refused(folders, adapter):
    weights = load_file(adapter / "adapter_model.safetensors")
    weights[f"base_model.model.{LAYER}.lora_A.weight"][0, 0] = torch.nan
    save_file(weights, adapter / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="its weights are not finite numbers"):
        merged(folders("llama"), adapter)


@pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed but", "ignore:Adapter '.*'. .* LoRA tensor")
def test_biases_of_an_adapter_need_biases_of_the_model(tmp_path, folders, add_adapter):
    adapter = add_adapter(folders("llama"), tmp_path / "a", 1, lora_bias=True)
    with pytest.raises(ValueError, match="Adapter '.*a' cannot be merged, .*has no bias"):
        merged(folders("llama"), adapter)
    base = folders("qwen2")
    adapter = add_adapter(base, tmp_path / "b", 1, lora_bias=True, target_modules=["q_proj", "v_proj"])
    expected = logits(PeftModel.from_pretrained(plain(base), adapter).eval())
    torch.testing.assert_close(logits(merged(base, adapter)), expected, rtol=1e-4, atol=1e-5)


def test_adapter_on_a_base_without_tokenizer_says_so(tmp_path, folders, adapter):
    base = shutil.copytree(folders("llama"), tmp_path / "bare")
    for path in base.glob("tokenizer*"):
        path.unlink()
    edit(adapter / "adapter_config.json", base_model_name_or_path=str(base))
    with pytest.raises(ValueError, match="bare', the base of adapter '.*adapter', has no tokenizer"):
        ch.CellHermes.from_pretrained(adapter, device="cpu")


@pytest.mark.parametrize("damage", ["cut", "header", "empty"])
def test_damaged_adapter_says_so(folders, adapter, refused, damage):
    path = adapter / "adapter_model.safetensors"
    content = path.read_bytes()
    if damage == "empty":
        save_file({}, path)
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\xff" * 64 + content[64:])
    refused(folders("llama"), adapter, "holds no weights" if damage == "empty" else "safetensors is damaged.*again")


def test_adapter_without_safetensors_is_refused(folders, adapter, refused):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    refused(folders("llama"), adapter, "no adapter_model.safetensors; other formats can run code")


@pytest.mark.parametrize("how", [{"target_modules": ["lm_head"]}, {"modules_to_save": ["embed_tokens"]}])
def test_adapter_on_tied_layers_is_refused(tmp_path, folders, tokenizer, add_adapter, refused, how):
    """A merged model would have one weight where the adapted one has two."""
    tied = shutil.copytree(folders("llama"), tmp_path / "tied")
    adapter = add_adapter(folders("llama"), tmp_path / "a", 1, **how)
    merged(folders("llama"), adapter)  # fits where they are not tied
    edit(tied / "config.json", tie_word_embeddings=True)
    refused(tied, adapter, "changes (lm_head|model.embed_tokens.weight), which this model shares")


def test_whole_layers_of_an_adapter_are_taken_over(tmp_path, folders, add_adapter):
    adapter = add_adapter(folders("llama"), tmp_path / "a", 1, modules_to_save=["lm_head"])
    # old releases of safetensors map the file, which is written anew below
    held = {name: weight.clone() for name, weight in load_file(adapter / "adapter_model.safetensors").items()}
    held["base_model.model.lm_head.weight"] += 1
    save_file(held, adapter / "adapter_model.safetensors")
    found = merged(folders("llama"), adapter)
    torch.testing.assert_close(found.lm_head.weight.data, held["base_model.model.lm_head.weight"])
    held["base_model.model.lm_head.weight"] = torch.ones(3, 3)
    save_file(held, adapter / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"its lm_head.weight is \(3, 3\), expected"):
        merged(folders("llama"), adapter)


def test_adapters_are_not_added_to_weights_of_four_bits(folders, adapter):
    card = _card.ModelCard("x", base=str(folders("llama")), adapters=(str(adapter),))
    with pytest.raises(ValueError, match="four bits. Merge them first with ch.train.merge"):
        _load.load_weights(card, "float32", quantization_config=object())


# ---- a base whose files are not those of its config


@pytest.fixture
def altered(tmp_path, folders):
    """Writes a copy of a tiny model with other tensors, or another config."""

    def write(change=lambda tensors: tensors, **config):
        base = shutil.copytree(folders("llama"), tmp_path / "altered")
        save_file(change(load_file(base / "model.safetensors")), base / "model.safetensors", metadata={"format": "pt"})
        edit(base / "config.json", **config)
        return base

    return write


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (lambda t: {f"module.{name}": t[name] for name in t}, {}, r"29 are missing \(model.embed_tokens.weight, "),
        (lambda t: {n: t[n] for n in t if n != f"{LAYER}.weight"}, {}, rf"1 are missing \({LAYER}.weight\)"),
        (lambda t: t, {"num_hidden_layers": 4}, "9 are missing .model.layers.3"),
        (lambda t: t, {"num_hidden_layers": 2}, "9 are of no layer .model.layers.2"),
        (lambda t: t | {f"{LAYER}.bias": torch.ones(48)}, {}, f"1 are of no layer .{LAYER}.bias"),
        (lambda t: t | {"lm_head.bias": torch.ones(344)}, {}, "1 are of no layer .lm_head.bias"),
        (lambda t: t | {f"{LAYER}.weight": torch.ones(3, 3)}, {}, rf"another shape \({LAYER}.weight \(3, 3\) for"),
    ],
    ids=["prefixed", "one missing", "layer missing", "layer too many", "bias", "bias of words", "shape"],
)  # fmt: skip
def test_tensors_that_are_not_those_of_the_config_are_refused(altered, change, config, message):
    with pytest.raises(ValueError, match=f"not those of the LlamaForCausalLM.*{message}"):
        ch.CellHermes.from_pretrained(altered(change, **config), device="cpu")


def test_parts_that_no_language_model_has_may_be_there(altered, tiny):
    others = ("v_head.summary.weight", "vision_tower.weight", "model.visual.proj.weight", "score.weight",
              "model.layers.0.self_attn.rotary_emb.inv_freq")  # fmt: skip
    base = altered(lambda tensors: tensors | {name: torch.ones(2) for name in others})
    np.testing.assert_array_equal(ch.CellHermes.from_pretrained(base, device="cpu").embed(["a"]), tiny.embed(["a"]))


def test_tied_output_layer_may_be_absent(altered):
    base = altered(
        lambda tensors: {n: t for n, t in tensors.items() if not n.startswith("lm_head")}, tie_word_embeddings=True
    )
    assert ch.CellHermes.from_pretrained(base, device="cpu").score(["a"], ["b"]) < 0


def test_without_output_layer_a_model_embeds_only(altered, tiny):
    base = altered(lambda tensors: {n: t for n, t in tensors.items() if not n.startswith("lm_head")})
    model = ch.CellHermes.from_pretrained(base, device="cpu")
    np.testing.assert_array_equal(model.embed(["a"]), tiny.embed(["a"]))
    for verb in (lambda: model.score(["a"], ["b"]), lambda: model.generate(["a"], max_new_tokens=2)):
        with pytest.raises(ValueError, match="no output layer"):
            verb()


@pytest.mark.parametrize(("known", "where"), [(True, "remote.Lm"), (False, "its files")])
def test_code_beside_weights_is_refused_and_never_run(altered, monkeypatch, known, where):
    base = altered(auto_map={"AutoConfig": "remote.Config", "AutoModelForCausalLM": "remote.Lm"},
                   **{} if known else {"model_type": "nowhere"})  # fmt: skip
    (base / "remote.py").write_text("from pathlib import Path\nPath(__file__).with_name('was_run').touch()\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ValueError, match=f"code of its own .*{where}.* never run"):
        ch.CellHermes.from_pretrained(base, device="cpu")
    assert not [*base.rglob("was_run")]
