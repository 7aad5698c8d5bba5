"""Over-representation, against scipy's hypergeometric distribution and its Benjamini-Hochberg adjustment."""

import gzip
import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import false_discovery_control, hypergeom

import cellhermes as ch
from cellhermes.tl import _gene_sets

PROGRAMMES = {
    "T cells": ["CD3D", "CD3E", "CD3G", "CD2", "CD5", "IL7R", "LCK", "ELSEWHERE"],
    "B cells": ["CD79A", "CD79B", "MS4A1", "CD19", "BANK1"],
    "monocytes": ["LYZ", "CD14", "S100A8", "S100A9", "VCAN"],
    "two genes": ["CD3D", "LYZ"],
    "elsewhere": ["KRT5", "KRT14", "KRT1", "KRT10"],
}


def store_network(adata, edges, group=None):
    """Write a network of equal weights the way ``tl.gene_network`` does."""
    a, b = (adata.var_names.get_indexer(names) for names in zip(*edges, strict=True))
    half = sparse.coo_matrix((np.ones(len(a), np.float32), (a, b)), (adata.n_vars,) * 2)
    key = "gene_network" if group is None else f"gene_network:{group}".replace("/", "_")
    adata.varp[key] = (half + half.T).tocsr()
    adata.uns["gene_network"] = {
        "params": {"gene_symbols": ""},
        "groups": pd.DataFrame({"label": [group or ""], "key": [key], "n_genes": [0], "n_without": [0]}),
    }


@pytest.fixture
def networked(adata):
    """A ring of all genes but the last ten, with chords between the first T-cell genes."""
    ring = list(adata.var_names[:-10])
    edges = [*zip(ring, [*ring[1:], ring[0]], strict=True), ("CD3D", "CD3E"), ("CD3E", "CD3G"), ("CD3E", "LCK")]
    store_network(adata, edges)
    return adata


def expected(genes, sets, background, min_size=3):
    """The slow way: a loop over sets with scipy, adjusted over all that were tested."""
    background, rows = set(background), []
    genes = set(genes) & background
    for term, members in sets.items():
        members = set(members) & background
        if len(members) >= min_size:
            x = len(genes & members)
            rows.append((term, x, hypergeom.sf(x - 1, len(background), len(members), len(genes))))
    frame = pd.DataFrame(rows, columns=["term", "overlap", "pval"]).set_index("term")
    frame["pval_adj"] = false_discovery_control(frame["pval"])
    return frame[frame["overlap"] > 0]


def test_values_equal_scipys_hypergeometric_test_with_benjamini_hochberg(networked):
    rng = np.random.default_rng(0)
    names = networked.var_names.to_numpy()
    sets = {f"set {i}": [*rng.choice(names, rng.integers(2, 40), replace=False), "NOT_HERE"] for i in range(60)}
    lists = {f"list {i}": rng.choice(names, 25, replace=False).tolist() for i in range(4)}
    ch.tl.enrich(networked, sets, of=lists)
    for name, genes in lists.items():
        found = ch.get.enrich(networked, of=name).set_index("term")
        reference = expected(genes, sets, networked.var_names[:-10]).loc[found.index]
        assert len(found) > 20
        np.testing.assert_allclose(found["pval"], reference["pval"], rtol=1e-9)
        np.testing.assert_allclose(found["pval_adj"], reference["pval_adj"], rtol=1e-9)
        np.testing.assert_array_equal(found["overlap"], reference["overlap"])
        assert found["pval"].is_monotonic_increasing


def test_sets_without_a_shared_gene_count_in_the_adjustment(networked):
    many = {f"other {i}": ["LYZ", "CD14", "S100A8"] for i in range(99)}
    ch.tl.enrich(networked, {"T cells": PROGRAMMES["T cells"], **many}, of=["CD3D", "CD3E", "CD3G"])
    row = ch.get.enrich(networked).iloc[0]
    assert row["pval_adj"] == pytest.approx(100 * row["pval"])


def test_odds_ratio_is_gseapys_with_half_a_count_added(networked):
    genes = ["CD3D", "CD3E", "CD3G", "LYZ"]
    ch.tl.enrich(networked, {"T cells": PROGRAMMES["T cells"]}, of=genes)
    row = ch.get.enrich(networked).iloc[0]
    x, n, m, total = 3, 4, 7, networked.n_vars - 10
    assert (row["overlap"], row["n_genes"], row["set_size"]) == (x, n, m)
    assert row["odds_ratio"] == pytest.approx(((x + 0.5) * (total - m - n + x + 0.5)) / ((m - x + 0.5) * (n - x + 0.5)))
    assert row["genes"] == "CD3D;CD3E;CD3G"


