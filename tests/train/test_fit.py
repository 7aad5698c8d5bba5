"""Training as a user calls it: what is learned, what is written, what is refused."""

import json
import math
import random

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import cellhermes as ch
from cellhermes.text import Prompt, QAPair
from cellhermes.train import TrainConfig, _tunable, fit
from cellhermes.train._trainer import HermesTrainer

WORDS = ["CD4", "CD", "MALAT1", "gene", "cell", "Yes", "No", "rank", "user", "expression"]


def questions(n, *, shuffled=False, task="demo"):
    """Questions with answers of two words that follow from their number, or that were dealt out anew."""
    answers = [f"{WORDS[i % 10]} {WORDS[(i // 10 + i) % 10]}" for i in range(n)]
    if shuffled:
        answers = np.random.default_rng(0).permutation(answers).tolist()
    return [QAPair(Prompt(f"Gene {i} is"), answer, task) for i, answer in enumerate(answers)]


@pytest.fixture
def base(folders):
    return folders("llama")


def config(**changes):
    return TrainConfig(**{"learning_rate": 1e-3, "max_steps": 4, "save_every": 2, "eval_every": 2, **changes})


def log_of(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


# What is learned -----------------------------------------------------------------------------------------------------


def exact(model, pairs):
    found = model.generate([pair.prompt for pair in pairs], max_new_tokens=20)
    return np.mean([answer == pair.answer for answer, pair in zip(found, pairs, strict=True)])


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize(("n", "steps"), [(40, 120), pytest.param(200, 300, marks=pytest.mark.slow)])
def test_a_tiny_model_memorises_its_pairs(base, tmp_path, packing, n, steps):
    learn = config(
        method="full", learning_rate=5e-3, max_steps=steps, batch_size=4 if packing else 20, accumulation=1,
        max_tokens=128, packing=packing, save_every=steps, schedule="linear",
    )  # fmt: skip
    right, wrong = questions(n), questions(n, shuffled=True)
    model = ch.CellHermes.from_pretrained(fit(right, learn, base=base, out=tmp_path / "a", device="cpu"), device="cpu")
    assert exact(model, right) == 1.0
    assert exact(model, wrong) < 0.1
    if not packing:
        fit(wrong, learn, base=base, out=tmp_path / "b", device="cpu")
        shuffled = ch.CellHermes.from_pretrained(tmp_path / "b", device="cpu")
        assert exact(shuffled, right) < 0.1, "what was learned are the answers that were given"


def test_an_adapter_learns_and_leaves_the_base_alone(base, tmp_path):
    before = (base / "model.safetensors").read_bytes()
    pairs = questions(8)
    out = fit(
        pairs, config(learning_rate=2e-2, max_steps=60), base=base, out=tmp_path / "a", device="cpu", evaluation=pairs
    )
    evaluated = [line for line in log_of(out) if "eval_loss" in line]
    assert evaluated[-1]["eval_loss"] < evaluated[0]["eval_loss"] / 3
    assert (base / "model.safetensors").read_bytes() == before


def test_llama_8b_has_the_adapter_of_the_paper():
    """Rank 8 on all linear layers of Llama-3.1-8B: 20,971,520 numbers (Methods)."""
    shape = AutoConfig.for_model(
        "llama", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=128256,
    )  # fmt: skip
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(shape)
        tuned = _tunable.add_adapter(lm, TrainConfig(), ch.model.ModelCard(name="x", base="y/z"))
    assert sum(w.numel() for w in tuned.parameters() if w.requires_grad) == 20_971_520


@pytest.mark.parametrize("method", ["full", "lora"])
def test_evaluation_is_what_the_model_scores(base, tmp_path, method):
    """Held-out loss and accuracy equal score and greedy generation of the model that was written, without dropout."""
    pairs = questions(12, task="a") + questions(5, task="b")
    learn = config(
        method=method, learning_rate=3e-3 if method == "full" else 3e-2, max_steps=40,
        dropout=0.0 if method == "full" else 0.3,
    )  # fmt: skip
    out = fit(pairs, learn, base=base, out=tmp_path / "a", device="cpu", evaluation=pairs)
    last = log_of(out)[-1]
    model = ch.CellHermes.from_pretrained(out, device="cpu")
    for task in ("a", "b"):
        mine = [pair for pair in pairs if pair.task == task]
        nll = -sum(float(model.score([pair.prompt], [pair.answer])[0, 0]) for pair in mine)
        n = sum(len(model._encoder.answer(pair.answer)) for pair in mine)
        assert last[f"eval_loss/{task}"] == pytest.approx(nll / n, rel=1e-4)
        assert last[f"eval_accuracy/{task}"] == pytest.approx(exact(model, mine))
    assert last["eval_accuracy"] > 0 or method == "lora", "the accuracies that were compared are not all 0"


# What is written -----------------------------------------------------------------------------------------------------


def test_adapter_loads_in_plain_peft_and_here_alike(base, tmp_path):
    out = fit(questions(8), config(learning_rate=1e-2), base=base, out=tmp_path / "a", device="cpu")
    ours = ch.CellHermes.from_pretrained(out, device="cpu")
    assert ours.card.adapters == (str(out),)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), out)
    ids = ours._encoder.prompts([Prompt("Gene CD4")])[0].ids
    with torch.no_grad():
        states = theirs(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
        plain = theirs.get_base_model().model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    np.testing.assert_allclose(ours.embed(["Gene CD4"])[0], states.numpy(), atol=1e-4)
    untuned = ch.CellHermes.from_pretrained(base, device="cpu").embed(["Gene CD4"])[0]
    assert np.abs(untuned - states.numpy()).max() > 1e-3
    assert plain.shape == states.shape


def test_all_weights_load_in_plain_transformers(base, tmp_path):
    out = fit(questions(8), config(method="full"), base=base, out=tmp_path / "a", device="cpu")
    assert AutoModelForCausalLM.from_pretrained(out).num_parameters() > 1000
    assert len(AutoTokenizer.from_pretrained(out)) > 300
    assert not list(out.rglob("*.bin")), "neither pickled weights nor pickled arguments"


def test_record_says_what_was_learned_from_what(base, tmp_path):
    pairs = {"a": questions(30, task="a"), "b": questions(10, task="b")}
    out = fit(
        pairs, config(max_steps=0, n_epochs=1), base=base, out=tmp_path / "a", device="cpu",
        weights={"a": 1, "b": 1}, caps={"a": 20}, evaluation=questions(4),
    )  # fmt: skip
    record = json.loads((out / "training.json").read_text())
    assert record["run"]["config"] == config(max_steps=0, n_epochs=1).to_dict()
    assert record["data"]["train"]["sources"] == {"a": 20, "b": 10}
    assert record["data"]["train"]["in an epoch"] == {"a": 15, "b": 15}
    assert set(record["run"]["pairs"]["a"]) == {"sha256"}
    assert record["results"]["steps"] == math.ceil(30 / 8)
    assert record["results"]["tokens"] == log_of(out)[-1]["tokens"]
    assert set(record["versions"]) >= {"cellhermes", "torch", "transformers", "peft"}
    assert not (out / "tokens").exists()
    assert (out / "README.md").is_file()


def test_learning_rate_follows_the_cosine(base, tmp_path):
    for warmup in (0, 4):
        learn = config(max_steps=10, learning_rate=0.5e-3, warmup_ratio=warmup / 10)
        out = fit(questions(8), learn, base=base, out=tmp_path / str(warmup), device="cpu")
        found = [line["learning_rate"] for line in log_of(out) if "loss" in line]
        falling = [0.5 * (1 + math.cos(math.pi * step / (10 - warmup))) for step in range(10 - warmup)]
        expected = [*(step / 4 for step in range(warmup)), *falling]
        assert found == pytest.approx([0.5e-3 * share for share in expected], abs=1e-9)


def test_logged_loss_is_the_mean_over_the_tokens_of_a_step(base, tmp_path):
    """Examples of unequal length weigh by their answers' tokens, not by the batch they came in."""
    long = QAPair(Prompt("Gene"), " ".join(WORDS * 3), "demo")
    pairs = [*questions(7), long]
    out = fit(pairs, config(max_steps=1, learning_rate=0.0), base=base, out=tmp_path / "a", device="cpu")
    model = ch.CellHermes.from_pretrained(base, device="cpu")
    nll = -sum(float(model.score([pair.prompt], [pair.answer])[0, 0]) for pair in pairs)
    n = sum(len(model._encoder.answer(pair.answer)) for pair in pairs)
    assert log_of(out)[0]["loss"] == pytest.approx(nll / n, rel=1e-5)


def test_caller_keeps_its_random_state(base, tmp_path):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = states()
    fit(questions(8), config(dropout=0.1), base=base, out=tmp_path / "a", device="cpu")
    assert states() == before


def test_same_seed_same_weights_and_another_seed_others(base, tmp_path):
    runs = {"a": 0, "b": 0, "c": 1}
    for name, seed in runs.items():
        torch.rand(1), random.random()  # what was drawn before does not matter
        fit(questions(20), config(seed=seed, dropout=0.2), base=base, out=tmp_path / name, device="cpu")
    weights = {name: (tmp_path / name / "adapter_model.safetensors").read_bytes() for name in runs}
    assert weights["a"] == weights["b"]
    assert weights["a"] != weights["c"]


def test_gradient_checkpointing_changes_nothing(base, tmp_path):
    for name, on in {"a": False, "b": True}.items():
        fit(questions(8), config(gradient_checkpointing=on), base=base, out=tmp_path / name, device="cpu")
    losses = [[line["loss"] for line in log_of(tmp_path / name)] for name in "ab"]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_bfloat16_on_a_cpu_learns(base, tmp_path):
    out = fit(questions(8), config(dtype="bfloat16"), base=base, out=tmp_path / "a", device="cpu")
    assert all(math.isfinite(line["loss"]) for line in log_of(out))


def test_sampled_words_and_a_slower_table_learn_too(base, tmp_path):
    """The table moves by its own share of the learning rate; the loss falls with a tenth of the words."""
    pairs = questions(20)
    learn = config(
        method="full",
        learning_rate=3e-3,
        max_steps=60,
        sampled_softmax=32,
        embedding_lr_factor=0.1,
        schedule="constant",
    )
    out = fit(pairs, learn, base=base, out=tmp_path / "a", device="cpu", evaluation=pairs)
    evaluated = [line["eval_loss"] for line in log_of(out) if "eval_loss" in line]
    assert evaluated[-1] < evaluated[0] / 3
    first = learn.replace(max_steps=1, sampled_softmax=0)
    fit(pairs, first, base=base, out=tmp_path / "slow", device="cpu")
    fit(pairs, first.replace(embedding_lr_factor=1.0), base=base, out=tmp_path / "fast", device="cpu")
    before = load_file(base / "model.safetensors")
    moved = {
        (name, key): (load_file(tmp_path / name / "model.safetensors")[key] - before[key]).abs().max().item()
        for name in ("slow", "fast")
        for key in ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight")
    }
    table, layer = "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"
    assert moved["slow", table] == pytest.approx(moved["fast", table] / 10, rel=1e-2)
    assert moved["slow", layer] == pytest.approx(moved["fast", layer], rel=1e-4)


def test_streams_are_read_as_they_come(base, tmp_path):
    class Endless:
        def __iter__(self):
            while True:
                yield from questions(30)

    out = fit(Endless(), config(max_steps=3, packing=True, max_tokens=64), base=base, out=tmp_path / "a", device="cpu")
    assert [line["step"] for line in log_of(out)] == [1, 2, 3]
    with pytest.raises(ValueError, match="A stream has no length: set max_steps"):
        fit(iter(questions(3)), config(max_steps=0), base=base, out=tmp_path / "b", device="cpu")


def test_a_stream_that_ends_says_so(base, tmp_path, caplog):
    """Every pair is read, the last step with what is left; the loss of each step is that of its pairs."""
    pairs = [QAPair(pair.prompt, "Yes", "demo") for pair in questions(30)]  # so steps weigh by their number of pairs
    learn = config(max_steps=20, learning_rate=0.0)
    out = fit(iter(pairs), learn, base=base, out=tmp_path / "a", device="cpu")
    assert "The pairs ended after 4 of 20 steps" in caplog.text
    model = ch.CellHermes.from_pretrained(base, device="cpu")
    nll = -sum(float(model.score([pair.prompt], [pair.answer])[0, 0]) for pair in pairs)
    n = len(model._encoder.answer("Yes"))
    found = [line["loss"] for line in log_of(out)]
    assert sum(loss * size * n for loss, size in zip(found, [8, 8, 8, 6], strict=True)) == pytest.approx(nll, rel=1e-4)


def test_a_stream_goes_on_where_it_was_interrupted(base, tmp_path, monkeypatch):
    learn = config(max_steps=9, packing=True, max_tokens=64)
    whole = fit(iter(questions(400)), learn, base=base, out=tmp_path / "a", device="cpu")
    plain = HermesTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise OSError("power cut")
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(HermesTrainer, "training_step", interrupted)
    with pytest.raises(OSError, match="power cut"):
        fit(iter(questions(400)), learn, base=base, out=tmp_path / "b", device="cpu")
    monkeypatch.setattr(HermesTrainer, "training_step", plain)
    resumed = fit(iter(questions(400)), learn, base=base, out=tmp_path / "b", device="cpu")
    assert [line["loss"] for line in log_of(resumed)] == pytest.approx(
        [line["loss"] for line in log_of(whole)], abs=1e-6
    )


def test_an_adapter_on_an_adapter(base, tmp_path):
    """The second adapter is trained on the merged model, and loading it merges both in order."""
    first = fit(questions(8), config(learning_rate=1e-2), base=base, out=tmp_path / "a", device="cpu")
    second = fit(questions(8, shuffled=True), config(learning_rate=1e-2), base=first, out=tmp_path / "b", device="cpu")
    model = ch.CellHermes.from_pretrained(second, device="cpu")
    assert model.card.adapters == (str(first), str(second))
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), first).merge_and_unload()
    both = PeftModel.from_pretrained(merged, second)
    ids = model._encoder.prompts([Prompt("Gene CD4")])[0].ids
    with torch.no_grad():
        states = both(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
    np.testing.assert_allclose(model.embed(["Gene CD4"])[0], states.numpy(), atol=1e-4)


def test_best_weights_are_kept_and_training_stops_early(base, tmp_path):
    """Held-out answers that contradict the training pairs get worse with every step."""
    learn = config(
        method="full", learning_rate=3e-3, max_steps=60, eval_every=5, save_every=5, keep_best=True, patience=2,
        schedule="constant",
    )  # fmt: skip
    out = fit(
        questions(40), learn, base=base, out=tmp_path / "a", device="cpu", evaluation=questions(40, shuffled=True)
    )
    evaluated = {line["step"]: line["eval_loss"] for line in log_of(out) if "eval_loss" in line}
    best = min(evaluated, key=evaluated.get)
    record = json.loads((out / "training.json").read_text())["results"]
    assert record["weights_of_step"] == best < 60
    assert max(evaluated) == best + 2 * 5
    model = ch.CellHermes.from_pretrained(out, device="cpu")
    pairs = questions(40, shuffled=True)
    nll = -sum(float(model.score([pair.prompt], [pair.answer])[0, 0]) for pair in pairs)
    n = sum(len(model._encoder.answer(pair.answer)) for pair in pairs)
    assert nll / n == pytest.approx(evaluated[best], rel=1e-4)


# What is refused -----------------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_run_again(base, tmp_path):
    out = fit(questions(8), config(), base=base, out=tmp_path / "a", device="cpu")
    before = (out / "adapter_model.safetensors").stat().st_mtime_ns
    assert fit(questions(8), config(), base=base, out=out, device="cpu") == out
    assert (out / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_another_run_in_the_same_folder_is_refused_and_leaves_it_alone(base, tmp_path):
    out = fit(questions(8), config(), base=base, out=tmp_path / "a", device="cpu")
    (out / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="differs in config, config.rank"):
        fit(questions(8), config(rank=4), base=base, out=out, device="cpu")
    with pytest.raises(FileExistsError, match="differs in pairs"):
        fit(questions(9), config(), base=base, out=out, device="cpu")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    fit(questions(8), config(rank=4), base=base, out=out, device="cpu", overwrite=True)
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 4
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"pairs": []}, ValueError, "There is no pair to train on"),
        ({"pairs": 3}, TypeError, "pairs are a int"),
        ({"weights": {"b": 1}}, ValueError, r"expected numbers of at least 0 for the sources \['pairs'\]"),
        ({"caps": {"pairs": -1}}, ValueError, "expected whole numbers of at least 0"),
        ({"config": TrainConfig(patience=1)}, ValueError, "patience and keep_best need held-out pairs"),
        ({"config": TrainConfig(quantize="4bit")}, ValueError, "quantize='4bit' needs bitsandbytes and a CUDA device"),
        ({"base": "nothing"}, ValueError, "No model 'nothing'"),
        ({"wrap": "llama4"}, KeyError, "llama4"),
        ({"config": TrainConfig(max_tokens=9), "wrap": "llama3-chat"}, ValueError, "stand around every question"),
    ],
)
def test_bad_input_is_refused_before_training(base, tmp_path, arguments, error, match, monkeypatch):
    if "quantize" in match:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = {"pairs": questions(8), "config": config(), "base": base, **arguments}
    with pytest.raises(error, match=match):
        fit(arguments.pop("pairs"), arguments.pop("config"), out=tmp_path / "a", device="cpu", **arguments)
    assert not (tmp_path / "a" / "log.jsonl").exists()


