"""Text as people have it: marks, blank lines, comments and ends of lines change nothing; names stay as written."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

import cellhermes as ch
from cellhermes.io._graphs import TAB3

TAB = "\t"
ROW = dict.fromkeys(TAB3, "-") | {
    "Official Symbol Interactor A": "TP53", "Official Symbol Interactor B": "MDM2",
    "Experimental System Type": "physical", "Organism ID Interactor A": "9606", "Organism ID Interactor B": "9606",
}  # fmt: skip
TABLES = {
    "edges": ("a\tb\nTP53\tMDM2\nNA\t1E5\n", "e.tsv", lambda p: sorted(map(sorted, ch.io.read_edges(p).edges))),
    "edges without header": (
        "TP53\tMDM2\nMARCH1\t007\n",
        "e.tsv",
        lambda p: sorted(map(sorted, ch.io.read_edges(p, header=False).edges)),
    ),
    "string": (
        "protein1 protein2 combined_score\nTP53 MDM2 999\n",
        "l.txt",
        lambda p: sorted(map(sorted, ch.io.read_string(p).edges)),
    ),
    "biogrid": (
        f"#{TAB}{TAB.join(TAB3)}\n{TAB.join(ROW.values())}\n".replace(TAB, "", 1),
        "b.tab3.txt",
        lambda p: sorted(map(sorted, ch.io.read_biogrid(p).edges)),
    ),
    "gmt": ("A\tabout\tTP53\tNA\n", "s.gmt", ch.io.read_gmt),
    "labels": (
        "gene,class\nNA,x\n1E5,y\n",
        "l.csv",
        lambda p: ch.io.read_gene_labels(p)[["gene", "answer"]].to_numpy().tolist(),
    ),
    "categories": (
        "gene\tcategory\nNAN\tx\n007\ty\n",
        "c.tsv",
        lambda p: ch.io.read_gene_categories(p).to_numpy().tolist(),
    ),
    "effects": (
        "target,gene,log2fc,padj\nNA,MARCH1,1.5,1e-9\nKLF1,nan,-1,0.5\n",
        "f.csv",
        lambda p: ch.io.read_perturbation_effects(p, cell_line="K562").iloc[:, :6].to_numpy().tolist(),
    ),
    "contigs": (
        "barcode,contig_id,chain,v_gene,productive,cdr3,cdr3_nt\nA,1,TRB,TRBV1,true,CA,TGTGCC\n",
        "t.csv",
        lambda p: ch.io.read_contigs(p)["clone_id"].to_dict(),
    ),
    "depmap": (
        "ModelID,NA (1),MARCH1 (2)\n007,-1,0.1\n",
        "d.csv",
        lambda p: ch.io.read_depmap(p)[["cell_line", "gene", "answer"]].to_numpy().tolist(),
    ),
    "vectors": ("gene\tx\ty\nNA\t1\t2\n1E5\t3\t4\n", "v.tsv", lambda p: ch.io.read_embeddings(p).T.to_dict("list")),
    "questions": (
        "gene,answer\nNA,1\n1E5,\n007,0.50\n",
        "q.csv",
        lambda p: ch.io.read_table(p).astype(object).where(lambda t: t.notna(), None).to_numpy().tolist(),
    ),
}
EXPECTED = {
    "edges": [["1E5", "NA"], ["MDM2", "TP53"]],
    "edges without header": [["007", "MARCH1"], ["MDM2", "TP53"]],
    "string": [["MDM2", "TP53"]],
    "biogrid": [["MDM2", "TP53"]],
    "gmt": {"A": ["TP53", "NA"]},
    "labels": [["NA", "x"], ["1E5", "y"]],
    "categories": [["NAN", "x"], ["007", "y"]],
    "effects": [["NA", "K562", "MARCH1", 1.5, 1e-9, "Yes"], ["KLF1", "K562", "nan", -1.0, 0.5, "No"]],
    "contigs": {"A": "0"},
    "depmap": [["007", "NA", "Yes"], ["007", "MARCH1", "No"]],
    "vectors": {"NA": [1.0, 2.0], "1E5": [3.0, 4.0]},
    "questions": [["NA", "1"], ["1E5", None], ["007", "0.50"]],
}
CHANGES = {
    "as it is": lambda text, sep: text.encode(),
    "byte-order mark": lambda text, sep: b"\xef\xbb\xbf" + text.encode(),
    "byte-order mark in gzip": lambda text, sep: gzip.compress(b"\xef\xbb\xbf" + text.encode()),
    "ends of Windows": lambda text, sep: text.replace("\n", "\r\n").encode(),
    "blank lines at the end": lambda text, sep: f"{text}\n \n{sep}\n".encode(),
    "blank line in the middle": lambda text, sep: text.replace("\n", "\n\n", 1).encode(),
    "separator at every end": lambda text, sep: text.replace("\n", f"{sep}\n").encode(),
    "separator at the end of rows": lambda text, sep: (
        text[: text.index("\n")] + text[text.index("\n") :].replace("\n", f"{sep}\n")[1:].join(["\n", ""])
    ).encode(),
    "comment in front": lambda text, sep: f"# made by hand\n{text}".encode(),
    "no end of the last line": lambda text, sep: text.rstrip("\n").encode(),
}


@pytest.mark.parametrize("change", [*CHANGES])
@pytest.mark.parametrize("kind", [*TABLES])
def test_what_says_nothing_changes_nothing_and_names_stay_text(tmp_path, kind, change):
    text, name, read = TABLES[kind]
    sep = " " if kind == "string" else "," if name.endswith("csv") else "\t"
    (tmp_path / name).write_bytes(CHANGES[change](text, sep))
    assert read(tmp_path / name) == EXPECTED[kind]


def test_a_gene_na_is_kept_and_told(tmp_path, caplog):
    (tmp_path / "e.tsv").write_text("a\tb\nTP53\tNA\n")
    assert [*ch.io.read_edges(tmp_path / "e.tsv")] == ["TP53", "NA"]
    assert "has a gene 'NA'. If that is R's missing value" in caplog.text


@pytest.mark.parametrize("kind", ["edges", "labels", "questions"])
def test_text_in_utf_16_is_named(tmp_path, kind):
    text, name, read = TABLES[kind]
    (tmp_path / name).write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match=f"{name} is text in UTF-16; expected UTF-8"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gene,answer\nA,x\nB\n", "q.csv, line 3: 1 fields, but line 1 has 2 names"),
        ("gene,answer\n1,A,x\n2,B,y\n", "q.csv, line 2: 3 fields, .*row.names=FALSE leaves them out"),
        ("gene,gene\nA,B\n", "several columns 'gene'"),
        ("", "is empty"),
    ],
)
def test_tables_with_shifted_or_cut_rows_are_refused(tmp_path, text, message):
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        ch.io.read_table(tmp_path / "q.csv")


def test_tables_of_all_endings_are_the_same(tmp_path):
    frame = pd.DataFrame({"gene": ["NA", "MARCH1", 'say "it", \t'], "answer": ["1", None, "x"]}, dtype=object)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv.gz", index=False, sep="\t")
    frame.fillna("").to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.tsv.gz", "a.parquet"):
        found = ch.io.read_table(tmp_path / name)
        assert found["gene"].str.strip().tolist() == frame["gene"].str.strip().tolist()
        assert found["answer"].isna().tolist() == [False, True, False]
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"expected .csv, .tsv, .json, .jsonl or .parquet"):
        ch.io.read_table(tmp_path / "a.txt")


# ----------------------------------------------------------------------------------------------------- single files


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        ("#string_protein_id", ("9606.ENSP1", "9606.ENSP2")),
        ("protein_external_id", ("10090.ENSMUSP1", "10090.ENSMUSP2")),
        ("string_protein_id", ("4932.YAL001C", "4932.YAL002W")),
    ],
)
def test_string_of_any_version_and_species(tmp_path, column, ids):
    links, info = tmp_path / "links.txt", tmp_path / "info.txt"
    links.write_text("protein1 protein2 combined_score\n{} {} 999\n".format(*ids))
    info.write_text(f"{column}\tpreferred_name\tprotein_size\n{ids[0]}\tA1\t1\n{ids[1]}\tB2\t1\n")
    assert [*ch.io.read_string(links, info=info).edges] == [("A1", "B2")]
    with pytest.raises(ValueError, match="is an identifier of STRING"):
        ch.io.read_string(links)


def test_gene_sets_of_one_name_are_kept_apart_and_told(tmp_path):
    path = tmp_path / "s.gmt"
    path.write_text("M\tu\tA1\tB1\nM\tu\tA1\tC1\nM\tv\tB1\tA1\nN\tu\tA1\n")
    with pytest.warns(UserWarning, match=r"1 sets share the name of another one, and are kept apart.*'M'"):
        assert ch.io.read_gmt(path) == {"M": ["A1", "B1"], "M (2)": ["A1", "C1"], "N": ["A1"]}


def test_gene_sets_without_descriptions_lose_no_gene(tmp_path):
    path = tmp_path / "s.gmt"
    path.write_text("T cell\tCD3D\tCD3E\nB cell\tMS4A1,0.5\tCD79A\n")
    with pytest.warns(UserWarning, match="in place of the description in 2 of 2 lines"):
        assert ch.io.read_gmt(path) == {"T cell": ["CD3D", "CD3E"], "B cell": ["MS4A1", "CD79A"]}
    path.write_text("CD4\tCD4\tCD3D\nTP53\t\tMDM2\nX\tna\tMDM2\t\tMDM2\tHLA-A,B\n")
    assert ch.io.read_gmt(path) == {"CD4": ["CD3D"], "TP53": ["MDM2"], "X": ["MDM2", "HLA-A,B"]}


AIRR = "cell_id\tsequence_id\tproductive\tv_call\tj_call\tjunction\tjunction_aa\n"


@pytest.mark.parametrize(("flag", "kept"), [("T", True), ("TRUE", True), ("true", True), ("1", True), ("F", False)])
def test_flags_of_r_and_missing_ones(tmp_path, flag, kept):
    rows = [f"A\t1\t{flag}\tTRBV1\tTRBJ1\tTGT\tC", "B\t1\tT\tTRBV1\tTRBJ1\tTGT\tC", "C\t1\tNA\tTRBV1\tTRBJ1\tTGT\tC"]
    (tmp_path / "t.tsv").write_text(AIRR + "\n".join(rows))
    frame = ch.io.read_contigs(tmp_path / "t.tsv")  # ids of contigs differ within a cell only
    assert frame.index.tolist() == ["A", "B"] if kept else ["B"]
    assert frame.attrs["dropped"] == {"not productive": 1 if kept else 2}


def test_rows_without_a_cell_and_amino_acids_only(tmp_path):
    rows = ["\t1\tT\tTRBV1\tTRBJ1\t\tCAS", "NA\t1\tT\tTRBV1\tTRBJ1\t\tCAS", "A\t1\tT\tTRBV1\tTRBJ1\t\tCAS"]
    (tmp_path / "t.tsv").write_text(AIRR + "\n".join([*rows, "B\t1\tT\tTRBV2\tTRBJ1\t\tCAS"]))
    frame = ch.io.read_contigs(tmp_path / "t.tsv", sequence="aa")
    assert frame["clone_id"].to_dict() == {"A": "0", "B": "0"}
    assert frame.attrs["dropped"] == {"no cell": 2}
    with pytest.raises(ValueError, match="pass sequence='aa'"):
        ch.io.read_contigs(tmp_path / "t.tsv")


def test_toml_and_json_lines_with_a_mark_and_blank_lines(tmp_path):
    task = 'version = 1\nunit = "row"\nsource = "x"\ninstructions = ["Is it {gene}?"]\nanswers = ["Yes", "No"]\n'
    (tmp_path / "t.toml").write_bytes(b"\xef\xbb\xbf" + task.encode())
    assert ch.text.Task.load(tmp_path / "t.toml").answers == ("Yes", "No")
    record = json.dumps({"instruction": "Is it?", "output": "Yes"})
    (tmp_path / "c.jsonl").write_bytes(b"\xef\xbb\xbf" + f"{record}\r\n\r\n{record}\n\n".encode())
    assert [pair.answer for pair in ch.train.corpus.Pairs.read(tmp_path / "c.jsonl")] == ["Yes", "Yes"]
    (tmp_path / "v.csv").write_text("gene,0,1\nA,1,NA\nNA,3,4\n")
    np.testing.assert_array_equal(ch.io.read_embeddings(tmp_path / "v.csv").loc["NA"], [3, 4])


@pytest.mark.parametrize("name", ["q.csv", "q.tsv"])
def test_a_quotation_mark_that_is_not_closed_swallows_no_line(tmp_path, name):
    sep = "," if name == "q.csv" else "\t"
    path = tmp_path / name
    for rows in ('A|"x\nB|y\n', 'A|"x\nB|y\nC|"z\nD|w\n'):
        path.write_text(f"gene|disease\n{rows}".replace("|", sep))
        with pytest.raises(ValueError, match=r"quotation mark that is not closed stands in 'A[,\\t]+\"x"):
            ch.io.read_table(path)
    path.write_text('gene|disease\nA|"x\ny ""z"""\nB|"w" v\n'.replace("|", sep))
    assert ch.io.read_table(path).to_numpy().tolist() == [["A", 'x\ny "z"'], ["B", "w v"]]
    (tmp_path / "c.csv").write_text('gene,category\nA,"x\nB,y\n')
    with pytest.raises(ValueError, match="quotation mark that is not closed"):
        ch.io.read_gene_categories(tmp_path / "c.csv")


