"""Deletion, insertion and agreement: against a slow count, and on a model whose answer one gene decides."""

import copy

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellhermes as ch
from cellhermes.tl._faithfulness import STRATUM, orders_of, overlap

TASK = "t_cell_reactivity"
STEPS = [1, 3]


@pytest.fixture
def cells(adata):
    adata = adata[:6].copy()
    ch.pp.cell_sentences(adata, n_genes=12)
    return adata


@pytest.fixture
def planted(cells, tiny, monkeypatch):
    """Six cells of which four have the gene KEY, without which the answer is another; what is asked, is kept."""
    cells.var_names = ["KEY", *cells.var_names[1:]]
    sentences = [[*s.split()[:11]] for s in cells.obs["cell_sentence"]]
    for i in range(4):
        sentences[i].insert(2 * i, "KEY")
    cells.obs["cell_sentence"] = [" ".join(dict.fromkeys(s)) for s in sentences]
    asked = []

    def score(self, prompts, answers, **_):
        words = [set(prompt.text.split(": ")[1].split()) for prompt in prompts]
        asked.extend(prompt.text.split(": ")[1] for prompt in prompts)
        p = np.array([0.05 + 0.85 * ("KEY" in one) + 0.001 * len(one) for one in words])
        return np.log(np.stack([p, 1 - p], 1)).astype(np.float32)

    monkeypatch.setattr(type(tiny), "score", score)
    cells.uns["asked"] = asked
    return cells


def test_occlusion_finds_the_gene_that_decides_and_deleting_it_changes_the_answer(planted, tiny):
    ch.tl.explain(planted, tiny, TASK, method="occlusion")
    found = ch.get.importance(planted, n_top=1)
    assert found["gene"].tolist()[:4] == ["KEY"] * 4
    assert found["answer"].tolist() == ["Reactive"] * 4 + ["Non-Reactive"] * 2
    ch.tl.faithfulness(planted, tiny, TASK, steps=STEPS, cells=None)
    curves = ch.get.faithfulness(planted).set_index(["test", "order", "answer", "k"])
    assert curves.loc[("deletion", "importance", "Reactive", 0), "kept"] == 1
    assert curves.loc[("deletion", "importance", "Reactive", 1), "kept"] == 0
    assert curves.loc[("insertion", "importance", "Reactive", 1), "kept"] == 1
    assert curves.loc[("deletion", "importance", "Reactive", 1), "probability"] == pytest.approx(0.05 + 0.011, abs=1e-3)
    table = ch.get.faithfulness(planted, "quality").set_index(["test", "against", "answer"])
    assert table.loc[("deletion", "equal rank", "Reactive"), "gain"] > 0.3


def test_curves_and_table_are_means_of_what_was_asked(planted, tiny):
    ch.tl.explain(planted, tiny, TASK, head=0)
    ch.tl.faithfulness(planted, tiny, TASK, steps=STEPS, cells=None, rng=3)
    rng = np.random.default_rng(3)
    expected = {}
    for cell in planted.obs_names:
        genes = planted.obs["cell_sentence"][cell].split()
        values = planted[cell, genes].layers["explain"].toarray()[0]
        answer = planted.obs["explain_answer"][cell]
        orders = dict(zip(("importance", "equal rank", "any rank"), orders_of(values, rng), strict=True))
        for name, order in orders.items():
            for k in STEPS:
                top = {genes[i] for i in np.argsort(-order, kind="stable")[:k]}
                for test in ("deletion", "insertion"):
                    left = [gene for gene in genes if (gene in top) == (test == "insertion")]
                    p = 0.05 + 0.85 * ("KEY" in left) + 0.001 * len(left)
                    p = p if answer == "Reactive" else 1 - p
                    expected.setdefault((test, name, k), []).append((p, p > 0.5))
    curves = ch.get.faithfulness(planted)
    for row in curves[(curves["answer"] == "") & (curves["k"] > 0)].itertuples():
        p, kept = np.array(expected[row.test, row.order, row.k]).T
        assert row.probability == pytest.approx(p.mean(), abs=1e-5)
        assert row.error == pytest.approx(pd.Series(p).sem(), abs=1e-5)
        assert (row.kept, row.n_cells) == (kept.mean(), 6)
    table = ch.get.faithfulness(planted, "quality").set_index(["test", "against", "answer"])
    for test, sign in (("deletion", -1), ("insertion", 1)):
        mean = {name: np.mean([[p for p, _ in expected[test, name, k]] for k in STEPS], axis=0) for name in orders}
        row = table.loc[(test, "equal rank", "")]
        gain = sign * (mean["importance"] - mean["equal rank"])
        assert row["value"] == pytest.approx(mean["importance"].mean(), abs=1e-5)
        assert row["expected"] == pytest.approx(mean["equal rank"].mean(), abs=1e-5)
        assert row["gain"] == pytest.approx(gain.mean(), abs=1e-5)
        assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * pd.Series(gain).sem(), rel=1e-3)


