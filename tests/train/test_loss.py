"""The loss against plain transformers, on ragged batches, with and without packing."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from cellhermes.model import _forward
from cellhermes.train import _loss
from cellhermes.train._epochs import IGNORED, collate


@pytest.fixture
def rows():
    """Ragged examples: ids, length of the question, task."""
    rng = np.random.default_rng(0)
    sizes = [(9, 4), (31, 27), (17, 1), (24, 12), (5, 3)]
    return [(rng.integers(5, 300, n), n_prompt, i % 2) for i, (n, n_prompt) in enumerate(sizes)]


@pytest.fixture(params=["llama", "gemma2", "mistral"])
def lm(request, folders):
    _forward.register()
    lm = AutoModelForCausalLM.from_pretrained(folders(request.param), attn_implementation=_forward.NAME)
    _loss.attach(lm)
    return lm


def plain_losses(folder, rows, loss_on="answer"):
    """Summed loss and number of targets of each example alone, by transformers with full logits."""
    lm = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    found = []
    for ids, n_prompt, _ in rows:
        with torch.no_grad():
            logits = lm(input_ids=torch.tensor(ids)[None]).logits[0].double()
        first = n_prompt if loss_on == "answer" else 1
        nll = torch.nn.functional.cross_entropy(logits[first - 1 : -1], torch.tensor(ids[first:]), reduction="sum")
        found.append((float(nll), len(ids) - first))
    return found


def tensors(batch):
    return {name: value for name, value in batch.items() if name not in ("task", "n_tokens")}


@pytest.mark.parametrize("loss_on", ["answer", "all"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family_name", ["llama", "gemma2", "mistral"])
def test_loss_equals_plain_transformers(folders, rows, family_name, packed, loss_on):
    _forward.register()
    lm = AutoModelForCausalLM.from_pretrained(folders(family_name), attn_implementation=_forward.NAME).eval()
    _loss.attach(lm)
    grouped = [rows[:2], rows[2:]] if packed else [[row] for row in rows]
    found = lm(**tensors(collate(grouped, loss_on=loss_on, packed=packed)))["loss"]
    expected = plain_losses(folders(family_name), rows, loss_on)
    assert found.item() == pytest.approx(sum(s for s, _ in expected) / sum(n for _, n in expected), abs=1e-5)


def test_packed_examples_do_not_see_each_other(lm, rows):
    """The loss of an example stays when its neighbour in the row is another one."""
    lm.eval()
    firsts = rows[0], (rows[0][0][::-1].copy(), rows[0][1], 0)
    with torch.no_grad():
        packed = [lm(**tensors(collate([[row, rows[1]]], loss_on="answer", packed=True)))["nll"] for row in firsts]
        alone = [lm(**tensors(collate([[row]], loss_on="answer", packed=False)))["nll"] for row in firsts]
    assert float(packed[0] - alone[0]) == pytest.approx(float(packed[1] - alone[1]), abs=1e-4)
    # the check above would see it: without positions the second example reads the first
    joined = tensors(collate([[rows[0], rows[1]]], loss_on="answer", packed=True))
    del joined["position_ids"]
    with torch.no_grad():
        assert abs(float(lm(**joined)["nll"] - packed[0])) > 1e-2


def test_gradients_equal_plain_transformers(folders, rows):
    _forward.register()
    ours = AutoModelForCausalLM.from_pretrained(folders("llama"), attn_implementation=_forward.NAME)
    _loss.attach(ours)
    batch = tensors(collate([[row] for row in rows], loss_on="answer", packed=False))
    ours(**batch)["loss"].backward()
    plain = AutoModelForCausalLM.from_pretrained(folders("llama"), attn_implementation="eager")
    mask = torch.arange(batch["input_ids"].shape[1])[None] < torch.tensor([len(row[0]) for row in rows])[:, None]
    plain(**batch, attention_mask=mask).loss.backward()
    expected = dict(plain.named_parameters())
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name].grad, atol=1e-5, rtol=1e-4)


def test_loss_in_parts_equals_the_whole(folders, rows, monkeypatch):
    """Bounding how many logits are held changes neither loss nor gradients."""
    _forward.register()
    grads = []
    for limit in (1 << 25, 1000):
        monkeypatch.setattr(_loss, "MAX_LOGITS", limit)
        lm = AutoModelForCausalLM.from_pretrained(folders("llama"), attn_implementation=_forward.NAME)
        _loss.attach(lm)
        loss = lm(**tensors(collate([[row] for row in rows], loss_on="all", packed=False)))["loss"]
        loss.backward()
        grads.append((loss.detach(), [w.grad for w in lm.parameters()]))
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize("most", [39, 5])
def test_logits_are_made_for_targets_only(folders, rows, monkeypatch, most):
    """No call of the output layer sees more states than there are targets, or than the bound allows."""
    _forward.register()
    lm = AutoModelForCausalLM.from_pretrained(folders("llama"), attn_implementation=_forward.NAME)
    _loss.attach(lm)
    monkeypatch.setattr(_loss, "MAX_LOGITS", most * lm.config.vocab_size)
    seen = []
    lm.get_output_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    lm(**tensors(collate([[row] for row in rows], loss_on="answer", packed=False)))["loss"].backward()
    assert max(seen) == most
    assert sum(len(ids) - n for ids, n, _ in rows) == 39


def test_rows_without_targets_have_no_loss(lm, rows):
    lm.eval()
    with torch.no_grad():
        found = lm(**tensors(collate([[rows[0]], []], loss_on="answer", packed=False)))
    assert found["n"].tolist() == [5, 0]
    assert float(found["nll"][1]) == 0
    empty = lm(**tensors(collate([[]], loss_on="answer", packed=False)))["loss"]
    empty.backward()
    assert empty.item() == 0


def test_right_tokens_are_the_likeliest(lm, rows):
    lm.eval()
    batch = collate([[row] for row in rows], loss_on="answer", packed=False)
    with torch.no_grad():
        found = lm(**tensors(batch))["n_right"]
        likeliest = lm(input_ids=batch["input_ids"]).logits.argmax(-1)
    labels = batch["labels"]
    assert found.tolist() == ((likeliest[:, :-1] == labels[:, 1:]) & (labels[:, 1:] != IGNORED)).sum(1).tolist()


def test_model_without_labels_is_as_before(lm, rows):
    ids = torch.tensor(rows[0][0])[None]
    with torch.no_grad():
        found = lm(input_ids=ids).logits
    assert found.shape == (1, 9, lm.config.vocab_size)


def test_sampled_softmax_is_right_on_average(folders, rows):
    """The sum over drawn words, each standing for others, estimates the sum over all words without bias."""
    _forward.register()
    lm = AutoModelForCausalLM.from_pretrained(folders("llama"), attn_implementation=_forward.NAME)
    states, words = torch.randn(6, lm.config.hidden_size), lm.config.vocab_size
    targets = torch.tensor([7, 9, 7, 30, 31, 32])
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        full = _forward.logits(lm, states).double().exp().sum(1)
        found = []
        for _ in range(4000):
            chosen, log_odds, at = _loss._draw(targets, words, 40)
            assert chosen[at].tolist() == targets.tolist()
            assert len(chosen) == len(set(chosen.tolist())) == 5 + 40
            found.append((_forward.logits(lm, states, chosen).double() + log_odds).exp().sum(1))
    found = torch.stack(found)
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - full).abs() < 5 * error).all()


def test_sampled_softmax_with_all_words_is_the_full_one(folders, rows):
    _forward.register()
    batch = tensors(collate([[row] for row in rows], loss_on="answer", packed=False))
    grads = []
    for n_sampled in (0, 10_000):
        lm = AutoModelForCausalLM.from_pretrained(folders("llama"), attn_implementation=_forward.NAME).train()
        _loss.attach(lm, n_sampled)
        loss = lm(**batch)["loss"]
        loss.backward()
        grads.append([loss.detach(), *(w.grad for w in lm.parameters())])
    torch.testing.assert_close(grads[0], grads[1], atol=1e-6, rtol=1e-4)


def test_evaluation_reads_all_words(folders, rows):
    _forward.register()
    batch = tensors(collate([[row] for row in rows], loss_on="answer", packed=False))
    found = []
    for n_sampled in (0, 3):
        lm = AutoModelForCausalLM.from_pretrained(folders("llama"), attn_implementation=_forward.NAME).eval()
        _loss.attach(lm, n_sampled)
        with torch.no_grad():
            found.append(lm(**batch))
    assert found[0]["n_right"].tolist() == found[1]["n_right"].tolist()
    torch.testing.assert_close(found[0]["nll"], found[1]["nll"])
