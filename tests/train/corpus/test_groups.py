"""Groups of prompts: what they say is near, what they say comes first, and what training makes of it."""

import json

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
import torch
from transformers import AutoModelForCausalLM

import cellhermes as ch
from cellhermes.text import Prompt, QAPair
from cellhermes.train import TrainConfig, _loss, fit
from cellhermes.train._epochs import group_tensors
from cellhermes.train.corpus import Groups, answer_groups, cell_groups, gene_groups
from cellhermes.train.corpus._groups import Group

PAIRS = [QAPair(Prompt(f"Gene {i} is"), f"answer {i % 3}", "demo") for i in range(40)]


@pytest.fixture
def graph():
    plain = nx.gnm_random_graph(30, 80, seed=2)
    return nx.relabel_nodes(plain, {i: f"G{i}" for i in plain})


@pytest.fixture(scope="module")
def cells():
    adata = ch.datasets.toy(n_obs=120)
    ch.pp.cell_sentences(adata, n_genes=300)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32) + 0.5
    return adata


def symbols_of(group):
    return [prompt.text.rsplit(" ", 1)[1] for prompt in group.prompts]


# What groups say -----------------------------------------------------------------------------------------------------


def slow_partners(graph, gene):
    """Share of each partner: one over the root of its degree."""
    shares = {other: graph.degree[other] ** -0.5 for other in graph[gene]}
    return {other: share / sum(shares.values()) for other, share in shares.items()}


def test_genes_are_near_their_partners_and_name_them(graph):
    groups = gene_groups(graph, n_edges=6, n_genes=4)
    for number in range(5):
        group = groups[number]
        genes = symbols_of(group)
        assert len(set(genes)) == len(genes) <= 16
        for i, gene in enumerate(genes):
            partners = slow_partners(graph, gene)
            named = dict(zip(groups.words, group.first.toarray()[i], strict=True))
            assert {g: s for g, s in named.items() if s} == pytest.approx(partners)
            here = {g: partners.get(g, 0) for g in genes}
            total = sum(here.values())
            expected = [here[g] / total if total else 0 for g in genes]
            assert group.near[i] == pytest.approx(expected, abs=1e-6)


def test_several_graphs_share_a_gene_s_partners(graph):
    other = pd.DataFrame({"a": ["G0", "G0", "NEW"], "b": ["G1", "NEW", "G2"]})
    groups = gene_groups({"one": graph, "two": other}, shares={"one": 3, "two": 1}, n_edges=40, n_genes=30)
    table = nx.from_pandas_edgelist(other, "a", "b")
    group = groups[0]
    rows = dict(zip(symbols_of(group), group.first.toarray(), strict=True))
    mixed = {}
    for part, share in ((slow_partners(graph, "G0"), 0.75), (slow_partners(table, "G0"), 0.25)):
        for gene, value in part.items():
            mixed[gene] = mixed.get(gene, 0) + share * value
    assert {g: s for g, s in zip(groups.words, rows["G0"], strict=True) if s} == pytest.approx(mixed)
    found = {g: s for g, s in zip(groups.words, rows["NEW"], strict=True) if s}
    assert found == pytest.approx(slow_partners(table, "NEW")), "a gene of one graph has all its partners there"


