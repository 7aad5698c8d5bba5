"""Genes and categories: real extracts where there are some, else small files in the documented format."""

import gzip
import zipfile
from pathlib import Path

import pandas as pd
import pytest

import cellhermes as ch

# name: (text of the file, pairs of gene and category, what is dropped)
FILES = {
    "CellMarker 2.0": (
        "species\ttissue_class\ttissue_type\tcell_type\tcell_name\tmarker\tSymbol\tGeneID\n"
        "Human\tBlood\tBlood\tNormal cell\tB cell\tCD19\tCD19\t930\n"
        "Mouse\tBlood\tBlood\tNormal cell\tB cell\tCd19\tCd19\t12478\n"
        "Human\tBlood\tBlood\tNormal cell\tB cell\tsomething\t\t\n"
        "Human\tSpleen\tSpleen\tNormal cell\tB cell\tCD19\tCD19\t930\n",
        [("CD19", "B cell")],
        {"other species": 1, "no symbol or category": 1, "repeated": 1},
    ),
    "CellMarker 1.0": (
        "speciesType\ttissueType\tcellName\tcellMarker\tgeneSymbol\n"
        "Human\tBlood\tT cell\tCD3, HLA-DR, x\tCD3E, [HLA-DRA, HLA-DRB1], NA\n",
        [("CD3E", "T cell"), ("HLA-DRA", "T cell"), ("HLA-DRB1", "T cell")],
        {"no symbol or category": 1},
    ),
    "ScType": (
        "tissueType,cellName,geneSymbolmore1,geneSymbolmore2,shortName\n"
        'Immune system,"T cells, naive","CD3E,IL7R",CD19,T\n',
        [("CD3E", "T cells, naive"), ("IL7R", "T cells, naive")],
        {},
    ),
    "CTD": (
        "# Comparative Toxicogenomics Database\n# Fields:\n"
        "# GeneSymbol,GeneID,DiseaseName,DiseaseID,DirectEvidence,InferenceChemicalName,InferenceScore,OmimIDs,"
        "PubMedIDs\n#\n"
        'A1BG,1,"Adenocarcinoma, #1",MESH:D000230,,Chromium,4.2,,123\n'
        'BRCA1,672,"Breast Neoplasms",MESH:D001943,marker/mechanism,,,,1|2\n'
        'BRCA1,672,"Breast Neoplasms",MESH:D001943,therapeutic,,,,3\n',
        [("BRCA1", "Breast Neoplasms")],
        {"no DirectEvidence": 1, "repeated": 1},
    ),
    "DisGeNET": (
        "geneId\tgeneSymbol\tDSI\tdiseaseId\tdiseaseName\tscore\n"
        '672\tBRCA1\t0.3\tC0006142\t"Malignant neoplasm of breast\t1\n',  # a lone quotation mark joins no lines
        [("BRCA1", "Malignant neoplasm of breast")],
        {},
    ),
    "HPO": (
        "ncbi_gene_id\tgene_symbol\thpo_id\thpo_name\tfrequency\tdisease_id\n"
        "10\tNAT2\tHP:0000007\tAutosomal recessive inheritance\t-\tOMIM:243400\n"
        "10\tNAT2\tHP:0001939\tAbnormality of metabolism\t-\tOMIM:243400\n",
        [("NAT2", "Autosomal recessive inheritance"), ("NAT2", "Abnormality of metabolism")],
        {},
    ),
    "HPO before 2023": (
        "#Format: entrez-gene-id<tab>entrez-gene-symbol<tab>HPO-Term-ID<tab>HPO-Term-Name<tab>Frequency-Raw\n"
        "2\tA2M\tHP:0001300\tParkinsonism\t-\n",
        [("A2M", "Parkinsonism")],
        {},
    ),
    "gene and category": ("category,gene\nx,NA\nx,TP53\n", [("TP53", "x")], {"no symbol or category": 1}),
}
ORPHANET = """<?xml version="1.0" encoding="ISO-8859-1"?>
<JDBOR date="2023-06-22" version="1.3.29">
  <DisorderList count="2">
    <Disorder id="17601">
      <OrphaCode>166024</OrphaCode>
      <Name lang="en">Multiple epiphyseal dysplasia, Al-Gazali type &amp; more</Name>
      <DisorderType id="21394"><Name lang="en">Disease</Name></DisorderType>
      <DisorderGeneAssociationList count="2">
        <DisorderGeneAssociation>
          <SourceOfValidation>22587682[PMID]</SourceOfValidation>
          <Gene id="20160">
            <Name lang="en">kinesin family member 7</Name><Symbol>KIF7</Symbol>
            <SynonymList count="1"><Synonym lang="en">JBTS12</Synonym></SynonymList>
          </Gene>
          <DisorderGeneAssociationType id="17949"><Name lang="en">Disease-causing</Name></DisorderGeneAssociationType>
        </DisorderGeneAssociation>
        <DisorderGeneAssociation><Gene id="1"><Symbol>GLI3</Symbol></Gene></DisorderGeneAssociation>
      </DisorderGeneAssociationList>
    </Disorder>
    <Disorder id="2">
      <OrphaCode>93</OrphaCode><Name lang="en">Maladie de l'\u00e9t\u00e9</Name>
      <DisorderGeneAssociationList count="1">
        <DisorderGeneAssociation><Gene id="3"><Symbol>AGA</Symbol></Gene></DisorderGeneAssociation>
      </DisorderGeneAssociationList>
    </Disorder>
  </DisorderList>
</JDBOR>
"""
BOMB = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "A"><!ENTITY b "&a;&a;">]><JDBOR>&b;</JDBOR>'


