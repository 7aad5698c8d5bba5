"""Networks of genes in their slots: groups, sources, what is left out, what is refused."""

import logging

import anndata as ad
import dask.array as da
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from scipy import sparse

import cellhermes as ch
from cellhermes.tl._knn import ExactSearch

KEY = "X_cellhermes"


@pytest.fixture
def embedded(adata, store_vectors):
    """Vectors of genes drawn at random, alone and for two groups, stored as `embed_genes` stores them."""
    rng = np.random.default_rng(0)

    def drawn():
        vectors = rng.normal(size=(adata.n_vars, 16)).astype(np.float32)
        vectors[rng.permutation(adata.n_vars)[:30]] = np.nan
        return vectors

    adata.varm[KEY] = drawn()
    store_vectors(adata, {label: drawn() for label in ("B", "NK")})
    return adata


def edges_of(adata, group):
    """Edges by gene, from the neighbours of an independent exact search over the group's vectors."""
    vectors = ch.get.gene_vectors(adata, groups=[group]).droplevel("group")
    unit = vectors.to_numpy(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    order = np.argsort(-(unit @ unit.T), axis=1, kind="stable")[:, :15]
    names = vectors.index
    return {frozenset((names[i], names[j])) for i, row in enumerate(order) for j in row if i != j}


def test_edges_are_those_of_brute_force(embedded):
    ch.tl.gene_network(embedded, groupby="cell_type")
    ch.tl.gene_network(embedded)
    for group in ("", "B", "NK"):
        found = ch.get.gene_network(embedded, group or None)
        assert {frozenset(edge) for edge in found.edges} == edges_of(embedded, group)


def test_genes_without_vector_are_left_out_and_counted(embedded, caplog):
    embedded.varm[KEY][0] = 0  # no direction
    missing = np.isnan(embedded.varm[KEY]).any(1)
    missing[0] = True
    with caplog.at_level(logging.INFO, logger="cellhermes"):
        ch.tl.gene_network(embedded)
    weights = embedded.varp["gene_network"]
    assert sparse.issparse(weights)
    assert weights.format == "csr"
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(np.diff(weights.indptr) == 0, missing)
    row = embedded.uns["gene_network"]["groups"].iloc[0]
    assert (row["n_genes"], row["n_without"]) == ((~missing).sum(), missing.sum())
    assert f"{missing.sum()} without a vector are left out" in caplog.text


def test_nothing_else_of_the_object_is_touched(embedded):
    before = embedded.copy()
    ch.tl.gene_network(embedded, groupby="cell_type")
    assert set(embedded.uns) - set(before.uns) == {"gene_network"}
    assert set(embedded.varp) == {"gene_network:B", "gene_network:NK"}
    for slot in ("obsm", "obsp", "varm", "layers"):
        assert list(getattr(embedded, slot)) == list(getattr(before, slot))
    assert (embedded.X != before.X).nnz == 0
    assert list(embedded.var) == [*before.var, "gene_network:B_n_cells", "gene_network:NK_n_cells"]


def test_genes_may_be_chosen_and_keep_their_place(embedded):
    genes = [*embedded.var_names[~np.isnan(embedded.varm[KEY][:, 0])][40:5:-1]]
    ch.tl.gene_network(embedded, genes=genes, n_neighbors=5)
    present = np.diff(embedded.varp["gene_network"].indptr) > 0
    np.testing.assert_array_equal(present, embedded.var_names.isin(genes))
    params = embedded.uns["gene_network"]["params"]
    assert {"n_neighbors": 5, "use_rep": KEY, "metric": "cosine"}.items() <= params.items()


def test_calls_add_groups_and_replace_their_own(embedded):
    ch.tl.gene_network(embedded)
    ch.tl.gene_network(embedded, groupby="cell_type", groups=["B"])
    ch.tl.gene_network(embedded, groupby="cell_type", groups=["NK"])
    ch.tl.gene_network(embedded, groupby="cell_type", groups=["B"], n_neighbors=5)
    table = embedded.uns["gene_network"]["groups"].set_index("label")
    assert table.index.tolist() == ["", "NK", "B"]
    assert table["n_neighbors"].to_dict() == {"NK": 15, "": 15, "B": 5}
    assert table["groupby"].to_dict() == {"NK": "cell_type", "": "", "B": "cell_type"}


# ---- expression


def group_correlation(adata, group):
    dense = adata[adata.obs["cell_type"] == group].X.toarray().astype(float)
    varies = dense.std(0) > 0
    return np.corrcoef(dense[:, varies].T), adata.var_names[varies]


def test_control_connects_the_most_correlated_genes_of_the_group(adata):
    silent = adata.var_names[3]
    adata.X = adata.X.multiply(np.arange(adata.n_vars) != 3).tocsr()
    ch.tl.gene_network(adata, groupby="cell_type", groups=["B"], use_rep="expression")
    r, names = group_correlation(adata, "B")
    np.fill_diagonal(r, 2)
    order = np.argsort(-r.round(12), axis=1, kind="stable")[:, 1:15]
    expected = {frozenset((names[i], names[j])) for i, row in enumerate(order) for j in row}
    found = ch.get.gene_network(adata, "B")
    assert {frozenset(edge) for edge in found.edges} == expected
    assert silent not in found
    assert adata.uns["gene_network"]["groups"]["n_without"].tolist() == [adata.n_vars - len(names)]


def test_control_without_groups_takes_all_cells(adata):
    ch.tl.gene_network(adata, use_rep="expression", key_added="coexpression")
    adata.obs["all"] = "x"
    ch.tl.gene_network(adata, groupby="all", use_rep="expression", key_added="coexpression")
    assert (adata.varp["coexpression"] != adata.varp["coexpression:x"]).nnz == 0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_formats_and_blocks_give_the_same_control(adata, monkeypatch, share):
    """Also whether sparse or dense products are used, which is decided by the share of non-zeros."""
    monkeypatch.setattr("cellhermes.tl._expression.BLOCK", 37)
    monkeypatch.setattr("cellhermes.tl._gene_network.SPARSE_BELOW", share)
    forms = []
    original = ExactSearch.fit_transform
    monkeypatch.setattr(
        ExactSearch, "fit_transform", lambda self, rows: forms.append(sparse.issparse(rows)) or original(self, rows)
    )
    seen = []
    for convert in (sparse.csr_matrix, sparse.csc_matrix, lambda x: x.toarray()):
        data = adata.copy()
        data.X = convert(adata.X)
        ch.tl.gene_network(data, groupby="cell_type", groups=["NK"], use_rep="expression")
        seen.append(data.varp["gene_network:NK"].toarray())
    assert forms == [share == 1] * 3
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])