def test_cells_are_as_near_as_the_representation_says(cells):
    rep = cells.obsm["X_pca"]
    unit = rep / np.linalg.norm(rep, axis=1, keepdims=True)
    sentences = [s.split() for s in cells.obs["cell_sentence"]]
    rows = {}
    groups = cell_groups(cells, n_cells=10, n_genes=40, temperature=0.3)
    for number in range(12):
        group = groups[number]
        shown = [prompt.text.split(": ")[1].split() for prompt in group.prompts]
        # which cell it is: the only one whose sentence has these genes in this order
        ids = [next(i for i, s in enumerate(sentences) if [g for g in s if g in set(view)] == view) for view in shown]
        logits = unit[ids] @ unit[ids].T / 0.3
        expected = np.exp(logits)
        np.fill_diagonal(expected, 0)
        np.testing.assert_allclose(group.near, expected / expected.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)
        assert all(5 <= len(view) <= 40 for view in shown)
        rows |= dict(zip(ids, group.first.toarray(), strict=True))
    x = cells.to_df()[list(groups.words)].to_numpy()
    design = np.column_stack([np.ones(len(x)), rep])
    fitted = design @ np.linalg.lstsq(design, x, rcond=None)[0] - x.mean(0)
    wanted = np.maximum(fitted / (x.std(0) + 0.1), 0)
    for i, row in rows.items():
        np.testing.assert_allclose(row, wanted[i] / wanted[i].sum(), atol=2e-5)


def test_panels_hide_the_same_genes_from_all_cells_of_a_group(cells):
    groups = cell_groups(cells, n_cells=20, n_genes=300, panel=(0.3, 0.3))
    sizes = []
    for number in range(30):
        shown = set().union(*(prompt.text.split(": ")[1].split() for prompt in groups[number].prompts))
        sizes.append(len(shown) / len(groups.words))
    assert min(sizes) < 0.45, "some groups see a panel"
    assert max(sizes) > 0.6, "and some see all genes"


def test_cells_whose_sentences_are_of_raw_are_read_from_raw(cells):
    whole = cells.copy()
    ch.pp.cell_sentences(whole, n_genes=300)
    cut = cells.copy()
    cut.raw = cut
    cut = cut[:, ::3].copy()
    sc.pp.scale(cut, zero_center=False)
    ch.pp.cell_sentences(cut, n_genes=300, use_raw=True)
    expected, group = (cell_groups(adata, n_cells=8, n_genes=40)[0] for adata in (whole, cut))
    assert [prompt.text for prompt in group.prompts] == [prompt.text for prompt in expected.prompts]
    for name in ("near", "first"):
        values, wanted = (sp.csr_array(getattr(one, name)).toarray() for one in (group, expected))
        np.testing.assert_allclose(values, wanted, atol=1e-6)


def test_cells_of_a_group_come_from_one_data_set(cells):
    one, other = cells[:60].copy(), cells[60:].copy()
    other.obs["cell_sentence"] = ["ZZZ1 ZZZ2 ZZZ3 ZZZ4 ZZZ5 ZZZ6"] * 60
    groups = cell_groups([one, other], n_cells=8)
    kinds = [{"ZZZ1" in prompt.text for prompt in groups[i].prompts} for i in range(20)]
    assert all(len(kind) == 1 for kind in kinds)
    assert {True} in kinds
    assert {False} in kinds


def test_a_gene_in_a_cell_names_partners_that_the_cell_expresses(cells):
    ppi = ch.datasets.ppi("toy")
    plain, boosted = (
        ch.train.corpus.gene_in_cell_groups(cells, ppi, expressed=factor, n_cells=6)[3] for factor in (1.0, 5.0)
    )
    words = ch.train.corpus.gene_in_cell_groups(cells, ppi).words
    sentences = [s.split() for s in cells.obs["cell_sentence"]]
    for i, prompt in enumerate(boosted.prompts):
        assert prompt.text == plain.prompts[i].text
        view = prompt.text.split(": ")[1].split(". In this cell")[0].split()
        own = next(s for s in sentences if [g for g in s if g in set(view)] == view)
        gene = prompt.text.rsplit(" ", 1)[1]
        before, after = plain.first.toarray()[i], boosted.first.toarray()[i]
        if gene in ppi:
            assert {w for w, s in zip(words, before, strict=True) if s} == set(ppi[gene])
        wanted = before * np.where(np.isin(words, own), 5.0, 1.0)
        np.testing.assert_allclose(after, wanted / max(wanted.sum(), 1e-9), atol=1e-6)