def test_genes_outside_the_network_count_nowhere(networked, caplog):
    outside = list(networked.var_names[-10:])
    caplog.set_level(logging.INFO, logger="cellhermes")
    ch.tl.enrich(networked, {"T cells": [*PROGRAMMES["T cells"], *outside]}, of=["CD3D", "CD3E", *outside, "NOWHERE"])
    row = ch.get.enrich(networked).iloc[0]
    assert (row["n_genes"], row["set_size"]) == (2, 7)
    assert networked.uns["enrich"]["params"]["n_background"] == networked.n_vars - 10
    assert networked.uns["enrich"]["lists"]["n_outside"].tolist() == [11]
    assert "11 genes of the lists are not in the network" in caplog.text


def test_a_genes_neighbourhood_is_the_gene_and_its_neighbours(networked):
    ch.tl.enrich(networked, PROGRAMMES, of="CD3E")
    row = ch.get.enrich(networked, of="CD3E").iloc[0]
    assert row["term"] == "T cells"
    assert row["genes"] == "CD3D;CD3E;CD3G;LCK"
    at = networked.var_names.get_loc("CD3E")
    assert row["n_genes"] == 1 + networked.varp["gene_network"][at].nnz


def test_lists_with_a_background_of_their_own_need_no_network(adata):
    from scipy.stats import hypergeom

    background = [f"G{i}" for i in range(40)]
    sets = {"near": background[:8], "far": background[30:], "outside": ["X1", "X2", "X3"]}
    lists = {"a": background[:5], "b": [*background[28:33], "X1"]}
    ch.tl.enrich(adata, sets, of=lists, background=background)
    table = ch.get.enrich(adata).set_index(["of", "term"])
    assert table.loc[("a", "near"), "pval"] == pytest.approx(hypergeom.sf(4, 40, 8, 5))
    assert table.loc[("b", "far"), "pval"] == pytest.approx(hypergeom.sf(2, 40, 10, 5))
    assert len(table) == 2
    for of in (None, "G1"):
        with pytest.raises(ValueError, match="background= is for lists of your own"):
            ch.tl.enrich(adata, sets, of=of, background=background)
    with pytest.raises(TypeError, match="single string 'G1'"):
        ch.tl.enrich(adata, sets, of=lists, background="G1")


def test_every_module_is_tested_by_default(networked):
    module = pd.Series(pd.NA, networked.var_names, dtype="Int64")
    module[PROGRAMMES["B cells"]] = 1
    module[PROGRAMMES["monocytes"]] = 2
    module[["ACTB", "GAPDH", "B2M"]] = 3
    networked.var["modules"] = module
    networked.uns["modules"] = {"params": {"group": "", "reference": "", "network_key": "gene_network"}}
    ch.tl.enrich(networked, PROGRAMMES)
    best = ch.get.enrich(networked).groupby("of")["term"].first()
    assert best.to_dict() == {"1": "B cells", "2": "monocytes"}
    assert networked.uns["enrich"]["lists"]["of"].tolist() == ["1", "2", "3"]
    assert ch.get.enrich(networked, of=3).empty
    assert ch.get.enrich(networked, of=1)["genes"][0] == "BANK1;CD19;CD79A;CD79B;MS4A1"


def test_no_overlap_at_all_gives_an_empty_table_with_its_columns(networked):
    ch.tl.enrich(networked, PROGRAMMES, of=["ACTB", "GAPDH"])
    table = ch.get.enrich(networked)
    assert table.empty
    assert table["pval_adj"].dtype == float
    assert {"term", "overlap", "genes"} < set(table.columns)


def test_lower_case_symbols_and_numbers_as_names_are_not_changed(adata):
    # gseapy alone would turn the first list into capitals and take the second one for Entrez ids
    genes = [f"C{i}orf{i}" for i in range(1, 11)] + [str(i) for i in range(100, 110)]
    odd = adata[:5, :20].copy()
    odd.var_names = genes
    store_network(odd, list(zip(genes, [*genes[1:], genes[0]], strict=True)))
    sets = {"UPPER": ["CD3D", "CD3E", *genes[:4]], "numbers": genes[12:16]}
    ch.tl.enrich(odd, sets, of={"lower": genes[:5], "digits": genes[10:15]})
    assert ch.get.enrich(odd, of="lower")["genes"].tolist() == ["C1orf1;C2orf2;C3orf3;C4orf4"]
    assert ch.get.enrich(odd, of="digits")["genes"].tolist() == ["102;103;104"]


