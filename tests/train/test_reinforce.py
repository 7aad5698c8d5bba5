"""Reinforcement: what is wrong is said before anything is loaded; what is rewarded becomes likelier; runs go on."""

import importlib.util
import json
import signal
import sys
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import cellhermes as ch
from cellhermes.text import Question
from cellhermes.text._reason import reason_prompt
from cellhermes.train import ReinforceConfig, TrainConfig, _checkpoints, _run_file, reinforce, run

FRAME = pd.DataFrame({"gene": [f"CD{i}" for i in range(40)], "cell_line": "K562", "answer": [1, 0] * 20})
TRAIN = TrainConfig.preset("reinforce", max_steps=4, batch_size=4, accumulation=2, learning_rate=1e-2, save_every=2)
CONFIG = ReinforceConfig(train=TRAIN, max_new_tokens=6, group_size=4)
needs_trl = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs cellhermes[rl]")


# Checks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 1}, "group_size is 1; expected a whole number of at least 2"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": 0}, "temperature is 0; expected a number above 0"),
        ({"beta": -0.1}, "beta is -0.1; expected a number of at least 0"),
        (
            {"train": TRAIN.replace(batch_size=3, accumulation=3)},
            r"batch_size \* accumulation is 3 \* 3; expected a multiple of",
        ),
        ({"train": {"rank": 4}}, "expected a TrainConfig"),
        ({"format_reward": -1}, "format_reward is -1"),
        ({"class_weights": {"Yes": "x"}}, "class weight of 'Yes' is 'x'"),
        ({"compat": "paper"}, "compat is 'paper'; expected one of"),
    ],
)
def test_a_config_out_of_range_is_an_error(changes, message):
    with pytest.raises(ValueError, match=message):
        ReinforceConfig(**changes)


def test_a_config_is_its_dict_again():
    config = ReinforceConfig(train=TRAIN.replace(report_to=["wandb"]), class_weights={"Yes": 2.0}, group_size=4)
    assert ReinforceConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.replace(train=TRAIN.replace(rank=4)) != config
    assert ReinforceConfig().train == TrainConfig(n_epochs=1, learning_rate=1e-5, save_every=50)
    assert ReinforceConfig.from_dict({"train": {"rank": 4}}) == ReinforceConfig(
        train=ReinforceConfig().train.replace(rank=4)
    )
    with pytest.raises(ValueError, match=r"unknown fields \['grop_size'\]"):
        ReinforceConfig.from_dict({"grop_size": 4})
    with pytest.raises(ValueError, match=r"unknown fields \['rank'\].* rank belong into its table `train`"):
        ReinforceConfig.from_dict({"rank": 4})


def test_what_reinforcement_has_no_use_for_is_refused():
    """Every field of the config of training is read, or refused where it is set."""
    read = {
        "rank", "alpha", "dropout", "learning_rate", "schedule", "warmup_ratio", "weight_decay", "adam_betas",
        "max_grad_norm", "n_epochs", "max_steps", "batch_size", "accumulation", "dtype", "attention",
        "gradient_checkpointing", "save_every", "keep", "log_every", "report_to", "seed",
    }  # fmt: skip
    others = {
        "method": "full", "quantize": "4bit", "embedding_lr_factor": 0.5, "max_tokens": 99, "loss_on": "all",
        "sampled_softmax": 9, "temperature": 0.5, "packing": True, "group_by_length": False, "liger": True,
        "eval_every": 25, "patience": 1, "keep_best": True,
    }  # fmt: skip
    assert read | set(others) == {one.name for one in fields(TrainConfig)}
    for name, value in others.items():
        more = {"embedding_lr_factor": {"method": "full"}}.get(name, {})
        train = TrainConfig.preset("reinforce", eval_every=25).replace(**{name: value}, **more)
        with pytest.raises(ValueError, match=rf"{name}={value!r}.* which reinforcement has no use for"):
            ReinforceConfig(train=train)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda f: f.drop(columns="gene"), {}, KeyError, "needs the column 'gene'"),
        (lambda f: f.drop(columns="answer"), {}, KeyError, "needs the column 'answer'"),
        (lambda f: f.assign(answer="Maybe"), {}, ValueError, r"no answers of task 'cell_fitness', such as \['Maybe'\]"),
        (lambda f: f.assign(split="test"), {}, ValueError, "no row has split='train'"),
        (lambda f: f, {"task": "question"}, ValueError, "Task 'question' has no answers"),
        (
            lambda f: f,
            {"config": CONFIG.replace(class_weights={"yes": 2.0})},
            ValueError,
            r"class_weights has \['yes'\]",
        ),
        (lambda f: f, {"config": CONFIG.replace(max_new_tokens=1000)}, ValueError, "40 of 40 questions are too long"),
        (
            lambda f: f,
            {"config": CONFIG.replace(train=TRAIN.replace(accumulation=400))},
            ValueError,
            "questions .*, and there are 40",
        ),
        (lambda f: f, {"base": "minni"}, ValueError, "No model 'minni'"),
    ],
)
@needs_trl
def test_what_is_wrong_is_said_before_weights_are_read(monkeypatch, tmp_path, change, options, error, message):
    from cellhermes.train import _tunable

    monkeypatch.setattr(_tunable, "load_weights", None)
    arguments = {"task": "cell_fitness", "config": CONFIG, "out": tmp_path / "a", "device": "cpu"} | options
    with pytest.raises(error, match=message):
        reinforce(change(FRAME), **arguments)


