from __future__ import annotations

import logging
import re
from contextlib import nullcontext
from hashlib import blake2b

import anndata as ad
import dask.array as da
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import cellhermes as ch
from cellhermes._keys import GENE_MASK, SENTENCE, version


def sentences(adata, **options):
    ch.pp.cell_sentences(adata, **options)
    return adata.obs[SENTENCE].astype(str).tolist()


def test_a_sentence_names_the_genes_of_a_cell_in_falling_order(adata):
    adata.X = np.zeros(adata.shape, "float32")
    adata.X[:, adata.var_names.get_indexer(["CD3E", "CD4", "MT-CO1"])] = [3, 5, 9]  # MT-CO1 is not in the mask
    assert set(sentences(adata)) == {"CD4 CD3E"}
    assert set(sentences(adata, n_genes=1)) == {"CD4"}


def test_words_are_distinct_genes_of_the_mask_and_fall_in_value(adata):
    adata.X.data += np.random.default_rng(0).random(adata.X.nnz).astype("float32") * 1e-3  # no ties
    for i, sentence in enumerate(sentences(adata, n_genes=50)[:20]):
        words = sentence.split(" ")
        masked = adata[i, adata.var[GENE_MASK].to_numpy()]
        expected = masked.to_df().iloc[0].sort_values(ascending=False).index[:50]
        assert words == expected.tolist()


def test_counts_and_log_normalised_values_give_the_same_sentences(adata):
    assert sentences(adata) == sentences(adata, layer="counts")


def test_column_order_does_not_change_sentences(adata):
    permuted = adata[:, np.random.default_rng(0).permutation(adata.n_vars)].copy()
    assert sentences(permuted) == sentences(adata)


def test_a_subset_of_the_cells_has_the_same_sentences(adata):
    subset = adata[50:80].copy()
    assert sentences(subset) == sentences(adata)[50:80]


def test_more_genes_than_there_are_give_all_that_are_expressed(adata):
    words = [len(sentence.split()) for sentence in sentences(adata, n_genes=10**9)]
    assert words == (adata[:, adata.var[GENE_MASK].to_numpy()].X > 0).sum(axis=1).ravel().tolist()[0]


def test_chunk_size_does_not_change_sentences(adata):
    assert sentences(adata, chunk_size=7) == sentences(adata, chunk_size=300)


def test_storage_does_not_change_sentences(adata, tmp_path):
    expected = sentences(adata.copy(), chunk_size=64)
    x = adata.X
    for stored in (x.tocsc(), x.toarray(), sparse.csr_array(x), x.astype("float64")):
        adata.X = stored
        assert sentences(adata, chunk_size=64) == expected
        del adata.obs[SENTENCE]
        for suffix in ("h5ad", "zarr"):
            getattr(adata, f"write_{suffix}")(tmp_path / f"a.{suffix}")
            assert sentences(getattr(ad, f"read_{suffix}")(tmp_path / f"a.{suffix}")) == expected
        backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
        assert sentences(backed, chunk_size=64) == expected
        backed.file.close()
    adata.X = da.from_array(x.toarray(), chunks=(70, 100))
    assert sentences(adata, chunk_size=64) == expected


def test_a_view_becomes_its_own_object_and_the_parent_stays(adata):
    view = adata[20:60]
    with pytest.warns(ad.ImplicitModificationWarning):
        ch.pp.cell_sentences(view)
    assert not view.is_view
    assert SENTENCE not in adata.obs
    assert SENTENCE not in adata.uns
    assert view.obs[SENTENCE].tolist() == sentences(adata)[20:60]


def test_a_modality_of_mudata_gets_the_sentences(adata):
    mdata = mudata.MuData({"rna": adata})
    ch.pp.cell_sentences(mdata, mod="rna")
    assert mdata["rna"].obs[SENTENCE].tolist() == sentences(ch.datasets.toy())


