"""The four verbs against plain transformers, on tiny models of six families."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import cellhermes as ch
from cellhermes.model import _forward, _reader
from cellhermes.model._tokens import Batch

GENES = ["MALAT1", "CD4", "CD40", "CD40LG", "B2M", "HLA-DRB1", "IL7R", "GNLY", "NKG7", "LYZ"]


def cells(n):
    order = np.random.default_rng(0)
    return [ch.text.Template.load("cell").fill(genes=[*order.permutation(GENES)[: 2 + i % 8]]) for i in range(n)]


def in_cell(genes, sentence=GENES):
    return [ch.text.Template.load("gene_in_cell").fill(genes=sentence, gene=gene) for gene in genes]


def plain_hidden(model, prompt):
    """Independent: one prompt, eager attention, all hidden states, nothing shared or padded."""
    lm = AutoModelForCausalLM.from_pretrained(model.card.base, attn_implementation="eager", dtype=torch.float32).eval()
    ids = model._encoder.prompts([prompt])[0].ids
    with torch.inference_mode():
        return lm.model(torch.tensor([ids]), output_attentions=True), ids, lm


def assert_close(found, expected, tolerance=1e-5):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def test_embedding_is_the_last_state_of_plain_transformers(family):
    prompts = [*cells(3), *in_cell(["CD4", "CD40LG", "XYZ1"])]
    found = family.embed(prompts)
    for prompt, vector in zip(prompts, found, strict=True):
        expected, _, _ = plain_hidden(family, prompt)
        assert_close(vector, expected.last_hidden_state[0, -1].numpy())


def test_genes_behind_a_shared_sentence_equal_full_prompts(family):
    prompts = in_cell([*GENES, "NOVEL1", "A"])
    together = family.embed(prompts)
    alone = np.concatenate([family.embed([prompt]) for prompt in prompts])
    assert_close(together, alone)


def test_sharing_happens(tiny, monkeypatch):
    calls = []
    monkeypatch.setattr(_forward, "read_prefix", lambda *a, f=_forward.read_prefix: calls.append(1) or f(*a))
    tiny.embed([*in_cell(["CD4", "CD40", "LYZ"]), *in_cell(["CD4", "LYZ"], GENES[:6]), *in_cell(["CD4"], GENES[2:])])
    assert len(calls) == 2


@pytest.mark.parametrize("batch_size", [1, 2, 7, None])
def test_batch_size_does_not_change_embedding(tiny, batch_size):
    prompts = [*cells(9), *in_cell(GENES[:4])]
    assert_close(tiny.embed(prompts, batch_size=batch_size), tiny.embed(prompts, batch_size=3))


def test_order_and_subset_do_not_change_embedding(tiny):
    prompts = [*cells(9), *in_cell(GENES[:5])]
    order = np.random.default_rng(1).permutation(len(prompts))
    whole = tiny.embed(prompts)
    assert_close(tiny.embed([prompts[i] for i in order]), whole[order])
    assert_close(tiny.embed(prompts[4:6]), whole[4:6])


def test_padding_side_does_not_change_last_state(family):
    rows = [one.ids for one in family._encoder.prompts(cells(5))]
    states = {}
    with torch.inference_mode():
        for side in ("left", "right"):
            batch = Batch.pad(rows, device=torch.device("cpu"), side=side)
            states[side] = _forward.hidden(family._reader.decoder, batch)[torch.arange(5), batch.last].numpy()
    assert_close(states["left"], states["right"])


@pytest.mark.parametrize("read_at", ["entity_end", "mean", {"default": "prompt_end", "gene": "entity_end"}])
def test_read_at_reads_the_tokens_of_the_entity(tiny, folders, read_at):
    model = ch.CellHermes.from_pretrained(folders("llama"), device="cpu", read_at=read_at)
    prompts = [ch.text.Template.load("gene").fill(gene="CD40LG"), cells(1)[0], *in_cell(["CD40LG", "LYZ"])]
    for prompt, vector in zip(prompts, model.embed(prompts), strict=True):
        expected, ids, _ = plain_hidden(model, prompt)
        state = expected.last_hidden_state[0].numpy()
        texts = [model._encoder._tokenizer.decode([i], skip_special_tokens=False) for i in ids]
        entity = prompt.text[slice(*prompt.entity)]
        # The entity is the text between its end (just before the turn's tail) and as many tokens as spell it out.
        stop = len(ids) - len(model._encoder.tail)
        start = stop
        while entity not in "".join(texts[start:stop]):
            start -= 1
        kind = model.card.read(prompt.kind)
        expected = {"entity_end": state[stop - 1], "mean": state[start:stop].mean(0), "prompt_end": state[-1]}[kind]
        assert_close(vector, expected)


def test_no_logits_are_made_for_embeddings_and_attention(tiny, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(tiny._reader.lm.lm_head, "forward", refuse)
    tiny.embed(cells(2))
    tiny.attend(cells(2))
    with pytest.raises(AssertionError):
        tiny.score(["Is it?"], ["Yes"])


def test_score_equals_token_by_token_log_probabilities(family):
    prompts, answers = ["Is CD4 a T-cell gene?", "Gene CD40LG", cells(8)[7]], ["Yes", "No", "HLA-DRB1 CD4", "a"]
    found = family.score(prompts, answers)
    for i, prompt in enumerate(prompts):
        prompt = prompt if isinstance(prompt, ch.text.Prompt) else ch.text.Prompt(prompt)
        _, ids, lm = plain_hidden(family, prompt)
        for j, answer in enumerate(answers):
            more = family._encoder.answer(answer)
            with torch.inference_mode():
                logp = lm(torch.tensor([ids + more])).logits[0].log_softmax(-1)
            expected = sum(logp[len(ids) + k - 1, token].item() for k, token in enumerate(more))
            assert found[i, j] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_batch_size_does_not_change_score(tiny, batch_size):
    assert_close(
        tiny.score(cells(5), ["Yes", "No way"], batch_size=batch_size), tiny.score(cells(5), ["Yes", "No way"])
    )


def test_greedy_generation_equals_transformers(family):
    prompts = ["Is CD4 a T-cell gene?", "Gene CD40LG"]
    found = family.generate(prompts, max_new_tokens=8)
    for text, answer in zip(prompts, found, strict=True):
        _, ids, lm = plain_hidden(family, ch.text.Prompt(text))
        new = lm.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=family._encoder.end[-1],
            pad_token_id=0,
        )[0, len(ids) :]
        assert answer == family._encoder.decode(new.tolist())


def test_sampling_depends_on_seed_and_not_on_batches(tiny):
    prompts = [f"Gene {gene}" for gene in GENES]
    options = {"max_new_tokens": 6, "temperature": 1.5}
    state = torch.random.get_rng_state()
    first = tiny.generate(prompts, rng=0, **options)
    assert tiny.generate(prompts, rng=0, batch_size=3, **options) == first
    assert tiny.generate(prompts, rng=1, **options) != first
    assert torch.equal(torch.random.get_rng_state(), state)


def test_attention_equals_eager_transformers(family):
    prompts = cells(8)[4:]
    for prompt, found in zip(prompts, family.attend(prompts), strict=True):
        expected, ids, _ = plain_hidden(family, prompt)
        weights = expected.attentions[-1][0].numpy().astype(float)  # (heads, tokens, tokens)
        genes = family._encoder.prompts([prompt], positions=True)[0].genes
        by_gene = np.stack([weights[:, -1, list(at)].sum(1) for at in genes.values()], 1)
        assert_close(found.weights, by_gene)
        on_genes = np.zeros(len(ids), bool)
        on_genes[[i for at in genes.values() for i in at]] = True
        for keys, entropy in ((np.ones(len(ids), bool), found.entropy), (on_genes, found.gene_entropy)):
            for head in range(weights.shape[0]):
                rows = []
                for t in range(len(ids)):
                    in_window = (weights[:, t, : t + 1] > 0).any(0)
                    seen = (keys[: t + 1] & in_window).nonzero()[0]
                    if len(seen) > 1:
                        p = weights[head, t, seen] / weights[head, t, seen].sum()
                        rows.append(-(p * np.log(np.maximum(p, 1e-300))).sum() / np.log(len(seen)))
                assert entropy[head] == pytest.approx(np.mean(rows), abs=2e-5)


def test_padding_does_not_change_a_look_at_attention(monkeypatch):
    gen = torch.Generator().manual_seed(0)
    query, key = (torch.randn(3, heads, 10, 4, generator=gen) for heads in (4, 2))
    genes = torch.zeros(3, 10)
    genes[:, 2:6] = 1
    lengths = torch.tensor([10, 6, 3])
    for rows in (32, 4):
        monkeypatch.setattr(_forward, "MAX_ROWS", rows)
        found = _forward._look(query, key, genes, lengths, None, 0.7, None)
        for i, n in enumerate(lengths.tolist()):
            one = slice(i, i + 1)
            alone = _forward._look(query[one, :, :n], key[one, :, :n], genes[one, :n], lengths[one], None, 0.7, None)
            assert_close(found[0][i, :, :n].numpy(), alone[0][0].numpy())
            assert not found[0][i, :, n:].any()
            for together, single in zip(found[1:], alone[1:], strict=True):
                np.testing.assert_allclose(together[i], single[0], rtol=1e-5)


def test_attention_in_blocks_of_rows_is_the_same(tiny, monkeypatch):
    whole = tiny.attend(cells(8))
    monkeypatch.setattr(_forward, "MAX_WEIGHTS", 300)
    for one, other in zip(whole, tiny.attend(cells(8)), strict=True):
        assert_close(one.weights, other.weights)
        np.testing.assert_allclose(one.entropy, other.entropy, atol=1e-5)
        np.testing.assert_allclose(one.gene_entropy, other.gene_entropy, atol=1e-5)


def test_cd4_does_not_receive_the_weight_of_cd40(tiny):
    prompt = ch.text.Template.load("cell").fill(genes=["CD40", "CD4", "CD40LG"])
    encoded = tiny._encoder.prompts([prompt], positions=True)[0]
    taken = [i for at in encoded.genes.values() for i in at]
    assert len(taken) == len(set(taken))
    texts = {gene: tiny._encoder.decode([encoded.ids[i] for i in at]) for gene, at in encoded.genes.items()}
    assert texts == {gene: gene for gene in ("CD40", "CD4", "CD40LG")}


def test_head_choice_follows_the_keys_that_count():
    found = ch.model.GeneAttention(("A",), np.array([[0.2], [0.5]]), np.array([0.1, 0.4]), np.array([0.9, 0.3]))
    assert found.head() == 1
    assert found.head(over="all") == 0
    np.testing.assert_allclose(found.gene_share, [0.2, 0.5])


def test_out_of_memory_halves_the_batch(tiny, monkeypatch):
    sizes, real = [], _forward.hidden

    def small(decoder, batch):
        sizes.append(len(batch.ids))
        if len(batch.ids) > 3:
            msg = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
            raise RuntimeError(msg)
        return real(decoder, batch)

    texts = [prompt.text for prompt in cells(9)]  # free texts share no beginning
    expected = tiny.embed(texts)
    monkeypatch.setattr(_forward, "hidden", small)
    assert_close(tiny.embed(texts, batch_size=8), expected)
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[2:]) == 2


def test_one_prompt_that_does_not_fit_is_an_error(tiny, monkeypatch):
    def never(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(_forward, "hidden", never)
    with pytest.raises(MemoryError, match="shorter prompt"):
        tiny.embed(cells(2))


def test_other_runtime_errors_are_not_swallowed(tiny, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes")

    monkeypatch.setattr(_forward, "hidden", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        tiny.embed(cells(2))


def test_long_prompt_names_itself_before_anything_is_computed(tiny, monkeypatch):
    monkeypatch.setattr(_forward, "hidden", lambda *_: pytest.fail("computed"))
    long = ch.text.Template.load("cell").fill(genes=[f"GENE{i}" for i in range(100)])
    with pytest.raises(
        ch.model.PromptLengthError, match=r"Prompt 1 has \d+ tokens, more than the 256.*n_genes="
    ) as error:
        tiny.embed([*cells(1), long])
    assert error.value.index == 1


def test_a_prompt_that_fills_the_context_is_read(tiny):
    text = "Gene CD4"
    while len(tiny._encoder.prompts([ch.text.Prompt(text + " a")])[0].ids) < tiny.max_tokens:
        text += " a"
    full = text + " a"
    assert len(tiny._encoder.prompts([ch.text.Prompt(full)])[0].ids) == tiny.max_tokens
    assert np.isfinite(tiny.embed([full])).all()
    with pytest.raises(ch.model.PromptLengthError):
        tiny.embed([full + " a"])
    with pytest.raises(ch.model.PromptLengthError):
        tiny.score([full], ["Yes"])


def test_answers_and_new_tokens_count_towards_the_context(tiny):
    with pytest.raises(ch.model.PromptLengthError):
        tiny.generate(["Gene CD4"], max_new_tokens=256)
    with pytest.raises(ch.model.PromptLengthError):
        tiny.score(["Gene CD4"], ["Yes " * 300])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.embed("Gene CD4"), TypeError, "list of prompts"),
        (lambda m: m.embed(["  "]), ValueError, "needs text"),
        (lambda m: m.score(["a"], []), ValueError, "needs a list of answers"),
        (lambda m: m.score(["a"], ["Yes", ""]), ValueError, "needs a list of answers"),
        (lambda m: m.generate(["a"], temperature=-1.0), ValueError, "temperature"),
        (lambda m: m.generate(["a"], max_new_tokens=0), ValueError, "max_new_tokens"),
        (lambda m: m.generate(["a"], temperature=float("nan")), ValueError, "finite temperature"),
        (lambda m: m.embed(["a"], batch_size=0), ValueError, "batch_size is 0; expected at least 1"),
        (lambda m: m.score(["a"], ["Yes"], batch_size=-1), ValueError, "batch_size is -1"),
        (lambda m: m.generate(["a"], batch_size=0), ValueError, "batch_size is 0"),
        (lambda m: m.attend(cells(1), batch_size=0), ValueError, "batch_size is 0"),
        (lambda m: m.attend(["Gene CD4"]), ValueError, "lists no genes"),
    ],
)
def test_bad_calls_say_what_is_wrong(tiny, call, error, message):
    with pytest.raises(error, match=message):
        call(tiny)


def test_nothing_asked_gives_empty_results(tiny):
    assert tiny.embed([]).shape == (0, tiny.dim)
    assert tiny.score([], ["Yes"]).shape == (0, 1)
    assert tiny.generate([]) == []
    assert tiny.attend([]) == []


def test_batch_budget_comes_from_free_memory(tiny, monkeypatch):
    monkeypatch.setattr(_reader, "_free_bytes", lambda _: 1 << 20)
    small = tiny._reader.budget(0)
    monkeypatch.setattr(_reader, "_free_bytes", lambda _: 1 << 22)
    assert 1 <= small < tiny._reader.budget(0)
    assert tiny._reader.budget(10_000) < tiny._reader.budget(0)


@pytest.mark.parametrize(
    "verb",
    [
        lambda m, prompts: m.embed(prompts),
        lambda m, prompts: m.score(prompts, ["Yes", "No"]),
        lambda m, prompts: m.generate(prompts, max_new_tokens=2),
        lambda m, prompts: m.attend(prompts),
    ],
    ids=["embed", "score", "generate", "attend"],
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_an_error(folders, verb, value):
    model = ch.CellHermes.from_pretrained(folders("llama"), device="cpu")
    with torch.no_grad():
        model._reader.lm.get_submodule("model.layers.1.mlp.down_proj").weight[0, 0] = value
    with pytest.raises(ValueError, match=r"not finite \(NaN or infinity\) of the prompt 'A cell with.*float32"):
        verb(model, cells(2))
