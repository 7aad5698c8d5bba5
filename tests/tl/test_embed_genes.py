"""Vectors of genes, alone and in cells that stand for their group."""

import numpy as np
import pytest
from scipy import sparse

import cellhermes as ch

KEY = "X_cellhermes"
GENES = ["CD3E", "MS4A1", "LYZ", "NKG7"]


@pytest.fixture
def small(adata):
    small = adata[:80].copy()
    ch.pp.cell_sentences(small, n_genes=15)
    return small


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def in_cell(model, sentence, genes=GENES):
    fill = ch.text.template("gene_in_cell").fill
    return np.concatenate([model.embed([fill(genes=sentence.split(" "), gene=gene)]) for gene in genes])


def test_genes_alone(small, model):
    ch.tl.embed_genes(small, model, genes=GENES)
    at = small.var_names.get_indexer(GENES)
    close(small.varm[KEY][at], model.embed([f"Gene {gene}" for gene in GENES]))
    assert np.isnan(np.delete(small.varm[KEY], at, axis=0)).all()
    assert small.varm[KEY].dtype == np.float32


def test_default_genes_are_those_of_the_mask(small, model):
    ch.tl.embed_genes(small, model)
    np.testing.assert_array_equal(~np.isnan(small.varm[KEY][:, 0]), small.var["sentence_gene"])
    params = small.uns[KEY]["gene_params"]
    assert {"model": "mini", "template": "gene", "wrap": model.wrap}.items() <= params.items()


def test_symbols_from_a_column(small, model):
    small.var["name"] = small.var_names
    small.var_names = [f"ENSG{i:011d}" for i in range(small.n_vars)]
    ch.tl.embed_genes(small, model, genes=GENES, gene_symbols="name")
    close(
        small.varm[KEY][small.var["name"].isin(GENES)],
        model.embed([f"Gene {g}" for g in small.var["name"] if g in GENES]),
    )


def test_medoid_is_the_cell_most_similar_to_the_mean(small, model):
    ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type")
    mask = small.var["sentence_gene"].to_numpy()
    contexts = small.uns[KEY]["contexts"].set_index("label")
    for group in small.obs["cell_type"].unique():
        cells = np.flatnonzero(small.obs["cell_type"] == group)
        dense = small.X.toarray()[cells][:, mask].astype(float)
        mean = dense.mean(0)
        cosine = dense @ mean / np.linalg.norm(dense, axis=1)
        medoid = small.obs_names[cells[np.argmax(cosine)]]
        assert contexts.loc[group, "cell"] == medoid
        assert contexts.loc[group, "sentence"] == small.obs.loc[medoid, "cell_sentence"]
        found = small.varm[f"{KEY}:{group}"][small.var_names.get_indexer(GENES)]
        close(found, in_cell(model, contexts.loc[group, "sentence"]))


def test_pseudobulk_is_the_ranked_mean_profile(small, model):
    ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type", groups=["B"], context="pseudobulk")
    row = small.uns[KEY]["contexts"].iloc[0]
    mean = small[small.obs["cell_type"] == "B"].X.toarray().astype(float).mean(0)
    mean[~small.var["sentence_gene"].to_numpy()] = 0
    order = np.argsort(-mean, kind="stable")[:15]
    assert row["cell"] == ""
    assert set(row["sentence"].split(" ")) == set(small.var_names[order])
    assert row["sentence"].split(" ")[0] == small.var_names[order[0]]
    close(small.varm[f"{KEY}:B"][small.var_names.get_indexer(GENES)], in_cell(model, row["sentence"]))


