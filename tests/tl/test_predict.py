"""Answers for cells: the same as for a frame of their columns, written where cells have a place."""

import dataclasses

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

import cellhermes as ch

TYPES = ["B", "CD8/NK", "Mono"]


@pytest.fixture
def cells(adata):
    adata = adata[:30].copy()
    ch.pp.cell_sentences(adata, n_genes=8)
    return adata


def test_answers_are_those_of_a_frame_with_the_cells_columns(cells, tiny):
    ch.tl.predict(cells, tiny, ch.text.Question("cell_type", answers=TYPES), key_added="predicted")
    expected = ch.tl.answer(cells.obs, tiny, ch.text.Question("cell_type", answers=TYPES))
    assert list(cells.obs["predicted"].cat.categories) == TYPES
    assert cells.obs["predicted"].tolist() == expected["answer"].tolist()
    assert list(cells.obsm["predicted"]) == ["B", "CD8_NK", "Mono"]
    np.testing.assert_allclose(cells.obsm["predicted"], expected.filter(regex="^probability:"), rtol=1e-5)
    params = cells.uns["predicted"]["params"]
    assert (params["task"], params["answers"], params["model"]) == ("cell_type", TYPES, tiny.card.name)
    assert (params["n_abstained"], params["n_unparsed"], params["n_without_genes"]) == (0, 0, 0)


def test_a_cell_without_genes_has_no_answer_and_is_counted(cells, tiny):
    cells.obs["cell_sentence"] = cells.obs["cell_sentence"].astype(object)
    cells.obs.iloc[[3, 7], cells.obs.columns.get_loc("cell_sentence")] = ""
    others = np.setdiff1d(np.arange(30), [3, 7])
    with pytest.warns(UserWarning, match="2 of 30 cells have an empty sentence"):
        ch.tl.predict(cells, tiny, "t_cell_reactivity")
    alone = cells[others].copy()
    ch.tl.predict(alone, tiny, "t_cell_reactivity")
    assert np.flatnonzero(cells.obs["t_cell_reactivity"].isna()).tolist() == [3, 7]
    assert cells.obs["t_cell_reactivity"].iloc[others].tolist() == alone.obs["t_cell_reactivity"].tolist()
    assert np.isnan(cells.obsm["t_cell_reactivity"].iloc[[3, 7]]).all(axis=None)
    assert cells.uns["t_cell_reactivity"]["params"]["n_without_genes"] == 2


def test_columns_of_obs_are_fields_with_and_without_expression(cells, tiny):
    cells.obs["cell_line"], cells.obs["gene"] = "K562", "CD4"
    found = {}
    task = ch.text.Task.load("cell_fitness")
    for expression in (False, True) if task.takes_expression else (False,):
        ch.tl.predict(cells, tiny, ch.text.Question("cell_fitness", expression=expression))
        expected = ch.tl.answer(cells.obs, tiny, ch.text.Question("cell_fitness", expression=expression))
        found[expression] = cells.obsm["cell_fitness"].to_numpy()
        np.testing.assert_allclose(found[expression], expected.filter(regex="^probability:"), rtol=1e-5)
    if True in found:
        assert not np.allclose(found[True], found[False])


def test_generated_texts_stand_beside_their_answers_and_replace_probabilities(cells, tiny, monkeypatch):
    ch.tl.predict(cells, tiny, "t_cell_reactivity")
    monkeypatch.setattr(
        type(tiny), "generate", lambda self, prompts, **_: ["Non-Reactive", *["?"] * (len(prompts) - 1)]
    )
    ch.tl.predict(cells, tiny, ch.text.Question("t_cell_reactivity", decode="generate"))
    assert cells.obs["t_cell_reactivity"].tolist()[:2] == ["Non-Reactive", np.nan]
    assert cells.obs["t_cell_reactivity_text"].tolist()[:2] == ["Non-Reactive", "?"]
    assert "t_cell_reactivity" not in cells.obsm
    assert cells.uns["t_cell_reactivity"]["params"]["n_unparsed"] == 29
    ch.tl.predict(cells, tiny, ch.text.Question("t_cell_reactivity", abstain_below=1.0))
    assert "t_cell_reactivity_text" not in cells.obs
    assert cells.uns["t_cell_reactivity"]["params"]["n_abstained"] == 30


def test_a_prior_is_that_of_questions_in_a_table_and_is_noted(cells, tiny):
    ch.tl.predict(cells, tiny, ch.text.Question("cell_type", answers=TYPES, prior="N/A"), key_added="made")
    expected = ch.tl.answer(cells.obs, tiny, ch.text.Question("cell_type", answers=TYPES, prior="N/A"))
    assert cells.obs["made"].astype(str).tolist() == expected["answer"].tolist()
    np.testing.assert_allclose(cells.obsm["made"], expected.filter(regex="^probability:"), rtol=1e-4)
    assert cells.uns["made"]["params"]["prior"] == "N/A"


