"""Layers in eight and four bits are those of a model whose weights were rounded; compiled layers give the same."""

import importlib.util

import numpy as np
import pytest
import torch

import cellhermes as ch
from cellhermes.model import _quantize

PROMPTS = ["Gene CD4", "A cell with genes ranked by expression: CD4 MALAT1", "Is CD4 a T-cell gene?"]
WIDE = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}


@pytest.fixture(scope="module")
def wide(tmp_path_factory, tokenizer, write_tiny):
    """A model whose layers can be held in four bits."""
    return write_tiny(tmp_path_factory.mktemp("wide"), tokenizer, "qwen2", **WIDE)  # with biases


def load(folder, **options):
    if options.get("quantize") == "4bit":
        pytest.importorskip("bitsandbytes")
    return ch.CellHermes.from_pretrained(folder, device="cpu", **options)


def rounded_8(weight):
    """Whole numbers from -127 to 127, and the row's largest weight."""
    rows = []
    for row in weight.numpy():
        scale = np.abs(row).max() / 127
        rows.append([scale * round(float(value / scale)) for value in row])
    return torch.tensor(np.array(rows))


def rounded_4(weight):
    """The nearest of sixteen quantiles of a normal distribution, times the largest of 64 weights in a row.

    Scales are not rounded here, as NF4 with rounded scales does, so that what is compared may differ by a little.
    """
    from scipy.stats import norm

    low = norm.ppf(np.linspace(1 - 0.9677083, 0.5, 8))
    high = norm.ppf(np.linspace(0.5, 0.9677083, 9))
    levels = torch.tensor(np.concatenate([low / -low[0], high[1:] / high[-1]]), dtype=torch.float32)
    blocks = weight.reshape(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks[..., None] / largest[..., None] - levels).abs().argmin(-1)
    return (levels[nearest] * largest).reshape(weight.shape)


@pytest.mark.parametrize(
    ("quantize", "rounded", "tolerance"), [("8bit", rounded_8, 1e-4), ("4bit", rounded_4, 5e-2)], ids=["8bit", "4bit"]
)
def test_rounded_layers_are_layers_with_rounded_weights(wide, quantize, rounded, tolerance):
    found = load(wide, quantize=quantize)
    whole = load(wide)
    by_hand = load(wide)
    with torch.no_grad():
        for layer in by_hand._reader.lm.get_decoder().modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.copy_(rounded(layer.weight))
    vectors = [model.embed(PROMPTS) for model in (found, by_hand, whole)]
    far = np.linalg.norm(vectors[0] - vectors[2]) / np.linalg.norm(vectors[2])
    near = np.linalg.norm(vectors[0] - vectors[1]) / np.linalg.norm(vectors[2])
    assert near < tolerance
    assert near < far / 3, "rounding by hand explains what rounding changed"


@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_all_verbs_and_batches(wide, quantize):
    model = load(wide, quantize=quantize)
    assert (model.quantize, model.dtype) == (quantize, "float32")
    np.testing.assert_allclose(model.embed(PROMPTS, batch_size=1), model.embed(PROMPTS), rtol=1e-5, atol=1e-5)
    scores = model.score(PROMPTS, ["Yes", "No"])
    np.testing.assert_allclose(model.score(PROMPTS[::-1], ["Yes", "No"], batch_size=1)[::-1], scores, atol=1e-4)
    assert model.generate(PROMPTS, max_new_tokens=3) == model.generate(PROMPTS, max_new_tokens=3, batch_size=1)
    assert model.attend([ch.text.Template.load("cell").fill(genes=["CD4", "MALAT1"])])[0].genes == ("CD4", "MALAT1")


def test_adapters_are_merged_first(wide, add_adapter, tmp_path):
    adapter = add_adapter(wide, tmp_path / "adapter", 1)
    base, tuned, rounded = load(wide), load(adapter), load(adapter, quantize="8bit")
    vectors = [model.embed(PROMPTS) for model in (base, tuned, rounded)]
    assert np.linalg.norm(vectors[2] - vectors[1]) < 0.1 * np.linalg.norm(vectors[1] - vectors[0])


def test_results_say_it_and_do_not_mix(wide, tmp_path):
    adata = ch.datasets.toy(n_obs=20)
    ch.pp.cell_sentences(adata, n_genes=10)
    ch.tl.embed_cells(adata, load(wide, quantize="8bit"))
    assert adata.uns["X_cellhermes"]["params"]["quantize"] == "8bit"
    ch.tl.embed_cells(adata, load(wide, quantize="8bit"), out=tmp_path / "cells.zarr")
    with pytest.raises(ValueError, match="quantize"):
        ch.tl.embed_cells(adata, load(wide), out=tmp_path / "cells.zarr")


def test_four_bits_leave_narrow_layers(tiny, folders):
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ValueError, match="no linear layers that can be held in 4bit"):
        ch.CellHermes.from_pretrained(folders("llama"), device="cpu", quantize="4bit")
    assert tiny.quantize == ""


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"quantize": "2bit"}, ValueError, r"quantize='2bit' is not known; expected one of \('', '8bit', '4bit'\)"),
        ({"quantize": "4bit", "device": "mps"}, ValueError, "the device is 'mps'. Take quantize='8bit'"),
        ({"quantize": "4bit"}, ImportError, r"needs bitsandbytes: pip install 'cellhermes\[quantize\]'"),
    ],
)
def test_what_cannot_be_rounded_is_refused_before_weights_are_read(folders, monkeypatch, options, error, match):
    monkeypatch.setattr(_quantize, "find_spec", lambda name: None)
    monkeypatch.setattr("cellhermes.model._load.load_weights", None)
    with pytest.raises(error, match=match):
        ch.CellHermes.from_pretrained(folders("llama"), **{"device": "cpu", **options})


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch._inductor") is None, reason="no compiler of torch")
def test_compiled_layers_give_the_same(folders):
    plain = ch.CellHermes.from_pretrained(folders("llama"), device="cpu")
    compiled = ch.CellHermes.from_pretrained(folders("llama"), device="cpu", torch_compile=True)
    in_cell = ch.text.Template.load("gene_in_cell")
    behind = [in_cell.fill(genes=["CD4", "MALAT1", "CD40LG"] * 3, gene=gene) for gene in ("CD4", "CD40LG", "A")]
    for prompts in (PROMPTS, PROMPTS[:1], behind):
        np.testing.assert_allclose(compiled.embed(prompts), plain.embed(prompts), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        compiled.score(PROMPTS, ["Yes", "No"]), plain.score(PROMPTS, ["Yes", "No"]), rtol=1e-4, atol=1e-4
    )
    assert compiled.generate(PROMPTS, max_new_tokens=5) == plain.generate(PROMPTS, max_new_tokens=5)
    for one, other in zip(compiled.attend(behind), plain.attend(behind), strict=True):
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)
