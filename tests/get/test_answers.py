"""Predicted answers as a table: the same as for a frame of questions, from memory and from disk."""

import anndata as ad
import numpy as np
import pytest
from mudata import MuData

import cellhermes as ch

TYPES = ["B", "CD8/NK", "Mono"]


@pytest.fixture
def cells(adata, tiny):
    adata = adata[:20].copy()
    ch.pp.cell_sentences(adata, n_genes=8)
    limit = float(ch.tl.answer(adata.obs, tiny, ch.text.Question("cell_type", answers=TYPES))["confidence"].median())
    ch.tl.predict(adata, tiny, ch.text.Question("cell_type", answers=TYPES, abstain_below=limit), key_added="made")
    assert 0 < adata.obs["made"].isna().sum() < 20
    return adata


def test_the_frame_is_that_of_the_same_questions(cells, tiny, tmp_path):
    expected = ch.tl.answer(
        cells.obs,
        tiny,
        ch.text.Question("cell_type", answers=TYPES, abstain_below=cells.uns["made"]["params"]["abstain_below"]),
    )
    cells.write_h5ad(tmp_path / "a.h5ad")
    for data, options in (
        (cells, {}),
        (ad.read_h5ad(tmp_path / "a.h5ad"), {}),
        (MuData({"rna": cells}), {"mod": "rna"}),
    ):
        found = ch.get.answers(data, "made", **options)
        assert list(found) == ["answer", "confidence", *(f"probability:{name}" for name in TYPES)]
        assert found["answer"].tolist() == expected["answer"].tolist()
        np.testing.assert_allclose(found.iloc[:, 1:], expected[[*found]].iloc[:, 1:], rtol=1e-5)


def test_it_can_be_measured(cells):
    truth = np.where(np.arange(20) % 2, "B", "CD8/NK")
    table = ch.metrics.classification(truth, ch.get.answers(cells, "made"), n_bootstrap=0).set_index("metric")["value"]
    assert table["unparsed"] == pytest.approx(cells.obs["made"].isna().mean())
    assert "roc_auc" in table


def test_written_answers_have_no_probabilities(cells, tiny):
    ch.tl.predict(
        cells, tiny, ch.text.Question("cell_type", answers=TYPES, decode="generate", max_new_tokens=2), key_added="made"
    )
    assert list(ch.get.answers(cells, "made")) == ["answer"]


def test_what_was_not_predicted_is_explained(cells):
    with pytest.raises(KeyError, match="ch.tl.predict"):
        ch.get.answers(cells, "reactivity")
    with pytest.raises(KeyError, match="is not of `ch.tl.predict`"):
        ch.get.answers(cells, "cell_type")