def test_gene_symbols_are_taken_from_a_column(adata):
    expected = sentences(adata.copy())
    adata.var["symbol"] = adata.var_names
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    with pytest.raises(ValueError, match="Pass gene_symbols='symbol'"):
        ch.pp.cell_sentences(adata)
    assert sentences(adata, gene_symbols="symbol") == expected


def test_raw_is_read_even_if_it_has_other_genes(adata):
    expected = sentences(adata.copy())
    adata.raw = adata
    subset = adata[:, :20].copy()
    subset.X = subset.X.toarray() - 1  # scaled values must not be looked at
    assert sentences(subset, use_raw=True) == expected
    assert GENE_MASK not in subset.var  # of other genes
    assert sentences(adata, use_raw=True) == expected
    assert GENE_MASK in adata.var
    subset.raw.var[GENE_MASK] = subset.raw.var_names.isin(["ACTB", "B2M", "COX7C", "P4HB"])
    words = {word for sentence in sentences(subset, use_raw=True) for word in sentence.split()}
    assert words == {"ACTB", "B2M", "COX7C", "P4HB"}


def test_a_missing_mask_is_made_and_kept(adata, caplog):
    with caplog.at_level(logging.INFO, "cellhermes"):
        ch.pp.cell_sentences(adata)
    other = ch.datasets.toy()
    ch.pp.mask_genes(other)
    assert adata.var[GENE_MASK].equals(other.var[GENE_MASK])
    assert "the mask 'sentence_gene' was missing" in caplog.text
    assert "300 cells, at most 100 genes each -> obs['cell_sentence']" in caplog.text


def test_a_mask_of_ones_own_is_used(adata):
    adata.var["mine"] = adata.var_names.isin(["MT-CO1", "MALAT1"])
    words = {word for sentence in sentences(adata, gene_mask="mine") for word in sentence.split()}
    assert words == {"MT-CO1", "MALAT1"}
    assert GENE_MASK not in adata.var


def test_parameters_are_stored_and_survive(adata, tmp_path):
    ch.pp.cell_sentences(adata, n_genes=12, layer="counts")
    expected = {"n_genes": 12, "layer": "counts", "use_raw": False, "gene_symbols": "", "gene_mask": GENE_MASK}
    expected |= {"modality": "rna", "n_orders": 1, "version": version()}
    assert adata.uns[SENTENCE]["params"] == expected
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata.write_zarr(tmp_path / "a.zarr")
    for back in (ad.read_h5ad(tmp_path / "a.h5ad"), ad.read_zarr(tmp_path / "a.zarr")):
        assert back.uns[SENTENCE]["params"] == expected
        assert back.obs[SENTENCE].astype(str).tolist() == adata.obs[SENTENCE].astype(str).tolist()
        assert back.var[GENE_MASK].dtype == bool


def test_concatenated_objects_keep_their_sentences(adata):
    whole = sentences(adata)
    joined = ad.concat([adata[:100], adata[100:]], merge="same", uns_merge="same")
    assert joined.obs[SENTENCE].tolist() == whole
    assert joined.uns[SENTENCE]["params"]["n_genes"] == 100


def test_cells_without_expression_get_an_empty_sentence_and_one_warning(adata):
    x = adata.X.tolil()
    x[[3, 7]] = 0
    adata.X = x.tocsr()
    with pytest.warns(
        UserWarning, match="2 of 300 cells express no gene of the mask and get an empty sentence"
    ) as caught:
        ch.pp.cell_sentences(adata)
    assert len(caught) == 1
    assert np.flatnonzero(adata.obs[SENTENCE] == "").tolist() == [3, 7]
    line = re.search("`(adata = .*?)`", str(caught[0].message))[1]
    exec(line, scope := {"adata": adata})  # what users would do
    assert scope["adata"].n_obs == 298


# ---- orders of ties

OTHERS = [f"{SENTENCE}_order_{number}" for number in (2, 3)]
TIED = f"{SENTENCE}_tied"


