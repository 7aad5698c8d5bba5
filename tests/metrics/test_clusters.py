"""Enriched clusters against gseapy and scipy's Fisher test, planted and random."""

import gseapy
import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact
from sklearn.cluster import KMeans

from cellhermes.baselines import embed_genes
from cellhermes.metrics import cluster_enrichment
from cellhermes.metrics._clusters import _pvals
from cellhermes.metrics._semantic import membership

GENES = pd.Index([f"G{i}" for i in range(200)])


def random_sets(seed, n_sets=40):
    rng = np.random.default_rng(seed)
    return {f"set {i}": rng.choice(GENES, rng.integers(3, 60), replace=False).tolist() for i in range(n_sets)}


def test_p_values_are_those_of_gseapy_and_of_fishers_test():
    sets = random_sets(0)
    cluster = np.random.default_rng(1).integers(0, 5, len(GENES)) * 2  # numbers with gaps
    found = _pvals(cluster, membership(sets, GENES, 3))
    assert found.shape == (5, 40)
    for row, number in enumerate(np.unique(cluster)):
        mine = GENES[cluster == number]
        tested = gseapy.enrich(list(mine), sets, background=list(GENES), outdir=None, no_plot=True)
        tested.close()
        theirs = tested.results.set_index("Term")["P-value"].reindex(list(sets)).fillna(1)
        np.testing.assert_allclose(found[row], theirs, rtol=1e-8)
        for column in range(0, 40, 9):
            inside = np.isin(GENES, sets[f"set {column}"])
            table = pd.crosstab(np.isin(GENES, mine), inside).to_numpy()
            assert found[row, column] == pytest.approx(fisher_exact(table, alternative="greater").pvalue)


def test_planted_clusters_are_all_enriched_and_random_vectors_are_not():
    sets = {f"set {i}": GENES[i::10].tolist() for i in range(10)}
    planted = pd.DataFrame(np.tile(np.eye(10), (20, 1)), index=GENES)
    tables = {"planted": planted, "random": embed_genes(GENES, "random", n_components=10)}
    found = cluster_enrichment(tables, sets, n_clusters=[10]).set_index("embedding")
    assert found["share"].to_dict() == {"planted": 1, "random": 0}
    assert (found["share_random"] == 0).all()
    assert found.loc["planted", "largest"] == 20


def test_share_is_that_of_clusters_with_a_small_adjusted_p_value():
    """Benjamini and Hochberg by hand: the i-th smallest of t p-values counts if p < alpha i / t, and all below it."""
    sets, x = random_sets(3), embed_genes(GENES, "random", n_components=3, rng=2)
    sets |= {f"near {i}": GENES[np.argsort(((x - x.iloc[i]) ** 2).sum(1).to_numpy())[:25]].tolist() for i in (0, 50)}
    found = cluster_enrichment(x, sets, n_clusters=[4, 8], rng=6)
    for k, row in zip([4, 8], found.itertuples(), strict=True):
        p = _pvals(KMeans(k, random_state=6).fit_predict(x.to_numpy()), membership(sets, GENES, 3))
        limit = 0.05 * np.arange(1, p.shape[1] + 1) / p.shape[1]
        assert row.n_enriched == (np.sort(p, axis=1) < limit).any(axis=1).sum()
    assert 0 < found["n_enriched"].sum() < 12


def test_random_clusters_are_rarely_enriched():
    found = cluster_enrichment(embed_genes(GENES, "random", n_components=5), random_sets(1), n_clusters=range(2, 30))
    n = found["n_clusters"].sum()
    assert (found["share_random"] * found["n_clusters"]).sum() / n < 0.05 + 2 * np.sqrt(0.05 * 0.95 / n)


def test_same_seed_gives_the_same_and_genes_without_vectors_are_counted():
    x, sets = embed_genes(GENES, "random", n_components=5), random_sets(0)
    tables = {"whole": x, "part": x.iloc[:150]}
    found = cluster_enrichment(tables, sets, n_clusters=[5])
    pd.testing.assert_frame_equal(found, cluster_enrichment(tables, sets, n_clusters=[5]))
    assert found.attrs["missing"] == {"whole": 0, "part": 50}
    assert set(found["n_genes"]) == {150}


@pytest.mark.parametrize("n_clusters", [[], [1, 5], [201]])
def test_impossible_numbers_of_clusters_are_named(n_clusters):
    with pytest.raises(ValueError, match="expected numbers from 2"):
        cluster_enrichment(embed_genes(GENES, "random", n_components=2), random_sets(0), n_clusters=n_clusters)