def test_without_trl_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(ImportError, match=r"needs trl: pip install 'cellhermes\[rl\]'"):
        reinforce(FRAME, "cell_fitness", out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch):
    seen = {}

    def fake(frame, **options):
        seen.update(frame=frame, **options)
        return options["out"]

    monkeypatch.setattr(_run_file, "reinforce", fake)
    return seen


def write(folder, text):
    (folder / "run.toml").write_text(text)
    return folder / "run.toml"


def test_every_key_of_a_file_reaches_reinforce(tmp_path, called):
    FRAME.replace({"gene": {"CD0": "NA"}}).to_csv(tmp_path / "questions.csv")
    path = write(
        tmp_path,
        """
        out = "adapter"
        device = "cpu"
        wrap = "plain"
        [reinforce]
        group_size = 4
        class_weights = { Yes = 2.0 }
        compat = "release"
        [reinforce.train]
        rank = 4
        [questions]
        path = "questions.csv"
        task = "cell_fitness"
        answers = ["Yes", "No", "Unknown"]
        expression = false
        part = "train"
        n_wordings = 2
        """,
    )
    assert run(path, overwrite=True) == tmp_path / "adapter"
    assert called.pop("frame")["gene"].tolist() == ["NA", *FRAME["gene"][1:]]
    assert called == {
        "config": ReinforceConfig(
            train=TrainConfig.preset("reinforce", rank=4), group_size=4, class_weights={"Yes": 2.0}, compat="release"
        ),
        "task": Question("cell_fitness", answers=["Yes", "No", "Unknown"], expression=False), "part": "train",
        "n_wordings": 2, "wrap": "plain", "device": "cpu", "out": tmp_path / "adapter", "base": "mini",
        "overwrite": True,
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["tsv", "parquet", "h5ad"])
def test_tables_of_questions(tmp_path, called, adata, ending):
    adata.obs["cell_sentence"] = "CD3E IL7R"
    path = tmp_path / f"questions.{ending}"
    {
        "tsv": lambda: adata.obs.to_csv(path, sep="\t"),
        "parquet": lambda: adata.obs.to_parquet(path),
        "h5ad": lambda: adata.write_h5ad(path),
    }[ending]()
    (tmp_path / "mine.toml").write_text(
        'version = 1\nunit = "cell"\nsource = "x"\ninstructions = ["Is it {cell_sentence}?"]\nanswers = ["Yes", "No"]\n'
    )
    run(write(tmp_path, f'out = "a"\n[questions]\npath = "questions.{ending}"\ntask = "mine.toml"\n'))
    assert called["frame"]["cell_sentence"].tolist() == ["CD3E IL7R"] * adata.n_obs
    assert called["task"] == Question(tmp_path / "mine.toml")
    assert called["config"] == ReinforceConfig()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[reinforce]\ngroup_size = 4\n", ValueError, r"\[questions\] of .* has no path"),
        ('[questions]\npath = "q.csv"\n', ValueError, r"\[questions\] of .* has no task"),
        ('[questions]\npath = "q.csv"\ntask = "x"\n', FileNotFoundError, "q.csv is not a file"),
        ('[questions]\npath = "q.txt"\ntask = "x"\n', ValueError, "ends with '.txt'; expected one of .csv"),
        ('[questions]\npath = "q.csv"\ntask = "x"\nexpression = 1\n', ValueError, "expected true or false"),
        ('[questions]\npath = "q.csv"\ntask = "x"\nwording = 1\n', ValueError, r"unknown keys \['wording'\]"),
        ("[train]\nrank = 4\n[reinforce]\ngroup_size = 4\n", ValueError, r"unknown keys \['train'\]"),
        ("[reinforce]\ngroup_size = 3\n", ValueError, "expected a multiple of group_size"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, called, text, error, message):
    with pytest.raises(error, match=message):
        run(write(tmp_path, 'out = "a"\n' + text))
    assert not called


