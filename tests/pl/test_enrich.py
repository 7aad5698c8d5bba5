"""Dots of gene sets."""

import numpy as np
import pytest

import cellhermes as ch
from cellhermes import get


def offsets(ax):
    """Hollow and filled dots."""
    hollow, filled = ax.collections[:2]
    return np.asarray(hollow.get_offsets()), np.asarray(filled.get_offsets())


def test_one_list_best_on_top_at_its_share_of_genes(drawn):
    ax = ch.pl.enrich(drawn, "B")
    table = get.enrich(drawn, "B")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["B cell activation", "T cell activation"]
    found = np.concatenate(offsets(ax))
    expected = np.column_stack([table["overlap"] / table["n_genes"], [0, 1]])
    np.testing.assert_allclose(found[np.argsort(found[:, 1])], expected)
    low, high = ax.get_ylim()
    assert low > high  # the first stands on top
    assert ax.get_xlabel() == "share of the 3 genes of B"


def test_only_enriched_sets_are_filled_and_coloured_by_p(drawn):
    hollow, filled = offsets(ch.pl.enrich(drawn, "B"))
    p = get.enrich(drawn, "B")["pval_adj"]
    assert sorted(filled[:, 1]) == np.flatnonzero(p < 0.05).tolist()
    assert sorted(hollow[:, 1]) == np.flatnonzero(p >= 0.05).tolist()
    colours = ch.pl.enrich(drawn, "T").collections[1].get_array()
    np.testing.assert_allclose(colours, -np.log10(get.enrich(drawn, "T")["pval_adj"]))


def test_several_lists_have_a_column_each_with_their_enriched_sets(drawn):
    ax = ch.pl.enrich(drawn)
    table = get.enrich(drawn)
    enriched = table[table["pval_adj"] < 0.05]
    columns, rows = ([t.get_text() for t in labels] for labels in (ax.get_xticklabels(), ax.get_yticklabels()))
    assert columns == enriched["of"].unique().tolist() == ["T", "B"]
    hollow, filled = offsets(ax)
    found = {(columns[int(x)], rows[int(y)]) for x, y in filled}
    assert found == set(zip(enriched["of"], enriched["term"].str.replace(r" \(GO.*", "", regex=True), strict=True))
    assert len(hollow) == 0


def test_n_terms_limits_the_rows_of_each_list(drawn):
    assert len(ch.pl.enrich(drawn, "B", n_terms=1).get_yticklabels()) == 1
    assert len(ch.pl.enrich(drawn, n_terms=1).get_yticklabels()) == 2


def test_the_smallest_p_values_share_a_colour_and_the_bar_says_so(drawn):
    data = drawn.copy()
    data.uns["enrich"]["table"]["pval_adj"] = 1e-40
    ax = ch.pl.enrich(data, "T")
    assert ax.collections[1].get_clim() == (0, 10)
    assert ax.collections[1].colorbar.extend == "max"


def test_long_names_lose_their_middle(drawn):
    term = f"{'first ' * 9}and {'last ' * 9}".strip()
    ch.tl.enrich(data := drawn.copy(), {term: ["CD79A", "CD79B", "MS4A1"]}, of="CD79A", group="B")
    label = ch.pl.enrich(data).get_yticklabels()[0].get_text()
    assert label.startswith("first first")
    assert label.endswith("last last")
    assert "…" in label
    assert max(map(len, label.split("\n"))) <= 32
    assert label.count("\n") == 1


def test_nothing_to_draw_says_so(drawn):
    data = drawn.copy()
    far = {"far": ["CD3D", "CD3E", "CD3G"]}
    ch.tl.enrich(data, far, of=["LYZ"], group="B")
    with pytest.raises(ValueError, match="no gene set shares a gene with a list"):
        ch.pl.enrich(data)
    many = [gene for gene in data.var_names[:150] if gene not in far["far"]]
    ch.tl.enrich(data, far, of={"a": [*many, "CD3D"], "b": [*many, "CD3E"]}, group="B")
    with pytest.raises(ValueError, match="No list has a gene set with an adjusted p below 0.05; pass of="):
        ch.pl.enrich(data)