def test_answers_are_read_once_in_a_turn():
    groups = answer_groups(PAIRS, answers=("answer 0", "answer 1", "answer 2"), n_pairs=8)
    for turn in range(2):
        read = [prompt.text for i in range(5) for prompt in groups[5 * turn + i].prompts]
        assert sorted(read) == sorted(pair.prompt.text for pair in PAIRS)
    by_text = {pair.prompt.text: pair.answer for pair in PAIRS}
    group = groups[0]
    said = [groups.words[j] for j in group.first.toarray().argmax(1)]
    assert said == [by_text[prompt.text] for prompt in group.prompts]
    with pytest.raises(ValueError, match="has the answer 'answer 2'"):
        [answer_groups(PAIRS, answers=("answer 0", "answer 1"), n_pairs=8)[i] for i in range(5)]


def test_a_group_is_a_function_of_seed_and_number(graph, cells):
    for make in (
        lambda seed: gene_groups(graph, n_edges=3, n_genes=2, seed=seed),
        lambda seed: cell_groups(cells, seed=seed),
        lambda seed: ch.train.corpus.gene_in_cell_groups(cells, graph, seed=seed),
    ):
        a, b, c = make(1), make(1), make(2)
        texts = [[prompt.text for prompt in groups[7].prompts] for groups in (a, b, c)]
        assert texts[0] == texts[1] != texts[2]
        assert a.fingerprint() == b.fingerprint() != c.fingerprint()


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda _, g: gene_groups({"a": g}, shares={"b": 1}), ValueError, "for each of the graphs"),
        (lambda _, g: gene_groups(g, n_edges=0), ValueError, "n_edges=0"),
        (lambda _, g: gene_groups(g, near_weight=-1), ValueError, "near_weight is -1"),
        (lambda a, _: cell_groups(a, use_rep="X_umap"), KeyError, "X_umap.*not found"),
        (lambda a, _: cell_groups(a, n_genes=5), ValueError, "n_genes=5"),
        (lambda a, _: cell_groups(a, panel=(0.5, 0.1)), ValueError, "panel"),
        (lambda a, _: cell_groups(a[:1].copy()), ValueError, "1 cell"),
        (lambda _, __: Group([Prompt("a")], np.zeros((1, 1))), ValueError, "group of 1"),
        (lambda _, __: Group([Prompt("a"), Prompt("b")], np.ones((2, 2))), ValueError, "sum to 2"),
        (lambda _, __: Group([Prompt("a"), Prompt("b")], np.ones((2, 3))), ValueError, "shape"),
        (lambda _, g: gene_groups(g)[-1], IndexError, "group -1"),
    ],
)
def test_what_makes_no_groups_is_refused(cells, graph, make, error, says):
    with pytest.raises(error, match=says):
        make(cells, graph)


def test_counts_are_refused():
    adata = ch.datasets.toy(n_obs=30)
    ch.pp.cell_sentences(adata)
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match="looks like counts"):
        cell_groups(adata, layer="counts")


# What training makes of them -----------------------------------------------------------------------------------------


@pytest.fixture
def base(folders):
    return folders("llama")