def test_cells_are_drawn_by_seed_and_averaged(small, model):
    options = {"genes": GENES, "groupby": "cell_type", "groups": ["B"], "context": "cells", "n_cells": 3}
    ch.tl.embed_genes(small, model, rng=1, **options)
    contexts = small.uns[KEY]["contexts"]
    assert len(contexts) == small.uns[KEY]["groups"]["n_cells"].iloc[0] == 3
    assert (small.obs.loc[contexts["cell"], "cell_type"] == "B").all()
    expected = np.mean([in_cell(model, s) for s in contexts["sentence"]], axis=0)
    close(small.varm[f"{KEY}:B"][small.var_names.get_indexer(GENES)], expected)
    first = list(contexts["cell"])
    ch.tl.embed_genes(small, model, rng=1, **options)
    assert list(small.uns[KEY]["contexts"]["cell"]) == first
    ch.tl.embed_genes(small, model, rng=2, **options)
    assert list(small.uns[KEY]["contexts"]["cell"]) != first


def test_fewer_cells_than_asked_are_all_taken_with_a_warning(small, model):
    with pytest.warns(UserWarning, match="1 of 1 groups have fewer than n_cells=500"):
        ch.tl.embed_genes(
            small, model, genes=GENES[:1], groupby="cell_type", groups=["B"], context="cells", n_cells=500
        )
    assert len(small.uns[KEY]["contexts"]) == (small.obs["cell_type"] == "B").sum()


def test_context_follows_the_matrix_of_the_sentences(small, model):
    """Scaled X, sentences from raw: medoids are computed from raw too, without being told."""
    expected = small.copy()
    ch.tl.embed_genes(expected, model, genes=GENES, groupby="cell_type", groups=["B"])
    small.raw = small.copy()
    small.X = small.X.toarray() - 0.5
    ch.pp.cell_sentences(small, n_genes=15, use_raw=True)
    ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type", groups=["B"])
    close(
        small.varm[f"{KEY}:B"][expected.var_names.isin(GENES)],
        expected.varm[f"{KEY}:B"][expected.var_names.isin(GENES)],
    )
    with pytest.raises(ValueError, match="negative values"):
        ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type", use_raw=False)


def test_formats_give_the_same_medoid(small, model, monkeypatch):
    monkeypatch.setattr("cellhermes.tl._expression.BLOCK", 13)
    seen = []
    for convert in (sparse.csr_matrix, sparse.csc_matrix, lambda x: x.toarray()):
        data = small.copy()
        data.X = convert(small.X)
        ch.tl.embed_genes(data, model, genes=GENES[:1], groupby="cell_type")
        seen.append(list(data.uns[KEY]["contexts"]["cell"]))
    assert seen[0] == seen[1] == seen[2]


def test_second_call_adds_groups_and_replaces_its_own(small, model):
    options = {"genes": GENES[:1], "groupby": "cell_type"}
    ch.tl.embed_genes(small, model, groups=["B"], **options)
    ch.tl.embed_genes(small, model, groups=["NK"], **options)
    ch.tl.embed_genes(small, model, groups=["B"], context="pseudobulk", **options)
    groups = small.uns[KEY]["groups"].set_index("label")
    assert groups["context"].to_dict() == {"NK": "medoid", "B": "pseudobulk"}
    assert sorted(small.uns[KEY]["contexts"]["label"]) == ["B", "NK"]


def test_slash_in_a_group_becomes_an_underscore_and_the_label_stays(small, model, tmp_path):
    small.obs["cell_type"] = small.obs["cell_type"].cat.rename_categories({"B": "B/plasma α"})
    ch.tl.embed_genes(small, model, genes=GENES[:1], groupby="cell_type", groups=["B/plasma α"])
    assert f"{KEY}:B_plasma α" in small.varm
    assert small.uns[KEY]["groups"]["label"].tolist() == ["B/plasma α"]
    small.write_h5ad(tmp_path / "a.h5ad")