def by_hand(adata, number, n_genes):
    """Sentences in one order of ties and the share that ties decide, cell by cell."""
    masked = adata[:, adata.var[GENE_MASK].to_numpy()].to_df()
    salt = {0: b"", 1: b"", 2: b"\1"}[number]
    genes = sorted(masked, key=lambda gene: blake2b(gene.encode(), digest_size=8, salt=salt).digest())
    for _, values in masked[genes[::-1] if number == 1 else genes].iterrows():
        values = values[values > 0]
        words = sorted(values.index, key=lambda gene: -values[gene])[:n_genes]
        yield " ".join(words), np.mean([(values == values[word]).sum() > 1 for word in words])


def test_orders_differ_in_ties_only_and_the_first_is_that_of_one_order(adata):
    one = adata.copy()
    ch.pp.cell_sentences(one, n_genes=30)
    assert {*one.obs} - {*adata.obs} == {SENTENCE}
    ch.pp.cell_sentences(adata, n_genes=30, n_orders=3)
    assert adata.obs[SENTENCE].tolist() == one.obs[SENTENCE].tolist()
    some = adata[:40]
    for number, name in enumerate([SENTENCE, *OTHERS]):
        expected, shares = zip(*by_hand(some, number, 30), strict=True)
        assert some.obs[name].tolist() == [*expected]
    np.testing.assert_allclose(some.obs[TIED], shares)
    assert adata.uns[SENTENCE]["params"] == one.uns[SENTENCE]["params"] | {"n_orders": 3}
    assert adata.uns[OTHERS[0]]["params"] == one.uns[SENTENCE]["params"], "it is read as it is"


def test_values_without_ties_give_one_order(adata):
    adata.X.data[:] = np.random.default_rng(0).permutation(adata.X.nnz) + 1
    adata.X = adata.X.multiply((np.arange(300) != 5)[:, None]).tocsr()
    with pytest.warns(UserWarning, match="1 of 300 cells express no gene"):
        ch.pp.cell_sentences(adata, n_orders=2, chunk_size=70)
    assert adata.obs[OTHERS[0]].tolist() == adata.obs[SENTENCE].tolist()
    assert np.flatnonzero(adata.obs[TIED].isna()).tolist() == [5]
    assert adata.obs[TIED].sum() == 0


def test_orders_survive_files_and_fewer_of_them_leave_none_behind(adata, tmp_path):
    ch.pp.cell_sentences(adata, n_genes=20, n_orders=3)
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata.write_zarr(tmp_path / "a.zarr")
    for back in (ad.read_h5ad(tmp_path / "a.h5ad"), ad.read_zarr(tmp_path / "a.zarr")):
        for name in [SENTENCE, *OTHERS]:
            assert back.obs[name].astype(str).tolist() == adata.obs[name].tolist()
        np.testing.assert_array_equal(back.obs[TIED], adata.obs[TIED])
        ch.pp.cell_sentences(back, n_genes=20, n_orders=2)
        assert OTHERS[1] not in back.obs
        assert OTHERS[1] not in back.uns
        ch.pp.cell_sentences(back, n_genes=20)
        assert not {*OTHERS, TIED} & {*back.obs, *back.uns}
        assert back.obs[SENTENCE].tolist() == adata.obs[SENTENCE].tolist()


