"""One encoder: against tiktoken with the real Llama-3 vocabulary, and against itself in parts."""

import base64
import json
import math
from fractions import Fraction

import pytest
import tiktoken
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
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
    yield ch.text.Template.load("gene").fill(gene="BRCA1")
    yield ch.text.Template.load("cell").fill(genes=GENES)
    for gene in GENES:
        yield ch.text.Template.load("gene_in_cell").fill(genes=GENES, gene=gene)
    yield ch.text.Template.load("pathway").fill(pathway="T cell receptor signalling")
    yield ch.text.Template.load("interaction").fill(gene_a="TP53", gene_b="MDM2")
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
    prompt = ch.text.Template.load("gene_in_cell").fill(genes=genes, gene=gene)
    encoded = encoder.prompts([prompt])[0]
    assert encoded.ids == reference(chat(prompt.text))
    assert encoded.ids[: encoded.n_shared] == encoder.head + reference(prompt.text[: prompt.prefix_len])


@settings(max_examples=60, deadline=None)
@given(genes=st.lists(symbols, min_size=1, max_size=30, unique=True), gene=symbols)
def test_tokens_of_a_gene_spell_the_gene(llama3, genes, gene):
    encoder, _ = llama3
    prompt = ch.text.Template.load("gene_in_cell").fill(genes=genes, gene=gene)
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
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), eos_token="</s>")
    assert Encoder(bare).wrap.name == "plain"
    with pytest.raises(ValueError, match="lacks special tokens.*wrap='plain'"):
        Encoder(bare, "llama3-chat")


def test_slow_tokenizer_is_refused():
    with pytest.raises(TypeError, match="no fast back end"):
        Encoder(object())


def made(model, *, normalizer=None, pre_tokenizer=None, words=True):
    """A small tokenizer, trained on prompts, that knows the marks of a chat."""
    raw = Tokenizer(model(unk_token="<unk>"))
    if normalizer:
        raw.normalizer = normalizer
    if pre_tokenizer:
        raw.pre_tokenizer = pre_tokenizer
    trainer = {models.BPE: trainers.BpeTrainer, models.WordPiece: trainers.WordPieceTrainer}.get(model)
    trainer = trainer(
        vocab_size=320,
        special_tokens=["<unk>", *SPECIAL],
        initial_alphabet=[*map(chr, range(33, 127)), "▁"],
        show_progress=False,
    )
    texts = [prompt.text for prompt in filled() if words] or [prompt.text[-20:] for prompt in filled()]
    if not pre_tokenizer and words:  # pieces of SentencePiece do not span blanks
        raw.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    raw.train_from_iterator(texts * 3 + ["user assistant Yes No"] * 9, trainer)
    if not pre_tokenizer and words:
        raw = json.loads(raw.to_str()) | {"pre_tokenizer": None}
        raw = Tokenizer.from_str(json.dumps(raw))
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", bos_token=SPECIAL[0], eos_token=SPECIAL[9])


def prepend():
    """As Llama 2 and Mistral: a blank before every piece of text, also behind a special token."""
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


KINDS = {
    "byte-level": lambda: made(models.BPE, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "byte-level with a blank first": lambda: made(models.BPE, pre_tokenizer=pre_tokenizers.ByteLevel()),
    "metaspace first": lambda: made(models.BPE, pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first")),
    "metaspace always": lambda: made(models.BPE, pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="always")),
    "metaspace never": lambda: made(models.BPE, pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="never")),
    "prepend": lambda: made(models.BPE, normalizer=prepend()),
    "wordpiece": lambda: made(
        models.WordPiece, normalizer=normalizers.BertNormalizer(), pre_tokenizer=pre_tokenizers.BertPreTokenizer()
    ),
}
OWN = ch.text.Wrap("own", "{bos}Question: ", "\nAnswer:", " ", "{eos}")
MIXED = ch.text.Wrap("mixed", "<|begin_of_text|>Q: ", " [A] <|end_header_id|>", "", "<|eot_id|>")


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return KINDS[request.param]()


@pytest.mark.parametrize("around", ["llama3-chat", "plain", OWN, MIXED], ids=str)
def test_parts_joined_have_the_ids_of_the_whole_text(kind, around):
    encoder = Encoder(kind, around)
    wrap = encoder.wrap
    begin = [kind.bos_token_id] if wrap.head.startswith("{bos}") else []
    close = wrap.end.replace("{eos}", kind.eos_token)
    for prompt in filled():
        text = wrap.render(prompt.text)
        found = encoder.prompts([prompt], positions=True)[0]
        assert found.ids == begin + kind.encode(text, add_special_tokens=False)
        whole = begin + kind.encode(text + wrap.lead + "Yes CD4" + close, add_special_tokens=False)
        assert found.ids + encoder.answer("Yes CD4") == whole
        assert bool(found.n_shared) == bool(prompt.prefix_len)
        for gene, at in found.genes.items():
            spelled = encoder.decode([found.ids[i] for i in at]).replace("▁", "").replace(" ", "").replace("##", "")
            assert gene.lower() in spelled.lower()


def test_a_tokenizer_that_joins_across_the_cut_is_not_cut():
    """Without a rule that splits words, a token may span the end of one sentence and the start of the next."""
    joining = made(models.BPE, normalizer=normalizers.Replace(" ", "▁"), words=False)
    prompts = [ch.text.Template.load("gene_in_cell").fill(genes=GENES, gene=gene) for gene in ("CD4", "LYZ")]
    encoder = Encoder(joining, "plain")
    found = encoder.prompts(prompts)
    assert [one.n_shared for one in found] == [0, 0]
    expected = [[joining.bos_token_id, *joining.encode(p.text, add_special_tokens=False)] for p in prompts]
    assert [one.ids for one in found] == expected


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
    encoder = Encoder(tokenizer, "llama3-chat")
    head, tail = encoder.head, encoder.tail
    digits = "0123456789" * 3  # a token each; the answer's last token is its end
    pair = ch.text.QAPair(ch.text.Prompt(digits[:n_text]), digits[: n_answer - 1], "demo")
    text, answer = tokenizer.encode(digits[:n_text]), [*tokenizer.encode(digits[: n_answer - 1]), *encoder.end]
    assert (len(text), len(answer)) == (n_text, n_answer)
    (found,) = encoder.examples([pair], max_tokens=len(head) + len(tail) + room)
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