def test_backed_and_layer_and_raw_give_the_same_control(adata, tmp_path):
    ch.tl.gene_network(adata, use_rep="expression")
    expected = adata.varp["gene_network"]
    other = ad.AnnData(adata.layers["counts"], obs=adata.obs, var=adata.var[[]], layers={"log": adata.X})
    other.raw = adata[:, adata.var_names].copy()
    for options in ({"layer": "log"}, {"use_raw": True}):
        ch.tl.gene_network(other, use_rep="expression", **options)
        assert (other.varp["gene_network"] != expected).nnz == 0
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    del backed.varp["gene_network"]
    ch.tl.gene_network(backed, use_rep="expression")
    assert (backed.varp["gene_network"] != expected).nnz == 0
    backed.file.close()


def test_view_and_dask_give_the_same_control(adata):
    ch.tl.gene_network(adata, groupby="cell_type", groups=["B"], use_rep="expression")
    expected = adata.varp["gene_network:B"]
    view = adata[adata.obs["cell_type"].isin(["B", "NK"])]
    with pytest.warns(ad.ImplicitModificationWarning):
        ch.tl.gene_network(view, groupby="cell_type", use_rep="expression", key_added="v")
    assert (view.varp["v:B"] != expected).nnz == 0
    adata.X = da.from_array(adata.X.toarray(), chunks=(70, -1)).map_blocks(sparse.csr_matrix)
    ch.tl.gene_network(adata, groupby="cell_type", groups=["B"], use_rep="expression", key_added="d")
    assert (adata.varp["d:B"] != expected).nnz == 0


