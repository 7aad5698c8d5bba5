"""Vectors of cells: against the model and a slow loop, on every kind of AnnData."""

import re
import shutil

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import cellhermes as ch
from cellhermes.tl import _embed_cells

KEY = "X_cellhermes"


@pytest.fixture
def small(adata):
    """Thirty cells with sentences of at most 20 genes."""
    small = adata[:30].copy()
    ch.pp.cell_sentences(small, n_genes=20)
    return small


@pytest.fixture(scope="session")
def vectors(model):
    def of(data, key="cell_sentence"):
        fill = ch.text.Template.load("cell").fill
        return model.embed([fill(genes=s.split(" ")) for s in data.obs[key]])

    return of


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.nanmax(np.abs(expected)))


def test_vectors_are_those_of_the_sentences(small, model, vectors):
    ch.tl.embed_cells(small, model)
    assert small.obsm[KEY].dtype == np.float32
    close(small.obsm[KEY], vectors(small))


@pytest.mark.parametrize("block", [1, 50, 1000])
def test_vectors_of_orders_of_ties_are_averaged(adata, model, vectors, tmp_path, monkeypatch, block):
    monkeypatch.setattr(_embed_cells, "BLOCK", block)
    small = adata[:12].copy()
    ch.pp.cell_sentences(small, n_genes=20, n_orders=3)
    keys = [name for name in small.obs if name.startswith("cell_sentence") and name != "cell_sentence_tied"]
    each = [vectors(small, key) for key in keys]
    assert len(each) == 3
    assert np.abs(each[0] - each[1]).max() > 1e-3 * np.abs(each[0]).max()
    ch.tl.embed_cells(small, model)
    close(small.obsm[KEY], np.mean(each, axis=0))
    assert small.uns[KEY]["params"]["n_orders"] == 3
    ch.tl.embed_cells(small, model, sentence_key=keys[1], key_added="second")
    close(small.obsm["second"], each[1])
    assert small.uns["second"]["params"]["n_orders"] == 1
    small.write_h5ad(tmp_path / "a.h5ad")
    ch.pp.cell_sentences(small, n_genes=20, n_orders=3, out=tmp_path / "s.zarr")
    for source in ("a.h5ad", "s.zarr"):
        ch.tl.embed_cells(tmp_path / source, model, out=tmp_path / f"{source}.v.zarr")
        close(ad.read_zarr(tmp_path / f"{source}.v.zarr").obsm[KEY], small.obsm[KEY])


def test_orders_that_are_alike_are_read_once(small, model, monkeypatch):
    small.X.data[:] = np.random.default_rng(0).permutation(small.X.nnz) + 1  # no ties
    ch.pp.cell_sentences(small, n_genes=20)
    ch.tl.embed_cells(small, model, key_added="one")
    calls, embed = [], type(model).embed
    monkeypatch.setattr(type(model), "embed", lambda s, p, **o: calls.append(len(p)) or embed(s, p, **o))
    ch.pp.cell_sentences(small, n_genes=20, n_orders=4)
    ch.tl.embed_cells(small, model)
    assert calls == [30]
    close(small.obsm[KEY], small.obsm["one"])


def test_a_cell_without_one_of_the_orders_gets_nan(small, model):
    ch.pp.cell_sentences(small, n_genes=5, n_orders=2)
    small.obs.loc[small.obs_names[3], "cell_sentence_order_2"] = ""
    with pytest.warns(UserWarning, match="1 of 30 cells have an empty sentence"):
        ch.tl.embed_cells(small, model)
    assert np.flatnonzero(np.isnan(small.obsm[KEY]).any(axis=1)).tolist() == [3]
    del small.obs["cell_sentence_order_2"]
    with pytest.raises(KeyError, match=r"cell_sentence_order_2.*cell_sentences\(adata, n_orders=2\)"):
        ch.tl.embed_cells(small, model)


def test_contexts_of_genes_are_read_in_the_first_order(small, tiny):
    genes = ["CD3E", "LYZ"]
    ch.tl.embed_genes(small, tiny, genes=genes, groupby="cell_type", groups=["B"])
    expected = small.uns[KEY]["vectors"]["0"]["values"][0]
    ch.pp.cell_sentences(small, n_genes=20, n_orders=2)
    ch.tl.embed_genes(small, tiny, genes=genes, groupby="batch")
    both = ["B", *small.obs["batch"].cat.categories]
    assert len(ch.get.gene_vectors(small, genes, both)) == len(genes) * len(both)  # as they were made alike
    ch.tl.embed_genes(small, tiny, genes=genes, groupby="cell_type", groups=["B"], key_added="again")
    close(small.uns["again"]["vectors"]["0"]["values"][0], expected)