@pytest.mark.parametrize("decode", ["score", "generate"])
def test_results_survive_h5ad_and_zarr(cells, tiny, tmp_path, decode):
    ch.tl.predict(
        cells, tiny, ch.text.Question("cell_type", answers=TYPES, decode=decode, max_new_tokens=2), key_added="made"
    )
    cells.write_h5ad(tmp_path / "a.h5ad")
    cells.write_zarr(tmp_path / "a.zarr")
    for read in (ad.read_h5ad(tmp_path / "a.h5ad"), ad.read_zarr(tmp_path / "a.zarr")):
        assert (
            read.obs["made"].astype(object).fillna("-").tolist()
            == cells.obs["made"].astype(object).fillna("-").tolist()
        )
        assert list(read.uns["made"]["params"]["answers"]) == TYPES
        if decode == "score":
            pd.testing.assert_frame_equal(read.obsm["made"], cells.obsm["made"])
        else:
            assert read.obs["made_text"].astype(str).tolist() == cells.obs["made_text"].tolist()


def test_a_modality_of_a_mudata_and_a_backed_file(cells, tiny, tmp_path):
    ch.tl.predict(cells, tiny, "t_cell_reactivity")
    bare = cells.copy()
    del bare.obs["t_cell_reactivity"], bare.obsm["t_cell_reactivity"], bare.uns["t_cell_reactivity"]
    bare.write_h5ad(tmp_path / "b.h5ad")
    data = MuData({"rna": bare})
    ch.tl.predict(data, tiny, "t_cell_reactivity", mod="rna")
    backed = ad.read_h5ad(tmp_path / "b.h5ad", backed="r")
    ch.tl.predict(backed, tiny, "t_cell_reactivity")
    for made in (data["rna"], backed):
        np.testing.assert_allclose(made.obsm["t_cell_reactivity"], cells.obsm["t_cell_reactivity"], rtol=1e-5)


def test_a_column_of_the_users_is_not_written_over(cells, tiny):
    before = cells.obs["cell_type"].copy()
    with pytest.raises(ValueError, match=r"obs\['cell_type'\] is there already.*key_added="):
        ch.tl.predict(cells, tiny, ch.text.Question("cell_type", answers=TYPES))
    assert cells.obs["cell_type"].equals(before)


@pytest.mark.parametrize(
    ("task", "options", "error", "message"),
    [
        ("cell_fitness", {}, KeyError, r"obs\['cell_line'\]` not found. Task 'cell_fitness' asks with"),
        (ch.text.Question("t_cell_reactivity", fields={"cell_sentence": "none"}), {}, KeyError, "ch.pp.cell_sentences"),
        (
            ch.text.Question("cell_type", answers=["a/b", "a_b"]),
            {"key_added": "p"},
            ValueError,
            "would be stored",
        ),
        ("cell_type", {"key_added": "p"}, ValueError, "lists its answers, and has none yet"),
    ],
)
def test_what_is_missing_is_said_before_a_model_is_loaded(cells, task, options, error, message):
    with pytest.raises(error, match=message):
        ch.tl.predict(cells, "no such model", task, **options)


@pytest.mark.parametrize("to_store", [False, True])
def test_zero_shot_answers_are_noted_and_told(cells, tiny, tmp_path, monkeypatch, to_store):
    monkeypatch.setattr(tiny, "card", dataclasses.replace(tiny.card, tasks=()))
    monkeypatch.setattr(type(tiny), "score", lambda self, prompts, *_, **__: np.tile([[0.0, -9.0]], (len(prompts), 1)))
    where = {"out": tmp_path / "answers.zarr"} if to_store else {}
    with pytest.warns(UserWarning, match="30 questions of 't_cell_reactivity' were answered zero-shot, and 'Reactive'"):
        ch.tl.predict(cells, tiny, ch.text.Question("t_cell_reactivity", prior=""), **where)
    made = ad.read_zarr(where["out"]) if to_store else cells
    params = made.uns["t_cell_reactivity"]["params"]
    assert (params["normalize"], params["prior"], bool(params["zero_shot"])) == ("mean", "", True)
    monkeypatch.undo()
    ch.tl.predict(cells, tiny, "t_cell_reactivity", key_added="tuned")
    params = cells.uns["tuned"]["params"]
    assert (params["normalize"], params["prior"], params["zero_shot"]) == ("sum", "", False)