def test_order_of_the_genes_does_not_change_the_edges(adata):
    turned = adata[:, ::-1].copy()
    edges = []
    for data in (adata, turned):
        ch.tl.gene_network(data, use_rep="expression")
        edges.append({frozenset(edge) for edge in ch.get.gene_network(data).edges})
    assert edges[0] == edges[1]


def test_cells_without_a_group_belong_to_none(adata):
    """Also where a group is called as missing values are written."""
    adata.obs["g"] = adata.obs["cell_type"].astype(object).where(adata.obs["cell_type"] == "B", None)
    adata.obs["g"] = adata.obs["g"].replace("B", "nan")
    ch.tl.gene_network(adata, groupby="g", use_rep="expression")
    assert adata.uns["gene_network"]["groups"]["label"].tolist() == ["nan"]
    ch.tl.gene_network(adata, groupby="cell_type", groups=["B"], use_rep="expression", key_added="same")
    assert (adata.varp["gene_network:nan"] != adata.varp["same:B"]).nnz == 0


def test_a_gene_that_is_constant_but_for_rounding_is_left_out(adata):
    """A float32 mean of equal values differs from them; a correlation with that would be noise."""
    noisy = np.float32(2.7) + np.float32(2e-7) * np.random.default_rng(0).integers(0, 2, adata.n_obs)
    adata.X = adata.X.toarray()
    adata.X[:, 3] = noisy.astype(np.float32)
    assert len(np.unique(adata.X[:, 3])) == 2
    adata.X[:, 4] = np.where(np.arange(adata.n_obs) % 2, 2.7, 2.701)  # small, but no rounding
    adata.X[:, 5:25] = np.arange(1, 21) / 7  # mean square and square of the mean differ in their last bits
    ch.tl.gene_network(adata, use_rep="expression")
    found = ch.get.gene_network(adata)
    assert not {adata.var_names[3], *adata.var_names[5:25]} & {*found}
    assert adata.var_names[4] in found


# ---- cells that express the genes


@pytest.fixture
def silent(embedded):
    """No B cell expresses a fifth of the genes that have a vector of B."""
    genes = ch.get.gene_vectors(embedded, groups=["B"]).index.get_level_values("gene")[::5]
    embedded.X = embedded.X.toarray()
    embedded.X[np.ix_(embedded.obs["cell_type"] == "B", embedded.var_names.isin(genes))] = 0
    return embedded, set(genes)


def n_expressing(adata, group):
    rows = slice(None) if group is None else (adata.obs["cell_type"] == group).to_numpy()
    return pd.Series((adata.X[rows] > 0).sum(axis=0), adata.var_names)


@pytest.mark.parametrize("use_rep", [KEY, "expression"])
def test_the_cells_that_express_a_gene_are_counted(silent, store_vectors, use_rep):
    adata, genes = silent
    vectors = ch.get.gene_vectors(adata, groups=["B"]).droplevel("group").reindex(adata.var_names)
    store_vectors(adata, {"B": vectors.to_numpy()})
    if use_rep == KEY:
        with pytest.warns(UserWarning, match=f"Group 'B': {len(genes)} of 346 genes are expressed by none.*min_cells="):
            ch.tl.gene_network(adata, groupby="cell_type", use_rep=use_rep)
    else:
        ch.tl.gene_network(adata, groupby="cell_type", groups=["B", "NK"], use_rep=use_rep)
    for group in ("B", "NK"):
        column, expected = adata.var[f"gene_network:{group}_n_cells"], n_expressing(adata, group)
        network = ch.get.gene_network(adata, group)
        assert set(adata.var_names[column.notna()]) == set(network)
        assert column.dropna().astype(int).equals(expected[column.notna()])
        assert dict(network.nodes(data="n_cells")) == expected[list(network)].to_dict()
    change = ch.get.degree_change(adata, "B", "NK")
    assert (change["n_cells"] == n_expressing(adata, "B")[change.index]).all()
    assert (change["n_cells_reference"] == n_expressing(adata, "NK")[change.index]).all()