def unchanged(adata):
    return not {SENTENCE} & {*adata.obs, *adata.uns} and GENE_MASK not in adata.var


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.5, "the value of gene 'CD4' in cell 'cell_8' is -0.5; expected counts.*as layer=, or use_raw=True"),
        (np.nan, "the value of gene 'CD4' in cell 'cell_8' is nan; expected finite values"),
        (np.inf, "the value of gene 'CD4' in cell 'cell_8' is inf; expected finite values"),
        (-np.inf, "the value of gene 'CD4' in cell 'cell_8' is -inf; expected finite values"),
    ],
)
def test_values_without_a_rank_are_named(adata, value, text):
    x = adata.X.toarray()
    x[8, adata.var_names.get_loc("CD4")] = value
    adata.X = x
    with pytest.raises(ValueError, match=text):
        ch.pp.cell_sentences(adata, chunk_size=5)
    assert unchanged(adata)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"n_genes": 0}, ValueError, "n_genes=0; expected a whole number of at least 1"),
        ({"n_genes": -3}, ValueError, "n_genes=-3"),
        ({"n_orders": 0}, ValueError, "n_orders=0; expected a whole number of at least 1"),
        ({"n_genes": 1.5}, TypeError, "n_genes=1.5; expected a whole number"),
        ({"chunk_size": 0}, ValueError, "chunk_size=0"),
        ({"layer": "absent"}, KeyError, r"layer 'absent' not found; the object has the layers \['counts'\]"),
        ({"layer": "counts", "use_raw": True}, ValueError, "exclude each other"),
        ({"use_raw": True}, ValueError, "`adata.raw` is not set"),
        ({"gene_symbols": "absent"}, KeyError, r"`adata.var\['absent'\]` not found"),
        ({"gene_mask": "absent"}, KeyError, r"`adata.var\['absent'\]` not found. Store a boolean mask there"),
        ({"gene_mask": "numbers"}, TypeError, r"`adata.var\['numbers'\]` has values of type int64; expected a boolean"),
        ({"gene_mask": "gaps"}, TypeError, r"boolean mask without missing values"),
        ({"gene_mask": "none"}, ValueError, r"`adata.var\['none'\]` is False for all 376 genes"),
        ({"gene_symbols": "twice", "gene_mask": "all"}, ValueError, "375 symbols are marked in more than one column"),
        (
            {"gene_symbols": "blank", "gene_mask": "all"},
            ValueError,
            "376 marked genes have an empty symbol or one with a",
        ),
        ({"gene_symbols": "gaps", "gene_mask": "all"}, ValueError, "376 marked genes have an empty symbol"),
        ({"mod": "rna"}, ValueError, "mod='rna' names a modality"),
    ],
)
def test_bad_arguments_are_explained_and_nothing_changes(adata, options, error, text):
    adata.var["numbers"], adata.var["all"], adata.var["none"] = 1, True, False
    adata.var["gaps"] = pd.array([None] * adata.n_vars, "boolean")
    adata.var["twice"], adata.var["blank"] = "CD4", "CD 4"
    with pytest.raises(error, match=text):
        ch.pp.cell_sentences(adata, **options)
    assert unchanged(adata)


def test_empty_matrices_are_an_error(adata):
    for empty in (adata[:0].copy(), adata[:, :0].copy()):
        with pytest.raises(ValueError, match="expected at least one of each"):
            ch.pp.cell_sentences(empty)


def test_a_view_of_a_backed_object_is_an_error(adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    with pytest.raises(ValueError, match=re.escape("pass data.to_memory(), or the whole object")):
        ch.pp.cell_sentences(backed[:10])
    backed.file.close()


def test_real_cells_are_told_by_their_first_genes(data_dir):
    adata = ad.read_h5ad(data_dir / "pbmc3k_labelled.h5ad")
    ch.pp.cell_sentences(adata)
    words = adata.obs[SENTENCE].astype(str).str.split(" ")
    assert (words.str.len() == 100).all()
    assert not any(word.startswith(("MT-", "RPL")) or word == "MALAT1" for cell in words for word in cell)

    def share(gene):
        return words.map(lambda cell: gene in cell).groupby(adata.obs["cell_type"].astype(str)).mean()

    assert share("MS4A1").idxmax() == "B"
    assert share("LYZ").nlargest(3).index.str.contains("Mono|DC").all()
    for i in range(0, adata.n_obs, 400):  # by another way: counts of this cell, sorted by pandas
        counts = adata[i, adata.var[GENE_MASK].to_numpy()].to_df().iloc[0]
        assert (np.diff(counts[words.iloc[i]]) <= 0).all()
        assert counts.drop(words.iloc[i]).max() <= counts[words.iloc[i]].min()


# ---- modalities


def panel(n_obs=12, **var):
    """Surface proteins, an isotype control among them; every cell has all."""
    names = ["CD4", "CD19", "CD56", "IgG1-isotype"]
    x = np.random.default_rng(0).poisson(5, (n_obs, 4)).astype(np.float32) + 1
    obs = pd.DataFrame(index=[f"cell {i}" for i in range(n_obs)])
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(var, index=names))