def test_cells_that_are_asked_for_are_asked_about(planted, tiny):
    ch.tl.explain(planted, tiny, TASK, method="occlusion")
    planted.uns["asked"].clear()
    chosen = planted.obs_names[[2, 5]]
    ch.tl.faithfulness(planted, tiny, TASK, steps=STEPS, cells=list(chosen))
    sentences = [set(planted.obs["cell_sentence"][cell].split()) for cell in chosen]
    asked = [set(words.split()) for words in planted.uns["asked"]]
    assert all(any(words <= sentence for sentence in sentences) for words in asked)
    assert all(sentence in asked for sentence in sentences)
    curves = ch.get.faithfulness(planted).set_index(["test", "order", "answer", "k"])
    assert curves.loc[("deletion", "importance", "Reactive", 1), ["kept", "n_cells"]].tolist() == [0, 1]


def test_nothing_is_asked_twice_and_a_cell_keeps_a_gene(planted, tiny):
    ch.tl.explain(planted, tiny, TASK, head=0)
    asked = planted.uns["asked"]
    asked.clear()
    ch.tl.faithfulness(planted, tiny, TASK, steps=[1, 50], cells=None)
    assert all(asked)
    reduced = asked[6:]
    assert len(set(reduced)) == len(reduced)
    assert len(reduced) < 6 * 12


@settings(deadline=None)
@given(st.integers(1, 35), st.integers(0, 10))
def test_controls_have_the_same_importances_and_equal_rank_keeps_them_near(n, seed):
    values = np.random.default_rng(seed).permutation(n).astype(float)
    before = values.copy()
    own, near, far = orders_of(values, np.random.default_rng(seed))
    np.testing.assert_array_equal(own, before)
    for start in range(0, n, STRATUM):
        assert sorted(near[start : start + STRATUM]) == sorted(values[start : start + STRATUM])
    assert sorted(far) == sorted(values)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 25), st.integers(0, 5), st.integers(1, 8))
def test_expected_overlap_is_the_mean_over_many_shuffles(n, seed, n_top):
    rng = np.random.default_rng(seed)
    values, genes = rng.permutation(n) + 1.0, [f"G{i}" for i in range(n)]
    other = {gene for gene in genes if rng.random() < 0.4}
    found, expected = overlap(genes, values, other, n_top)
    top = {genes[i] for i in np.argsort(-values)[:n_top]}
    assert found == pytest.approx(len(top & other) / len(top))
    drawn = [overlap(genes, orders_of(values, rng)[1], other, n_top)[0] for _ in range(300)]
    assert expected == pytest.approx(np.mean(drawn), abs=0.12)


def test_agreement_with_reasons_markers_and_another_explanation(planted, tiny, monkeypatch):
    monkeypatch.setattr(type(tiny), "generate", lambda self, prompts, **_: ["because of KEY"] * len(prompts))
    ch.tl.explain(planted, tiny, TASK, method="occlusion", key_added="occlusion")
    ch.tl.reasons(planted, tiny, TASK, key="occlusion")
    ch.tl.explain(planted, tiny, TASK, head=0)
    ch.tl.faithfulness(
        planted, tiny, TASK, key="occlusion", n_top=1, others=["explain"], markers={"Reactive": ["KEY", "NO"]}
    )
    table = ch.get.faithfulness(planted, "quality", key="occlusion").set_index(["test", "against", "answer"])
    assert table.loc[("agreement", "reasons", "Reactive"), ["n_cells", "value"]].tolist() == [4, 1]
    assert table.loc[("agreement", "markers", ""), ["n_cells", "value"]].tolist() == [4, 1]
    assert 0 < table.loc[("agreement", "markers", "Reactive"), "expected"] < 1
    tops = [ch.get.importance(planted, n_top=1, key=key)["gene"] for key in ("occlusion", "explain")]
    positive = ch.get.importance(planted, n_top=1, key="occlusion")["importance"] > 0
    assert table.loc[("agreement", "explain", ""), "value"] == ((tops[0] == tops[1]) & positive).mean()


