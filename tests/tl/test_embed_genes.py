"""Vectors of genes, alone and in cells that stand for their group."""

import copy
import dataclasses
import tracemalloc

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
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


def vectors_of(adata, group, genes=GENES):
    return ch.get.gene_vectors(adata, genes, [group]).to_numpy()


def in_cell(model, sentence, genes=GENES):
    fill = ch.text.Template.load("gene_in_cell").fill
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
        close(vectors_of(small, group), in_cell(model, contexts.loc[group, "sentence"]))


def test_pseudobulk_is_the_ranked_mean_profile(small, model):
    ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type", groups=["B"], context="pseudobulk")
    row = small.uns[KEY]["contexts"].iloc[0]
    mean = small[small.obs["cell_type"] == "B"].X.toarray().astype(float).mean(0)
    mean[~small.var["sentence_gene"].to_numpy()] = 0
    order = np.argsort(-mean, kind="stable")[:15]
    assert row["cell"] == ""
    assert set(row["sentence"].split(" ")) == set(small.var_names[order])
    assert row["sentence"].split(" ")[0] == small.var_names[order[0]]
    close(vectors_of(small, "B"), in_cell(model, row["sentence"]))


def test_cells_are_drawn_by_seed_and_averaged(small, model):
    options = {"genes": GENES, "groupby": "cell_type", "groups": ["B"], "context": 3}
    ch.tl.embed_genes(small, model, rng=1, **options)
    contexts = small.uns[KEY]["contexts"]
    assert len(contexts) == small.uns[KEY]["groups"]["n_cells"].iloc[0] == 3
    assert (small.obs.loc[contexts["cell"], "cell_type"] == "B").all()
    expected = np.mean([in_cell(model, s) for s in contexts["sentence"]], axis=0)
    close(vectors_of(small, "B"), expected)
    first = list(contexts["cell"])
    ch.tl.embed_genes(small, model, rng=1, **options)
    assert list(small.uns[KEY]["contexts"]["cell"]) == first
    ch.tl.embed_genes(small, model, rng=2, **options)
    assert list(small.uns[KEY]["contexts"]["cell"]) != first


def test_fewer_cells_than_asked_are_all_taken_with_a_warning(small, model):
    with pytest.warns(UserWarning, match="1 of 1 groups have fewer than 500"):
        ch.tl.embed_genes(small, model, genes=GENES[:1], groupby="cell_type", groups=["B"], context=500)
    assert len(small.uns[KEY]["contexts"]) == (small.obs["cell_type"] == "B").sum()


def test_context_follows_the_matrix_of_the_sentences(small, model):
    """Scaled X, sentences from raw: medoids are computed from raw too, without being told."""
    expected = small.copy()
    ch.tl.embed_genes(expected, model, genes=GENES, groupby="cell_type", groups=["B"])
    small.raw = small.copy()
    small.X = small.X.toarray() - 0.5
    ch.pp.cell_sentences(small, n_genes=15, use_raw=True)
    ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type", groups=["B"])
    close(vectors_of(small, "B"), vectors_of(expected, "B"))
    del small.uns["cell_sentence"]  # sentences of one's own are taken to be of X
    with pytest.raises(ValueError, match="negative values"):
        ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type")


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


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_labels_with_slash_and_unicode_survive_the_disk(small, model, tmp_path, suffix):
    labels = ["B/plasma α", "B_plasma α"]
    small.obs["cell_type"] = small.obs["cell_type"].cat.rename_categories(dict(zip(["B", "NK"], labels, strict=True)))
    ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type", groups=labels)
    expected = ch.get.gene_vectors(small)
    assert expected.index.get_level_values("group").unique().tolist() == labels
    getattr(small, f"write_{suffix}")(tmp_path / f"a.{suffix}")
    again = getattr(ad, f"read_{suffix}")(tmp_path / f"a.{suffix}")
    pd.testing.assert_frame_equal(ch.get.gene_vectors(again), expected)
    ch.tl.embed_genes(again, model, genes=GENES, groupby="cell_type", groups=labels[:1])
    pd.testing.assert_frame_equal(ch.get.gene_vectors(again, groups=labels), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"genes": ["CD3E", "NOPE1", "NOPE2"]}, KeyError, "2 of 3 genes are not in the data: NOPE1, NOPE2"),
        ({"genes": "CD3E"}, TypeError, "single string 'CD3E'"),
        ({"genes": []}, ValueError, "No genes to embed"),
        ({"groupby": "nope"}, KeyError, r"obs\['nope'\].*Its columns are.*cell_type"),
        ({"groupby": "cell_type", "groups": "B"}, TypeError, "single value 'B'"),
        ({"groupby": "cell_type", "groups": ["B", "Z"]}, KeyError, r"No cells in groups \['Z'\].*'NK'"),
        ({"groupby": "cell_type", "context": "mean"}, ValueError, "'medoid', 'pseudobulk', or a number"),
        ({"groupby": "cell_type", "context": 0}, ValueError, "context=0"),
        ({"groupby": "cell_type", "sentence_key": "nope"}, KeyError, "cell_sentences"),
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
    with pytest.raises(KeyError, match=r"No cells in groups \['Empty'\]"):
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
    ch.tl.embed_genes(small, model, genes=GENES)
    monkeypatch.setattr(model, "unseen_genes", frozenset())  # as of another model: the flags of the first are not its
    ch.tl.embed_genes(small, model, genes=GENES)
    assert f"{KEY}_unseen" not in small.var