def test_cells_that_cannot_be_read_are_named(tmp_path, called):
    (tmp_path / "q.h5ad").write_bytes(b"half")
    with pytest.raises(OSError, match="q.h5ad can't be read as AnnData"):
        run(write(tmp_path, 'out = "a"\n[questions]\npath = "q.h5ad"\ntask = "t_cell_reactivity"\n'))
    assert not called


# Runs -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory, tokenizer, write_tiny):
    """A tiny model whose context holds the question."""
    return write_tiny(tmp_path_factory.mktemp("base"), tokenizer, "llama", max_position_embeddings=1024)


@pytest.fixture
def share_of_e(monkeypatch):
    """A reward that random weights can earn: the share of e among the letters."""
    from cellhermes.train import _reinforce_trainer

    def reward(texts, truths, task, **_):
        share = np.array([text.count("e") / max(len(text), 1) for text in texts])
        return pd.DataFrame({"format": share, "correctness": np.zeros(len(texts))})

    monkeypatch.setattr(_reinforce_trainer, "reason_reward", reward)


def lines(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@needs_trl
@pytest.mark.slow
def test_what_is_rewarded_becomes_likelier(base, share_of_e, tmp_path):
    train = TRAIN.replace(max_steps=30, batch_size=8, schedule="constant", save_every=30)
    config = CONFIG.replace(train=train, max_new_tokens=10, group_size=8)
    out = reinforce(FRAME, "cell_fitness", config, base=base, out=tmp_path / "a", device="cpu")
    results = json.loads((out / "training.json").read_text())["results"]
    assert results["end"]["reward"] > results["start"]["reward"] + 0.15
    log = ch.get.training_log(out)
    assert results["end"]["reward"] == pytest.approx(log["reward"].iloc[-3:].mean())
    np.testing.assert_allclose(log["reward"], log["reward/format"] + log["reward/correctness"], atol=1e-6)
    # and the adapter that is left writes what the log promises
    asked = [reason_prompt(prompt) for prompt in ch.text.Task.load("cell_fitness").prompts(FRAME[:8])]
    wrote = [
        "".join(ch.CellHermes.from_pretrained(name, device="cpu").generate(asked, max_new_tokens=10, temperature=1))
        for name in (base, out)
    ]
    share = [text.count("e") / len(text) for text in wrote]
    assert share[1] > share[0] + 0.2


@needs_trl
@pytest.mark.slow
@pytest.mark.parametrize(("beta", "n_questions"), [(0.0, len(FRAME)), (0.1, len(FRAME)), (0.0, 4)])
def test_a_resumed_run_is_the_uninterrupted_run(base, share_of_e, tmp_path, monkeypatch, beta, n_questions):
    """Also where it goes on in its second epoch (4 questions are two steps)."""
    from cellhermes.train._reinforce_trainer import ReasonTrainer

    config, frame = CONFIG.replace(beta=beta, train=TRAIN.replace(dropout=0.1)), FRAME[:n_questions]
    torch.random.manual_seed(5)
    state = torch.get_rng_state()
    reference = reinforce(frame, "cell_fitness", config, base=base, out=tmp_path / "a", device="cpu")
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are as before"
    plain = ReasonTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 2 and not self.stop.received:
            signal.raise_signal(signal.SIGTERM)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(ReasonTrainer, "training_step", interrupted)
    with pytest.raises(SystemExit):
        reinforce(frame, "cell_fitness", config, base=base, out=tmp_path / "b", device="cpu")
    assert _checkpoints.latest(tmp_path / "b" / "checkpoints").name == "checkpoint-3"
    monkeypatch.setattr(ReasonTrainer, "training_step", plain)
    torch.random.manual_seed(6)
    out = reinforce(frame, "cell_fitness", config, base=base, out=tmp_path / "b", device="cpu")
    for found, expected in zip(lines(out), lines(reference), strict=True):
        del found["seconds"], expected["seconds"]
        assert found == pytest.approx(expected, abs=1e-6)
    assert ("kl" in found) == (beta > 0)
    weights, expected = (load_file(folder / "adapter_model.safetensors") for folder in (out, reference))
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0)