def test_blocks_and_batches_do_not_change_vectors(small, model, vectors, monkeypatch):
    monkeypatch.setattr(_embed_cells, "BLOCK", 7)
    ch.tl.embed_cells(small, model, batch_size=3)
    close(small.obsm[KEY], vectors(small))


def test_order_subset_view_and_concatenation_behave(small, model, vectors):
    ch.tl.embed_cells(small, model)
    part = small[5:11].copy()
    ch.tl.embed_cells(part, model)
    close(part.obsm[KEY], small.obsm[KEY][5:11])
    view = small[::-1]
    with pytest.warns(ad.ImplicitModificationWarning):
        ch.tl.embed_cells(view, model, key_added="again")
    close(view.obsm["again"], small.obsm[KEY][::-1])
    both = ad.concat([small[:10], small[20:]])
    close(both.obsm[KEY], np.concatenate([small.obsm[KEY][:10], small.obsm[KEY][20:]]))
    ch.tl.embed_cells(both, model, key_added="again")
    close(both.obsm["again"], both.obsm[KEY])


def test_parameters_say_how_it_was_made(small, model):
    ch.tl.embed_cells(small, model)
    params = small.uns[KEY]["params"]
    expected = {"model": "mini", "template": "cell", "read_at": "prompt_end", "wrap": model.wrap, "method": "sentence"}
    assert expected.items() <= params.items()
    assert {"base", "revision", "adapters", "dtype", "template_version", "version"} <= set(params)


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_results_survive_writing(small, model, tmp_path, kind):
    small.obs["cell_sentence"] = small.obs["cell_sentence"].where(
        np.arange(30) > 1, "CD3E"
    )  # repeated, so written as category
    ch.tl.embed_cells(small, model)
    ch.tl.embed_genes(small, model, genes=["CD3E"], groupby="cell_type")
    getattr(small, f"write_{kind}")(tmp_path / kind)
    back = getattr(ad, f"read_{kind}")(tmp_path / kind)
    close(back.obsm[KEY], small.obsm[KEY])
    for name in ("params", "gene_params"):
        assert dict(back.uns[KEY][name]) == small.uns[KEY][name]
    for name in ("groups", "contexts"):
        pd.testing.assert_frame_equal(
            back.uns[KEY][name].astype(str).reset_index(drop=True), small.uns[KEY][name].astype(str), check_dtype=False
        )
    ch.tl.embed_cells(back, model, key_added="again")
    close(back.obsm["again"], small.obsm[KEY])


def test_cells_without_a_sentence_get_nan_and_one_warning(small, model):
    small.obs["cell_sentence"] = (
        small.obs["cell_sentence"].astype(object).where(np.arange(30) > 2, ["", None, np.nan] * 10)
    )
    with pytest.warns(UserWarning, match="3 of 30 cells have an empty sentence and get NaN.*stops at NaN") as seen:
        ch.tl.embed_cells(small, model)
    assert len(seen) == 1
    assert np.isnan(small.obsm[KEY][:3]).all()
    assert np.isfinite(small.obsm[KEY][3:]).all()


def test_no_cell_with_a_sentence_gives_nan_everywhere(small, model):
    small.obs["cell_sentence"] = ""
    with pytest.warns(UserWarning, match="30 of 30"):
        ch.tl.embed_cells(small, model)
    assert np.isnan(small.obsm[KEY]).all()


def test_mudata_by_modality(small, model):
    other = small[:, :3].copy()
    other.var_names = ["p1", "p2", "p3"]
    mdata = md.MuData({"rna": small, "other": other})
    ch.tl.embed_cells(mdata, model, mod="rna")
    assert KEY in mdata["rna"].obsm
    with pytest.raises(ValueError, match="mod="):
        ch.tl.embed_cells(mdata, model)


def test_model_by_name_loads_mini(small, vectors):
    few = small[:2].copy()
    ch.tl.embed_cells(few)
    close(few.obsm[KEY], vectors(few))


def test_backed_file_is_embedded(small, model, vectors, tmp_path):
    small.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    ch.tl.embed_cells(backed, model)
    close(backed.obsm[KEY], vectors(small))
    backed.file.close()


# -------------------------------------------------------------------------------------------------- weighted