# ---- the slot


def stored(adata):
    return adata.uns[KEY]["vectors"]


def test_groups_take_no_more_memory_than_what_was_asked_for(small, model, monkeypatch):
    """Neither afterwards nor at the peak of the call."""
    dim, genes, groups = 4096, list(small.var_names[:100]), sorted(small.obs["cell_type"].unique())
    monkeypatch.setattr(type(model), "dim", dim)
    monkeypatch.setattr(model, "embed", lambda prompts, batch_size: np.ones((len(prompts), dim), np.float32))
    monkeypatch.setattr("cellhermes.tl._embed_genes.BLOCK", 30)
    tracemalloc.start()
    ch.tl.embed_genes(small, model, genes=genes, groupby="cell_type")
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    asked = len(genes) * len(groups) * dim * 4
    assert stored(small)["0"]["values"].nbytes == asked
    assert max(size, peak) < 1.2 * asked
    assert list(small.varm) == []


def test_few_genes_of_many_groups_take_no_more_once_they_are_read_again(small, model, monkeypatch, tmp_path):
    monkeypatch.setattr(model, "embed", lambda prompts, batch_size: np.ones((len(prompts), model.dim), np.float32))
    ch.pp.cell_sentences(small, n_genes=10)
    small.obs["each"] = small.obs_names
    ch.tl.embed_genes(small, model, genes=GENES, groupby="each")
    small.write_h5ad(tmp_path / "a.h5ad")
    there = ad.read_h5ad(tmp_path / "a.h5ad").uns[KEY]
    size = sum(part.nbytes for part in there["vectors"]["0"].values())
    size += there["groups"].memory_usage(deep=True).sum() + there["contexts"]["sentence"].str.len().sum()
    assert size < 1.2 * len(GENES) * small.n_obs * model.dim * 4


@pytest.mark.parametrize("kind", [set, tuple, iter, dict.fromkeys, pd.Index, np.array])
def test_genes_come_in_any_collection(small, model, kind):
    ch.tl.embed_genes(small, model, genes=kind(GENES), groupby="cell_type", groups=["B", "NK"])
    found = ch.get.gene_vectors(small, kind(GENES), ["NK", "B"])
    assert sorted(found.index) == sorted((gene, label) for gene in GENES for label in ("B", "NK"))
    with pytest.raises(ValueError, match="groups is empty"):
        ch.get.gene_vectors(small, groups=[])


def test_vectors_survive_copies_and_subsets_of_genes(small, model):
    ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type", groups=["B"])
    expected = ch.get.gene_vectors(small)
    for other in (small.copy(), small[:, small.var_names != "CD3E"].copy(), small[:5]):
        pd.testing.assert_frame_equal(ch.get.gene_vectors(other), expected)


