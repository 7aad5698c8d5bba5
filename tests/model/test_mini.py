"""The bundled model's files, by themselves: no network, no library class."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from cellhermes.text import Template, Wrap

FOLDER = Path(str(files("cellhermes") / "model" / "mini"))
NAMES = {
    "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "README.md", "unseen_genes.txt",
}  # fmt: skip
TRAINED_ON = [
    "pbmc_donor_a",
    "kang_ctrl_stim",
    "kang_labelled",
    "oligodendroglioma_small",
    "biogrid_4.4.232",
    "string_v12",
]
NEVER = ["pbmc68k_reduced", "pbmc3k_labelled", "pbmc_sorted_labelled", "pbmc_two_batches", "pbmc_three_technologies"]
SYMBOLS = ["TP53", "BRCA1", "CD3D", "CD4", "CD8A", "HLA-DRA", "MS4A1", "NKG7", "H2AC6", "NKX2-1", "C4B_2", "MALAT1"]

words = st.one_of(
    st.text(max_size=8), st.sampled_from([*SYMBOLS, "Gene", "cell", ".", ",", "\n\n", "é", "CD3D.", "(B2M)"])
)
texts = st.lists(words, max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def pieces(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def test_folder_holds_these_files_and_weights_stay_below_16_megabytes():
    found = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(found) == NAMES
    assert found["model.safetensors"] <= 16_000_000


def test_weights_are_bf16_and_fit_config_and_tokenizer(tokenizer):
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"]
    assert config["max_position_embeddings"] == 1024
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118
        shape = weights.get_slice("model.embed_tokens.weight").get_shape()
    assert shape == [config["vocab_size"], config["hidden_size"]]
    assert tokenizer.get_vocab_size() == config["vocab_size"]


def test_auto_tokenizer_splits_as_the_file_and_knows_its_ends(tokenizer):
    auto = AutoTokenizer.from_pretrained(FOLDER)
    config = json.loads((FOLDER / "config.json").read_text())
    text = Wrap.load("llama3-chat-blank").render("Gene BRCA1")
    assert auto.encode(text, add_special_tokens=False) == pieces(tokenizer, text)
    assert auto.bos_token_id == config["bos_token_id"] == tokenizer.token_to_id("<|begin_of_text|>")
    assert auto.eos_token_id == config["eos_token_id"] == auto.pad_token_id == tokenizer.token_to_id("<|eot_id|>")


@given(text=texts)
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(pieces(tokenizer, text), skip_special_tokens=False) == text


@given(text=texts, data=st.data())
@settings(max_examples=200, deadline=None)
def test_cutting_before_a_blank_gives_the_ids_of_the_whole(tokenizer, text, data):
    blanks = [i for i, char in enumerate(text) if char == " "]
    cut = data.draw(st.sampled_from(blanks)) if blanks else 0
    assert pieces(tokenizer, text[:cut]) + pieces(tokenizer, text[cut:]) == pieces(tokenizer, text)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_symbol_behind_a_blank_is_one_token(tokenizer, symbol):
    assert len(pieces(tokenizer, f" {symbol}")) == 1


@pytest.mark.parametrize("mark", [".", ",", ":", ";", "?", ")", "+", "/", "..."])
def test_mark_behind_a_symbol_is_a_piece_of_its_own(tokenizer, mark):
    assert pieces(tokenizer, f" CD3D{mark}")[0] == pieces(tokenizer, " CD3D")[0]


@pytest.mark.parametrize("name", ["gene", "cell", "gene_in_cell"])
def test_words_of_the_prompts_are_single_tokens(tokenizer, name):
    values = {"gene": "TP53", "genes": ["CD3D", "LYZ"]}
    prompt = Template.load(name).fill(**{slot: values[slot] for slot in Template.load(name).slots})
    encoded = tokenizer.encode(prompt.text, add_special_tokens=False)
    n_words = len(prompt.text.split()) + sum(prompt.text.count(mark) for mark in ".,:")
    assert len(encoded.ids) == n_words


def test_chat_markers_are_single_tokens(tokenizer):
    assert len(pieces(tokenizer, Wrap.load("llama3-chat-blank").render("Gene TP53"))) == 12


def test_card_names_every_training_set_and_what_stayed_out():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    training, never = card.split("Never used in training")
    assert all(name in training for name in TRAINED_ON)
    assert all(name in never.split("\n## ")[0] for name in NEVER)
    assert card.count("| `") >= len(TRAINED_ON)


def test_symbols_that_it_never_read_are_listed(tokenizer):
    unseen = (FOLDER / "unseen_genes.txt").read_text().split()
    assert unseen == sorted(set(unseen))
    assert all(len(pieces(tokenizer, f" {symbol}")) == 1 for symbol in unseen)
    assert not set(unseen) & set(SYMBOLS)
    assert f"{len(unseen):,} symbols occur in none" in (FOLDER / "README.md").read_text()


def test_card_says_what_the_model_is_not():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    section = card.split("## What it is not")[1].split("\n## ")[0]
    assert all(word in section for word in ["Not a chat model", "Blood-heavy", "Human only", "reason"])


def test_card_shows_baselines_beside_every_number():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    tables = card.split("## Evaluation")[1]
    assert all(
        name in tables
        for name in ["random", "untrained", "start values", "token table", "PCA", "n-grams", "SVD", "chance"]
    )
    assert "CC BY 4.0" in card.split("## Licence")[1]
