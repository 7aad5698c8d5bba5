"""Tables of genes and classes: columns by name, what is left out, the real files."""

import pytest

import cellhermes as ch


def test_columns_are_found_by_name_and_rows_counted(tmp_path):
    path = tmp_path / "range.tsv"
    path.write_text(
        "ensembl_id\tsymbol\tclass\nE1\tMYOD1\tshort\nE1\tMYOD1\tshort\nE2\t\tlong\nE3\tCTCF\t\nE4\tSP1\tlong\n"
    )
    found = ch.io.read_gene_labels(path)
    assert found.to_dict("list") == {
        "task": ["range"] * 2, "gene": ["MYOD1", "SP1"], "answer": ["short", "long"], "ensembl_id": ["E1", "E4"],
    }  # fmt: skip
    assert found.attrs["dropped"] == {"no gene or class": 2, "repeated": 1}


def test_a_gene_in_both_classes_and_in_two_tasks_stays(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("task,gene,label\nx,A,1\nx,A,0\ny,A,1\n")
    assert ch.io.read_gene_labels(path)["task"].tolist() == ["x", "x", "y"]


def test_tables_without_genes_or_classes_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("gene,score\nA,1\n")
    with pytest.raises(ValueError, match=r"columns \['gene', 'score'\]; expected a gene"):
        ch.io.read_gene_labels(path)


def test_real_files(data_dir):
    found = ch.io.read_gene_labels(data_dir / "gene_labels" / "notch1_labels.tsv")
    assert found.groupby(["task", "answer"]).size().to_dict() == {
        ("notch1_network", "n1_central"): 100, ("notch1_network", "n1_peripheral"): 195,
        ("notch1_target", "n1_activated"): 570, ("notch1_target", "n1_nontarget"): 570,
    }  # fmt: skip