def slow_weighted(adata, layer=None):
    values = adata.X if layer is None else adata.layers[layer]
    values = values.toarray() if sparse.issparse(values) else np.asarray(values)
    out = []
    for row in values.astype(float):
        total, weight = 0.0, 0.0
        for value, vector in zip(row, adata.varm[KEY], strict=True):
            if not np.isnan(vector[0]):
                total, weight = total + value * vector.astype(float), weight + value
        out.append(total / weight)
    return np.array(out)


@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "dask", "backed"])
def test_weighted_mean_equals_a_loop(small, model, monkeypatch, tmp_path, kind):
    monkeypatch.setattr(_embed_cells, "BLOCK", 11)
    ch.tl.embed_genes(small, model)
    expected = slow_weighted(small)
    if kind == "dask":
        import dask.array as da

        small.X = da.from_array(small.X.toarray(), chunks=(8, -1)).map_blocks(sparse.csr_matrix)
    elif kind == "backed":
        small.write_h5ad(tmp_path / "a.h5ad")
        small = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    else:
        small.X = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": lambda x: x.toarray()}[kind](small.X)
    ch.tl.embed_cells(small, method="weighted")
    close(small.obsm[KEY], expected)
    assert small.uns[KEY]["params"]["method"] == "weighted"
    assert small.uns[KEY]["params"]["model"] == "mini"


def test_weighted_does_not_depend_on_the_order_of_genes(small, model):
    ch.tl.embed_genes(small, model)
    ch.tl.embed_cells(small, method="weighted")
    mixed = small[:, np.random.default_rng(0).permutation(small.n_vars)].copy()
    ch.tl.embed_cells(mixed, method="weighted")
    close(mixed.obsm[KEY], small.obsm[KEY])


def test_weighted_cell_without_known_genes_gets_nan(small, model):
    ch.tl.embed_genes(small, model, genes=["CD3E", "MS4A1"])
    small.X = sparse.csr_matrix(small.X.toarray() * (np.arange(30) != 3)[:, None])
    with pytest.warns(UserWarning, match="no expressed gene with a vector"):
        ch.tl.embed_cells(small, method="weighted")
    assert np.isnan(small.obsm[KEY][3]).all()


def test_weighted_refuses_counts_scaled_values_and_other_models(small, model):
    ch.tl.embed_genes(small, model)
    with pytest.raises(ValueError, match="raw counts.*normalize_total"):
        ch.tl.embed_cells(small, method="weighted", layer="counts")
    small.layers["scaled"] = small.X.toarray() - 1
    with pytest.raises(ValueError, match="negative values.*layer="):
        ch.tl.embed_cells(small, method="weighted", layer="scaled")
    small.layers["hole"] = small.X.toarray() * np.nan
    with pytest.raises(ValueError, match="NaN"):
        ch.tl.embed_cells(small, method="weighted", layer="hole")
    with pytest.raises(ValueError, match="made by model 'mini', but model='cellhermes'"):
        ch.tl.embed_cells(small, "cellhermes", method="weighted")
    assert KEY not in small.obsm


def test_weighted_knows_a_loaded_model_by_its_content(small, folders, tmp_path):
    """Other weights under one name are refused, and the same ones are taken under another."""
    shutil.copytree(folders("llama"), tmp_path / "tiny")
    model = ch.CellHermes.from_pretrained(tmp_path / "tiny", device="cpu")
    ch.tl.embed_genes(small, model)
    (tmp_path / "tiny").rename(tmp_path / "moved")
    ch.tl.embed_cells(small, ch.CellHermes.from_pretrained(tmp_path / "moved", device="cpu"), method="weighted")
    close(small.obsm[KEY], slow_weighted(small))
    shutil.copytree(folders("qwen2"), tmp_path / "tiny")
    other = ch.CellHermes.from_pretrained(tmp_path / "tiny", device="cpu")
    with pytest.raises(ValueError, match="tiny', but the weights that were passed are others"):
        ch.tl.embed_cells(small, other, method="weighted")


def test_a_column_of_numbers_holds_no_sentences(small):
    small.obs["cell_sentence"] = np.arange(small.n_obs) / 2
    with pytest.raises(TypeError, match=r"obs\['cell_sentence'\] holds 0.0, a float; expected sentences"):
        ch.tl.embed_cells(small)


def test_weighted_reads_raw_with_other_genes_by_symbol(small, model):
    ch.tl.embed_genes(small, model)
    raw = small[:, 50::-1].copy()
    expected = slow_weighted(raw)
    small.raw = raw
    ch.tl.embed_cells(small, method="weighted", use_raw=True)
    close(small.obsm[KEY], expected)


