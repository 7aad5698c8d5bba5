"""Answers as a trie: its shape by hand, its scores against one full forward pass for each answer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cellhermes as ch
from cellhermes.model import _forward, _reader, _score, _trie
from cellhermes.model._trie import Trie

MANY = [
    f"{a} {b}{c}".strip() for a in ("CD4", "CD40", "A cell") for b in ("Yes", "No", "") for c in ("", " in", " is in")
]
PROMPTS = [
    "Is CD4 a T-cell gene?",
    "Gene CD40LG",
    "A cell with genes ranked by expression: CD4 MALAT1 CD40LG LYZ CD40 A B2M",
]


def naive(model, prompts, answers):
    """Independent: the whole text of each prompt with each answer, alone in a batch of transformers."""
    out = np.zeros((len(prompts), len(answers)))
    for i, prompt in enumerate(prompts):
        ids = model._encoder.prompts([ch.text.Prompt(prompt)])[0].ids
        for j, answer in enumerate(answers):
            more = model._encoder.answer(answer)
            with torch.inference_mode():
                logp = model._reader.lm(torch.tensor([ids + more])).logits[0].double().log_softmax(-1)
            out[i, j] = sum(logp[len(ids) + k - 1, token].item() for k, token in enumerate(more))
    return out


answer_ids = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=6).map(tuple), min_size=1, max_size=12, unique=True
)


@given(answers=answer_ids, max_nodes=st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_paths_spell_the_answers_and_nodes_see_their_own_path(answers, max_nodes):
    trie = Trie.of(answers, max_nodes=max_nodes)
    width = trie.ids.shape[1]

    def beginning(state):
        """Read from what the node sees, in order of depth."""
        if state == 0:
            return ()
        row, k = divmod(state - 1, width)
        seen = trie.visible[row, k].nonzero()[:, 0]
        seen = seen[trie.depth[row, seen].argsort()]
        assert trie.depth[row, seen].tolist() == list(range(len(seen)))
        return tuple(trie.ids[row, seen].tolist())

    for a, answer in enumerate(answers):
        steps = [int(s) for s in trie.paths[a] if s < len(trie.parent)]
        assert len(steps) == trie.lengths[a] == len(answer)
        assert [int(trie.token[s]) for s in steps] == list(answer)
        assert [beginning(int(trie.parent[s])) for s in steps] == [answer[:t] for t in range(len(answer))]
        for s in steps:
            other, n_tokens = trie.example[trie.parent[s]].tolist()
            assert answers[other][:n_tokens] == beginning(int(trie.parent[s]))
    assert trie.parent.tolist() == sorted(trie.parent.tolist())


@given(answers=answer_ids)
@settings(max_examples=100, deadline=None)
def test_in_one_row_every_beginning_is_run_once(answers):
    trie = Trie.of(answers)
    beginnings = {answer[:t] for answer in answers for t in range(1, len(answer))}
    assert trie.ids.numel() == len(beginnings)
    assert len(trie.parent) == len({(answer[:t], answer[t]) for answer in answers for t in range(len(answer))})


def test_rows_are_of_similar_size():
    answers = [(a, b, 9) for a in range(30) for b in range(10)]  # 330 beginnings
    trie = Trie.of(answers, max_nodes=100)
    used = [
        int((row.diagonal() & (ids + depth > 0)).sum())
        for row, ids, depth in zip(trie.visible, trie.ids, trie.depth, strict=True)
    ]
    assert trie.ids.shape[0] == 4
    assert min(used) > 0.6 * max(used)
    assert max(used) <= 100 + 3


def test_scores_equal_plain_full_forward_passes(family):
    np.testing.assert_allclose(family.score(PROMPTS, MANY), naive(family, PROMPTS, MANY), rtol=2e-5)


@pytest.mark.parametrize("max_nodes", [1, 5, 16])
def test_rows_do_not_change_scores(tiny, max_nodes, monkeypatch):
    whole = tiny.score(PROMPTS, MANY)
    monkeypatch.setattr(_score.Trie, "of", lambda ids: Trie(*_fields(ids, max_nodes)))
    np.testing.assert_allclose(tiny.score(PROMPTS, MANY), whole, rtol=1e-5)


def _fields(ids, max_nodes, of=Trie.of):
    trie = of(ids, max_nodes=max_nodes)
    return [getattr(trie, name) for name in Trie.__slots__]


def test_logits_of_some_states_at_a_time_give_the_same(tiny, monkeypatch):
    whole = tiny.score(PROMPTS, MANY)
    monkeypatch.setattr(_score, "MAX_LOGITS", 2500)
    np.testing.assert_allclose(tiny.score(PROMPTS, MANY), whole, rtol=1e-6)


def test_shared_beginnings_are_run_once_for_each_prompt(tiny, monkeypatch):
    seen, real = [], _forward._run
    monkeypatch.setattr(_forward, "_run", lambda d, ids, *a: seen.append(ids.numel()) or real(d, ids, *a))
    tiny.score(PROMPTS[:1], MANY)
    tails = [tuple(tiny._encoder.answer(answer)) for answer in MANY]
    n_prompt = len(tiny._encoder.prompts([ch.text.Prompt(PROMPTS[0])])[0].ids)
    assert seen == [n_prompt, len({tail[:t] for tail in tails for t in range(1, len(tail))})]


BEGIN_ALIKE = [
    *[f"A cell with genes ranked by expression: CD4 MALAT1 CD40LG LYZ. Is CD{i} a gene of it?" for i in range(12)],
    *[f"A cell with genes ranked by expression: CD40LG IL7R LYZ GNLY NKG7. Is CD{i * 111} a gene?" for i in range(5)],
    "Gene CD4",
    "A cell with genes ranked by expression: CD4",
]


def test_prompts_that_begin_alike_have_the_scores_of_whole_prompts(family):
    found = family.score(BEGIN_ALIKE, ["Yes", "No", "No way"])
    np.testing.assert_allclose(found, naive(family, BEGIN_ALIKE, ["Yes", "No", "No way"]), rtol=2e-5)
    order = np.random.default_rng(0).permutation(len(BEGIN_ALIKE))
    again = family.score([BEGIN_ALIKE[i] for i in order], ["Yes", "No", "No way"], batch_size=3)
    np.testing.assert_allclose(again, found[order], rtol=1e-5)


def test_the_same_prompt_twice_has_the_same_scores(tiny):
    found = tiny.score(["Gene CD4", "Gene CD40", "Gene CD4"], ["Yes", "No"])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-6)
    np.testing.assert_allclose(found, naive(tiny, ["Gene CD4", "Gene CD40", "Gene CD4"], ["Yes", "No"]), rtol=2e-5)


def test_beginnings_of_prompts_are_run_once(tiny, monkeypatch):
    seen, real = [], _forward._run
    monkeypatch.setattr(_forward, "_run", lambda d, ids, *a: seen.append(ids.shape) or real(d, ids, *a))
    tiny.score(BEGIN_ALIKE[:12], ["Yes", "No"])
    lengths = [len(one.ids) for one in tiny._encoder.prompts([ch.text.Prompt(text) for text in BEGIN_ALIKE[:12]])]
    (one, n_shared), (rows, n_rest), _ = seen
    assert (one, rows) == (1, 12)
    assert n_shared + n_rest == max(lengths)
    assert n_shared > 0.6 * n_rest


def test_a_short_prompt_does_not_break_up_a_group_that_shares_much():
    long = [[1, 2, *range(3, 40), i] for i in range(50, 54)]
    groups = _score._alike([*long, [1, 2, 9]], enabled=True)
    assert groups == [([4], 0), ([0, 1, 2, 3], 39)]


def test_rows_are_limited_by_the_memory_of_their_keys(tiny, monkeypatch):
    sizes, real = [], _forward.read_behind
    monkeypatch.setattr(_forward, "read_behind", lambda d, s, b: sizes.append(len(b.ids)) or real(d, s, b))
    n_tokens = max(len(one.ids) for one in tiny._encoder.prompts([ch.text.Prompt(text) for text in BEGIN_ALIKE[:12]]))
    keys = 2 * 4 * 3 * 2 * 12  # keys and values, float32, three layers, two heads of width 12
    monkeypatch.setattr(_reader, "_free_bytes", lambda _: 4 * keys * (n_tokens + 2) * 5)
    monkeypatch.setattr(tiny._reader, "budget", lambda _: 10_000)
    tiny.score(BEGIN_ALIKE[:12], ["Yes", "No"])
    assert sizes == [5, 5, 2]


@given(rows=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=9), min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_groups_hold_each_row_once_with_what_they_share(rows):
    groups = _score._alike(rows, enabled=True)
    assert sorted(i for members, _ in groups for i in members) == list(range(len(rows)))
    for members, n in groups:
        assert len({tuple(rows[i][:n]) for i in members}) == 1
        assert all(len(rows[i]) > n for i in members)
    assert _score._alike(rows, enabled=False) == [(list(range(len(rows))), 0)]


def test_order_and_number_of_answers_do_not_change_scores(tiny):
    order = np.random.default_rng(0).permutation(len(MANY))
    whole = tiny.score(PROMPTS, MANY)
    np.testing.assert_allclose(tiny.score(PROMPTS, [MANY[i] for i in order]), whole[:, order], rtol=1e-5)
    np.testing.assert_allclose(tiny.score(PROMPTS, MANY[3:4]), whole[:, 3:4], rtol=1e-5)


def test_an_answer_that_another_begins_with_has_its_own_probability(tiny):
    found = tiny.score(PROMPTS, ["CD4", "CD4 Yes"])
    np.testing.assert_allclose(found, naive(tiny, PROMPTS, ["CD4", "CD4 Yes"]), rtol=2e-5)


def test_mean_divides_by_the_number_of_tokens(tiny):
    lengths = [len(tiny._encoder.answer(answer)) for answer in MANY]
    expected = naive(tiny, PROMPTS, MANY) / lengths
    np.testing.assert_allclose(tiny.score(PROMPTS, MANY, normalize="mean"), expected, rtol=2e-5)


def test_answers_of_the_same_tokens_are_refused_by_name(tiny):
    with pytest.raises(ValueError, match="'Yes' and 'Yes' are the same tokens"):
        tiny.score(PROMPTS, ["No", "Yes", "Yes"])


def test_without_an_end_token_an_answer_may_not_begin_another(tiny, monkeypatch):
    monkeypatch.setattr(tiny._encoder, "end", [])
    with pytest.raises(ValueError, match="'CD4 Yes' begins with the answer 'CD4'.*eos_token"):
        tiny.score(PROMPTS, ["CD4", "No", "CD4 Yes"])
    np.testing.assert_allclose(tiny.score(PROMPTS, ["Yes", "No"]), naive(tiny, PROMPTS, ["Yes", "No"]), rtol=2e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.score(["a"], "Yes"), "needs a list of answers"),
        (lambda m: m.score(["a"], ["Yes"], normalize="max"), "normalize='max' is not known; expected 'sum' or 'mean'"),
    ],
)
def test_bad_calls_are_explained(tiny, call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny)


def test_limit_of_a_row_is_what_the_module_says(monkeypatch):
    answers = [(a, 1) for a in range(_trie.MAX_NODES)]
    assert Trie.of(answers).ids.shape == (1, _trie.MAX_NODES)
    assert len(Trie.of([*answers, (_trie.MAX_NODES, 1)]).ids) == 2


def test_answers_behind_a_window_are_run_some_at_a_time(folders, monkeypatch):
    model = ch.CellHermes.from_pretrained(folders("mistral"), device="cpu", wrap="llama3-chat")
    monkeypatch.setattr(model._reader, "budget", lambda _: 150)
    assert not model._reader.may_share(model._encoder.prompts([ch.text.Prompt(PROMPTS[2])]))
    np.testing.assert_allclose(model.score(PROMPTS, MANY), naive(model, PROMPTS, MANY), rtol=2e-5)
