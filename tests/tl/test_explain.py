"""Importance of genes: as transformers attends, as the answer changes without each gene, and where it is stored."""

from itertools import pairwise

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mudata import MuData
from scipy import sparse
from transformers import AutoModelForCausalLM

import cellhermes as ch
from cellhermes._explained import top_of
from cellhermes.tl._importance import _spans, log_odds

TASK = "t_cell_reactivity"
ANSWERS = ["Reactive", "Non-Reactive"]


@pytest.fixture
def cells(adata):
    adata = adata[:8].copy()
    ch.pp.cell_sentences(adata, n_genes=6)
    return adata


@pytest.fixture(scope="module")
def eager(folders):
    return AutoModelForCausalLM.from_pretrained(folders("llama"), attn_implementation="eager").eval()


def slow(cells, tiny, eager, over):
    """(cells, heads) entropies and (heads, genes) weights of each cell, row by row, from offsets of the text."""
    prompts = ch.text.Task.load(TASK).prompts(cells.obs)
    entropies, weights = [], []
    for prompt, sentence in zip(prompts, cells.obs["cell_sentence"], strict=True):
        ids = tiny._encoder.prompts([prompt])[0].ids
        with torch.inference_mode():
            attention = eager(torch.tensor([ids]), output_attentions=True).attentions[-1][0].double().numpy()
        start = prompt.text.index(sentence)
        tokens = tiny._encoder._tokenizer.encode(prompt.text, add_special_tokens=False).offsets
        shift = len(tiny._encoder.head)
        of_gene = {}
        for gene in sentence.split():
            first = start + f" {sentence} ".index(f" {gene} ")
            of_gene[gene] = [shift + i for i, (a, b) in enumerate(tokens) if a < first + len(gene) and b > first]
        keys = sorted({j for at in of_gene.values() for j in at}) if over == "genes" else range(len(ids))
        rows = []
        for t in range(len(ids)):
            seen = [j for j in keys if j <= t]
            if len(seen) > 1:
                p = attention[:, t, seen] / attention[:, t, seen].sum(1, keepdims=True)
                rows.append(-(p * np.log(p)).sum(1) / np.log(len(seen)))
        entropies.append(np.mean(rows, axis=0))
        found = np.stack([attention[:, -1, at].sum(1) for at in of_gene.values()], axis=1)
        weights.append(found / found.sum(1, keepdims=True) if over == "genes" else found)
    return np.array(entropies), weights


@pytest.mark.parametrize("head", ["data", "cell", 2])
@pytest.mark.parametrize("over", ["genes", "all"])
def test_importance_equals_eager_attention_of_transformers(cells, tiny, eager, over, head):
    ch.tl.explain(cells, tiny, TASK, over=over, head=head)
    entropies, weights = slow(cells, tiny, eager, over)
    heads = {"data": np.full(8, entropies.mean(0).argmin()), "cell": entropies.argmin(1)}.get(head, np.full(8, head))
    assert cells.obsm["explain"]["head"].tolist() == heads.tolist()
    for i, sentence in enumerate(cells.obs["cell_sentence"]):
        genes = sentence.split()
        found = cells[i, genes].layers["explain"].toarray()[0]
        np.testing.assert_allclose(found, weights[i][heads[i]], atol=1e-5)
    np.testing.assert_allclose(cells.uns["explain"]["heads"]["entropy"], entropies.mean(0), rtol=1e-4)


def test_a_gene_does_not_get_the_weight_of_a_longer_name(cells, tiny, eager):
    cells.var_names = ["CD4", "CD40", "CD40LG", "MALAT1", *(f"G{i}" for i in range(4, cells.n_vars))]
    cells.obs["cell_sentence"] = "CD40LG CD4 MALAT1 CD40"
    ch.tl.explain(cells, tiny, TASK, head=1)
    _, weights = slow(cells, tiny, eager, "genes")
    found = cells[0, ["CD40LG", "CD4", "MALAT1", "CD40"]].layers["explain"].toarray()[0]
    np.testing.assert_allclose(found, weights[0][1], atol=1e-5)
    assert len(set(found.round(6))) == 4


