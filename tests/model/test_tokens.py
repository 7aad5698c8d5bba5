"""One encoder: against tiktoken with the real Llama-3 vocabulary, and against itself in parts."""

import base64
import math
from fractions import Fraction

import pytest
import tiktoken
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

import cellhermes as ch
from cellhermes.model._tokens import Batch, Encoder, Example, plan, run_batches

# The split rule of Llama 3, as published with its model code.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Special tokens stand behind the 128,000 of the file, in this order.
SPECIAL = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
]
GENES = ["MALAT1", "TMSB4X", "B2M", "HLA-DRB1", "CD40LG", "C1orf112", "AC007952.4", "NKX2-5", "IGHV3-23", "GNLY", "T"]
symbols = st.sampled_from(GENES) | st.from_regex(r"[A-Z][A-Za-z0-9]{0,6}(-[A-Z0-9]{1,3})?(\.[0-9])?", fullmatch=True)


@pytest.fixture(scope="session")
def llama3(data_dir):
    """(encoder made by transformers, independent encoding by tiktoken) of the published vocabulary."""
    file = data_dir / "llama3_tokenizer" / "tokenizer.model"
    raw = TikTokenConverter(str(file), pattern=SPLIT, extra_special_tokens=SPECIAL).converted()
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=SPECIAL[0], eos_token="<|eot_id|>")
    ranks = {}
    for line in file.read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    special = {token: 128_000 + i for i, token in enumerate(SPECIAL)}
    reference = tiktoken.Encoding("llama3", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens=special)
    return Encoder(fast, "llama3-chat"), lambda text: reference.encode(text, allowed_special="all")


def chat(text):
    """A user turn, written out by hand."""
    return (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
        + text
        + "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def filled():
    yield ch.text.template("gene").fill(gene="BRCA1")
    yield ch.text.template("cell").fill(genes=GENES)
    for gene in GENES:
        yield ch.text.template("gene_in_cell").fill(genes=GENES, gene=gene)
    yield ch.text.template("pathway").fill(pathway="T cell receptor signalling")
    yield ch.text.template("interaction").fill(gene_a="TP53", gene_b="MDM2")
    yield ch.text.Prompt("Is α-synuclein (SNCA) expressed?")


def test_llama3_chat_turn_has_the_ids_of_the_published_vocabulary(llama3):
    encoder, reference = llama3
    for prompt in filled():
        assert encoder.prompts([prompt])[0].ids == reference(chat(prompt.text))
    assert encoder.answer("CD3E CD4") == reference("CD3E CD4<|eot_id|>")


def test_turn_markers_are_the_known_special_ids(llama3):
    encoder, _ = llama3
    assert encoder.head == [128000, 128006, 882, 128007, 271]  # 882 "user", 271 two newlines
    assert encoder.tail == [128009, 128006, 78191, 128007, 271]  # 78191 "assistant"
    assert encoder.end == [128009]


@settings(max_examples=60, deadline=None)
@given(genes=st.lists(symbols, min_size=1, max_size=30, unique=True), gene=symbols)
def test_prefix_and_rest_apart_give_the_ids_of_the_whole(llama3, genes, gene):
    encoder, reference = llama3
    prompt = ch.text.template("gene_in_cell").fill(genes=genes, gene=gene)
    encoded = encoder.prompts([prompt])[0]
    assert encoded.ids == reference(chat(prompt.text))
    assert encoded.ids[: encoded.n_shared] == encoder.head + reference(prompt.text[: prompt.prefix_len])


@settings(max_examples=60, deadline=None)
@given(genes=st.lists(symbols, min_size=1, max_size=30, unique=True), gene=symbols)
def test_tokens_of_a_gene_spell_the_gene(llama3, genes, gene):
    encoder, _ = llama3
    prompt = ch.text.template("gene_in_cell").fill(genes=genes, gene=gene)
    encoded = encoder.prompts([prompt], positions=True)[0]
    for symbol, at in encoded.genes.items():
        # A full stop that ends the sentence may share a token with the last symbol's end.
        assert encoder.decode([encoded.ids[i] for i in at]).rstrip(".") == symbol.rstrip(".")
    assert encoder.decode(encoded.ids[slice(*encoded.entity)]) == gene


def test_special_tokens_in_a_text_are_text(llama3, tokenizer):
    for encoder in (llama3[0], Encoder(tokenizer, "llama3-chat")):
        ids = encoder.prompts([ch.text.Prompt("Gene <|eot_id|> X")])[0].ids
        inside = ids[len(encoder.head) : -len(encoder.tail)]
        assert encoder.end[0] not in inside
        assert encoder.decode(inside) == "Gene <|eot_id|> X"


def test_encoder_leaves_the_callers_tokenizer_alone(tokenizer):
    before = tokenizer("Gene <|eot_id|>")["input_ids"]
    Encoder(tokenizer).prompts([ch.text.Prompt("Gene X")])
    assert tokenizer("Gene <|eot_id|>")["input_ids"] == before


def test_plain_wrap_puts_the_start_token_and_a_blank_before_the_answer(tokenizer):
    encoder = Encoder(tokenizer, "plain")
    ids = encoder.prompts([ch.text.Prompt("Is CD4 a T-cell gene?")])[0].ids
    text = tokenizer.decode(ids + encoder.answer("Yes"), clean_up_tokenization_spaces=False)
    assert text == "<|begin_of_text|>Is CD4 a T-cell gene? Yes<|eot_id|>"


def test_chat_wrap_needs_its_tokens():
    from tokenizers import Tokenizer, models

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), eos_token="</s>")
    assert Encoder(bare).wrap.name == "plain"
    with pytest.raises(ValueError, match="lacks special tokens.*wrap='plain'"):
        Encoder(bare, "llama3-chat")