@needs_trl
@pytest.mark.slow
def test_the_model_is_asked_as_everywhere_and_a_folder_keeps_its_run(base, share_of_e, tmp_path, monkeypatch):
    from cellhermes.train._reinforce_trainer import ReasonTrainer

    seen, plain = [], ReasonTrainer._generate_single_turn

    def generate(self, prompt_ids, *args, **kwargs):
        seen.extend(map(tuple, prompt_ids))
        return plain(self, prompt_ids, *args, **kwargs)

    monkeypatch.setattr(ReasonTrainer, "_generate_single_turn", generate)
    config = CONFIG.replace(train=TRAIN.replace(max_steps=1))
    other = config.replace(train=TRAIN.replace(max_steps=1, rank=4))
    out = reinforce(FRAME, "cell_fitness", config, base=base, out=tmp_path / "a", device="cpu")
    assert len(seen) == 8
    assert len(set(seen)) == 2, "two groups of four"
    encoder = ch.CellHermes.from_pretrained(base, device="cpu")._encoder
    pairs = ch.train.questions.task_pairs(FRAME, "cell_fitness")
    assert set(seen) <= {tuple(one.ids) for one in encoder.prompts([reason_prompt(pair.prompt) for pair in pairs])}

    before = (out / "adapter_model.safetensors").read_bytes()
    reinforce(FRAME, "cell_fitness", config, base=base, out=out, device="cpu")  # finished: nothing happens
    assert len(seen) == 8
    with pytest.raises(FileExistsError, match=r"differs in config, config\.train\.rank"):
        reinforce(FRAME, "cell_fitness", other, base=base, out=out, device="cpu")
    with pytest.raises(FileExistsError, match="differs in pairs"):
        reinforce(FRAME[::-1], "cell_fitness", config, base=base, out=out, device="cpu")
    with pytest.raises(FileExistsError, match="differs in"):
        ch.train.fit(pairs, TrainConfig(max_steps=1), base=base, out=out, device="cpu")
    assert (out / "adapter_model.safetensors").read_bytes() == before
    assert not list(out.rglob("training_args.bin")), "nothing that has to be unpickled"
    reinforce(FRAME, "cell_fitness", other, base=base, out=out, device="cpu", overwrite=True)
    assert len(seen) == 16


@needs_trl
@pytest.mark.slow
def test_mini_shows_the_plumbing_and_says_so(adata, tmp_path):
    """Rationales, then rewards, then an explanation; too few steps to learn anything from."""
    adata = adata[:8].copy()
    ch.pp.cell_sentences(adata, n_genes=4)
    frame = adata.obs.assign(answer=["Reactive", "Non-Reactive"] * 4)
    frame["reason"] = [f"It has {sentence.split()[0]}." for sentence in frame["cell_sentence"]]
    pairs = ch.train.questions.task_pairs(frame, "t_cell_reactivity", reasons="reason")
    taught = ch.train.fit(pairs, TrainConfig(max_steps=1), out=tmp_path / "taught", device="cpu")
    config = CONFIG.replace(train=TRAIN.replace(max_steps=2, accumulation=1), class_weights={"Reactive": 2.0})
    with pytest.warns(UserWarning, match="too small to reason"):
        out = reinforce(frame, "t_cell_reactivity", config, base=taught, out=tmp_path / "out", device="cpu")
    log = ch.get.training_log(out)
    assert len(log) == 2
    assert log[["reward", "reward/format", "reward/correctness"]].notna().all(axis=None)
    assert "says nothing about cells" in (out / "README.md").read_text()
    model = ch.CellHermes.from_pretrained(out, device="cpu")
    assert model.card.adapters == (str(taught), str(out))
    question = ch.text.Question("t_cell_reactivity", max_new_tokens=4)
    ch.tl.explain(adata, model, question)
    with pytest.warns(UserWarning, match="never learnt to give reasons"):
        ch.tl.reasons(adata, model, question, cells=1, reason_first=True)
    assert len(ch.get.explain(adata, "reasons")) == 1
