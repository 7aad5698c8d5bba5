"""The byte-level tokenizer of ``mini``: one token for each gene symbol behind a blank.

Blanks only ever begin a piece, so a text may be cut before any blank and tokenised in parts. A symbol ends in a letter
or digit: the full stop behind it is a piece of its own.
"""

import json
import tomllib
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

ENGLISH = tomllib.loads(Path(__file__).with_name("english.toml").read_text("utf-8"))["lines"]
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
FILES = ("tokenizer.json", "tokenizer_config.json")
PIECE = Regex(r" ?[A-Za-z0-9](?:[A-Za-z0-9\-\._]*[A-Za-z0-9])?| ?[^\sA-Za-z0-9]|\n+|\s")
# A blank that stands alone, before another blank, a line break or the end, is matched by the last alternative.


def _splitter() -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(PIECE, "isolated"), byte_level])


def make_tokenizer(symbols: list[str], text: list[str], n_words: int) -> Tokenizer:
    """A byte-pair vocabulary of plain English with every symbol added as a whole.

    Symbols need no merges of their own: with ``ignore_merges`` a piece that is in the vocabulary is taken at once, as
    in the Llama-3 tokenizer. What is not in it falls back to merges and, in the end, to bytes.
    """
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = _splitter()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=256 + n_words, initial_alphabet=alphabet, show_progress=False)
    )
    learned = json.loads(words.to_str())["model"]
    vocab = dict.fromkeys([*sorted(learned["vocab"], key=learned["vocab"].get), *(f"Ġ{s}" for s in symbols)])
    vocab = {piece: i for i, piece in enumerate(vocab)}
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = _splitter()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def load(folder: Path) -> Tokenizer:
    """The tokenizer of a folder."""
    return Tokenizer.from_file(str(folder / FILES[0]))


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Write ``tokenizer.json`` (without white space: it counts into the size limit) and its configuration."""
    compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(compact, encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": "<|eot_id|>",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_length,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