@pytest.mark.parametrize(("write", "read"), [("write_h5ad", ad.read_h5ad), ("write_zarr", ad.read_zarr)])
def test_result_of_a_group_with_an_odd_name_survives(adata, tmp_path, write, read):
    store_network(adata, [("CD3D", "CD3E"), ("LYZ", "CD14"), ("CD3D", "IL7R")], group="CD4 T / naïve")
    ch.tl.enrich(adata, PROGRAMMES, of="CD3D", group="CD4 T / naïve", min_size=1)
    assert ch.get.enrich(adata)["group"].unique().tolist() == ["CD4 T / naïve"]
    getattr(adata, write)(tmp_path / "file")
    again = ch.get.enrich(read(tmp_path / "file"), of="CD3D")
    pd.testing.assert_frame_equal(again, ch.get.enrich(adata), check_dtype=False)


def test_parameters_say_which_sets_were_used(networked):
    ch.tl.enrich(networked, PROGRAMMES, of="CD3E")
    first = dict(networked.uns["enrich"]["params"])
    ch.tl.enrich(networked, dict(reversed(PROGRAMMES.items())), of="CD3E")
    assert networked.uns["enrich"]["params"] == first
    assert (first["gene_sets"], first["n_sets"], first["n_tested"]) == ("dict", 5, 3)
    ch.tl.enrich(networked, {**PROGRAMMES, "T cells": ["CD3D", "CD3E", "CD3G"]}, of="CD3E")
    assert networked.uns["enrich"]["params"]["gene_sets_sha256"] != first["gene_sets_sha256"]


# ---- where gene sets come from


@pytest.mark.parametrize("packed", [False, True])
def test_gmt_files_give_the_same_as_a_dict(networked, tmp_path, packed):
    text = "".join(f"{term}\tabout\t{chr(9).join(genes)}\n" for term, genes in PROGRAMMES.items())
    path = tmp_path / ("sets.gmt.gz" if packed else "sets.gmt")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    ch.tl.enrich(networked, PROGRAMMES, of="CD3E")
    table, about = ch.get.enrich(networked), networked.uns["enrich"]["params"]["gene_sets_sha256"]
    ch.tl.enrich(networked, str(path), of="CD3E")
    pd.testing.assert_frame_equal(ch.get.enrich(networked), table)
    assert networked.uns["enrich"]["params"]["gene_sets_sha256"] == about
    assert networked.uns["enrich"]["params"]["gene_sets"] == path.name