def test_lines_that_end_as_on_old_macs_are_named(tmp_path):
    (tmp_path / "s.gmt").write_bytes(b"A\tx\tTP53\rB\tx\tMDM2\r")
    with pytest.raises(ValueError, match="ends of lines of old Macs"):
        ch.io.read_gmt(tmp_path / "s.gmt")


@pytest.mark.parametrize("text", ["TP53\tMDM2\nA1\tB2\n", "# a\tb\nTP53\tMDM2\nA1\tB2\n"])
def test_genes_where_names_of_columns_are_expected_are_no_lost_edge(tmp_path, text):
    (tmp_path / "e.tsv").write_text(text)
    with pytest.raises(ValueError, match=r"line \d: the genes \['TP53', 'MDM2'\], where names"):
        ch.io.read_edges(tmp_path / "e.tsv")
    assert len(ch.io.read_edges(tmp_path / "e.tsv", header=False).edges) == 2


@pytest.mark.parametrize(("row", "n"), [("TP53,0,1", 2), ("gene,0,1", 1), ("gene,1,2", 1), ("x,y,z", 1)])
def test_whole_numbers_of_a_gene_are_no_names_of_columns(tmp_path, row, n):
    (tmp_path / "v.csv").write_text(f"{row}\nLYZ,1,0\n")
    assert len(ch.io.read_embeddings(tmp_path / "v.csv")) == n