def test_the_losses_are_those_written_out(base):
    hermes = ch.CellHermes.from_pretrained(base, device="cpu")
    words = ("CD4", "CD8A", "Yes", "No")
    near = np.array([[0, 0.25, 0.75], [1, 0, 0], [0, 0, 0]], np.float32)
    first = sp.csr_array(np.array([[0.5, 0.25, 0.25, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.float32))
    group = Group([Prompt("Gene CD4"), Prompt("Gene MALAT1 and more"), Prompt("x")], near, first)
    groups = Groups(lambda _: group, task="demo", words=words, near_weight=0.5, first_weight=2.0)
    lm = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager").eval().requires_grad_(False)
    encoder = hermes._encoder
    token_of = np.array([encoder.answer(word)[0] for word in words])
    found = _loss.of_group(lm, group_tensors(group, groups, encoder, token_of), temperature=0.2)

    vectors = hermes.embed(group.prompts).astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    divergence = []
    for i in (0, 1):  # of the third nothing is known
        others = [j for j in range(3) if j != i]
        p = np.exp(unit[i] @ unit[others].T / 0.2)
        p /= p.sum()
        q = near[i, others]
        divergence.append(sum(b * np.log(b / a) for a, b in zip(p, q, strict=True) if b))
    assert float(found["near"]) == pytest.approx(0.5 * np.mean(divergence), rel=1e-4)

    table = lm.get_output_embeddings().weight.detach().double().numpy()
    divergence = []
    for i in (0, 2):
        logits = vectors[i] @ table.T
        log_p = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        wanted = {}
        for token, share in zip(token_of.tolist(), first.toarray()[i], strict=True):
            wanted[token] = wanted.get(token, 0) + share  # words with the same first token
        divergence.append(sum(share * (np.log(share) - log_p[t]) for t, share in wanted.items() if share))
    assert float(found["first"]) == pytest.approx(2.0 * np.mean(divergence), rel=1e-4)


def config(**changes):
    return TrainConfig(
        **{"learning_rate": 2e-3, "max_steps": 8, "save_every": 4, "method": "full", "log_every": 1, **changes}
    )


def test_what_belongs_together_comes_to_lie_together(base, tmp_path):
    genes = [f"G{i}" for i in range(12)]
    pairs_of = nx.Graph([(a, b) for half in (genes[:6], genes[6:]) for a in half for b in half if a < b])
    groups = gene_groups(pairs_of, n_edges=12, n_genes=12, first_weight=0)
    prompts = [ch.text.Template.load("gene").fill(gene=gene) for gene in genes]
    same = np.arange(12)[:, None] // 6 == np.arange(12) // 6
    gap = []
    for folder in (base, fit(PAIRS, config(max_steps=80), base=base, out=tmp_path / "a", groups=groups, device="cpu")):
        vectors = ch.CellHermes.from_pretrained(folder, device="cpu").embed(prompts)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosine = unit @ unit.T
        gap.append(cosine[same].mean() - cosine[~same].mean())
    assert gap[1] > gap[0] + 0.3


def test_an_interrupted_run_reads_the_groups_that_come_next(base, tmp_path, graph):
    groups = {"genes": gene_groups(graph, n_edges=3, n_genes=2)}
    settings = config(accumulation=2, method="lora")
    whole = fit(PAIRS, settings, base=base, out=tmp_path / "whole", groups=groups, device="cpu")

    class Stop(Exception):  # noqa: N818
        pass

    class Breaks(Groups):
        def __getitem__(self, index):
            if index >= 11:  # in the sixth of eight steps, after the checkpoint of the fourth
                raise Stop
            return super().__getitem__(index)

    part = groups["genes"]
    broken = Breaks(
        part._make, task=part.task, words=part.words, near_weight=part.near_weight, first_weight=part.first_weight,
        about={k: v for k, v in part.about.items() if "weight" not in k},
    )  # fmt: skip
    with pytest.raises(Stop):
        fit(PAIRS, settings, base=base, out=tmp_path / "parts", groups={"genes": broken}, device="cpu")
    parts = fit(PAIRS, settings, base=base, out=tmp_path / "parts", groups=groups, device="cpu")
    logs = [[json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()] for out in (whole, parts)]
    assert [line["step"] for line in logs[1]] == list(range(1, 9))
    assert "loss/genes/near" in logs[0][0]
    for one, other in zip(*logs, strict=True):
        assert {k: v for k, v in other.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in one.items() if k != "seconds"}, abs=1e-5
        )


def test_accumulation_leaves_the_weight_of_groups_alone(base, tmp_path):
    """Two passes with the same group move the weights as one does."""
    group = Group([Prompt("Gene CD4"), Prompt("Gene CD8A"), Prompt("Gene NCAM1")], np.eye(3)[[1, 0, 0]])
    groups = Groups(lambda _: group, task="demo", about={"same": True})
    logs = []
    for accumulation, batch in ((1, 4), (2, 2)):
        out = tmp_path / str(accumulation)
        settings = config(accumulation=accumulation, batch_size=batch, max_steps=2, group_by_length=False)
        fit(PAIRS, settings, base=base, out=out, groups=groups, device="cpu")
        logs.append([json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()])
    for one, other in zip(*logs, strict=True):
        assert other["loss/demo/near"] == pytest.approx(one["loss/demo/near"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


def test_another_run_s_groups_are_another_run(base, tmp_path, graph):
    groups = gene_groups(graph, n_edges=3, n_genes=2)
    fit(PAIRS, config(max_steps=1), base=base, out=tmp_path / "a", groups=groups, device="cpu")
    for other in (None, gene_groups(graph, n_edges=3, n_genes=2, seed=1)):
        with pytest.raises(FileExistsError, match="differs in groups"):
            fit(PAIRS, config(max_steps=1), base=base, out=tmp_path / "a", groups=other, device="cpu")
    record = json.loads((tmp_path / "a" / "training.json").read_text())
    assert record["run"]["groups"]["genes"]["sha256"] == groups.fingerprint()


def test_groups_need_a_model_that_is_read_at_the_end(base, tmp_path, graph):
    with pytest.raises(TypeError, match=r"expected ch\.train\.corpus\.Groups"):
        fit(PAIRS, config(), base=base, out=tmp_path, groups=[1, 2], device="cpu")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in base.iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    (elsewhere / "cellhermes.json").write_text(json.dumps({"read_at": "mean"}))
    with pytest.raises(ValueError, match="'mean'.*prompt_end"):
        fit(PAIRS, config(), base=elsewhere, out=tmp_path / "out", groups=gene_groups(graph), device="cpu")


def test_a_folder_with_checkpoints_of_an_unknown_run_is_refused(base, tmp_path):
    out = tmp_path / "a"
    fit(PAIRS, config(max_steps=4), base=base, out=out, device="cpu")
    for name in ("training.json", "model.safetensors"):
        (out / name).unlink()
    with pytest.raises(FileExistsError, match="no record of a run"):
        fit(PAIRS, config(max_steps=4), base=base, out=out, device="cpu")


@pytest.mark.parametrize("n", [2, 3, 7])
def test_a_prompt_of_a_group_is_read_as_it_is_alone(base, n):
    hermes = ch.CellHermes.from_pretrained(base, device="cpu")
    prompts = [Prompt("Gene " + " ".join(["CD4"] * (i % 4 + 1))) for i in range(n)]
    lm = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager").eval().requires_grad_(False)
    groups = Groups(
        lambda _: Group(prompts, near=np.roll(np.eye(n, dtype=np.float32), 1, 0)), task="demo", words=("Yes",)
    )
    group = group_tensors(groups[0], groups, hermes._encoder, np.array([0]))
    states = _loss._states_at(lm, group["input_ids"], group["end"])
    np.testing.assert_allclose(states.numpy(), hermes.embed(prompts), atol=1e-5)


def test_gradients_reach_the_model_through_a_group(base, graph):
    hermes = ch.CellHermes.from_pretrained(base, device="cpu")
    groups = gene_groups(graph, n_edges=3, n_genes=0)
    lm = AutoModelForCausalLM.from_pretrained(base)
    token_of = np.array([hermes._encoder.answer(word)[0] for word in groups.words])
    parts = _loss.of_group(lm, group_tensors(groups[0], groups, hermes._encoder, token_of), temperature=0.1)
    for name in ("near", "first"):
        lm.zero_grad()
        parts[name].backward(retain_graph=True)
        assert all(torch.isfinite(p.grad).all() for p in lm.parameters() if p.grad is not None)
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in lm.get_decoder().parameters())
