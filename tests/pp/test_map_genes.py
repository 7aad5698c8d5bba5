"""Names of genes become human symbols, and everything reads them."""

from __future__ import annotations

import gzip

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mudata import MuData

import cellhermes as ch
from cellhermes._gene_names import HOW, SPECIES, gene_names, human_meanings, species_of
from cellhermes._symbols import human_symbols, is_ensembl_id


def object_of(*names: str, **var: list) -> ad.AnnData:
    values = np.arange(3 * len(names), dtype=np.float32).reshape(3, -1)
    return ad.AnnData(values, var=pd.DataFrame(var, index=[*names]))


def mapped(names: list[str], species: str = "human", **options: bool) -> list[tuple[str, str]]:
    return [*human_meanings(names, species, **options).itertuples(index=False, name=None)]


@pytest.mark.parametrize(
    ("species", "name", "symbol", "how"),
    [
        ("human", "CD3E", "CD3E", "symbol"),
        ("human", "ENSG00000198851", "CD3E", "id"),
        ("human", "ENSG00000198851.14", "CD3E", "id"),
        ("human", "MLL", "KMT2A", "previous"),
        ("human", "GPR56", "ADGRG1", "previous"),
        ("human", "p53", "TP53", "alias"),
        ("human", "PD1", "", "ambiguous"),
        ("human", "C1ORF112", "C1orf112", "letter case"),
        ("human", "MATR3_ENSG00000015479", "MATR3", "suffix"),
        ("human", "GAPDH ", "", "unknown"),
        ("human", "", "", "unknown"),
        ("human", "cd3e", "CD3E", "letter case"),
        ("mouse", "Cd3e", "CD3E", "symbol"),
        ("mouse", "CD3E", "CD3E", "letter case"),
        ("mouse", "Trp53", "TP53", "symbol"),
        ("mouse", "mt-Co1", "MT-CO1", "symbol"),
        ("mouse", "ENSMUSG00000032093.7", "CD3E", "id"),
        ("mouse", "Mll1", "KMT2A", "alias"),
        ("rat", "Cd3e", "CD3E", "symbol"),
        ("pig", "CD3E", "CD3E", "symbol"),
        ("rhesus", "CD3E", "CD3E", "symbol"),
        ("cynomolgus", "CD3E", "CD3E", "symbol"),
    ],
)
def test_a_name_of_each_kind(species, name, symbol, how):
    assert mapped([name], species) == [(symbol, how)]


@given(st.lists(st.sampled_from(sorted(human_symbols().known)), max_size=20, unique=True))
def test_a_current_symbol_stays(names):
    assert mapped(names) == [(name, "symbol") for name in names]


@given(st.sampled_from(SPECIES), st.lists(st.text(max_size=12), max_size=5))
def test_any_text_gets_a_known_symbol_or_none(species, names):
    for symbol, how in mapped(names, species):
        assert how in HOW
        assert (symbol == "") == (how in ("ambiguous", "unknown"))
        assert symbol in human_symbols().known | {""}


@pytest.mark.parametrize("species", ["human", "mouse", "rat"])
def test_the_version_of_an_id_does_not_matter(species):
    ids = [name for name in gene_names(species).meanings if is_ensembl_id(name)][::500]
    plain = mapped(ids, species)
    assert mapped([f"{name}.{i}" for i, name in enumerate(ids)], species) == plain
    assert all(how in ("id", "alias", "ambiguous") for _, how in plain)


def test_numbers_of_names_that_were_made_unique():
    adata = object_of("GNLY", "GNLY-1", "NKX2-5", "ABC-1")
    ch.pp.map_genes(adata)
    assert adata.var["human_symbol"].tolist() == ["GNLY", "GNLY", "NKX2-5", ""]
    assert mapped(["GNLY-1"]) == [("", "unknown")]  # alone, it is not known to be a second one


def test_a_name_of_several_genes_is_ambiguous():
    several = next(name for name, (_, symbols) in gene_names("human").meanings.items() if len(symbols) > 1)
    assert mapped([several]) == [("", "ambiguous")]


def test_paralogues_are_left_out_or_kept():
    sharing = [
        (n, s) for n, (kind, (s, *more)) in gene_names("mouse").meanings.items() if s.startswith("~") and not more
    ]
    names, symbols = zip(*sharing, strict=True)
    assert {*mapped(names, "mouse")} == {("", "ambiguous")}
    kept = human_meanings(names, "mouse", keep_paralogues=True)
    assert kept["symbol"].tolist() == [symbol.removeprefix("~") for symbol in symbols]


@pytest.mark.parametrize(("name", "symbol"), [("Gapdh", "GAPDH"), ("Gapdh-ps15", ""), ("Cd8a", "CD8A"), ("Zfy1", "")])
def test_a_namesake_is_the_orthologue(name, symbol):
    assert mapped([name], "mouse")[0][0] == symbol