def test_weighted_reads_raw_where_the_sentences_are_of_it(small, model):
    whole = small.copy()
    ch.tl.embed_genes(whole, model)
    ch.tl.embed_cells(whole, method="weighted")
    small.raw = small
    cut = small[:, ::7].copy()
    cut.X = cut.X.toarray() - 1
    ch.pp.cell_sentences(cut, n_genes=15, use_raw=True)
    ch.tl.embed_genes(cut, model)
    ch.tl.embed_cells(cut, method="weighted")
    close(cut.obsm[KEY], whole.obsm[KEY])
    with pytest.raises(ValueError, match=r"negative values.*Pass use_raw=True, or layer="):
        ch.tl.embed_cells(cut, method="weighted", use_raw=False)
    counts = whole.copy()
    counts.X = whole.layers["counts"]
    cut.raw = counts
    with pytest.raises(ValueError, match="raw counts") as refused:
        ch.tl.embed_cells(cut, method="weighted")
    exec(re.search("Run `(.*?)`", str(refused.value))[1], {"adata": cut, "sc": sc})  # what users would do
    ch.tl.embed_cells(cut, method="weighted")


def test_weighted_takes_the_vectors_of_a_group(small, model):
    ch.tl.embed_genes(small, model, groupby="cell_type", groups=["B"])
    vectors = ch.get.gene_vectors(small, groups=["B"]).droplevel("group")
    small.varm[KEY] = vectors.reindex(small.var_names).to_numpy()
    expected = slow_weighted(small)
    del small.varm[KEY]
    ch.tl.embed_cells(small, method="weighted", genes_key=f"{KEY}:B", key_added="w")
    close(small.obsm["w"], expected)


# --------------------------------------------------------------------------------------------- errors, resume


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sentence_key": "text"}, KeyError, r"obs\['text'\].*Run `ch.pp.cell_sentences\(adata\)` first"),
        ({"method": "mean"}, ValueError, "method='mean'.*'sentence' or 'weighted'"),
        ({"method": "weighted"}, KeyError, r"varm\['X_cellhermes'\].*Run `ch.tl.embed_genes"),
        ({"model": 3}, TypeError, "model is a int"),
        ({"model": "minni"}, ValueError, "Known names"),
    ],
)
def test_what_is_missing_is_named_with_its_call(small, options, error, message):
    before = (list(small.obs), list(small.uns), list(small.obsm))
    with pytest.raises(error, match=message):
        ch.tl.embed_cells(small, **options)
    assert (list(small.obs), list(small.uns), list(small.obsm)) == before


def test_missing_sentences_are_told_before_a_model_is_loaded(adata, monkeypatch):
    monkeypatch.setattr(ch.CellHermes, "from_pretrained", lambda *_: pytest.fail("loaded"))
    with pytest.raises(KeyError, match="cell_sentences"):
        ch.tl.embed_cells(adata)


def test_too_long_a_sentence_names_the_cell_before_computing(small, model, monkeypatch):
    small.obs["cell_sentence"] = small.obs["cell_sentence"].astype(object)
    small.obs.iloc[17, small.obs.columns.get_loc("cell_sentence")] = " ".join(f"GENE{i}" for i in range(900))
    monkeypatch.setattr(type(model), "embed", lambda *_, **__: pytest.fail("computed"))
    with pytest.raises(ch.model.PromptLengthError, match="n_genes=") as error:
        ch.tl.embed_cells(small, model)
    assert error.value.__notes__ == [f"It is the sentence of cell {small.obs_names[17]!r}, with 900 genes."]


def test_interrupted_run_goes_on_where_it_stopped(small, model, vectors, monkeypatch, tmp_path):
    monkeypatch.setattr(_embed_cells, "BLOCK", 8)
    calls, real = [], type(model).embed

    def stops(self, prompts, **options):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(prompts))
        return real(self, prompts, **options)

    monkeypatch.setattr(type(model), "embed", stops)
    with pytest.raises(KeyboardInterrupt):
        ch.tl.embed_cells(small, model, out=tmp_path / "v.zarr")
    counted = []
    monkeypatch.setattr(type(model), "embed", lambda s, p, **o: counted.append(len(p)) or real(s, p, **o))
    ch.tl.embed_cells(small, model, out=tmp_path / "v.zarr")
    assert counted == [8, 6]
    assert KEY not in small.obsm
    monkeypatch.setattr(type(model), "embed", real)
    close(ad.read_zarr(tmp_path / "v.zarr").obsm[KEY], vectors(small))