@pytest.mark.parametrize(
    ("var", "mod", "given", "expected"),
    [
        ({}, "rna", "protein", "protein"),
        ({}, "prot", None, "protein"),
        ({}, "ADT", None, "protein"),
        ({"feature_types": "Antibody Capture"}, "x", None, "protein"),
        ({"feature_types": pd.Categorical(["Antibody Capture"] * 4)}, "rna", None, "protein"),
        ({"feature_types": ["Antibody Capture", None, "Gene Expression", "Peaks"]}, "prot", None, "rna"),
        ({}, "x", None, "rna"),
        ({"feature_types": "Peaks"}, "x", "metabolite", "metabolite"),
    ],
)
def test_modality_is_told_by_argument_feature_types_or_name(var, mod, given, expected):
    mdata = mudata.MuData({mod: panel(**var)})
    mdata[mod].var["own"] = True
    ch.pp.cell_sentences(mdata, mod=mod, modality=given, gene_mask="own")
    assert mdata[mod].uns[SENTENCE]["params"]["modality"] == expected


def test_default_mask_of_proteins_leaves_controls_out():
    adata = panel()
    assert {frozenset(s.split()) for s in sentences(adata, modality="protein")} == {frozenset(["CD4", "CD19", "CD56"])}
    assert adata.var[GENE_MASK].tolist() == [True, True, True, False]
    with pytest.raises(ValueError, match="none of 1 features may stand in a sentence of proteins"):
        ch.pp.cell_sentences(panel()[:, 3:].copy(), modality="protein")
    with pytest.raises(KeyError, match="No modality 'atac'. Known: rna, protein"):
        ch.pp.cell_sentences(panel(), modality="atac")


def test_antibodies_beside_genes_are_no_genes(adata):
    expected = sentences(adata.copy())
    names = list(adata.var_names[:30])
    antibodies = ad.AnnData(
        np.full((adata.n_obs, 30), 1e3, np.float32), var=pd.DataFrame({"symbol": names}, index=names)
    )
    antibodies.var_names = [f"{name}.1" for name in names]
    antibodies.obs_names, adata.var["symbol"] = adata.obs_names, adata.var_names
    both = ad.concat({"Gene Expression": adata, "Antibody Capture": antibodies}, axis=1, label="feature_types")
    assert sentences(both, gene_symbols="symbol") == expected
    assert both.uns[SENTENCE]["params"]["modality"] == "rna"
    del both.var[GENE_MASK]
    ch.pp.mask_genes(both, gene_symbols="symbol")
    assert not both.var.loc[both.var["feature_types"] == "Antibody Capture", GENE_MASK].any()