@pytest.mark.parametrize("use_rep", [KEY, "expression"])
def test_genes_that_too_few_cells_express_may_be_left_out(silent, store_vectors, use_rep):
    adata, genes = silent
    vectors = ch.get.gene_vectors(adata, groups=["B"]).droplevel("group").reindex(adata.var_names)
    store_vectors(adata, {"B": vectors.to_numpy()})
    ch.tl.gene_network(adata, groupby="cell_type", groups=["B"], use_rep=use_rep, min_cells=4)
    expected = set(vectors.dropna().index) if use_rep == KEY else set(adata.var_names)
    few = n_expressing(adata, "B") < 4
    assert genes & expected <= set(few.index[few])
    assert set(ch.get.gene_network(adata, "B")) == expected - set(few.index[few])
    row = adata.uns["gene_network"]["groups"].iloc[0]
    assert row["n_without"] == adata.n_vars - len(expected - set(few.index[few]))
    with pytest.raises(ValueError, match="min_cells=4, but vectors without groups"):
        ch.tl.gene_network(adata, min_cells=4)


def test_a_network_over_all_cells_counts_all_of_them(adata):
    ch.tl.gene_network(adata, use_rep="expression", min_cells=100)
    adata.X = adata.X.toarray()
    few = n_expressing(adata, None) < 100
    assert set(ch.get.gene_network(adata)) == set(adata.var_names[~few])
    assert few.any()


# ---- raw with other genes, and networks that were made in different ways


def test_raw_with_other_genes_is_read_by_symbol(adata):
    genes = list(adata.var_names[:100])
    ch.tl.gene_network(adata, use_rep="expression", genes=genes, groupby="cell_type", groups=["B"])
    expected = ch.get.gene_network(adata, "B")
    cut = adata[:, genes].copy()
    cut.raw = adata[:, ::-1].copy()
    cut.X = cut.X.toarray() - 1
    ch.tl.gene_network(cut, use_rep="expression", use_raw=True, groupby="cell_type", groups=["B"])
    assert {frozenset(e) for e in ch.get.gene_network(cut, "B").edges} == {frozenset(e) for e in expected.edges}


def test_genes_that_only_raw_has_are_named(embedded, caplog):
    cut = embedded[:, 10:].copy()
    missing = (
        ch.get.gene_vectors(embedded, groups=["B"]).index.get_level_values("gene").intersection(embedded.var_names[:10])
    )
    with caplog.at_level(logging.WARNING, logger="cellhermes"):
        ch.tl.gene_network(cut, groupby="cell_type", groups=["B"])
    assert f"Group 'B': {len(missing)} genes with a vector are not in the object ({missing[0]}," in caplog.text
    assert set(ch.get.gene_network(cut, "B")) == set(
        ch.get.gene_vectors(embedded, groups=["B"]).index.get_level_values("gene")
    ) - set(missing)


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({"n_neighbors": 7}, "n_neighbors 15 and 7"),
        ({"min_cells": 2}, "min_cells 0 and 2"),
        ({"use_rep": "expression"}, "source 'embedding' and 'expression'"),
    ],
)
def test_networks_made_in_different_ways_are_not_compared(embedded, options, way):
    ch.tl.gene_network(embedded, groupby="cell_type", groups=["B"])
    ch.tl.gene_network(embedded, groupby="cell_type", groups=["NK"], **options)
    with pytest.raises(ValueError, match=f"'B' and 'NK' were made in different ways.*{way}.*tl.gene_network"):
        ch.get.degree_change(embedded, "B", "NK")
    with pytest.raises(ValueError, match=way):
        ch.tl.modules(embedded, "B", "NK")