def test_pairs_that_lose_their_answers_are_an_error(base, tmp_path):
    lost = [QAPair(Prompt("gene " * 400 + "is"), "a", "demo")]
    with pytest.raises(ValueError, match="no room for any of the answer in 30 tokens': 1"):
        fit(lost, config(max_tokens=30), base=base, out=tmp_path / "a", device="cpu")


def test_a_base_without_chat_tokens_takes_plain_turns(base, tmp_path, tokenizer):
    lm = AutoModelForCausalLM.from_pretrained(base)
    lm.save_pretrained(tmp_path / "plain")
    plain = AutoTokenizer.from_pretrained(base)
    raw = json.loads(plain.backend_tokenizer.to_str())
    raw["added_tokens"] = [t for t in raw["added_tokens"] if "header" not in t["content"]]
    raw["model"]["vocab"] = {k: v for k, v in raw["model"]["vocab"].items() if "header" not in k}
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer.from_str(json.dumps(raw))
    PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|eot_id|>").save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match="Pass wrap='plain' for a model without chat turns"):
        fit(questions(8), config(), base=tmp_path / "plain", out=tmp_path / "a", device="cpu", wrap="llama3-chat")
    out = fit(questions(8), config(), base=tmp_path / "plain", out=tmp_path / "b", device="cpu")
    assert ch.CellHermes.from_pretrained(out, device="cpu").wrap == "plain"
    PreTrainedTokenizerFast(tokenizer_object=bare).save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match="no end token"):
        fit(questions(8), config(), base=tmp_path / "plain", out=tmp_path / "c", device="cpu")


def test_a_vocabulary_larger_than_the_model_is_an_error(base, tmp_path, tokenizer):
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(tmp_path / "m")
    larger = AutoTokenizer.from_pretrained(base)
    larger.add_tokens([f"new{i}" for i in range(50)])
    larger.save_pretrained(tmp_path / "m")
    with pytest.raises(ValueError, match="they do not belong together"):
        fit(questions(8), config(), base=tmp_path / "m", out=tmp_path / "a", device="cpu")


def test_a_loss_that_is_not_finite_stops_training(base, tmp_path):
    wild = config(method="full", learning_rate=1e30, max_grad_norm=1e30, max_steps=20, schedule="constant")
    with pytest.raises(FloatingPointError, match="Lower learning_rate"):
        fit(questions(20), wild, base=base, out=tmp_path / "a", device="cpu")
