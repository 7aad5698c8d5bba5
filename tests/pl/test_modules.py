"""The volcano shows the numbers of the table."""

import numpy as np
import pytest

import cellhermes as ch
from cellhermes.pl._modules import KINDS


@pytest.fixture
def table(drawn):
    """Data whose table of modules was replaced by four rows that are easy to follow."""
    data = drawn.copy()
    table = data.uns["modules"]["table"].iloc[[0, 0, 0, 0]].reset_index(drop=True)
    table["module"], table["n_genes"] = [0, 1, 2, 3], [40, 30, 20, 10]
    table["score_difference"], table["pval_adj"] = [0.5, -0.2, 0.1, np.nan], [1e-5, 0.0, 0.5, np.nan]
    table["specific"] = np.array([True, True, False, True])
    table["reseed_specific"], table["halves_specific"] = [0.1, 0.1, 0, 0], [np.nan, 0.5, 0, 0]
    data.uns["modules"]["table"] = table
    return data


def points(ax):
    """Positions by kind, in the order in which they are drawn."""
    return dict(zip(KINDS, [np.asarray(c.get_offsets()) for c in ax.collections], strict=False))


def test_points_are_difference_against_log_p(table):
    found = points(ch.pl.modules(table))
    np.testing.assert_allclose(found["specific"], [[0.5, 5]])
    np.testing.assert_allclose(found["shared"], [[0.1, -np.log10(0.5)]])


def test_specific_by_chance_is_hollow_and_a_p_of_zero_has_a_place(table):
    ax = ch.pl.modules(table)
    np.testing.assert_allclose(points(ax)["specific, also by chance"], [[-0.2, 300]])
    np.testing.assert_allclose(ax.collections[1].get_facecolor(), [[1, 1, 1, 1]])


def test_area_grows_with_the_number_of_genes(table):
    areas = [c.get_sizes()[0] for c in ch.pl.modules(table).collections[:3]]
    assert areas[0] > areas[1] > areas[2]


def test_modules_without_a_score_are_left_out(table):
    assert sum(len(p) for p in points(ch.pl.modules(table)).values()) == 3


def test_largest_differences_have_their_number_and_axes_name_the_groups(table):
    ax = ch.pl.modules(table, n_labels=2)
    assert [t.get_text() for t in ax.texts] == ["0", "1"]
    assert "B − NK" in ax.get_xlabel()


def test_without_any_p_value_it_says_what_to_do(table):
    table.uns["modules"]["table"]["pval_adj"] = np.nan
    with pytest.raises(ValueError, match="No module under 'modules' has a p-value. Run"):
        ch.pl.modules(table)
