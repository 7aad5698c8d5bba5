"""Semantic correlation against a loop over all pairs, and what planted and random vectors give."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellhermes.baselines import embed_genes
from cellhermes.metrics import _semantic, semantic_correlation

GENES = [f"GENE{i}" for i in range(60)]


def random_sets(seed, n_sets=25):
    rng = np.random.default_rng(seed)
    return {f"set {i}": rng.choice(GENES, rng.integers(2, 20), replace=False).tolist() for i in range(n_sets)}


def slow(x, sets):
    """Every pair by itself."""
    genes = [g for g in x.index if any(g in s for s in sets.values())]
    sets = [{*s} & {*genes} for s in sets.values()]
    sets = [s for s in sets if 2 <= len(s) < len(genes)]
    content = [-np.log(len(s) / len(genes)) for s in sets]
    cosine, similarity = [], []
    for g, h in itertools.combinations(genes, 2):
        a, b = x.loc[g], x.loc[h]
        cosine.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        both = sum(c for c, s in zip(content, sets, strict=True) if g in s and h in s)
        similarity.append(both / sum(c for c, s in zip(content, sets, strict=True) if g in s or h in s))
    return np.corrcoef(cosine, similarity)[0, 1], len(genes)


@given(st.integers(0, 10_000), st.sampled_from([1, 7, 500, 4_000_000]))
@settings(max_examples=8, deadline=None)
def test_blocks_give_the_correlation_over_all_pairs(seed, room):
    x = pd.DataFrame(np.random.default_rng(seed).normal(size=(60, 3)) + 0.5, index=GENES)
    sets = random_sets(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_semantic, "ROOM", room)
        found = semantic_correlation(x, sets)
    correlation, n = slow(x, sets)
    assert found["correlation"][0] == pytest.approx(correlation, abs=1e-5)
    assert (found["n_genes"][0], found["n_pairs"][0]) == (n, n * (n - 1) // 2)


def test_perfect_vectors_give_one_and_random_ones_nothing():
    sets = {f"set {i}": GENES[i::6] for i in range(6)}
    perfect = pd.DataFrame(np.tile(np.eye(6), (10, 1)), index=GENES)
    found = semantic_correlation(
        {"perfect": perfect, "random": embed_genes(GENES, "random", n_components=6, rng=5)}, sets
    )
    found = found.set_index("embedding")
    assert found.loc["perfect", "correlation"] == pytest.approx(1, abs=1e-6)
    assert abs(found.loc["random", "correlation"]) < 0.1
    assert found.loc["perfect", "improvement"] == found.loc["perfect", "correlation"] - found.loc["perfect", "random"]


def test_random_reference_is_that_of_the_seed_and_of_the_same_width():
    sets, x = random_sets(0), embed_genes(GENES, "random", n_components=9, rng=1)
    found = semantic_correlation({"a": x, "b": x.iloc[:, :4]}, sets, rng=2)
    genes = pd.unique(np.array([g for s in sets.values() for g in s], dtype=object))
    for row, width in zip(found.itertuples(), (9, 4), strict=True):
        again = semantic_correlation(embed_genes(genes, "random", n_components=width, rng=2), sets)
        assert row.random == pytest.approx(again["correlation"][0], abs=1e-6)
    pd.testing.assert_frame_equal(found, semantic_correlation({"a": x, "b": x.iloc[:, :4]}, sets, rng=2))


def test_genes_without_direction_are_left_out_of_all():
    x = embed_genes(GENES, "random", n_components=4)
    holes = x.copy()
    holes.iloc[0], holes.iloc[1] = 0, np.nan
    sets = {"all": GENES[:40], "some": GENES[:9], "others": GENES[5:12]}
    found = semantic_correlation({"whole": x, "holes": holes.iloc[:-25]}, sets)
    assert found.attrs["missing"] == {"whole": 0, "holes": 2 + 5}
    alone = semantic_correlation(x.iloc[2:35], sets)
    assert found["correlation"][0] == pytest.approx(alone["correlation"][0], abs=1e-6)


def test_constant_vectors_have_no_correlation():
    x = pd.DataFrame(np.ones((60, 3)), index=GENES)
    assert np.isnan(semantic_correlation(x, random_sets(0))["correlation"][0])


@pytest.mark.parametrize(
    ("sets", "error", "text"),
    [
        ({"one": ["GENE1"]}, ValueError, "min_size=2"),
        ({"all": GENES}, ValueError, "expected three or more"),
        ({"other": ["ENSG1", "ENSG2"]}, ValueError, "same symbols or ids"),
        ({"text": "GENE1"}, TypeError, "single string"),
    ],
)
def test_bad_gene_sets_are_named(sets, error, text):
    with pytest.raises(error, match=text):
        semantic_correlation(embed_genes(GENES, "random", n_components=3), sets)
