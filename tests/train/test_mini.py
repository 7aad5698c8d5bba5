"""LoRA on the bundled model works as on a large one: a pretraining adapter, and a task adapter on top of it."""

from collections import Counter

import numpy as np
import pytest
import scanpy as sc

import cellhermes as ch
from cellhermes.text import QAPair
from cellhermes.train import TrainConfig, fit
from cellhermes.train.corpus import ar_pairs, link_pairs, mixture, mlm_pairs, node_pairs

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(
    learning_rate=2e-3, batch_size=8, accumulation=1, max_tokens=256, sampled_softmax=2000, eval_every=50,
    save_every=50, log_every=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def cells():
    """Real cells, which the bundled model has not seen."""
    adata = sc.datasets.pbmc68k_reduced()
    ch.pp.cell_sentences(adata, n_genes=60, use_raw=True)
    return adata


@pytest.fixture(scope="module")
def pretrained(cells, tmp_path_factory):
    """An adapter of the four objectives."""
    ppi = ch.datasets.ppi("toy")
    parts = [mlm_pairs(cells), ar_pairs(cells, n_prefix=(5, 30)), node_pairs(ppi), link_pairs(ppi)]
    pairs = mixture(parts, dict.fromkeys([part.task for part in parts], 150))
    out = tmp_path_factory.mktemp("mini") / "pretrained"
    return fit(pairs[60:], CONFIG.replace(max_steps=100), out=out, evaluation=list(pairs[:60]), device="cpu")


def test_a_pretraining_adapter_is_a_tiny_file_that_helps(pretrained):
    log = ch.get.training_log(pretrained)
    held_out = log["eval_loss"].dropna()
    assert held_out.iloc[-1] < held_out.iloc[0]
    size = (pretrained / "adapter_model.safetensors").stat().st_size
    assert size < 1_000_000
    adapted, base = (ch.CellHermes.from_pretrained(name, device="cpu") for name in (pretrained, "mini"))
    assert adapted.card.adapters == (str(pretrained),)
    assert not np.allclose(adapted.embed(["Gene CD3E"]), base.embed(["Gene CD3E"]), atol=1e-3)


def test_a_task_adapter_on_top_of_it_learns_its_task(cells, pretrained, tmp_path):
    base = ch.train.merge("mini", pretrained, tmp_path / "merged")
    labels = cells.obs["bulk_labels"].astype(str).str.replace("/", " ")
    answers = sorted(set(labels))
    template = ch.text.Template.load("cell")
    asked = [
        QAPair(template.fill(genes=sentence.split()), label, "cell_type")
        for sentence, label in zip(cells.obs["cell_sentence"], labels, strict=True)
    ]
    order = np.random.default_rng(0).permutation(len(asked))
    train, test = ([asked[i] for i in part] for part in (order[:500], order[500:]))
    out = fit(train, CONFIG.replace(max_steps=150, sampled_softmax=0), base=base, out=tmp_path / "task", device="cpu")
    right = []
    for name in (base, out):
        scores = ch.CellHermes.from_pretrained(name, device="cpu").score([pair.prompt for pair in test], answers)
        right.append(np.mean([answers[i] == pair.answer for i, pair in zip(scores.argmax(1), test, strict=True)]))
    majority = Counter(pair.answer for pair in train).most_common(1)[0][0]
    baseline = np.mean([pair.answer == majority for pair in test])
    assert right[1] > max(right[0], baseline) + 0.1  # three standard errors of 200 cells