def test_markers_of_scanpy(planted, tiny):
    import scanpy as sc

    ch.tl.explain(planted, tiny, TASK, method="occlusion")
    planted.X = np.random.default_rng(0).random(planted.shape)
    planted.X[:4, 0] += 5
    sc.tl.rank_genes_groups(planted, "explain_answer")
    ch.tl.faithfulness(planted, tiny, TASK, steps=STEPS, n_top=1, markers="rank_genes_groups")
    table = ch.get.faithfulness(planted, "quality").set_index(["test", "against", "answer"])
    assert table.loc[("agreement", "markers", "Reactive"), "value"] == 1

    planted.var["symbol"] = planted.var_names  # markers have the names of var_names, sentences have symbols
    planted.var_names = [f"gene {i}" for i in range(planted.n_vars)]
    planted.uns["cell_sentence"]["params"]["gene_symbols"] = "symbol"
    planted.uns["explain"]["params"]["gene_symbols"] = "symbol"
    sc.tl.rank_genes_groups(planted, "explain_answer")
    ch.tl.faithfulness(planted, tiny, TASK, steps=STEPS, n_top=1, markers="rank_genes_groups")
    pd.testing.assert_frame_equal(
        ch.get.faithfulness(planted, "quality").set_index(["test", "against", "answer"]), table
    )


@pytest.mark.parametrize(
    ("task", "options", "error", "message"),
    [
        (TASK, {"n_top": 0}, ValueError, "n_top=0; expected at least 1"),
        (TASK, {"steps": [0]}, ValueError, r"steps=\[0\]; expected"),
        (TASK, {"key": "none"}, KeyError, r"layers\['none'\]` is no explanation"),
        (TASK, {"markers": "degs"}, KeyError, "sc.tl.rank_genes_groups"),
        (TASK, {"markers": {"Other": ["KEY"]}}, ValueError, "No cell of explanation 'explain' can be compared"),
        (TASK, {"others": ["none"]}, KeyError, "is no explanation"),
        ("gene_set_disease", {}, ValueError, "'gene_set_disease' has no place for the genes of a cell"),
        (ch.text.Question("cell_type", answers=["a", "b"]), {}, ValueError, "not the one of .*: task, answers differ"),
    ],
)
def test_what_does_not_fit_is_said(planted, tiny, task, options, error, message):
    ch.tl.explain(planted, tiny, TASK, head=0)
    with pytest.raises(error, match=message):
        ch.tl.faithfulness(planted, tiny, task, **options)
    assert "faithfulness" not in planted.uns["explain"]


def test_another_model_and_changed_sentences_are_refused(planted, tiny, folders):
    ch.tl.explain(planted, tiny, TASK, head=0)
    other = ch.CellHermes.from_pretrained(folders("qwen2"), device="cpu")
    with pytest.raises(ValueError, match="The model is not the one of explanation 'explain': model"):
        ch.tl.faithfulness(planted, other, TASK)
    other = copy.copy(tiny)
    other.__dict__["sha256"] = "0" * 64  # other weights under the same name
    with pytest.raises(ValueError, match="The model is not the one of explanation 'explain': model_sha256"):
        ch.tl.faithfulness(planted, other, TASK)
    planted.obs["cell_sentence"] = [s.rsplit(" ", 1)[0] for s in planted.obs["cell_sentence"]]
    with pytest.raises(ValueError, match="sentences of 6 cells, such as .*have other genes"):
        ch.tl.faithfulness(planted, tiny, TASK)
