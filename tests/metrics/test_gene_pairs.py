"""Pairs of genes: features by hand, folds that share no gene, and leakage counted in sets."""

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from cellhermes.metrics import gene_pairs, overlap
from cellhermes.metrics._gene_pairs import _disjoint, _features

GENES = [f"GENE{i}" for i in range(80)]


@pytest.fixture
def x():
    return pd.DataFrame(np.random.default_rng(0).normal(size=(80, 5)), index=GENES)


def make_pairs(x, n, seed, truth=lambda a, b: (a * b).sum(1) > 0):
    pairs = pd.DataFrame(np.random.default_rng(seed).choice(GENES, (n, 2)), columns=["gene_a", "gene_b"])
    yes = truth(x.loc[pairs["gene_a"]].to_numpy(), x.loc[pairs["gene_b"]].to_numpy())
    return pairs.assign(answer=np.where(yes, "Yes", "No"))


def test_given_parts_are_scored_as_by_hand(x):
    train, test = make_pairs(x, 300, 0), make_pairs(x, 90, 1)
    found = gene_pairs(x, train, test, features=["sum", "difference"], max_pairs=200, rng=4)
    chosen = np.random.default_rng(4).choice(300, 200, replace=False)

    def features(frame):
        return [[*(x.loc[a] + x.loc[b]), *(x.loc[a] - x.loc[b]).abs()] for a, b, _ in frame.itertuples(index=False)]

    forest = RandomForestClassifier(random_state=4).fit(
        features(train.iloc[chosen]), train["answer"].iloc[chosen] == "Yes"
    )
    score, y = forest.predict_proba(features(test))[:, 1], test["answer"] == "Yes"
    assert found["roc_auc"][0] == pytest.approx(roc_auc_score(y, score))
    assert found["pr_auc"][0] == pytest.approx(average_precision_score(y, score))
    used = {*train.iloc[chosen][["gene_a", "gene_b"]].to_numpy().ravel()}
    asked = {*test[["gene_a", "gene_b"]].to_numpy().ravel()}
    assert found["gene_overlap"][0] == pytest.approx(len(asked & used) / len(asked))
    assert found["n_train"].tolist() == [200]


def test_planted_pairs_are_found_and_shuffled_ones_are_not():
    x = pd.DataFrame(np.random.default_rng(0).choice([-1.0, 1.0], (80, 1)), index=GENES)
    pairs = make_pairs(x, 1500, 0)
    assert (gene_pairs(x, pairs, features="product", n_splits=3)["roc_auc"] == 1).all()
    x = pd.DataFrame(np.random.default_rng(1).normal(size=(80, 4)), index=GENES)
    shuffled = pairs.assign(answer=np.random.default_rng(0).permutation(pairs["answer"]))
    chance = gene_pairs(x, shuffled, n_splits=3)["roc_auc"]
    assert abs(chance.mean() - 0.5) < 3 * chance.std() / np.sqrt(3) + 0.05


def test_a_gene_alone_does_not_help_in_disjoint_folds():
    """The answer depends on the first gene's identity: found when its other pairs are seen, else not."""
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(80, 10)), index=GENES)
    hub = pd.Series(rng.random(80) < 0.5, index=GENES)
    pairs = pd.DataFrame(rng.choice(GENES, (3000, 2)), columns=["gene_a", "gene_b"])
    pairs["answer"] = np.where(hub[pairs["gene_a"]], "Yes", "No")
    seen = gene_pairs(x, pairs[:2000], pairs[2000:], features="concatenated")["roc_auc"].mean()
    unseen = gene_pairs(x, pairs, features="concatenated", n_splits=3)
    assert seen > 0.95
    assert unseen["roc_auc"].mean() < 0.75
    assert (unseen["gene_overlap"] == 0).all()