@pytest.mark.parametrize("species", SPECIES)
def test_a_table_is_sound(species):
    table = gene_names(species)
    known = human_symbols().known
    if species == "human":
        assert known.isdisjoint(table.meanings)  # a current symbol is never taken for an older one of another gene
    for kind, symbols in table.meanings.values():
        assert kind in HOW
        assert symbols
        assert all(symbols)
    symbols = [s for kind, of in table.meanings.values() if kind == "symbol" for s in of if not s.startswith("~")]
    assert species == "human" or len(symbols) == len({*symbols})  # at most one gene has a symbol


def test_mouse_orthologues_are_those_of_ensembl(data_dir):
    """HGNC assigns mouse genes by hand; Ensembl computes orthologues from trees of sequences."""
    with gzip.open(data_dir / "orthologues" / "human_mouse.csv.gz", "rt") as lines:
        pairs = pd.read_csv(lines, header=None, names=["human", "mouse"], keep_default_na=False)
    pairs = pairs[(pairs != "").all(axis=1)].drop_duplicates()
    pairs = pairs[~pairs["human"].duplicated(keep=False) & ~pairs["mouse"].duplicated(keep=False)]
    pairs = pairs[pairs["human"].isin(human_symbols().protein_coding)]
    found = human_meanings(pairs["mouse"], "mouse")["symbol"].to_numpy()
    assert len(pairs) > 14_000
    assert (found == pairs["human"].to_numpy())[found != ""].mean() > 0.99
    assert (found != "").mean() > 0.95


def test_ids_are_those_of_ensembl(data_dir):
    genes = pd.read_csv(data_dir / "human_genes_grch38.tsv.gz", sep="\t", dtype=str, keep_default_na=False)
    genes = genes[(genes["biotype"] == "protein_coding") & genes["chr"].str.fullmatch(r"\d+|[XY]|MT")]
    genes = genes[genes["symbol"] != ""].drop_duplicates("ensgene")
    found = human_meanings(genes["ensgene"], "human")["symbol"].to_numpy()
    assert (found != "").mean() > 0.99
    assert (found == genes["symbol"].to_numpy())[found != ""].mean() > 0.98


@pytest.mark.parametrize(
    ("names", "species"),
    [
        (["Cd3e", "Gapdh", "Nkx2-5", "MS4A1"], "mouse"),
        (["CD3E", "GAPDH", "NKX2-5", "Ms4a1"], None),
        (["C1orf112", "C2orf42", "FAM3A"], None),
        (["ENSG00000198851", "ENSG00000015479"], "human"),
        (["ENSMUSG00000032093"], "mouse"),
        (["ENSRNOG00000032093"], "rat"),
        (["ENSMMUG00000032093"], None),
        ([], None),
    ],
)
def test_the_species_is_guessed_from_ids_and_letters(names, species):
    assert species_of(names) == species


def mouse(toy: ad.AnnData) -> ad.AnnData:
    of_human = {symbols[0]: n for n, (kind, symbols) in gene_names("mouse").meanings.items() if kind == "symbol"}
    toy = toy.copy()
    toy.var_names = [of_human.get(name, name.capitalize()) for name in toy.var_names]
    return toy


def test_mouse_cells_have_the_sentences_of_human_ones():
    human = ch.datasets.toy()
    adata = mouse(human)
    with pytest.raises(ValueError, match=r'ch\.pp\.map_genes\(adata, "mouse"\)'):
        ch.pp.cell_sentences(adata)
    ch.pp.map_genes(adata, "mouse")
    unmapped = adata.var["human_symbol"].to_numpy() == ""
    assert unmapped.mean() < 0.3  # HLA genes and long non-coding ones have no single orthologue
    ch.pp.cell_sentences(adata)
    other = human[:, ~unmapped].copy()
    ch.pp.cell_sentences(other)
    assert adata.obs["cell_sentence"].tolist() == other.obs["cell_sentence"].tolist()


def test_all_tools_read_the_column(model):
    adata = mouse(ch.datasets.toy(n_obs=40))
    ch.pp.map_genes(adata, "mouse")
    ch.pp.cell_sentences(adata)
    ch.tl.embed_cells(adata, model)
    genes = adata.var["human_symbol"][adata.var["sentence_gene"]].tolist()[:24]
    groups = {"groupby": "cell_type", "groups": ["B", "CD8 T"]}
    ch.tl.embed_genes(adata, model, genes=genes, **groups)
    ch.tl.gene_network(adata, n_neighbors=5, min_cells=1, **groups)
    ch.tl.modules(adata, "B", "CD8 T", min_genes=3)
    assert {*ch.get.modules(adata, "genes")["gene"]} <= {*genes}
    question = ch.text.Question("cell_type", answers=["B", "NK"])
    ch.tl.explain(adata, model, question, cells=3)
    assert {*ch.get.explain(adata)["gene"]} <= human_symbols().known


