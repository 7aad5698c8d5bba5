"""Families of models against their own forward pass: right, right without sharing, or refused."""

import importlib.util
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import cellhermes as ch
from cellhermes.model import _forward, _selfcheck

GENES = ["MALAT1", "CD4", "CD40", "CD40LG", "B2M", "HLA-DRB1", "IL7R", "GNLY", "NKG7", "LYZ"]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location(
        "model_families", Path(__file__).parents[2] / "tools" / "model_families.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch):
    monkeypatch.setattr(_selfcheck, "_known", {})


SHARED, ALONE = "right", "right, not shared"


@pytest.mark.parametrize(
    ("family", "prefix", "attend"),
    [
        ("granite", SHARED, "right"),  # scales its logits
        ("cohere2", SHARED, "right"),  # scales its logits; some layers without positions
        ("phi3", SHARED, "right"),
        ("nemotron", ALONE, "refused"),  # an attention of its own
        ("mixtral", SHARED, "right"),
        ("gemma4_unified_text", SHARED, "right"),  # sizes differ by layer
        ("gpt_oss", ALONE, "refused"),  # sinks of attention
        ("bloom", ALONE, "refused"),  # biases of distance
        ("mpt", ALONE, "refused"),
        ("falcon", ALONE, "refused"),
        ("jamba", ALONE, "right"),  # recurrent layers
        ("mamba", ALONE, "refused"),
        ("lfm2", ALONE, "right"),  # convolutions
        ("qwen3_5_text", ALONE, "right"),  # linear attention
        ("bert", "refused", "refused"),  # sees what follows
    ],
)
def test_a_family_gives_what_transformers_gives(tool, tmp_path, family, prefix, attend):
    tool.write_model(family, tmp_path)
    found = tool.compare(family, tmp_path)
    verbs = [prefix if family == "bert" else "right"] * 4
    assert [found[verb] for verb in tool.VERBS] == [verbs[0], prefix, *verbs[2:], attend]


@pytest.mark.slow
def test_no_family_is_wrong(tool):
    rows, not_made = tool.rows_of(tool.FAMILIES)
    assert [row for row in rows if "WRONG" in row.values()] == []
    assert len(not_made) < len(rows) / 3


def loaded(folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ch.CellHermes.from_pretrained(folder, device="cpu", **options)


@pytest.mark.parametrize("family", ["mamba", "lfm2", "bloom", "gpt_oss"])
def test_batches_change_nothing_where_nothing_is_shared(tool, tmp_path, family):
    tool.write_model(family, tmp_path)
    model = loaded(tmp_path, wrap="plain")
    prompts = [f"Genes {' '.join(GENES[:n])}" for n in (1, 9, 3, 7, 2)]
    alone = np.vstack([model.embed([prompt]) for prompt in prompts])
    np.testing.assert_allclose(model.embed(prompts), alone, rtol=0, atol=1e-5 * np.abs(alone).max())
    written = [model.generate([prompt], max_new_tokens=4)[0] for prompt in prompts]
    assert model.generate(prompts, max_new_tokens=4) == written


def test_what_is_slower_is_said_once(tool, tmp_path):
    tool.write_model("lfm2", tmp_path)
    with pytest.warns(UserWarning, match="is a Lfm2ForCausalLM, .* Results are right, and slower") as told:
        ch.CellHermes.from_pretrained(tmp_path, device="cpu", wrap="plain")
    assert len(told) == 1
    assert Path(told[0].filename) == Path(__file__)


def test_a_prefix_that_is_read_wrongly_is_not_shared(folders, monkeypatch):
    def forgets(self, module, query, key, value, *_, **options):
        del self
        return _forward._attention(module, query, key, value, None, **options)[0]

    expected = ch.CellHermes.from_pretrained(folders("llama"), device="cpu")
    monkeypatch.setattr(_forward.Prefix, "read", forgets)
    _selfcheck._known.clear()
    model = loaded(folders("llama"))
    assert not model._reader.able.shares
    prompts = [ch.text.Template.load("gene_in_cell").fill(genes=GENES, gene=gene) for gene in GENES]
    np.testing.assert_allclose(
        model.embed(prompts), np.vstack([expected.embed([p]) for p in prompts]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("what", ["logits", "hidden"])
def test_what_stays_wrong_is_refused_when_it_is_loaded(folders, monkeypatch, what):
    real = getattr(_forward, what)
    monkeypatch.setattr(_forward, what, lambda *arguments: 1.1 * real(*arguments))
    with pytest.raises(
        ValueError, match="LlamaForCausalLM, whose vectors or logits would not be those of transformers"
    ):
        ch.CellHermes.from_pretrained(folders("llama"), device="cpu")


def test_weights_are_compared_once_in_a_process(folders, monkeypatch):
    first = ch.CellHermes.from_pretrained(folders("llama"), device="cpu")
    monkeypatch.setattr(_selfcheck, "_compare", None)
    again = ch.CellHermes.from_pretrained(folders("llama"), device="cpu")
    assert again._reader.able is first._reader.able
    assert again._reader.config._attn_implementation == first._reader.config._attn_implementation == _forward.NAME
    with pytest.raises(TypeError, match="not callable"):
        ch.CellHermes.from_pretrained(folders("llama"), device="cpu", dtype="bfloat16")


def test_tuned_numbers_of_few_bits_are_compared_loosely(folders):
    for options in ({"dtype": "bfloat16"}, {"dtype": "float16"}, {"quantize": "8bit"}):
        model = ch.CellHermes.from_pretrained(folders("llama"), device="cpu", **options)
        assert model._reader.able == _selfcheck.Abilities("cellhermes", shares=True, caches=True, attends=True)


@pytest.mark.slow  # takes the time of a quiet machine
def test_bundled_model_is_checked_quickly(model):
    spent = []
    for _ in range(3):
        _selfcheck._known.clear()
        start = time.process_time()
        _selfcheck.abilities_of(model._reader.lm, model._encoder, "mini", "", model.sha256)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.3


@pytest.mark.parametrize(("n_more", "shares"), [(0, True), (1, False)])
def test_prefix_is_shared_up_to_the_window_and_not_beyond(tmp_path, tokenizer, write_tiny, n_more, shares, monkeypatch):
    """A prompt as long as the window is the longest of which each token still sees the first."""
    prompts = [ch.text.Template.load("gene_in_cell").fill(genes=GENES, gene=gene) for gene in ("CD4", "CD8")]
    wide = loaded(write_tiny(tmp_path / "wide", tokenizer, "mistral", sliding_window=250))
    lengths = {len(one.ids) for one in wide._encoder.prompts(prompts)}
    folder = write_tiny(tmp_path / "narrow", tokenizer, "mistral", sliding_window=max(lengths) - n_more)
    model = loaded(folder)
    calls = []
    monkeypatch.setattr(_forward, "read_prefix", lambda *a, f=_forward.read_prefix: calls.append(1) or f(*a))
    together = model.embed(prompts)
    assert bool(calls) == shares
    alone = np.vstack([model.embed([prompt]) for prompt in prompts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * np.abs(alone).max())
    assert (np.abs(together - wide.embed(prompts)).max() > 1e-3) == (not shares)  # the window counts beyond it only


def test_texts_end_where_frequencies_of_positions_change():
    from transformers import AutoConfig

    factors = {"short_factor": [1.0] * 6, "long_factor": [4.0] * 6}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 128, **factors}
    sizes = {"max_position_embeddings": 512, "hidden_size": 48, "num_attention_heads": 4, "pad_token_id": 0}
    config = AutoConfig.for_model("phi3", original_max_position_embeddings=128, rope_parameters=rope, **sizes)
    assert _forward.context(config) == 128


def test_texts_end_where_frequencies_of_some_layers_change():
    from transformers import AutoConfig

    long = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    rope = {"full_attention": long | {"original_max_position_embeddings": 96}, "sliding_attention": {"rope_theta": 1e4}}
    config = AutoConfig.for_model("olmo3", rope_parameters=rope, hidden_size=64, num_attention_heads=4)
    assert _forward.context(config) == 96


@pytest.mark.parametrize(
    ("family", "sizes", "expected"),
    [
        ("llama", {}, float("inf")),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 20}, float("inf")),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 20}, 20),
        ("cohere2_moe", {"sliding_window": 20, "sliding_window_pattern": 4}, 20),
        ("doge", {"keep_window_size": 20}, 20),
        ("inkling_text", {"sliding_window_size": 20}, 20),
        ("minimax_m3_vl_text", {"index_block_size": 20, "index_topk_blocks": 2}, 20),
        ("deepseek_v32", {"index_topk": 20}, 20),
        ("llama4_text", {"attention_chunk_size": 20}, 20),
    ],
)
def test_windows_are_known_by_any_name(family, sizes, expected):
    from transformers import AutoConfig

    assert _forward.window(AutoConfig.for_model(family, **sizes)) == expected


def test_two_threads_read_one_model(model):
    from concurrent.futures import ThreadPoolExecutor

    prompts = [ch.text.Template.load("gene_in_cell").fill(genes=GENES, gene=gene) for gene in GENES]
    expected = model.embed(prompts), model.score(prompts, ["Yes", "No"])
    with ThreadPoolExecutor(4) as pool:
        vectors = [pool.submit(model.embed, prompts) for _ in range(4)]
        scores = [pool.submit(model.score, prompts, ["Yes", "No"]) for _ in range(4)]
        assert all(np.array_equal(one.result(), expected[0]) for one in vectors)
        assert all(np.array_equal(one.result(), expected[1]) for one in scores)


def test_random_state_and_attention_are_left_as_they_were(folders):
    before = torch.get_rng_state()
    model = ch.CellHermes.from_pretrained(folders("llama"), device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert model._reader.lm.config._attn_implementation == _forward.NAME
