"""Chat templates: ids are those of `apply_chat_template`, and genes stand where they stand."""

import json
import shutil

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import cellhermes as ch
from cellhermes.model import _card
from cellhermes.model._tokens import Encoder

# Templates in the form of families of models, written for these tests.
LLAMA = """{{ bos_token }}{% if not date_string is defined %}{% set date_string = "26 Jul 2024" %}{% endif %}
{%- if messages[0].role == 'system' %}{% set about = messages[0].content | trim %}{% set messages = messages[1:] %}
{%- else %}{% set about = '' %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ' + date_string }}
{{- '\n\n' + about + '<|eot_id|>' }}
{%- for m in messages %}{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}
{{- m.content | trim + '<|eot_id|>' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""
QWEN = """{%- for m in messages %}
{%- if m.role == 'assistant' %}{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' + m.content + '<|im_end|>\n' }}
{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{% endif %}
{%- endif %}"""
GEMMA = """{{ bos_token }}
{%- if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}
{%- else %}{% set first = '' %}{% endif %}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- set role = 'model' if m.role == 'assistant' else m.role %}
{{- '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}
{{- (m.content if m.content is string else m.content[0].text) | trim }}{{ '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{% endif %}"""
MISTRAL = """{{ bos_token }}{% for m in messages %}
{%- if m.role == 'user' %}{{- '[INST] ' + m.content + ' [/INST]' }}
{%- elif m.role == 'assistant' %}{{- ' ' + m.content + eos_token }}
{%- else %}{{ raise_exception('only user and assistant roles') }}{% endif %}{% endfor %}"""
PHI = """{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"""
SMOLLM = """{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}
{{- '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}
{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

GENES = ["MALAT1", "CD4", "CD40LG", "HLA-DRB1", "B2M"]
BYTES = {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False)}


def prompts():
    yield ch.text.Template.load("gene").fill(gene="BRCA1")
    yield ch.text.Template.load("cell").fill(genes=GENES)
    yield from (ch.text.Template.load("gene_in_cell").fill(genes=GENES, gene=gene) for gene in GENES)
    yield ch.text.Prompt('Two\nlines, "quotes", <b>, {braces} & α?')


def tokenizer_of(template, special, *, plain=(), prepend=False, eos, bos=None, pre_tokenizer=None):
    """A small tokenizer trained on prompts, with a chat template."""
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    is_bytes = isinstance(pre_tokenizer, pre_tokenizers.ByteLevel)
    if not is_bytes:
        raw.normalizer = normalizers.Sequence([normalizers.Replace(" ", "▁")])
        raw.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    else:
        raw.pre_tokenizer, raw.decoder = pre_tokenizer, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if is_bytes else [*map(chr, range(33, 127)), "▁", "\n", "α"]
    trainer = trainers.BpeTrainer(
        vocab_size=480, special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([p.text for p in prompts()] * 3 + ["user assistant system model Yes No"] * 9, trainer)
    if prepend:  # as Llama 2 and Mistral: each piece of text gets a blank, and words are not split beforehand
        parts = json.loads(raw.to_str()) | {"pre_tokenizer": None}
        raw = Tokenizer.from_str(json.dumps(parts))
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.add_special_tokens(list(special))
    raw.add_tokens(list(plain))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token=bos, eos_token=eos, chat_template=template
    )


def plain_token(text):
    return AddedToken(text, special=False, normalized=False)


def stripping(text):
    """A special token that swallows the white space behind it, as those of Phi-3."""
    return AddedToken(text, special=True, normalized=False, rstrip=True)


HEADERS = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
FAMILIES = {
    "llama 3.1": (LLAMA, HEADERS, {"bos": HEADERS[0], "eos": "<|eot_id|>", **BYTES}),
    "qwen 3": (
        QWEN, ["<|im_start|>", "<|im_end|>"],
        {"plain": [plain_token("<think>"), plain_token("</think>")], "eos": "<|im_end|>", **BYTES},
    ),
    "gemma 3": (
        GEMMA, ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
        {"plain": [plain_token("\n\n")], "bos": "<bos>", "eos": "<eos>"},
    ),
    "mistral": (MISTRAL, ["<s>", "</s>"], {"prepend": True, "bos": "<s>", "eos": "</s>"}),
    "mistral 0.3": (MISTRAL, ["<s>", "</s>", "[INST]", "[/INST]"], {"prepend": True, "bos": "<s>", "eos": "</s>"}),
    "phi 3": (
        PHI, ["<s>", "<|endoftext|>", *map(stripping, ["<|user|>", "<|system|>", "<|assistant|>", "<|end|>"])],
        {"prepend": True, "bos": "<s>", "eos": "<|endoftext|>"},
    ),
    "phi 4": (
        PHI, ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"], {"eos": "<|endoftext|>", **BYTES}
    ),
    "smollm 2": (SMOLLM, ["<|im_start|>", "<|im_end|>"], {"bos": "<|im_start|>", "eos": "<|im_end|>", **BYTES}),
}  # fmt: skip
ENDS = {
    "llama 3.1": "<|eot_id|>", "qwen 3": "<|im_end|>", "gemma 3": "<end_of_turn>", "mistral": "</s>",
    "mistral 0.3": "</s>", "phi 3": "<|end|>", "phi 4": "<|end|>", "smollm 2": "<|im_end|>",
}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return {name: tokenizer_of(template, special, **how) for name, (template, special, how) in FAMILIES.items()}


@pytest.fixture(params=FAMILIES)
def family(request, made):
    """Name and tokenizer of a family."""
    return request.param, made[request.param]


def expected(tokenizer, text, *, system=None, **how):
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages += [{"role": "user", "content": text}]
    how = {"tokenize": True, "return_dict": False, "add_generation_prompt": True, "enable_thinking": False} | how
    return tokenizer.apply_chat_template(messages, **how)


def test_ids_are_those_of_the_template(family):
    _, tokenizer = family
    encoder = Encoder(tokenizer)
    assert encoder.wrap.name == "chat"
    for prompt, found in zip(prompts(), encoder.prompts([*prompts()]), strict=True):
        assert found.ids == expected(tokenizer, prompt.text)
        assert encoder.wrap.render(prompt.text) == expected(tokenizer, prompt.text, tokenize=False)


def test_a_start_token_that_the_tokenizer_adds_itself_is_not_doubled(made):
    tokenizer = made["llama 3.1"]
    ids = Encoder(tokenizer).prompts([ch.text.Prompt("Gene CD4")])[0].ids
    assert ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("system", ["You are a biologist.", ""])
def test_a_system_turn_is_written_as_the_template_writes_it(family, system):
    name, tokenizer = family
    if "mistral" in name:
        with pytest.raises(ValueError, match="does not write turns of system and user.*only user.*wrap='plain'"):
            Encoder(tokenizer, system=system)
        return
    encoder = Encoder(tokenizer, "chat", system=system)
    for prompt in prompts():
        assert encoder.prompts([prompt])[0].ids == expected(tokenizer, prompt.text, system=system)
    assert "SmolLM" not in encoder.wrap.head


def test_genes_stand_where_they_stand_and_share_what_comes_before(family):
    _, tokenizer = family
    encoder = Encoder(tokenizer)
    cells = [p for p in prompts() if p.kind == "gene_in_cell"]
    found = encoder.prompts(cells, positions=True)
    for prompt, one in zip(cells, found, strict=True):
        for gene, at in [*one.genes.items(), (prompt.text[slice(*prompt.entity)], range(*one.entity))]:
            assert encoder.decode([one.ids[i] for i in at]).replace("▁", "").replace(" ", "").rstrip(".") == gene
        assert one.n_shared > one.genes[GENES[-1]][-1]
        assert one.ids[: one.n_shared] == found[0].ids[: one.n_shared]


def test_an_answer_is_the_assistants_turn_and_ends_with_its_end_token(family):
    name, tokenizer = family
    encoder = Encoder(tokenizer)
    assert tokenizer.convert_ids_to_tokens(encoder.end) == [ENDS[name]]
    assert encoder.stop == {*encoder.end, tokenizer.eos_token_id}
    question, answer = next(prompts()), "Yes CD4"
    messages = [{"role": "user", "content": question.text}, {"role": "assistant", "content": answer}]
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    found = encoder.prompts([question])[0].ids + encoder.answer(answer)
    assert found == whole[: len(found)], "what a template writes behind the end token is not part of an answer"
    pair = ch.text.QAPair(question, answer, "demo")
    assert encoder.examples([pair], max_tokens=500)[0].ids == found


def test_what_marks_a_turn_is_plain_text_inside_a_question(family):
    name, tokenizer = family
    encoder = Encoder(tokenizer)
    added = {token.content for token in tokenizer.added_tokens_decoder.values()} - {"<unk>", "\n\n"}
    assert ENDS[name] in added
    around = encoder.prompts([ch.text.Prompt("Gene CD4")])[0].ids
    for token in added:
        ids = encoder.prompts([ch.text.Prompt(f"Gene {token} CD4")])[0].ids
        mark = tokenizer.convert_tokens_to_ids(token)
        assert ids.count(mark) == around.count(mark), token


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "changes the text of a question"),
        ("{% for m in messages %}{{ m.content | e }}{% endfor %}", "changes the text of a question"),
        ("{% for m in messages %}{{ m.content | tojson }}{% endfor %}", "changes the text of a question"),
        ("{% for m in messages %}{{ m.content[:4000] }}{% endfor %}", "changes the text of a question"),
        ("{% for m in messages %}{{ m.content }} Again: {{ m.content }}{% endfor %}", "more than once"),
        ("Hello", "changes the text of a question"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "the text of an answer"),
        ("{{ raise_exception('no') }}", r"does not write turns of user \(no\)"),
        ("{% for m in messages %}", "does not write turns of user"),
        ({"tool_use": "x"}, "does not write turns of user"),
    ],
)  # fmt: skip
def test_a_template_that_is_no_frame_is_refused_with_the_way_out(made, template, reason):
    tokenizer = Tokenizer.from_str(made["smollm 2"].backend_tokenizer.to_str())
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=template)
    with pytest.raises(ValueError, match=f"{reason}.*wrap='plain', or write the turn yourself.*cellhermes.json"):
        Encoder(tokenizer)
    assert Encoder(tokenizer, "plain").wrap.name == "plain"


def test_what_is_read_does_not_depend_on_the_day(made):
    tokenizer = Tokenizer.from_str(made["smollm 2"].backend_tokenizer.to_str())
    template = "{% for m in messages %}{{ strftime_now('%d %b %Y') }} {{ m.content }}<|im_end|>{% endfor %}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=template)
    assert Encoder(tokenizer).wrap.head == "26 Jul 2024 "


# ---- models


@pytest.fixture
def folder(tmp_path, made, write_tiny):
    """Folder of a tiny instruct model, with its template."""
    return write_tiny(tmp_path / "instruct", made["smollm 2"], "llama")


def load(folder, **how):
    return ch.CellHermes.from_pretrained(folder, device="cpu", **how)


def test_the_template_is_the_default_and_a_base_without_one_reads_plain_text(folder, tmp_path, tokenizer, write_tiny):
    assert load(folder).wrap == "chat"
    base = write_tiny(tmp_path / "base", tokenizer, "llama")
    assert "<|start_header_id|>" in tokenizer.get_vocab()
    assert load(base).wrap == "plain"


def test_an_instruct_model_that_is_given_plain_text_is_warned_of(folder):
    with pytest.warns(UserWarning, match="has a chat template, and wrap='plain' leaves it out"):
        assert load(folder, wrap="plain").wrap == "plain"
    (folder / "cellhermes.json").write_text('{"wrap": "plain"}')
    assert load(folder).wrap == "plain", "what was noted beside the weights was meant"


def test_vectors_scores_and_texts_are_those_of_the_templates_ids(folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    cells = [p for p in prompts() if p.kind == "gene_in_cell"]
    answers = ["Yes", "No, CD4"]
    found, scores = model.embed(cells), model.score(cells, answers)
    for i, prompt in enumerate(cells):
        ids = expected(tokenizer, prompt.text)
        with torch.inference_mode():
            last = lm.model(torch.tensor([ids])).last_hidden_state[0, -1]
            np.testing.assert_allclose(found[i], last, rtol=1e-4, atol=1e-5)
            for j, answer in enumerate(answers):
                turn = [{"role": "user", "content": prompt.text}, {"role": "assistant", "content": answer}]
                whole = tokenizer.apply_chat_template(turn, return_dict=False)
                whole = whole[: len(whole) - whole[::-1].index(tokenizer.eos_token_id)]
                logp = lm(torch.tensor([whole])).logits[0].log_softmax(-1)
                steps = [logp[t - 1, whole[t]].item() for t in range(len(ids), len(whole))]
                np.testing.assert_allclose(scores[i, j], sum(steps), rtol=1e-4)


def test_a_system_turn_is_noted_and_what_is_read_is_shown(folder, adata):
    (folder / "cellhermes.json").write_text('{"system": "You know cells."}')
    cells = adata[:5].copy()
    ch.pp.cell_sentences(cells, n_genes=5)
    shown, heads = [], set()
    for how in ({}, {"system": "You are brief."}, {"wrap": "chat"}):
        model = load(folder, **how)
        ch.tl.embed_cells(cells, model)
        heads.add(cells.uns["X_cellhermes"]["params"]["wrap_parts"])
        shown.append(ch.get.prompts(cells)["prompt"].iloc[0])
        cell = ch.text.Template.load("cell").fill(genes=cells.obs["cell_sentence"].iloc[0].split(" "))
        assert _tokenizer(folder).decode(model._encoder.prompts([cell])[0].ids) == shown[-1]
    assert len(heads) == 3, "results of different system turns are told apart"
    assert [("You know cells." in s, "You are brief." in s, "SmolLM" in s) for s in shown] == [
        (True, False, False), (False, True, False), (False, False, True),
    ]  # fmt: skip


def test_a_system_turn_needs_a_template(folder, tokenizer):
    with pytest.raises(ValueError, match="A system turn needs wrap='chat'.*reads wrap='llama3-chat'"):
        Encoder(tokenizer, "llama3-chat", system="x")
    with pytest.raises(ValueError, match="A system turn needs wrap='chat'.*reads wrap='plain'"):
        Encoder(tokenizer, system="x")


# ---- wraps of a user's own

OWN = {"head": "{bos}Q: ", "tail": "\nA:", "lead": " ", "end": "{eos}"}


def test_a_wrap_of_your_own_stands_in_the_note_and_in_results(folder, adata):
    (folder / "cellhermes.json").write_text(json.dumps({"wrap": OWN | {"name": "mine"}}))
    model, tokenizer = load(folder), _tokenizer(folder)
    assert model.around == ch.text.Wrap("mine", **OWN)
    ids = model._encoder.prompts([ch.text.Prompt("Gene CD4")])[0].ids + model._encoder.answer("Yes")
    assert tokenizer.decode(ids) == "<|im_start|>Q: Gene CD4\nA: Yes<|im_end|>"
    cells = adata[:5].copy()
    ch.pp.cell_sentences(cells, n_genes=5)
    ch.tl.embed_cells(cells, model)
    assert cells.uns["X_cellhermes"]["params"]["wrap"] == "mine"
    assert ch.get.prompts(cells)["prompt"].str.match(r"Q: A cell with genes .*\nA:$").all()
    assert load(folder, wrap=model.around).around == model.around


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lead": None}, "wrap is .*expected text"),
        ({"note": "x"}, "expected texts for .'head', 'tail', 'lead', 'end'.*name if you like"),
        ({"name": "plain"}, "called 'plain', which has other parts"),
        ({"head": "Q: {bos}"}, "may stand at the beginning of head"),
        ({"tail": "{eos}"}, "may stand at the beginning of head"),
        ({"end": "\n"}, "ends an answer with .*expected a single special token"),
        ({"end": "{eos}\n"}, "ends an answer with .*expected a single special token"),
        ({"head": "<|im_strat|>"}, r"lacks special tokens of wrap='own': \['<\|im_strat\|>'\]"),
    ],
)  # fmt: skip
def test_a_bad_wrap_of_your_own_is_explained(folder, change, message):
    (folder / "cellhermes.json").write_text(json.dumps({"wrap": OWN | change}))
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_a_missing_part_is_named(folder):
    (folder / "cellhermes.json").write_text(json.dumps({"wrap": {"head": "", "tail": ""}}))
    with pytest.raises(ValueError, match="cellhermes.json: A wrap is .*expected texts for"):
        load(folder)


def test_an_adapter_keeps_the_turn_that_it_was_trained_in(folder, tmp_path):
    pairs = [ch.text.QAPair(ch.text.Prompt("Is CD3E a T-cell gene?"), "Yes", "demo")] * 4
    config = ch.train.TrainConfig(max_steps=1, batch_size=2)
    (folder / "cellhermes.json").write_text('{"system": "You know cells."}')
    adapter = ch.train.fit(pairs, config, base=folder, out=tmp_path / "adapter", device="cpu")
    around = load(folder).around
    (folder / "cellhermes.json").unlink()
    tuned = load(adapter)
    assert tuned.around == around != load(folder).around
    assert tuned.card.tasks == ("demo",)
    merged = load(ch.train.merge(folder, adapter, tmp_path / "merged"))
    assert (merged.around, merged.card.tasks) == (around, ("demo",))
    assert _card.resolve(shutil.copytree(adapter, tmp_path / "copy")).wrap == around


def _tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