def test_what_reads_sentences_of_proteins_announces_proteins(tmp_path, tiny):
    said = "A cell with surface proteins ranked by abundance: "
    mdata = mudata.MuData({"prot": panel()})
    ch.pp.cell_sentences(mdata, mod="prot")
    sentence = mdata["prot"].obs[SENTENCE].iloc[0]
    ch.tl.embed_cells(mdata, tiny, mod="prot")
    shown = ch.get.prompts(mdata, mod="prot")["prompt"].iloc[0]
    assert said + sentence in shown
    own = tiny.embed([ch.text.Template.load("cell/protein").fill(genes=sentence.split())])
    np.testing.assert_allclose(mdata["prot"].obsm["X_cellhermes"][:1], own, atol=1e-5)
    assert mdata["prot"].uns["X_cellhermes"]["params"]["template"] == "cell/protein"

    ch.pp.cell_sentences(panel(), modality="protein", out=tmp_path / "s.zarr")
    ch.tl.embed_cells(tmp_path / "s.zarr", tiny, out=tmp_path / "v.zarr")
    stored = ad.read_zarr(tmp_path / "v.zarr")
    np.testing.assert_allclose(stored.obsm["X_cellhermes"], mdata["prot"].obsm["X_cellhermes"], atol=1e-5)

    question = ch.text.Task.load("t_cell_reactivity").in_words("protein")
    ch.tl.predict(mdata, tiny, "t_cell_reactivity", mod="prot", key_added="answer")
    expected = ch.tl.answer(mdata["prot"].obs, tiny, question)
    assert said in question.prompts(mdata["prot"].obs)[0].text
    np.testing.assert_allclose(mdata["prot"].obsm["answer"], expected.filter(regex="^probability:"), atol=1e-5)
    ch.tl.explain(mdata, tiny, "t_cell_reactivity", mod="prot")
    ch.tl.faithfulness(mdata, tiny, "t_cell_reactivity", steps=[1], cells=2, mod="prot")

    for data in (mdata, tmp_path / "s.zarr"):
        mod = "prot" if data is mdata else None
        masked = ch.train.corpus.mlm_pairs(data, mask_fraction=0.4, mod=mod)
        for pairs in (masked, ch.train.corpus.ar_pairs(data, n_prefix=1, n_answer=2, mod=mod)):
            assert said in pairs[0].prompt.text
        with pytest.raises(ValueError, match="modality='rna', but .* was made with 'protein'"):
            ch.train.corpus.mlm_pairs(data, modality="rna", mod=mod)


@pytest.mark.parametrize(
    ("name", "slots", "text"),
    [
        ("gene/protein", {"gene": "CD3"}, "Protein CD3"),
        ("gene/gene_activity", {"gene": "CD3E"}, "Gene CD3E"),
        ("cell/metabolite", {"genes": ["a", "b"]}, "A cell with metabolites ranked by abundance: a b"),
        (
            "gene_in_cell/protein",
            {"genes": ["CD3", "CD8"], "gene": "CD4"},
            "A cell with surface proteins ranked by abundance: CD3 CD8. In this cell, Protein CD4",
        ),
    ],
)
def test_templates_speak_the_words_of_a_modality(name, slots, text):
    assert ch.text.Template.load(name).fill(**slots).text == text


SELECTED = "Sentences are of a selection of genes"


def test_an_object_with_fewer_genes_than_raw_is_told(adata):
    adata.raw = adata
    selected = adata[:, 40:].copy()
    with pytest.warns(UserWarning, match=f"{SELECTED}: `adata.raw` has {adata.n_vars}.*pass use_raw=True"):
        ch.pp.cell_sentences(selected)
    whole = adata[:, 40:].copy()
    ch.pp.cell_sentences(whole, use_raw=True)  # which warns of nothing
    ch.pp.cell_sentences(adata)
    assert whole.obs["cell_sentence"].tolist() == adata.obs["cell_sentence"].tolist()


@pytest.mark.parametrize(("kept", "warns"), [(True, True), (False, False)])
def test_an_object_that_was_cut_to_variable_genes_is_told(adata, kept, warns):
    adata.uns["hvg"] = {"flavor": "seurat"}
    adata.var["highly_variable"] = [kept] * 40 + [True] * (adata.n_vars - 40)
    with pytest.warns(UserWarning, match=f"{SELECTED}.*variable genes") if warns else nullcontext():
        ch.pp.cell_sentences(adata)


@pytest.mark.parametrize(
    ("name", "warns"),
    [
        ("pbmc3k_labelled", False),
        ("breast_tumour_copykat", False),
        ("embryo_yan", False),
        ("oligodendroglioma_small", False),
        ("ipsc_cardiac_day2", True),
        ("pbmc_three_technologies", True),
    ],
)
def test_real_cells_of_selected_genes_are_told(data_dir, name, warns):
    cells = ad.read_h5ad(data_dir / f"{name}.h5ad")[:5].copy()
    with pytest.warns(UserWarning, match=f"{SELECTED}.*every cell") if warns else nullcontext():
        ch.pp.cell_sentences(cells)


def test_proteins_are_no_selection_of_genes(adata):
    adata.uns["hvg"] = {}
    ch.pp.cell_sentences(adata, modality="protein")