def test_what_is_stored(tmp_path):
    adata = object_of("Cd3e", "Trp53", "nothing")
    adata.raw = adata
    ch.pp.map_genes(adata, "mouse")
    assert adata.raw.var["human_symbol"].tolist() == ["CD3E", "TP53", ""]
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    report = back.uns["human_symbol"]["report"]
    assert report["n_genes"].to_dict() == {"symbol": 2, "unknown": 1}
    assert report["examples"].to_dict() == {"symbol": "Cd3e -> CD3E, Trp53 -> TP53", "unknown": "nothing"}
    assert back.uns["human_symbol"]["params"]["species"] == "mouse"
    assert [*ch._adata.symbols(back)] == ["CD3E", "TP53", ""]


def test_raw_with_other_genes_is_mapped_too():
    adata = object_of("Cd3e", "Trp53", "Ms4a1")
    adata.raw = adata
    adata = adata[:, ["Trp53"]].copy()
    ch.pp.map_genes(adata, "mouse")
    assert adata.raw.var["human_symbol"].tolist() == ["CD3E", "TP53", "MS4A1"]


def test_a_column_of_the_user_in_raw_is_not_lost():
    adata = object_of("Cd3e", "Trp53")
    adata.raw = adata
    adata.raw.var["human_symbol"] = ["mine", "mine too"]
    with pytest.raises(ValueError, match=r"raw\.var\['human_symbol'\].*not written by cellhermes"):
        ch.pp.map_genes(adata, "mouse")
    assert adata.raw.var["human_symbol"].tolist() == ["mine", "mine too"]
    assert "human_symbol" not in adata.var


def test_raw_that_is_set_after_a_call_is_read_and_mapped_anew():
    adata = object_of("Cd3e", "Trp53", "Gapdh-ps15")
    ch.pp.map_genes(adata, "mouse")
    adata.raw = adata
    adata = adata[:, ["Trp53"]].copy()
    assert [*ch._adata.symbols(adata, use_raw=True)] == ["CD3E", "TP53", ""]
    ch.pp.map_genes(adata, "mouse", paralogues="keep")
    assert adata.raw.var["human_symbol"].tolist() == ["CD3E", "TP53", "GAPDH"]


def test_names_come_from_a_column_and_go_into_another():
    adata = object_of("a", "b", symbol=["MLL", "CD3E"])
    ch.pp.map_genes(adata, gene_symbols="symbol", key_added="current")
    assert adata.var["current"].tolist() == ["KMT2A", "CD3E"]
    assert "human_symbol" not in adata.var


def test_a_mask_of_the_names_before_is_made_anew():
    adata = object_of("MLL", "CD3E")
    ch.pp.mask_genes(adata)
    assert adata.var["sentence_gene"].tolist() == [False, True]
    ch.pp.map_genes(adata)
    ch.pp.cell_sentences(adata)
    assert adata.obs["cell_sentence"].iloc[0].split() == ["CD3E"]
    assert adata.obs["cell_sentence"].iloc[1].split() == ["CD3E", "KMT2A"]


def test_a_mask_of_raw_is_made_anew_as_well():
    whole = object_of("MLL", "CD3E")
    whole.raw = whole
    adata = whole[:, ["CD3E"]].copy()
    ch.pp.mask_genes(adata, use_raw=True)
    ch.pp.map_genes(adata)
    ch.pp.cell_sentences(adata, use_raw=True)
    assert adata.obs["cell_sentence"].iloc[1].split() == ["CD3E", "KMT2A"]
    assert adata.raw.var["sentence_gene"].tolist() == [True, True]


def test_a_modality_of_a_mudata():
    mdata = MuData({"rna": object_of("Cd3e", "Trp53"), "prot": object_of("x", "y")})
    ch.pp.map_genes(mdata, "mouse", mod="rna")
    assert mdata["rna"].var["human_symbol"].tolist() == ["CD3E", "TP53"]


def test_antibodies_are_no_genes():
    adata = object_of("CD3E", "CD19", feature_types=["Gene Expression", "Antibody Capture"])
    ch.pp.map_genes(adata)
    assert adata.var["human_symbol"].tolist() == ["CD3E", ""]


def test_a_column_of_the_user_is_neither_read_nor_lost():
    adata = object_of("CD3E", "CD19", human_symbol=["mine", "mine too"])
    with pytest.raises(ValueError, match="not written by cellhermes"):
        ch.pp.map_genes(adata)
    assert [*ch._adata.symbols(adata)] == ["CD3E", "CD19"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"species": "yeast"}, ValueError, "'yeast'"),
        ({"species": "mouse", "paralogues": "sum"}, ValueError, "'drop' or 'keep'"),
        ({"gene_symbols": "symbol"}, KeyError, "its columns are"),
        ({"species": "mouse"}, ValueError, "none of 2 names"),
    ],
)
def test_what_is_refused(options, error, words):
    adata = object_of("xyz", "xyz2")
    with pytest.raises(error, match=words):
        ch.pp.map_genes(adata, **options)
    assert not adata.var.columns.size
    assert not adata.uns
