"""Modules, their scores and tests, against python-louvain, scanpy and scipy called directly; nulls; bad input."""

import logging
import warnings

import anndata as ad
import community
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from mudata import MuData
from scipy import sparse, stats

import cellhermes as ch
from cellhermes.get._donors import donor_test
from cellhermes.tl import _module_nulls, _module_scores
from cellhermes.tl._louvain import partition
from cellhermes.tl._specific import jaccard

TABLES = ("modules", "genes", "nulls", "scores", "jaccard")
OPTIONS = {"groupby": "cell_type", "use_rep": "expression"}


@pytest.fixture(scope="module")
def networks_once(blood):
    adata = blood.copy()
    ch.tl.gene_network(adata, groups=["CD14 Mono", "CD4 T"], **OPTIONS)
    return adata


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Cluster again less often than users do."""
    monkeypatch.setattr(_module_nulls, "N_RESEEDED", 2)


@pytest.fixture
def networks(networks_once):
    return networks_once.copy()


@pytest.fixture(scope="module")
def found_once(networks_once):
    adata = networks_once.copy()
    ch.tl.modules(adata, "CD14 Mono", "CD4 T")
    return adata


@pytest.fixture
def found(found_once):
    return found_once.copy()


def genes_of(adata, group):
    table = ch.get.modules(adata, "genes", group=group)
    return [set(genes) for _, genes in table.groupby("module")["gene"]]


def cells(adata, *groups):
    return adata.obs["cell_type"].isin(groups).to_numpy()


# ---- modules and their overlap


@pytest.mark.parametrize("group", ["CD14 Mono", "CD4 T"])
def test_partition_equals_python_louvain_on_the_stored_graph(found, group):
    expected = community.best_partition(ch.get.gene_network(found, group), weight="weight", random_state=0)
    modules = {frozenset(g for g in expected if expected[g] == i) for i in set(expected.values())}
    assert {frozenset(genes) for genes in genes_of(found, group)} == modules
    sizes = [len(genes) for genes in genes_of(found, group)]
    assert sizes == sorted(sizes, reverse=True)


def test_genes_outside_the_network_are_in_no_module(networks):
    ch.tl.gene_network(networks, genes=list(networks.var_names[:200]), groups=["CD14 Mono", "CD4 T"], **OPTIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # modules of the toy data that get no score
        ch.tl.modules(networks, "CD14 Mono", "CD4 T")
    column = networks.var["modules:CD14 Mono"]
    assert str(column.dtype) == "Int64"
    outside = np.diff(networks.varp["gene_network:CD14 Mono"].indptr) == 0
    np.testing.assert_array_equal(column.isna(), outside)
    assert outside[200:].all()


def test_jaccard_and_specific_equal_sets(found):
    a, b = genes_of(found, "CD14 Mono"), genes_of(found, "CD4 T")
    expected = np.array([[len(x & y) / len(x | y) for y in b] for x in a])
    overlap = ch.get.modules(found, "jaccard")
    np.testing.assert_allclose(overlap, expected, rtol=1e-15)
    assert (overlap.index.name, overlap.columns.name) == ("CD14 Mono", "CD4 T")
    table = ch.get.modules(found)
    assert table["module"].tolist() == list(range(len(a)))
    assert table["n_genes"].tolist() == [len(x) for x in a]
    np.testing.assert_allclose(table["max_jaccard"], expected.max(1), rtol=1e-15)
    np.testing.assert_array_equal(table["nearest"], expected.argmax(1))
    np.testing.assert_array_equal(table["specific"], (expected.max(1) < 0.4) & (table["n_genes"] >= 10))
    union = set().union(*b)
    assert table["n_in_reference"].tolist() == [len(x & union) for x in a]


def test_limits_decide_what_is_specific(found):
    first = ch.get.modules(found)
    middle = {"max_jaccard": first["max_jaccard"].sort_values().iloc[len(first) // 2]}  # a value that occurs
    middle["min_genes"] = int(first["n_genes"].sort_values().iloc[len(first) // 2])
    for name, limit in middle.items():
        limits = {"max_jaccard": 1.0, "min_genes": 1, name: limit}
        ch.tl.modules(found, "CD14 Mono", "CD4 T", **limits)
        table = ch.get.modules(found)
        expected = (table["max_jaccard"] < limits["max_jaccard"]) & (table["n_genes"] >= limits["min_genes"])
        np.testing.assert_array_equal(table["specific"], expected)
        assert 0 < expected.sum() < len(table)


def test_same_seed_gives_the_same_result_and_another_seed_another(networks):
    seen = []
    for rng in (3, 3, 4, np.random.default_rng(0)):
        ch.tl.modules(networks, "CD14 Mono", "CD4 T", rng=rng)
        seen.append(ch.get.modules(networks))
    pd.testing.assert_frame_equal(seen[0], seen[1])
    assert not seen[0].equals(seen[2])
    drawn = int(np.random.default_rng(0).integers(2**32))
    assert networks.uns["modules"]["params"]["seed"] == drawn


# ---- expression


def test_scores_equal_a_direct_call_of_scanpy(found):
    scores = ch.get.modules(found, "scores")
    plain = found.copy()
    for number, genes in enumerate(genes_of(found, "CD14 Mono")):
        sc.tl.score_genes(plain, sorted(genes), ctrl_size=50, n_bins=25, random_state=0, use_raw=False)
        np.testing.assert_allclose(scores[str(number)], plain.obs["score"], atol=1e-12)
    assert list(scores.index) == list(found.obs_names)


def test_control_genes_are_drawn_by_the_seed():
    """With bins of more genes than are drawn, which those of the toy data are not."""
    rng = np.random.default_rng(0)
    table = ad.AnnData(sparse.csr_matrix(np.log1p(rng.poisson(rng.lognormal(0, 1, 2_000), (20, 2_000)))))
    modules = np.where(np.arange(2_000) < 40, np.arange(2_000) % 2, -1)
    for seed in (0, 5):
        scores, n_expressed, _ = _module_scores.module_scores(table.X, modules, seed=seed)
        for number in (0, 1):
            sc.tl.score_genes(table, table.var_names[modules == number], random_state=seed, use_raw=False)
            np.testing.assert_allclose(scores[:, number], table.obs["score"], atol=1e-12)
    assert n_expressed.tolist() == [20, 20]
    assert not np.allclose(_module_scores.module_scores(table.X, modules, seed=1)[0], scores)


def test_test_equals_scipy(found):
    scores, table = ch.get.modules(found, "scores").to_numpy(), ch.get.modules(found)
    group, reference = scores[cells(found, "CD14 Mono")], scores[cells(found, "CD4 T")]
    np.testing.assert_allclose(table["mean_score"], group.mean(0))
    np.testing.assert_allclose(table["mean_score_reference"], reference.mean(0))
    np.testing.assert_allclose(table["score_difference"], group.mean(0) - reference.mean(0))
    pval = stats.mannwhitneyu(group, reference, use_continuity=False, method="asymptotic").pvalue
    np.testing.assert_allclose(table["pval"], pval, rtol=1e-6)
    np.testing.assert_allclose(table["pval_adj"], stats.false_discovery_control(pval), rtol=1e-6)


def test_without_reference_the_group_is_held_against_all_other_cells(networks):
    ch.tl.modules(networks, "CD14 Mono")
    table, scores = ch.get.modules(networks), ch.get.modules(networks, "scores").to_numpy()
    mine = cells(networks, "CD14 Mono")
    np.testing.assert_allclose(table["score_difference"], scores[mine].mean(0) - scores[~mine].mean(0))
    pval = stats.mannwhitneyu(scores[mine], scores[~mine], use_continuity=False, method="asymptotic").pvalue
    np.testing.assert_allclose(table["pval"], pval, rtol=1e-6)
    assert table["specific"].isna().all()
    assert table["max_jaccard"].isna().all()
    with pytest.raises(ValueError, match="without a reference"):
        ch.get.modules(networks, "jaccard")


def test_network_without_groups_has_scores_and_no_test(networks):
    ch.tl.gene_network(networks, use_rep="expression")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ch.tl.modules(networks)
    table = ch.get.modules(networks)
    assert table[["mean_score", "pval"]].isna().all(axis=None)
    assert "modules" in networks.var
    assert len(ch.get.modules(networks, "genes")) == networks.n_vars
    assert ch.get.modules(networks, "nulls")["share_specific"].isna().to_dict() == {
        "observed": True,
        "reseed": False,
        "halves": True,
    }


def test_global_random_state_is_as_it_was(networks):
    np.random.set_state(np.random.RandomState(123).get_state())  # noqa: NPY002
    ch.tl.modules(networks, "CD14 Mono", "CD4 T")
    assert np.random.random() == np.random.RandomState(123).random_sample()  # noqa: NPY002


def test_nothing_else_of_the_object_is_touched(networks):
    before = networks.copy()
    ch.tl.modules(networks, "CD14 Mono", "CD4 T")
    assert set(networks.uns) - set(before.uns) == {"modules"}
    assert set(networks.obsm) == {"modules"}
    assert set(networks.var) - set(before.var) == {"modules:CD14 Mono", "modules:CD4 T"}
    pd.testing.assert_frame_equal(networks.obs, before.obs)
    assert (networks.X != before.X).nnz == 0


@pytest.mark.parametrize("convert", [sparse.csc_matrix, np.asarray], ids=["csc", "dense"])
def test_formats_give_the_same_scores(networks, convert):
    ch.tl.modules(networks, "CD14 Mono", "CD4 T")
    expected = ch.get.modules(networks, "scores")
    networks.X = convert(networks.X.toarray())
    ch.tl.modules(networks, "CD14 Mono", "CD4 T")
    pd.testing.assert_frame_equal(ch.get.modules(networks, "scores"), expected)


# ---- donors


def by_donor(adata, group):
    scores = ch.get.modules(adata, "scores")[cells(adata, group)]
    return scores.groupby(adata.obs["donor"][cells(adata, group)], observed=True).mean()


def test_donors_on_both_sides_are_compared_with_themselves(networks):
    ch.tl.modules(networks, "CD14 Mono", "CD4 T")
    table = ch.get.modules(networks, "donors", donor_key="donor")
    group, reference = by_donor(networks, "CD14 Mono"), by_donor(networks, "CD4 T")
    np.testing.assert_allclose(table["donor_pval"], stats.ttest_rel(group, reference).pvalue)
    np.testing.assert_allclose(table["donor_difference"], group.mean() - reference.mean())
    np.testing.assert_allclose(table["donor_pval_adj"], stats.false_discovery_control(table["donor_pval"]))
    assert (table["n_donors"] == 4).all()
    assert (
        table["donor_pval"] > ch.get.modules(networks)["pval"]
    ).mean() > 0.9  # four donors know less than a hundred cells seem to


def test_donors_of_one_side_each_are_compared_by_welch(networks):
    """Two conditions, two donors each."""
    networks.obs["condition"] = np.where(networks.obs["donor"].isin(["donor_1", "donor_2"]), "a", "b")
    ch.tl.gene_network(networks, groupby="condition", use_rep="expression")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ch.tl.modules(networks, "a", "b")
    scores = ch.get.modules(networks, "scores").groupby(networks.obs["donor"], observed=True).mean()
    expected = stats.ttest_ind(scores.iloc[:2], scores.iloc[2:], equal_var=False).pvalue
    np.testing.assert_allclose(ch.get.modules(networks, "donors", donor_key="donor")["donor_pval"], expected)


def test_two_donors_on_both_sides_are_enough_to_be_paired():
    rng = np.random.default_rng(0)
    scores, reference = rng.normal(size=(2, 6, 3))
    reference[:3] += 5  # donors differ more than the sides do, which a test that is not paired cannot see through
    scores[:3] += 5.5
    donors = np.repeat(["a", "b"], 3)
    table = donor_test(scores, reference, donors, donors)
    means = [np.stack([x[donors == d].mean(0) for d in "ab"]) for x in (scores, reference)]
    np.testing.assert_allclose(table["donor_pval"], stats.ttest_rel(*means).pvalue)
    assert (table["n_donors"] == 2).all()


def test_mean_score_of_a_donor_is_the_score_of_its_mean_profile(networks):
    """The test over donors is one of pseudobulk profiles: a score is linear in the expression."""
    ch.tl.modules(networks, "CD14 Mono")
    expression = networks.X.toarray()
    numbers = networks.var["modules:CD14 Mono"].fillna(-1).to_numpy(int)
    control = ch.get.modules(networks, "scores")["0"] - expression[:, numbers == 0].mean(
        1
    )  # minus the control genes' mean
    donor = networks.obs["donor"] == "donor_1"
    of_mean = expression[donor][:, numbers == 0].mean(0).mean() + control[donor].mean()
    assert ch.get.modules(networks, "scores")["0"][donor].mean() == pytest.approx(of_mean, rel=1e-6)


# ---- nulls


def test_reseeded_null_is_the_share_of_other_seeds(networks):
    ch.tl.modules(networks, "CD14 Mono", "CD4 T")
    weights = networks.varp["gene_network:CD14 Mono"]
    own = networks.var["modules:CD14 Mono"].fillna(-1).to_numpy(int)
    large = np.bincount(own[own >= 0]) >= 10
    called = [(jaccard(own, partition(weights, resolution=1.0, seed=s)).max(1) < 0.4) & large for s in (1, 2)]
    np.testing.assert_allclose(ch.get.modules(networks)["reseed_specific"], np.mean(called, axis=0))
    null = ch.get.modules(networks, "nulls").loc["reseed"]
    assert null["share_specific"] == pytest.approx(np.mean(called, axis=0)[large].mean())
    assert null["largest_degree_change"] == 0


def test_halves_of_the_group_are_found_and_compared(networks):
    ch.tl.split_groups(networks, "cell_type", groups=["CD14 Mono"])
    ch.tl.gene_network(networks, groupby="half", use_rep="expression")
    halves = [networks.varp[f"gene_network:CD14 Mono (half {i})"] for i in (1, 2)]
    one, two = (partition(weights, resolution=1.0, seed=0) for weights in halves)

    def called(a, b, limit):
        return (jaccard(a, b).max(1)[np.bincount(a[a >= 0]) >= 10] < limit).mean()

    limits = np.linspace(0.02, 0.9, 89)  # one at which the two directions differ
    limit = next(x for x in limits if called(one, two, x) != called(two, one, x))
    ch.tl.modules(networks, "CD14 Mono", "CD4 T", max_jaccard=limit)
    null = ch.get.modules(networks, "nulls").loc["halves"]
    assert null["share_specific"] == pytest.approx((called(one, two, limit) + called(two, one, limit)) / 2)
    change = ch.get.degree_change(networks, "CD14 Mono (half 1)", "CD14 Mono (half 2)")["change"].abs()
    assert null["largest_degree_change"] == change.max()
    assert null["median_degree_change"] == change.median()
    own = networks.var["modules:CD14 Mono"].fillna(-1).to_numpy(int)
    large = np.bincount(own[own >= 0]) >= 10
    each = np.mean([(jaccard(own, half).max(1) < limit) & large for half in (one, two)], axis=0)
    np.testing.assert_allclose(ch.get.modules(networks)["halves_specific"], each)
    observed = ch.get.modules(networks, "nulls").loc["observed"]
    assert (
        observed["largest_degree_change"] == ch.get.degree_change(networks, "CD14 Mono", "CD4 T")["change"].abs().max()
    )
    assert networks.uns["modules"]["params"]["halves"] == ["CD14 Mono (half 1)", "CD14 Mono (half 2)"]


def test_random_networks_look_specific_by_reseeding_alone(adata, store_vectors):
    """Without structure there are no modules to find again; the null has to say so."""
    rng = np.random.default_rng(0)
    store_vectors(adata, {label: rng.normal(size=(adata.n_vars, 300)) for label in ("B", "NK")})
    ch.tl.gene_network(adata, groupby="cell_type")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ch.tl.modules(adata, "B", "NK")
    share = ch.get.modules(adata, "nulls")["share_specific"]
    assert share["observed"] == 1
    assert share["reseed"] > 0.3


def test_what_chance_gives_is_logged(networks, caplog):
    with caplog.at_level(logging.INFO, logger="cellhermes"):
        ch.tl.modules(networks, "CD14 Mono", "CD4 T")
    assert "chance gives: another seed" in caplog.text
    assert "two halves of the group's cells not computed (see ch.tl.split_groups)" in caplog.text


# ---- containers and disk


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_group_names_with_slash_blank_and_unicode_survive_the_disk(networks, tmp_path, suffix):
    names = {"CD14 Mono": "γδ T/NK cells", "CD4 T": "CD4 (naïve)"}
    networks.obs["cell_type"] = networks.obs["cell_type"].cat.rename_categories(names)
    ch.tl.gene_network(networks, groups=list(names.values()), **OPTIONS)
    ch.tl.modules(networks, *names.values())
    getattr(networks, f"write_{suffix}")(tmp_path / f"a.{suffix}")
    again = getattr(ad, f"read_{suffix}")(tmp_path / f"a.{suffix}")
    assert again.uns["modules"]["params"]["group"] == "γδ T/NK cells"
    for table in TABLES:
        read, expected = (ch.get.modules(data, table) for data in (again, networks))
        pd.testing.assert_frame_equal(read, expected, check_dtype=False)
    assert str(again.var["modules:γδ T_NK cells"].dtype) == "Int64"
    assert len(ch.get.modules(again, "genes", group="CD4 (naïve)")) == networks.n_vars


def test_modules_without_reference_survive_the_disk(networks, tmp_path):
    ch.tl.modules(networks, "CD14 Mono")
    networks.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(ch.get.modules(again), ch.get.modules(networks), check_dtype=False)


def test_modality_of_a_mudata_gets_the_modules(networks):
    data = MuData({"rna": networks})
    ch.tl.modules(data, "CD14 Mono", "CD4 T", mod="rna")
    assert len(ch.get.modules(data, mod="rna")) == data["rna"].obsm["modules"].shape[1]


def test_readers_give_fresh_frames(found):
    before = ch.get.modules(found).copy()
    for table in TABLES:
        frame = ch.get.modules(found, table)
        frame[frame.columns[-1]] = -5
    overlap = ch.get.modules(found, "jaccard")
    overlap.iloc[:, :] = 7.0
    pd.testing.assert_frame_equal(ch.get.modules(found), before)
    assert ch.get.modules(found, "scores").iloc[0, -1] != -5
    assert (ch.get.modules(found, "jaccard").max(axis=1) == before["max_jaccard"]).all()


# ---- bad input

BAD = [
    (("Z", "CD4 T"), {}, KeyError, r"No networks in groups \['Z'\] under.*gene_network"),
    (("CD4 T", "CD4 T"), {}, ValueError, "both 'CD4 T'"),
    ((None, "CD4 T"), {}, ValueError, "without a group"),
    ((None, None), {}, KeyError, r"without groups was not made. Pass group="),
    (("CD14 Mono", "CD4 T"), {"max_jaccard": 0}, ValueError, "max_jaccard=0; expected above 0"),
    (("CD14 Mono", "CD4 T"), {"min_genes": 0}, ValueError, "min_genes=0"),
    (("CD14 Mono", "CD4 T"), {"resolution": -1}, ValueError, "resolution=-1; expected above 0"),
    (("CD14 Mono", "CD4 T"), {"resolution": 1e3}, ValueError, "falls apart"),
    (("CD14 Mono", "CD4 T"), {"rng": -1}, ValueError, "rng=-1; expected a generator"),
    (("CD14 Mono", "CD4 T"), {"layer": "counts"}, ValueError, "raw counts.*normalize_total"),
    (("CD14 Mono", "CD4 T"), {"network_key": "nope"}, KeyError, r"uns\['nope'\].*gene_network"),
]


@pytest.mark.parametrize(("groups", "options", "error", "message"), BAD)
def test_bad_input_says_what_to_do_and_writes_nothing(networks, groups, options, error, message):
    with pytest.raises(error, match=message):
        ch.tl.modules(networks, *groups, **options)
    assert "modules" not in networks.uns
    assert not networks.var.columns.str.startswith("modules").any()
    assert list(networks.obsm) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell_type": "other"}, r"No cells in groups \['CD14 Mono', 'CD4 T'\] of obs\['cell_type'\]"),
        (None, r"obs\['cell_type'\]` not found"),
    ],
)
def test_groups_whose_cells_are_gone_are_named(networks, change, message):
    networks.obs = networks.obs.assign(**change) if change else networks.obs.drop(columns="cell_type")
    with pytest.raises(KeyError, match=message):
        ch.tl.modules(networks, "CD14 Mono", "CD4 T")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"donor_key": "nope"}, KeyError, r"obs\['nope'\]"),
        ({"donor_key": "one"}, ValueError, "cells of 1 donors and the reference of 1; .* needs 2 or more"),
        ({}, ValueError, "expected a column of obs for 'donors'"),
        (
            {"table": "nulls", "donor_key": "donor"},
            ValueError,
            "expected a column of obs for 'donors', and for no other",
        ),
    ],
)
def test_donors_that_cannot_be_compared_are_refused(found, options, error, message):
    found.obs["one"] = "donor"
    with pytest.raises(error, match=message):
        ch.get.modules(found, **{"table": "donors", **options})


def test_modules_without_groups_have_no_donors_to_compare(networks):
    ch.tl.gene_network(networks, use_rep="expression")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ch.tl.modules(networks)
    with pytest.raises(ValueError, match="are of no group"):
        ch.get.modules(networks, "donors", donor_key="donor")


def test_groups_of_two_columns_are_refused_since_they_may_share_cells(networks):
    ch.tl.gene_network(networks, groupby="batch", groups=["batch_1"], use_rep="expression")
    with pytest.raises(ValueError, match=r"come from different columns.*Make both from one column"):
        ch.tl.modules(networks, "CD14 Mono", "batch_1")


def test_module_without_expressed_genes_has_no_score_and_is_reported(networks):
    ch.tl.modules(networks, "CD14 Mono", "CD4 T")
    silent = networks.var["modules:CD14 Mono"].to_numpy(int) == 1
    networks.layers["some"] = networks.X.multiply(~silent).tocsr()
    with pytest.warns(UserWarning, match=r"1 of \d+ modules have no expressed gene and get no score"):
        ch.tl.modules(networks, "CD14 Mono", "CD4 T", layer="some")
    table = ch.get.modules(networks).set_index("module")
    assert table.loc[1, "n_expressed"] == 0
    assert table.loc[1, ["mean_score", "score_difference", "pval", "pval_adj"]].isna().all()
    assert table.drop(index=1)["pval_adj"].notna().all()
    assert ch.get.modules(networks, "scores")["1"].isna().all()


def test_module_without_control_genes_has_no_score_and_is_reported(networks):
    """A module of all genes of its level of expression leaves nothing to compare with."""
    expression = sparse.csr_matrix(networks.X)
    level = np.argsort(np.argsort(np.asarray(expression.mean(0)).ravel(), kind="stable"), kind="stable")
    modules = np.where(level < 30, 0, 1)
    modules[level < 15] = 2  # all of the lowest of 25 bins
    scores, _, without = _module_scores.module_scores(expression, modules, seed=0)
    assert 2 in without
    assert np.isnan(scores[:, 2]).all()


def test_group_with_one_cell_has_no_p_value_and_is_reported(networks):
    alone = networks.obs_names[cells(networks, "CD14 Mono")][1:]
    rest = networks[~networks.obs_names.isin(alone)].copy()
    with pytest.warns(UserWarning, match="there are 1 in the group, 78 in the reference, and p-values are NaN"):
        ch.tl.modules(rest, "CD14 Mono", "CD4 T")
    table = ch.get.modules(rest)
    assert table["pval"].isna().all()
    assert table["score_difference"].notna().all()


def test_modules_of_genes_that_the_reference_lacks_are_reported(networks):
    ch.tl.gene_network(networks, genes=list(networks.var_names[:60]), groups=["CD4 T"], **OPTIONS)
    with pytest.warns(UserWarning, match="have less than half of their genes in the network of the reference"):
        ch.tl.modules(networks, "CD14 Mono", "CD4 T")
    table = ch.get.modules(networks)
    np.testing.assert_array_equal(table["nearest"].isna(), table["n_in_reference"] == 0)


@pytest.mark.parametrize("table", TABLES)
def test_readers_say_which_call_is_missing(adata, table):
    with pytest.raises(KeyError, match=r"Run `ch.tl.modules\(adata, group, reference\)` first"):
        ch.get.modules(adata, table)