def test_halves_made_in_another_way_are_no_null(adata):
    ch.tl.split_groups(adata, "cell_type", groups=["B"])
    ch.tl.gene_network(adata, groupby="cell_type", groups=["B", "NK"], use_rep="expression")
    ch.tl.gene_network(adata, groupby="half", use_rep="expression", n_neighbors=5)
    with pytest.raises(ValueError, match=r"'B' and 'B \(half 1\)' were made in different ways.*n_neighbors 15 and 5"):
        ch.get.degree_change(adata, "B", "NK")


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_networks_of_both_sources_survive_the_disk_together(embedded, tmp_path, suffix):
    ch.tl.gene_network(embedded, groupby="cell_type", groups=["B"], use_rep="expression")
    ch.tl.gene_network(embedded, groupby="cell_type", groups=["NK"])
    ch.tl.gene_network(embedded)
    getattr(embedded, f"write_{suffix}")(tmp_path / f"a.{suffix}")
    again = getattr(ad, f"read_{suffix}")(tmp_path / f"a.{suffix}")
    for group in (None, "B", "NK"):
        assert nx.utils.graphs_equal(ch.get.gene_network(again, group), ch.get.gene_network(embedded, group))


# ---- symbols, containers, disk


def test_symbols_come_from_a_column_and_a_repeated_one_counts_once(embedded):
    symbols = embedded.var_names.to_numpy(object).copy()
    embedded.varm[KEY] = np.random.default_rng(0).normal(size=(embedded.n_vars, 8))
    symbols[7] = symbols[6]
    symbols[9] = ""
    embedded.var["symbol"] = symbols
    embedded.var_names = [f"ENSG{i:011d}" for i in range(embedded.n_vars)]
    embedded.uns[KEY]["groups"] = pd.DataFrame({"label": [""], "groupby": "", "gene_symbols": "symbol"})
    ch.tl.gene_network(embedded)
    found = ch.get.gene_network(embedded)
    assert isinstance(found, nx.Graph)
    assert list(found) == [s for i, s in enumerate(symbols) if i not in (7, 9)]
    assert np.flatnonzero(np.diff(embedded.varp["gene_network"].indptr) == 0).tolist() == [7, 9]
    ch.tl.gene_network(embedded, use_rep="expression", gene_symbols="symbol", key_added="coexpression")
    assert set(ch.get.gene_network(embedded, key="coexpression")) <= set(found)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_group_names_with_slash_blank_and_unicode_survive_the_disk(adata, tmp_path, suffix):
    label = "γδ T/NK cells"
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"NK": label})
    ch.tl.gene_network(adata, groupby="cell_type", groups=[label, "B"], use_rep="expression")
    expected = ch.get.gene_network(adata, label)
    getattr(adata, f"write_{suffix}")(tmp_path / f"a.{suffix}")
    again = getattr(ad, f"read_{suffix}")(tmp_path / f"a.{suffix}")
    assert "gene_network:γδ T_NK cells" in again.varp
    assert nx.utils.graphs_equal(ch.get.gene_network(again, label), expected)
    pd.testing.assert_frame_equal(
        again.uns["gene_network"]["groups"], adata.uns["gene_network"]["groups"], check_dtype=False
    )


def test_modality_of_a_mudata_gets_the_network(adata):
    data = MuData({"rna": adata})
    ch.tl.gene_network(data, use_rep="expression", mod="rna")
    assert "gene_network" in data["rna"].varp
    assert len(ch.get.gene_network(data, mod="rna")) == adata.n_vars