def test_replaced_groups_leave_their_array(small, model):
    options = {"groupby": "cell_type"}
    ch.tl.embed_genes(small, model, genes=GENES, groups=["B", "NK", "CD4 T"], **options)
    before = ch.get.gene_vectors(small)
    ch.tl.embed_genes(small, model, genes=GENES[:2], groups=["NK"], **options)
    assert [array["groups"].tolist() for array in stored(small).values()] == [["B", "CD4 T"], ["NK"]]
    assert stored(small)["0"]["values"].shape[:2] == (2, 4)
    found = ch.get.gene_vectors(small)
    assert sorted(found.xs("NK", level="group").index) == sorted(GENES[:2])
    for label in ("B", "CD4 T"):
        pd.testing.assert_frame_equal(found.xs(label, level="group"), before.xs(label, level="group"))
    ch.tl.embed_genes(small, model, genes=GENES, groups=["B", "CD4 T"], **options)
    assert [array["groups"].tolist() for array in stored(small).values()] == [["NK"], ["B", "CD4 T"]]


@pytest.mark.parametrize("groupby", [None, "cell_type"])
def test_more_than_the_memory_is_refused_before_a_model_is_loaded(small, monkeypatch, caplog, groupby):
    monkeypatch.setattr(ch.CellHermes, "from_pretrained", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr("cellhermes.model._load.width_of", lambda card: 10**12)
    with pytest.raises(MemoryError, match=r"numbers \(.* GB\), more than the memory of this machine.*genes="):
        ch.tl.embed_genes(small, genes=GENES, groupby=groupby)
    assert KEY not in small.uns


def test_the_size_is_told_before_a_model_is_loaded(small, model, monkeypatch, caplog):
    monkeypatch.setattr(ch.CellHermes, "from_pretrained", lambda *_: pytest.fail("loaded"))
    with caplog.at_level("INFO", "cellhermes"), pytest.raises(pytest.fail.Exception):
        ch.tl.embed_genes(small, genes=GENES, groupby="cell_type", groups=["B"])
    assert f"uns['{KEY}']['vectors'] will hold 1 x 4 x {model.dim} numbers" in caplog.text


def test_an_interruption_leaves_the_object_as_it_was(small, model, monkeypatch):
    ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type", groups=["B", "NK"])
    before, calls = ch.get.gene_vectors(small), []

    def interrupted(prompts, batch_size):
        calls.append(prompts)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return np.ones((len(prompts), model.dim), np.float32)

    monkeypatch.setattr(model, "embed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type", groups=["B", "NK"])
    pd.testing.assert_frame_equal(ch.get.gene_vectors(small), before)


# ---- raw


def test_genes_that_only_raw_has_are_embedded_too(small, model):
    expected = small.copy()
    ch.tl.embed_genes(expected, model, genes=GENES, groupby="cell_type", groups=["B"])
    small.raw = small
    small = small[:, ~small.var_names.isin(["CD3E", "LYZ"])].copy()
    small.X = small.X.toarray() - 0.5
    del small.var["sentence_gene"]
    ch.pp.cell_sentences(small, n_genes=15, use_raw=True)
    ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type", groups=["B"])
    assert small.uns[KEY]["contexts"].equals(expected.uns[KEY]["contexts"])
    close(vectors_of(small, "B"), vectors_of(expected, "B"))
    ch.tl.embed_genes(small, model, groupby="cell_type", groups=["NK"])
    assert len(ch.get.gene_vectors(small, groups=["NK"])) == expected.var["sentence_gene"].sum()


def test_genes_of_raw_are_embedded_alone_by_symbol(small, model, tmp_path):
    whole = small.copy()
    ch.tl.embed_genes(whole, model, genes=GENES)
    small.raw = small
    cut = small[:, ~small.var_names.isin(["CD3E", "LYZ"])].copy()
    ch.pp.cell_sentences(cut, n_genes=15, use_raw=True)
    ch.tl.embed_genes(cut, model, genes=GENES)
    cut.write_h5ad(tmp_path / "a.h5ad")
    for adata in (cut, ad.read_h5ad(tmp_path / "a.h5ad")):
        pd.testing.assert_frame_equal(ch.get.gene_vectors(adata), ch.get.gene_vectors(whole), check_exact=False)
    assert KEY not in cut.varm
    ch.tl.embed_genes(cut, model, genes=GENES, groupby="cell_type", groups=["B"])
    pd.testing.assert_frame_equal(ch.get.gene_vectors(cut, groups=[""]), ch.get.gene_vectors(whole), check_exact=False)
    del cut.raw  # then they go where the object's genes are
    ch.tl.embed_genes(cut, model, genes=["MS4A1"])
    assert KEY in cut.varm
    assert list(cut.uns[KEY]["vectors"]) == ["1"]


def test_genes_are_asked_for_by_symbol_or_name(small, model):
    ch.tl.embed_genes(small, model, genes=GENES)
    expected = ch.get.gene_vectors(small)
    small.var["symbol"] = small.var_names
    small.var_names = [f"ENSG{i:011d}" for i in range(small.n_vars)]
    ids = [small.var_names[small.var["symbol"] == gene][0] for gene in GENES]
    ch.tl.embed_genes(small, model, genes=[ids[0], *GENES[1:]], gene_symbols="symbol")
    close(ch.get.gene_vectors(small).to_numpy(), expected.to_numpy())
    assert ch.get.gene_vectors(small, ids[:2]).index.tolist() == [(gene, "") for gene in GENES[:2]]
    by_name, by_symbol = {"genes": ids, "key_added": "a"}, {"genes": GENES, "key_added": "b"}
    for options in (by_name, by_symbol):
        ch.tl.gene_network(small, use_rep="expression", gene_symbols="symbol", n_neighbors=3, **options)
    assert (small.varp["a"] != small.varp["b"]).nnz == 0


# ---- counts and log-normalised values


def contexts_of(adata, model, monkeypatch, context, layer=None, **options):
    if layer:
        ch.pp.cell_sentences(adata, n_genes=adata.uns["cell_sentence"]["params"]["n_genes"], layer=layer)
    monkeypatch.setattr(model, "embed", lambda prompts, batch_size: np.ones((len(prompts), model.dim), np.float32))
    genes = list(adata.var_names[adata.var["sentence_gene"]][:1])
    ch.tl.embed_genes(adata, model, genes=genes, groupby="cell_type", context=context, key_added="c", **options)
    return adata.uns["c"]["contexts"]


@pytest.mark.parametrize("context", ["medoid", "pseudobulk"])
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_counts_and_logarithms_give_the_same_context(adata, model, monkeypatch, context, dtype):
    assert_same_contexts(adata, adata.layers["counts"], model, monkeypatch, context, dtype)


@pytest.mark.parametrize("context", ["medoid", "pseudobulk"])
def test_counts_and_logarithms_of_real_cells_give_the_same_context(data_dir, model, monkeypatch, context):
    cells = sc.read_h5ad(data_dir / "pbmc3k_labelled.h5ad")
    assert_same_contexts(cells, cells.X.copy(), model, monkeypatch, context, np.float32)


def assert_same_contexts(adata, counts, model, monkeypatch, context, dtype):
    adata.layers["counts"] = sparse.csr_matrix(counts).astype(dtype)
    adata.X = sparse.csr_matrix(counts).astype(np.float32)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    ch.pp.cell_sentences(adata)
    of_logarithms = contexts_of(adata, model, monkeypatch, context)
    pd.testing.assert_frame_equal(contexts_of(adata, model, monkeypatch, context, layer="counts"), of_logarithms)
    assert of_logarithms["label"].nunique() > 3


def test_a_deep_cell_does_not_outweigh_the_others(small, model, monkeypatch):
    """With raw counts, the mean of a group is that of its deepest cells."""
    counts = small.layers["counts"].toarray().astype(float)
    deep = np.flatnonzero(small.obs["cell_type"] == "B")[0]
    counts[deep] *= 1000
    small.layers["counts"] = sparse.csr_matrix(counts)
    of_logarithms = contexts_of(small, model, monkeypatch, "pseudobulk")
    assert contexts_of(small, model, monkeypatch, "pseudobulk", layer="counts").equals(of_logarithms)


def test_cells_of_which_some_have_counts_are_refused(small, model, monkeypatch):
    monkeypatch.setattr("cellhermes.tl._expression.BLOCK", 40)
    small.X[40:] = small.layers["counts"][40:]
    with pytest.raises(ValueError, match="row 40 .*one part has counts"):
        ch.tl.embed_genes(small, model, genes=GENES, groupby="cell_type")


def test_values_without_logarithm_are_warned_of(small, model, monkeypatch):
    small.layers["normalised"] = np.expm1(small.X)
    monkeypatch.setattr("cellhermes.tl._expression.BLOCK", 13)
    with pytest.warns(UserWarning, match=r"values up to [\d,]+, as normalised values.*sc.pp.log1p") as caught:
        contexts_of(small, model, monkeypatch, "medoid", layer="normalised")
    assert len(caught) == 2  # one for each reading: means, then medoids
    small.uns["log1p"] = {"base": None}
    contexts_of(small, model, monkeypatch, "medoid", layer="normalised")


def test_the_first_of_equal_medoids_is_taken_wherever_blocks_end(small, model, monkeypatch):
    cells = np.flatnonzero(small.obs["cell_type"] == "B")
    small.X = small.X.toarray()
    small.X[cells] = small.X[cells[0]]
    expected = [small.obs_names[cells[0]]]
    for block in (2_000, 7, 1):
        monkeypatch.setattr("cellhermes.tl._expression.BLOCK", block)
        assert contexts_of(small, model, monkeypatch, "medoid", groups=["B"])["cell"].tolist() == expected


# ---- groups that were made in different ways


def remade(adata, model, way):
    """Arguments of a call that makes vectors in another way."""
    options = {}
    if way == "model_sha256":
        model = copy.copy(model)
        model.__dict__["sha256"] = "0" * 64
    elif way == "template_version":
        newer = dataclasses.replace(ch.text.Template.load("gene_in_cell"), version=2)
        return model, {}, newer
    elif way == "sentence_n_genes":
        ch.pp.cell_sentences(adata, n_genes=9)
    elif way == "mask_sha256":
        adata.var.loc["CD3E", "sentence_gene"] = False
    elif way == "layer":
        ch.pp.cell_sentences(adata, n_genes=15, layer="counts")
    else:
        options = {"context": "pseudobulk"}
    return model, options, None


@pytest.mark.parametrize(
    "way", ["model_sha256", "template_version", "context", "layer", "sentence_n_genes", "mask_sha256"]
)
def test_groups_made_in_different_ways_are_not_put_side_by_side(small, model, monkeypatch, way):
    call = {"genes": list(small.var_names[:30]), "groupby": "cell_type"}
    ch.tl.embed_genes(small, model, groups=["B"], **call)
    ch.tl.gene_network(small, groupby="cell_type", n_neighbors=5)
    other, options, template = remade(small, model, way)
    if template is not None:
        monkeypatch.setattr("cellhermes.tl._embed_genes.Template.load", lambda name: template)
    ch.tl.embed_genes(small, other, groups=["NK"], **call, **options)
    message = f"'B' and 'NK' were made in different ways and can't be compared: .*{way} .* and "
    for compare in (
        lambda: ch.tl.gene_network(small, groupby="cell_type", n_neighbors=5),
        lambda: ch.get.gene_vectors(small),
    ):
        with pytest.raises(ValueError, match=message):
            compare()
    ch.tl.gene_network(small, groupby="cell_type", groups=["NK"], n_neighbors=5)
    for compare in (
        lambda: ch.get.degree_change(small, "B", "NK"),
        lambda: ch.tl.modules(small, "B", "NK", min_genes=2),
    ):
        with pytest.raises(ValueError, match=message):
            compare()
    assert "modules" not in small.uns


def test_one_model_under_two_names_may_be_compared(small, model):
    copied = copy.copy(model)
    copied.card = dataclasses.replace(model.card, name="a copy", base="/elsewhere")
    for one, group in ((model, "B"), (copied, "NK")):
        ch.tl.embed_genes(small, one, genes=GENES, groupby="cell_type", groups=[group])
    assert len(ch.get.gene_vectors(small)) == 8