def test_vectors_without_a_gene_are_left_out_and_told(tmp_path):
    (tmp_path / "v.csv").write_text("gene,x,y\n,1,2\n ,3,4\nTP53,5,6\nTP53,7,8\n")
    frame = ch.io.read_embeddings(tmp_path / "v.csv")
    assert frame.T.to_dict("list") == {"TP53": [5, 6]}
    assert frame.attrs["dropped"] == {"no name": 2, "repeated": 1}
    pd.DataFrame({"x": [1.0, 2.0]}).to_parquet(tmp_path / "v.parquet")
    with pytest.raises(ValueError, match="does not say which genes its rows are"):
        ch.io.read_embeddings(tmp_path / "v.parquet")


def test_text_in_another_encoding_is_not_garbled(tmp_path):
    (tmp_path / "c.tsv").write_bytes("gene\tcategory\nTP53\tSjögren\n".encode("latin-1"))
    with pytest.raises(ValueError, match="line 2: 'Sj�gren' is no UTF-8"):
        ch.io.read_gene_categories(tmp_path / "c.tsv")
    (tmp_path / "e.tsv").write_bytes("a\tb\nTP53\tMDM2\nTÖ1\tMDM2\n".encode("latin-1"))
    assert ch.io.read_edges(tmp_path / "e.tsv").graph["dropped"] == {"no symbol": 1}


def test_an_answer_of_blanks_is_none(tmp_path):
    (tmp_path / "q.json").write_text('[{"instruction": "Is it?", "output": " "}]')
    with pytest.raises(ValueError, match="record 1: expected instruction, input and output"):
        ch.io.read_table(tmp_path / "q.json")
