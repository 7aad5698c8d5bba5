"""The benchmark of planted genes measures what it says, on a model whose answer the gene does decide."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "planted_signal.py"
GENE = "CXCL13"


@pytest.fixture(scope="module")
def planted():
    spec = importlib.util.spec_from_file_location("planted_signal", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def decides(prompts, answers, gene):
    """Log-probabilities of a model that answers by one gene, and a little by how many there are."""
    words = [prompt.text.rpartition(": ")[2].split() for prompt in prompts]
    p = np.array([0.05 + 0.85 * (gene in one) + 0.001 * len(one) for one in words])
    return np.log(np.stack([p, 1 - p], 1)).astype(np.float32)


def test_every_other_cell_has_the_gene_and_nothing_else_tells_them_apart(planted):
    adata = planted.cells(GENE, n_train=40, n_test=10, n_genes=8)
    has = np.array([GENE in sentence.split() for sentence in adata.obs["cell_sentence"]])
    assert (has == (adata.obs["answer"] == "Reactive")).all()
    assert has.sum() == 25
    assert adata.obs["split"].value_counts().to_dict() == {"train": 40, "test": 10}
    places = [sentence.split().index(GENE) for sentence in adata.obs["cell_sentence"][has]]
    assert len({*places}) > 3
    assert {len(sentence.split()) for sentence in adata.obs["cell_sentence"]} == {8}


@pytest.mark.parametrize("is_decided", [True, False])
def test_rates_are_those_of_a_model_that_is_known(planted, tiny, monkeypatch, is_decided):
    gene = GENE if is_decided else "another gene"  # then the model always says Non-Reactive
    monkeypatch.setattr(type(tiny), "score", lambda _, prompts, answers, **__: decides(prompts, answers, gene))
    rates = planted.rates(planted.cells(GENE, n_train=4, n_test=12, n_genes=6), tiny, GENE)
    assert rates["accuracy"] == (1.0 if is_decided else 0.5)
    if not is_decided:
        assert rates["cells"] == 0
        return
    assert rates["cells"] == 6
    assert rates["occlusion, first"] == rates["answer changes"] == 1
    assert rates["other gene"] == 0
    assert rates["by chance, first"] == pytest.approx(1 / 6)
    assert rates["attention, first"] <= rates["best head, first"]
    assert rates["attention, top 10"] == 1  # there are six genes


@pytest.mark.slow
def test_occlusion_finds_the_gene_that_decides(planted, tmp_path):
    adata = planted.cells(GENE)
    rates = planted.rates(adata, planted.tuned(adata, tmp_path / "tuned", n_steps=300, rate=1e-3), GENE)
    assert rates["accuracy"] > 0.95
    assert rates["occlusion, first"] >= 0.9
    assert rates["answer changes"] >= 0.9
    assert rates["other gene"] <= 0.1