def test_occlusion_is_the_log_odds_without_each_gene(cells, tiny):
    ch.tl.explain(cells, tiny, TASK, method="occlusion")
    for cell in cells.obs_names[:2]:
        genes = cells.obs["cell_sentence"][cell].split()
        less = [" ".join(other for other in genes if other != gene) for gene in genes]
        found = ch.tl.answer(pd.DataFrame({"cell_sentence": [" ".join(genes), *less]}), tiny, TASK)
        p = found[f"probability:{found['answer'].iloc[0]}"].to_numpy(float)
        odds = np.log(p / (1 - p))
        np.testing.assert_allclose(cells[cell, genes].layers["explain"].toarray()[0], odds[0] - odds[1:], atol=1e-4)
        assert cells.obs["explain_answer"][cell] == found["answer"].iloc[0]


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-30, 0), min_size=3, max_size=3), min_size=1, max_size=5))
def test_log_odds_are_those_of_the_probability(scores):
    scores = np.array(scores)
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    rest = p[:, 0] + p[:, 2]
    np.testing.assert_allclose(log_odds(scores, np.ones(len(scores), int)), np.log(p[:, 1] / rest), atol=1e-6)


def test_a_gene_that_the_question_names_twice_is_known_in_the_sentence():
    task = ch.text.Task.load("perturbation_deg")
    row = dict.fromkeys(task.fields, "CD4") | {"cell_sentence": "LTB CD4 IL7R"}
    prompt = task.prompts({name: [value] for name, value in row.items()}, expression=True)[0]
    start = prompt.text.index("LTB CD4 IL7R")
    assert _spans(prompt, ["LTB", "CD4", "IL7R"]) == {
        "LTB": (start, start + 3), "CD4": (start + 4, start + 7), "IL7R": (start + 8, start + 12),
    }  # fmt: skip


def test_recurrence_counts_top_genes_of_each_answer(cells, tiny):
    ch.tl.explain(cells, tiny, TASK)
    expected = {}
    for cell in cells.obs_names:
        rows = ch.get.importance(cells, cell)
        for i, (gene, value) in enumerate(zip(rows["gene"], rows["importance"], strict=True)):
            listed = expected.setdefault((rows["answer"].iloc[0], gene), [])
            listed.append((i < 2, value))
    table = ch.get.explain(cells, n_top=2)
    assert len(table) == len(expected)
    n_of = cells.obs["explain_answer"].value_counts()
    for row in table.itertuples():
        tops, values = zip(*expected[row.answer, row.gene], strict=True)
        assert (row.n_listed, row.n_top, row.n_cells) == (len(tops), sum(tops), n_of[row.answer])
        assert row.frequency == sum(tops) / n_of[row.answer]
        assert row.mean_importance == pytest.approx(np.mean(values), rel=1e-5)
    for _, rows in table.groupby("answer"):
        assert rows["frequency"].is_monotonic_decreasing


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-3, 9), max_size=6), min_size=1, max_size=4), st.integers(1, 4))
def test_top_entries_of_a_row_are_its_largest_positive_ones(rows, n):
    indptr = np.cumsum([0, *map(len, rows)])
    data = np.array([v for row in rows for v in row], float)
    indices = np.concatenate([np.arange(len(row)) for row in rows]).astype(int)
    found = top_of(sparse.csr_matrix((data, indices, indptr), shape=(len(rows), 6)), n)
    for start, stop in pairwise(indptr):
        mine = sorted(data[start:stop][found[start:stop]], reverse=True)
        assert mine == [v for v in sorted(data[start:stop], reverse=True)[:n] if v > 0]