def test_slow_tokenizer_is_refused():
    with pytest.raises(TypeError, match="no fast back end"):
        Encoder(object())


def test_a_tokenizer_that_joins_across_the_cut_is_not_cut(tokenizer):
    """Stands for tokenizers that add a blank at the start of every text, so that parts differ from the whole."""

    class Greedy(Encoder):
        def _ids(self, text):
            return [1] if text.startswith(" ") else super()._ids(text)

    encoder = Greedy(tokenizer)
    prompts = [ch.text.template("gene_in_cell").fill(genes=GENES, gene=gene) for gene in ("CD4", "LYZ")]
    assert [one.n_shared for one in encoder.prompts(prompts)] == [0, 0]
    assert [one.ids for one in encoder.prompts(prompts)] == [one.ids for one in Encoder(tokenizer).prompts(prompts)]


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=6))
def test_padding_keeps_rows_on_both_sides(rows):
    for side in ("left", "right"):
        batch = Batch.pad(rows, device=torch.device("cpu"), side=side)
        for i, row in enumerate(rows):
            assert batch.ids[i][batch.mask[i]].tolist() == row
            assert batch.positions[i][batch.mask[i]].tolist() == list(range(len(row)))
            assert batch.ids[i, batch.last[i]] == row[-1]


@given(
    st.lists(st.integers(1, 50), max_size=40),
    st.none() | st.integers(1, 9),
    st.integers(1, 200),
)
def test_plan_has_every_prompt_once_within_its_limits(lengths, batch_size, budget):
    batches = plan(lengths, batch_size=batch_size, budget=budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= (batch_size or len(batch))
        if batch_size is None and len(batch) > 1:
            assert len(batch) * max(lengths[i] for i in batch) <= budget


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 9))
def test_halving_keeps_every_prompt(sizes, room):
    def compute(batch):
        if len(batch) > room:
            raise torch.OutOfMemoryError
        return batch

    batches, at = [], 0
    for size in sizes:
        batches.append(list(range(at, at + size)))
        at += size
    done = [i for batch, _ in run_batches(batches, compute) for i in batch]
    assert sorted(done) == list(range(at))


@pytest.mark.parametrize("room", range(2, 31))
@pytest.mark.parametrize(("n_text", "n_answer"), [(20, 10), (10, 20), (25, 3), (3, 25), (28, 1), (1, 28), (7, 7)])
def test_what_is_too_long_is_cut_in_exact_proportion(tokenizer, n_text, n_answer, room):
    """Question and answer keep the same share of their tokens, in whole tokens, and fill the room to the last one."""
    encoder = Encoder(tokenizer)
    head, tail = encoder.head, encoder.tail
    text, answer = list(range(1000, 1000 + n_text)), list(range(2000, 2000 + n_answer))
    found = encoder._example([*head, *text, *tail], answer, room)
    if n_text + n_answer <= room:
        assert found == Example([*head, *text, *tail, *answer], len(head) + n_text + len(tail), is_cut=False)
        return
    share = Fraction(room, n_text + n_answer)
    kept_answer = math.floor(share * n_answer)
    if kept_answer == 0:
        assert found is None
        return
    kept_text = room - kept_answer
    assert found.ids == [*head, *text[:kept_text], *tail, *answer[:kept_answer]]
    assert found.n_prompt == len(head) + kept_text + len(tail)
    assert found.is_cut
    assert 0 <= kept_text - share * n_text < 1, "the same share of the question, but for a token"