def pairs(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(frame["gene"], frame["category"], strict=True))


@pytest.mark.parametrize("pack", ["plain", "gzip", "zip"])
@pytest.mark.parametrize("name", FILES)
def test_each_format_is_seen_from_its_columns(tmp_path: Path, name: str, pack: str) -> None:
    text, expected, dropped = FILES[name]
    path = tmp_path / "table.txt"
    if pack == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inside.txt", text)
    else:
        path.write_bytes(gzip.compress(text.encode()) if pack == "gzip" else text.encode())
    found = ch.io.read_gene_categories(path)
    assert found.attrs["format"] == name
    assert pairs(found) == expected
    assert found.attrs["dropped"] == dropped
    assert found.attrs["rows"] == len(expected) + sum(dropped.values())


def test_windows_line_ends_and_byte_order_marks_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + b"gene\tcategory\r\nTP53\tx y\r\n\r\n")
    assert pairs(ch.io.read_gene_categories(path)) == [("TP53", "x y")]


def test_all_species_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "markers.tsv"
    path.write_text(FILES["CellMarker 2.0"][0])
    assert set(ch.io.read_gene_categories(path, species=None)["gene"]) == {"CD19", "Cd19"}


def test_orphanet(tmp_path: Path) -> None:
    path = tmp_path / "en_product6.xml"
    path.write_text(ORPHANET, encoding="latin-1")
    found = ch.io.read_gene_categories(path)
    dysplasia = "Multiple epiphyseal dysplasia, Al-Gazali type & more"
    assert pairs(found) == [("KIF7", dysplasia), ("GLI3", dysplasia), ("AGA", "Maladie de l'été")]
    assert found["id"].tolist() == ["ORPHA:166024", "ORPHA:166024", "ORPHA:93"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "declares a document type"),
        (ORPHANET[:900], "no whole XML"),
        ("<html><body>Not found</body></html>", "XML without genes of disorders"),
    ],
)
def test_xml_that_is_no_orphanet_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "en_product6.xml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=said):
        ch.io.read_gene_categories(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", r"none of the known tables. Found the columns \['a', 'b'\].*CTD \(GeneSymbol, DiseaseName\)"),
        ("", "none of the known tables"),
        ("gene\tcategory\nTP53\n", "line 2: 1 fields, but line 1 has 2 names"),
        ("gene,category\nTP53,x,y\n", r"line 2: 3 fields, but line 1 has 2 names. Row: \['TP53', 'x', 'y'\]"),
        ("gene\tcategory\n-\tx\n", r"no row that can be used. Dropped: no symbol or category: 1"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "table.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        ch.io.read_gene_categories(path)


def test_a_damaged_archive_says_so(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv.gz"
    path.write_bytes(gzip.compress(FILES["HPO"][0].encode() * 2000)[:-300])
    with pytest.raises(ValueError, match="damaged or not complete"):
        ch.io.read_gene_categories(path)


@pytest.mark.parametrize(
    ("file", "n_rows", "n_categories"),
    [
        ("cell_markers_cellmatch_human.tsv.gz", 29_789, 183),
        ("disgenet_gene_disease.tsv.gz", 73_760, 446),
        ("hpo_gene_phenotype.tsv.gz", 61_784, None),
    ],
)
def test_real_extracts(data_dir: Path, file: str, n_rows: int, n_categories: int | None) -> None:
    found = ch.io.read_gene_categories(data_dir / file)
    assert found.attrs["rows"] == n_rows  # as the notes beside the data say
    raw = pd.read_csv(data_dir / file, sep="\t", dtype=str, keep_default_na=False)
    column = next(name for name in ("celltype", "disease", "hpo_term") if name in raw)
    assert set(pairs(found)) == set(zip(raw["gene"], raw[column], strict=True))
    assert n_categories in (found["category"].nunique(), None)