# ---- bad input

BAD = [
    ({"n_neighbors": 1}, ValueError, "n_neighbors=1; expected at least 2"),
    ({"groupby": "cell_type", "groups": "B"}, TypeError, "single value 'B'"),
    ({"groupby": "cell_type", "groups": ["B", "DC"]}, KeyError, r"No vectors in groups \['DC'\].*\(adata, groupby="),
    ({"groupby": "batch"}, KeyError, r"embed_genes\(adata, groupby='batch'\)"),
    ({"use_rep": "nope"}, KeyError, r"varm\['nope'\].*embed_genes"),
    ({"genes": "CD3E"}, TypeError, "single string 'CD3E'"),
    ({"genes": ["CD3E", "NOPE"]}, KeyError, "1 of 2 genes are not in the data: NOPE"),
    ({"genes": ["CD3E", "CD3D", "LYZ"]}, ValueError, r"have a vector; expected more than n_neighbors=15"),
    ({"n_neighbors": 1_000}, ValueError, "expected more than n_neighbors=1000"),
    ({"use_rep": "expression", "groupby": "nope"}, KeyError, r"obs\['nope'\].*Its columns are"),
    (
        {"use_rep": "expression", "groupby": "cell_type", "groups": ["Z"]},
        KeyError,
        r"No cells in groups \['Z'\].*'NK'",
    ),
    ({"use_rep": "expression", "layer": "counts"}, ValueError, "raw counts.*normalize_total"),
    ({"use_rep": "expression", "layer": "nope"}, KeyError, "layer 'nope' not found"),
    ({"use_rep": "expression", "use_raw": True}, ValueError, "`adata.raw` is not set"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_bad_input_says_what_to_do_and_writes_nothing(embedded, options, error, message):
    with pytest.raises(error, match=message):
        ch.tl.gene_network(embedded, **options)
    assert list(embedded.varp) == []
    assert "gene_network" not in embedded.uns


def test_scaled_values_and_nan_are_refused(adata):
    adata.layers["scaled"] = adata.X.toarray() - 1
    adata.layers["nan"] = adata.X.toarray() * np.nan
    for layer, message in (("scaled", "negative values"), ("nan", "NaN or infinite")):
        with pytest.raises(ValueError, match=message):
            ch.tl.gene_network(adata, use_rep="expression", layer=layer)


@pytest.mark.parametrize("n", [1, 2])
def test_group_with_one_or_two_cells_has_no_correlation(adata, n):
    adata.obs["g"] = np.where(np.arange(adata.n_obs) < n, "rare", "common")
    with pytest.raises(ValueError, match=f"Group 'rare' has {n} cells?; a correlation between genes needs 3 or more"):
        ch.tl.gene_network(adata, groupby="g", use_rep="expression")


def test_identical_vectors_are_refused_and_some_are_counted(embedded):
    embedded.varm[KEY] = np.ones((embedded.n_vars, 4), np.float32)
    with pytest.raises(ValueError, match="each of 376 genes is identical to 14 or more others"):
        ch.tl.gene_network(embedded)
    embedded.varm[KEY] = np.random.default_rng(0).normal(size=(embedded.n_vars, 4))
    embedded.varm[KEY][:20] = 1
    with pytest.warns(UserWarning, match="20 of 376 genes are identical to 14 or more others"):
        ch.tl.gene_network(embedded)


def test_groups_that_would_share_a_key_are_refused(adata):
    adata.obs["g"] = np.where(np.arange(adata.n_obs) % 2, "a/b", "a_b")
    ch.tl.gene_network(adata, groupby="g", groups=["a/b"], use_rep="expression")
    with pytest.raises(ValueError, match="would both be stored"):
        ch.tl.gene_network(adata, groupby="g", groups=["a_b"], use_rep="expression")
