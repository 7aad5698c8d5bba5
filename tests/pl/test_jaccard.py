"""The heat map holds the matrix, with its columns in another order."""

import numpy as np

import cellhermes as ch
from cellhermes import get


def test_cells_hold_the_index_of_the_modules_at_the_ticks(drawn):
    ax = ch.pl.jaccard(drawn)
    values = ax.collections[0].get_array()
    rows = [int(t.get_text()) for t in ax.get_yticklabels()]
    columns = [int(t.get_text()) for t in ax.get_xticklabels()]
    np.testing.assert_allclose(values, get.modules(drawn, "jaccard").loc[rows, columns])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("modules of NK", "modules of B")


def test_columns_stand_below_the_row_they_agree_with_most(drawn):
    best = np.asarray(ch.pl.jaccard(drawn).collections[0].get_array()).argmax(axis=0)
    assert (np.diff(best) >= 0).all()


def test_marks_stand_at_the_specific_modules(drawn):
    ax = ch.pl.jaccard(drawn)
    table = get.modules(drawn)
    marked = ax.collections[1].get_offsets()[:, 1] - 0.5
    assert marked.tolist() == table.loc[table["specific"], "module"].tolist()


def test_colours_span_the_whole_range_of_the_index(drawn):
    assert ch.pl.jaccard(drawn).collections[0].get_clim() == (0, 1)