def test_batches_blocks_and_interruptions_change_nothing(cells, tiny, tmp_path, monkeypatch):
    ch.tl.explain(cells, tiny, TASK, head="cell")
    whole = cells.layers["explain"].copy()
    monkeypatch.setattr("cellhermes.tl._importance.BLOCK", 3)
    attend, calls = type(tiny).attend, []

    def stops(self, prompts, **options):
        calls.append(len(prompts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return attend(self, prompts, **options)

    monkeypatch.setattr(type(tiny), "attend", stops)
    options = {"head": "cell", "checkpoint": tmp_path, "batch_size": 2, "key_added": "again"}
    with pytest.raises(KeyboardInterrupt):
        ch.tl.explain(cells, tiny, TASK, **options)
    assert "again" not in cells.layers
    ch.tl.explain(cells, tiny, TASK, **options)
    assert calls == [3, 3, 3, 2]
    assert abs(cells.layers["again"] - whole).max() < 1e-5
    with pytest.raises(ValueError, match="holds blocks of another run"):
        ch.tl.explain(cells, tiny, TASK, **options | {"over": "all"})


def test_with_many_cells_the_head_is_chosen_on_a_random_part(cells, tiny, eager, monkeypatch):
    monkeypatch.setattr("cellhermes.tl._importance.BLOCK", 3)
    ch.tl.explain(cells, tiny, TASK, rng=5)
    entropies, weights = slow(cells, tiny, eager, "genes")
    first = np.random.default_rng(5).permutation(8)[:3]
    head = entropies[first].mean(0).argmin()
    assert (cells.obsm["explain"]["head"] == head).all()
    for i, sentence in enumerate(cells.obs["cell_sentence"]):
        found = cells[i, sentence.split()].layers["explain"].toarray()[0]
        np.testing.assert_allclose(found, weights[i][head], atol=1e-5)


@pytest.mark.filterwarnings("ignore:1 of 8 cells have an empty sentence")
def test_some_cells_only_and_cells_without_genes(cells, tiny):
    cells.obs["cell_sentence"] = cells.obs["cell_sentence"].astype(object)
    cells.obs.loc[cells.obs_names[1], "cell_sentence"] = ""
    cells.obs.loc[cells.obs_names[2], "cell_sentence"] = "CD3E"
    ch.tl.explain(cells, tiny, TASK)
    assert np.diff(cells.layers["explain"].indptr).tolist() == [6, 0, 1, 6, 6, 6, 6, 6]
    assert cells[2, "CD3E"].layers["explain"].toarray().item() == 1
    assert cells.uns["explain"]["params"]["n_without_genes"] == 1
    wanted = [cells.obs_names[4], cells.obs_names[2]]
    ch.tl.explain(cells, tiny, TASK, method="occlusion", cells=wanted, key_added="occlusion")
    assert np.flatnonzero(cells.obs["occlusion_answer"].notna()).tolist() == [2, 4]
    assert cells[2, "CD3E"].layers["occlusion"].toarray().item() == 0
    ch.tl.explain(cells, tiny, TASK, cells=3, key_added="three")
    assert cells.obs["three_answer"].notna().sum() == 3
    with pytest.raises(KeyError, match=f"1 cells are not there, or have no genes, such as '{cells.obs_names[1]}'"):
        ch.tl.explain(cells, tiny, TASK, cells=[cells.obs_names[1]])


def test_results_survive_h5ad_and_zarr(cells, tiny, tmp_path):
    question = ch.text.Question(TASK, max_new_tokens=3)
    ch.tl.explain(cells, tiny, question)
    ch.tl.reasons(cells, tiny, question, cells=2)
    ch.tl.faithfulness(cells, tiny, TASK, steps=[1, 3], cells=3)
    cells.write_h5ad(tmp_path / "a.h5ad")
    cells.write_zarr(tmp_path / "a.zarr")
    for read in (ad.read_h5ad(tmp_path / "a.h5ad"), ad.read_zarr(tmp_path / "a.zarr")):
        pd.testing.assert_frame_equal(
            ch.get.importance(read), ch.get.importance(cells), check_dtype=False, check_index_type=False
        )
        tables = [(ch.get.explain, table) for table in ("recurrence", "heads", "reasons")]
        for reader, table in [*tables, (ch.get.faithfulness, "curves"), (ch.get.faithfulness, "quality")]:
            assert reader(read, table).astype(str).equals(reader(cells, table).astype(str))
        ch.tl.faithfulness(read, tiny, TASK, steps=[1], cells=2)


def test_a_modality_of_a_mudata_and_symbols_in_a_column(cells, tiny):
    ch.tl.explain(cells, tiny, TASK)
    other = cells.copy()
    other.var["symbol"], other.var_names = other.var_names, [f"g{i}" for i in range(other.n_vars)]
    other.uns["cell_sentence"]["params"]["gene_symbols"] = "symbol"
    for slot, key in (("layers", "explain"), ("obsm", "explain"), ("obs", "explain_answer"), ("uns", "explain")):
        del getattr(other, slot)[key]
    data = MuData({"rna": other})
    ch.tl.explain(data, tiny, TASK, mod="rna")
    assert abs(data["rna"].layers["explain"] - cells.layers["explain"]).max() < 1e-6
    assert ch.get.importance(data, mod="rna")["gene"].tolist() == ch.get.importance(cells)["gene"].tolist()


def test_a_layer_of_the_users_is_not_written_over(cells, tiny):
    cells.layers["explain"] = cells.X.copy()
    with pytest.raises(ValueError, match=r"layers\['explain'\] is there already.*key_added="):
        ch.tl.explain(cells, tiny, TASK)


@pytest.mark.parametrize(
    ("task", "options", "error", "message"),
    [
        (TASK, {"method": "gradient"}, ValueError, "method='gradient' is not known"),
        (TASK, {"head": "best"}, ValueError, "head='best' is not known"),
        (ch.text.Question(TASK, fields={"cell_sentence": "none"}), {}, KeyError, "ch.pp.cell_sentences"),
        (TASK, {"cells": "c1"}, TypeError, "single string 'c1'"),
        ("cell_type", {}, ValueError, "lists its answers, and has none yet. Pass answers="),
        ("gene_set_disease", {}, ValueError, "no place for the genes of a cell"),
    ],
)
def test_what_is_missing_is_said_before_a_model_is_loaded(cells, task, options, error, message):
    with pytest.raises(error, match=message):
        ch.tl.explain(cells, "no such model", task, **options)


def test_a_sentence_with_genes_that_are_not_in_var_is_refused(cells, tiny):
    with pytest.raises(
        ValueError, match="genes of the sentences are not in adata.var, such as .*cell_sentences. again"
    ):
        ch.tl.explain(cells[:, :3].copy(), tiny, TASK)


def test_genes_of_raw_have_the_importance_of_those_of_the_object(cells, tiny, tmp_path):
    cells.raw = cells
    cut = cells[:, ::9].copy()
    cut.X = cut.X.toarray() - 1
    ch.pp.cell_sentences(cut, n_genes=6, use_raw=True)
    for adata in (cells, cut):
        ch.tl.explain(adata, tiny, TASK)
        ch.tl.faithfulness(adata, tiny, TASK, steps=[1, 3], cells=3)
    assert "explain" not in cut.layers
    assert abs(cut.obsm["explain_raw"] - cells.layers["explain"]).max() < 1e-6
    cut.write_h5ad(tmp_path / "a.h5ad")
    for adata in (cut, ad.read_h5ad(tmp_path / "a.h5ad")):
        pd.testing.assert_frame_equal(ch.get.importance(adata), ch.get.importance(cells), check_index_type=False)
        pd.testing.assert_frame_equal(ch.get.explain(adata), ch.get.explain(cells))
    pd.testing.assert_frame_equal(ch.get.faithfulness(cut), ch.get.faithfulness(cells))
    some = cut[2:5].copy()
    assert {*ch.get.importance(some)["cell"]} == {*some.obs_names}
    cut.raw = cells[:, :20].copy()
    with pytest.raises(ValueError, match="another raw than that which was explained"):
        ch.get.importance(cut)


def test_an_explanation_takes_the_place_of_one_of_other_genes(cells, tiny):
    cells.raw = cells
    cut = cells[:, [gene in " ".join(cells.obs["cell_sentence"]).split() for gene in cells.var_names]].copy()
    ch.tl.explain(cut, tiny, TASK)
    expected = ch.get.importance(cut)
    ch.pp.cell_sentences(cut, n_genes=6, use_raw=True)
    ch.tl.explain(cut, tiny, TASK)
    assert ("explain" in cut.layers, "explain_raw" in cut.obsm) == (False, True)
    pd.testing.assert_frame_equal(ch.get.importance(cut), expected)


def test_a_head_that_is_not_there(cells, tiny):
    with pytest.raises(ValueError, match="head=9; the last layer of .* has the heads 0 to 3"):
        ch.tl.explain(cells, tiny, TASK, head=9)