def test_groups_that_share_a_key_are_refused(small, model):
    small.obs["g"] = np.where(np.arange(80) % 2, "a/b", "a_b")
    with pytest.raises(ValueError, match="would both be stored"):
        ch.tl.embed_genes(small, model, genes=GENES[:1], groupby="g")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"genes": ["CD3E", "NOPE1", "NOPE2"]}, KeyError, "2 of 3 genes are not in the data: NOPE1, NOPE2"),
        ({"genes": "CD3E"}, TypeError, "single string 'CD3E'"),
        ({"genes": []}, ValueError, "No genes to embed"),
        ({"gene_mask": "nope"}, KeyError, r"var\['nope'\].*mask_genes"),
        ({"groupby": "nope"}, KeyError, r"obs\['nope'\].*Its columns are.*cell_type"),
        ({"groupby": "cell_type", "groups": "B"}, TypeError, "single string 'B'"),
        ({"groupby": "cell_type", "groups": ["B", "Z"]}, ValueError, r"No cells in groups \['Z'\].*'NK'"),
        ({"groupby": "cell_type", "context": "mean"}, ValueError, "'medoid', 'pseudobulk' or 'cells'"),
        ({"groupby": "cell_type", "context": "cells", "n_cells": 0}, ValueError, "n_cells=0"),
        ({"groupby": "cell_type", "sentence_key": "nope"}, KeyError, "cell_sentences"),
        ({"groupby": "cell_type", "layer": "nope"}, KeyError, "layer 'nope' not found"),
    ],
)
def test_bad_input_is_named_before_a_model_is_loaded(small, monkeypatch, options, error, message):
    monkeypatch.setattr(ch.CellHermes, "from_pretrained", lambda *_: pytest.fail("loaded"))
    before = (list(small.varm), list(small.uns))
    with pytest.raises(error, match=message):
        ch.tl.embed_genes(small, **options)
    assert (list(small.varm), list(small.uns)) == before


def test_group_whose_cells_are_empty_is_refused(small, model):
    small.obs["cell_sentence"] = small.obs["cell_sentence"].where(small.obs["cell_type"] != "B", "")
    with pytest.raises(ValueError, match=r"Every cell of groups \['B'\] has an empty sentence"):
        ch.tl.embed_genes(small, model, groupby="cell_type")


def test_unused_category_is_a_group_without_cells(small, model):
    small.obs["cell_type"] = small.obs["cell_type"].cat.add_categories("Empty")
    with pytest.raises(ValueError, match=r"No cells in groups \['Empty'\]"):
        ch.tl.embed_genes(small, model, groupby="cell_type", groups=["Empty"])
    ch.tl.embed_genes(small, model, genes=GENES[:1], groupby="cell_type")
    assert "Empty" not in list(small.uns[KEY]["groups"]["label"])


def test_too_long_a_context_names_its_cell(small, model):
    small.obs["cell_sentence"] = " ".join(f"GENE{i}" for i in range(900))
    with pytest.raises(ch.model.PromptLengthError) as error:
        ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type", groups=["B"])
    assert "with 900 genes" in error.value.__notes__[0]


@pytest.mark.parametrize("groupby", [None, "cell_type"])
def test_genes_that_the_model_never_read_are_flagged(small, model, monkeypatch, caplog, groupby):
    monkeypatch.setattr(model, "unseen_genes", frozenset({"LYZ", "NOT_HERE"}))
    groups = None if groupby is None else ["B"]
    with caplog.at_level("WARNING", "cellhermes"):
        ch.tl.embed_genes(small, model, genes=GENES, groupby=groupby, groups=groups)
    assert small.var_names[small.var[f"{KEY}_unseen"]].tolist() == ["LYZ"]
    assert "1 of 4 genes" in caplog.text
    assert "LYZ" in caplog.text
    caplog.clear()
    ch.tl.embed_genes(small, model, genes=["CD3E"])
    assert not small.var[f"{KEY}_unseen"].any()
    assert "never" not in caplog.text


def test_a_model_without_a_list_flags_nothing(small, model, monkeypatch):
    monkeypatch.setattr(model, "unseen_genes", frozenset())
    ch.tl.embed_genes(small, model, genes=GENES)
    assert f"{KEY}_unseen" not in small.var
