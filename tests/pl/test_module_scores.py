"""Scores of a module on coordinates of cells."""

import numpy as np
import pytest

import cellhermes as ch
from cellhermes import get


@pytest.fixture
def placed(drawn):
    data = drawn.copy()
    data.obsm["X_umap"] = np.random.default_rng(0).normal(size=(data.n_obs, 2))
    return data


def test_each_cell_has_its_place_and_score_and_the_highest_is_drawn_last(placed):
    points = ch.pl.module_scores(placed, 1).collections[0]
    scores = get.modules(placed, "scores")["1"].to_numpy()
    order = np.argsort(scores, kind="stable")
    np.testing.assert_allclose(points.get_array(), scores[order])
    np.testing.assert_allclose(points.get_offsets(), placed.obsm["X_umap"][order])


def test_scanpys_short_names_of_embeddings_work(placed):
    ax = ch.pl.module_scores(placed, 0, basis="umap")
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("UMAP1", "UMAP2", "module 0")


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (99, {}, "Module 99 has no scores; known"),
        (0, {"basis": "X_tsne"}, r"obsm\['X_tsne'\]` not found.*sc.tl.umap"),
    ],
)
def test_bad_input_says_what_to_do(placed, module, options, message):
    with pytest.raises(KeyError, match=message):
        ch.pl.module_scores(placed, module, **options)