@given(st.integers(0, 1000), st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_folds_share_no_gene_and_test_each_pair_at_most_once(seed, n_splits):
    pairs = np.random.default_rng(seed).integers(0, 40, (200, 2))
    folds = list(_disjoint(pairs, np.arange(200), 40, n_splits, seed))
    tested = np.concatenate([fold[3] for fold in folds])
    assert len(np.unique(tested)) == len(tested)
    for train, _, test, _ in folds:
        assert not np.isin(test, train).any()


@given(st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_element_wise_features_do_not_depend_on_the_order(seed):
    rng = np.random.default_rng(seed)
    x, pairs = rng.normal(size=(9, 4)), rng.integers(0, 9, (20, 2))
    for kind in ("sum", "product", "difference"):
        np.testing.assert_array_equal(_features(x, pairs, [kind]), _features(x, pairs[:, ::-1], [kind]))
    both = _features(x, pairs, ["concatenated"])
    np.testing.assert_array_equal(both[0], [*x[pairs[0, 0]], *x[pairs[0, 1]]])


def test_same_seed_gives_the_same(x):
    pairs = make_pairs(x, 600, 0)
    pd.testing.assert_frame_equal(gene_pairs(x, pairs, n_splits=2), gene_pairs(x, pairs, n_splits=2))


def test_pairs_without_vectors_are_dropped_and_counted(x):
    train, test = make_pairs(x, 300, 0), make_pairs(x, 90, 1)
    extra = pd.DataFrame({"gene_a": ["ABSENT", "GENE0", None], "gene_b": ["GENE1", "ABSENT", "GENE0"], "answer": "Yes"})
    with_extra = gene_pairs(x, pd.concat([train, extra]), test)
    assert with_extra.attrs["dropped"] == {"no vector": 3}
    assert with_extra.attrs["missing"] == {"embedding": 2}
    pd.testing.assert_frame_equal(with_extra, gene_pairs(x, train, test), check_exact=True)


@pytest.mark.parametrize(
    ("change", "options", "error", "text"),
    [
        (lambda p: p.assign(answer="Yes"), {}, ValueError, "expected two"),
        (lambda p: p.drop(columns="gene_b"), {}, KeyError, "gene_b"),
        (lambda p: p.assign(answer=[None, *p["answer"][1:]]), {}, ValueError, "1 of 300 pairs have no class"),
        (lambda p: p, {"features": "cosine"}, ValueError, "features='cosine'"),
        (lambda p: p, {"positive": "perhaps"}, ValueError, "Pass positive="),
        (lambda p: p[:8], {"n_splits": 4}, ValueError, "expected both"),
        (lambda p: p, {"n_splits": 1}, ValueError, "n_splits=1"),
    ],
)
def test_bad_input_is_named(x, change, options, error, text):
    with pytest.raises(error, match=text):
        gene_pairs(x, change(make_pairs(x, 300, 0)), **options)


# Leakage


def test_overlap_counts_pairs_in_either_order_by_answer():
    tested = pd.DataFrame({"gene_a": list("AABC"), "gene_b": list("BCDD"), "answer": ["Yes", "No", "Yes", "No"]})
    graph = nx.Graph([("B", "A"), ("D", "B"), ("A", "E")])
    found = overlap(tested, graph).set_index(["of", "answer"])
    assert found.loc[("pairs", "all"), ["n", "n_shared", "share"]].tolist() == [4, 2, 0.5]
    assert found.loc[("pairs", "Yes"), "share"] == 1
    assert found.loc[("pairs", "No"), "share"] == 0
    assert found.loc[("genes", "all"), ["n", "n_shared"]].tolist() == [4, 3]
    edges = pd.DataFrame(list(graph.edges), columns=["x", "y"])
    pd.testing.assert_frame_equal(overlap(tested, edges), found.reset_index())


def test_overlap_of_genes_alone_has_no_pairs():
    found = overlap(["A", "B", "B"], pd.DataFrame({"gene": ["B", "C"]}))
    assert found.to_dict("list") == {"of": ["genes"], "answer": ["all"], "n": [2], "n_shared": [1], "share": [0.5]}


def test_overlap_names_what_is_wrong():
    with pytest.raises(KeyError, match="expected gene_a and gene_b, or gene"):
        overlap(pd.DataFrame({"a": [1], "b": [2], "c": [3]}), ["A"])
    with pytest.raises(ValueError, match="tested is empty"):
        overlap([], ["A"])