def test_weights_and_blank_ends_of_enrichrs_files_are_left_out(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text("T cells\t\tCD3D,1.0\tCD3E,0.5\tCD3D\t\n\nB cells\t\tMS4A1\n", "utf-8")
    assert ch.io.read_gmt(path) == {"T cells": ["CD3D", "CD3E"], "B cells": ["MS4A1"]}


@pytest.mark.usefixtures("cache")
def test_a_library_is_downloaded_once(networked, monkeypatch, site):
    monkeypatch.setattr(_gene_sets, "LIBRARY", site.url + "/{name}")
    site.files["/GO_Biological_Process_2021"] = b"T cells\t\tCD3D\tCD3E\tCD3G\n"
    for _ in range(2):
        ch.tl.enrich(networked, "GO_Biological_Process_2021", of="CD3E")
    assert site.asked("/GO_Biological_Process_2021") == [""]
    assert networked.uns["enrich"]["params"]["gene_sets"] == "GO_Biological_Process_2021"
    assert ch.get.enrich(networked)["term"].tolist() == ["T cells"]


def test_a_page_instead_of_a_library_is_not_kept(networked, monkeypatch, site, cache):
    monkeypatch.setattr(_gene_sets, "LIBRARY", site.url + "/{name}")
    site.files["/No_Such_Library"] = b"<html>Sorry</html>"
    with pytest.raises(ValueError, match="did not give what was asked for.*web page.*needs no connection"):
        ch.tl.enrich(networked, "No_Such_Library", of="CD3E")
    assert list(cache.rglob("*.gmt*")) == []


@pytest.mark.network
def test_enrichr_still_gives_a_library(monkeypatch, tmp_path):
    monkeypatch.setenv("CELLHERMES_CACHE", str(tmp_path))
    sets, _ = _gene_sets.gene_sets_of("GO_Biological_Process_2021")
    assert len(sets) > 5_000


# ---- bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"of": "NOWHERE"}, KeyError, r"'NOWHERE' is not in the network.*pass of=\["),
        (
            {"of": ["NOWHERE", "NEITHER"]},
            ValueError,
            "No gene of 1 of 1 lists is in the network: 'genes' .NOWHERE, NEI",
        ),
        ({"of": []}, ValueError, "No gene of 1 of 1 lists"),
        ({"of": {}}, ValueError, "nothing to test"),
        ({"of": {"a": "CD3E"}}, TypeError, r"of\['a'\] is the single string 'CD3E'"),
        ({}, KeyError, r"Run `ch.tl.modules\("),
        ({"of": "CD3E", "group": "B"}, KeyError, r"No networks in groups \['B'\].*Run `ch.tl.gene_network\("),
        ({"of": "CD3E", "gene_sets": {}}, ValueError, "empty"),
        ({"of": "CD3E", "gene_sets": {"a": "CD3E"}}, TypeError, r"gene_sets\['a'\] is the single string"),
        ({"of": "CD3E", "gene_sets": 3}, TypeError, "gene_sets is a int"),
        ({"of": "CD3E", "gene_sets": "nothing.gmt"}, FileNotFoundError, "no such file"),
        ({"of": "CD3E", "gene_sets": "GO Biological Process"}, ValueError, "neither a file nor the name of a library"),
        ({"of": "CD3E", "gene_sets": {"mouse": ["Cd3d", "Cd3e", "Cd3g"]}}, ValueError, "'Cd3d'.*same species"),
        ({"of": "CD3E", "min_size": 50}, ValueError, "None of 5 gene sets of dict has min_size=50"),
    ],
)
def test_bad_input_says_what_to_do(networked, options, error, message):
    with pytest.raises(error, match=message):
        ch.tl.enrich(networked, **{"gene_sets": PROGRAMMES, **options})
    assert "enrich" not in networked.uns


def test_a_broken_gmt_file_is_named_with_its_line(networked, tmp_path):
    (tmp_path / "sets.gmt").write_text("T cells\t\tCD3D\nno tabs here\n", "utf-8")
    with pytest.raises(ValueError, match=r"sets.gmt, line 2: expected term.*'no tabs here'"):
        ch.tl.enrich(networked, tmp_path / "sets.gmt", of="CD3E")


def test_a_background_is_a_list_a_set_or_a_number(adata):
    genes, sets = ["G1", "G2", "G3"], {"S": ["G2", "G3", "G4"], "T": ["G5", "G6", "G7"]}
    five = ["G1", "G2", "G3", "G4", "X"]
    for background, n in ((five, 5), ({*five}, 5), (np.int64(20), 20), (7, 7)):
        ch.tl.enrich(adata, sets, of=genes, background=background)
        row = ch.get.enrich(adata).iloc[0]
        assert row["pval"] == pytest.approx(hypergeom.sf(1, n, 3, 3))
        assert adata.uns["enrich"]["params"]["n_background"] == n
    with pytest.raises(ValueError, match="lists and gene sets have 7 genes"):
        ch.tl.enrich(adata, sets, of=genes, background=6)
    for wrong in (True, 2.5):
        with pytest.raises(TypeError, match="how many genes there are"):
            ch.tl.enrich(adata, sets, of=genes, background=wrong)


def test_the_log_counts_adjusted_p_values(adata, caplog):
    background = [f"G{i}" for i in range(100)]
    sets = {"shared": [*background[:4], *background[40:46]]} | {
        f"far {i}": background[90 - i : 100 - i] for i in range(9)
    }
    with caplog.at_level("INFO", "cellhermes"):
        ch.tl.enrich(adata, sets, of={"few": background[:10], "many": background[90:]}, background=background)
    table = ch.get.enrich(adata).set_index(["of", "term"])
    assert table.loc[("few", "shared"), "pval"] < 0.05 < table.loc[("few", "shared"), "pval_adj"]
    assert table.loc["many", "pval_adj"].min() < 0.05
    assert "1 of 2 lists have a gene set with adjusted p < 0.05 (10 sets tested)" in caplog.text
