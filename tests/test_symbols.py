from __future__ import annotations

import gzip
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from cellhermes._symbols import human_symbols, is_control, is_ensembl_id, joined_genes


def test_the_list_has_genes_of_all_biotypes():
    known, coding = human_symbols()
    assert coding < known
    assert 19_000 < len(coding) < 20_500
    assert {"CD4", "MT-CO1", "RPL3"} <= coding
    assert {"MALAT1", "IGKC", "TRAC", "XIST"} <= known - coding


def test_the_list_is_what_the_script_makes_and_has_no_time_in_it(data_dir, tmp_path):
    script = Path(__file__).parents[1] / "tools" / "build_symbols.py"
    made = []
    for name in ("a", "b"):
        out = tmp_path / name
        command = [sys.executable, str(script), str(data_dir / "human_genes_grch38.tsv.gz"), "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        made.append(out.read_bytes())
    assert made[0] == made[1]
    shipped = files("cellhermes").joinpath("human_symbols.tsv.gz").read_bytes()
    assert gzip.decompress(shipped) == gzip.decompress(made[0])  # packed bytes may differ between versions of zlib
    assert b"without restriction" in gzip.decompress(shipped)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ENSG00000198851", True),
        ("ENSG00000198851.12", True),
        ("ENSMUSG00000032093", True),
        ("ENSA", False),  # a gene symbol
        ("CD3E", False),
        ("", False),
    ],
)
def test_ensembl_ids_are_recognised(name, expected):
    assert is_ensembl_id(name) is expected


@pytest.mark.parametrize(
    ("name", "genes"),
    [
        ("KLF1", ["KLF1"]),
        ("KLF1+MAP2K6", ["KLF1", "MAP2K6"]),
        (" MAP2K6 + KLF1 ", ["MAP2K6", "KLF1"]),
        ("KLF1_MAP2K6", ["KLF1", "MAP2K6"]),
        ("KLF1_MAP2K6_TP53", ["KLF1", "MAP2K6", "TP53"]),
        ("C4B_2", ["C4B_2"]),  # a symbol
        ("C4B_2_KLF1", ["C4B_2", "KLF1"]),
        ("KLF1_ctrl", ["KLF1"]),
        ("ctrl+KLF1", ["KLF1"]),
        ("KLF1_NegCtrl0", ["KLF1"]),
        ("Non-Targeting_KLF1", ["KLF1"]),
        ("KLF1_non_targeting", ["KLF1"]),
        ("ctrl", ["ctrl"]),
        ("AHR;FEV", ["AHR", "FEV"]),
        ("AHR|FEV & KLF1", ["AHR", "FEV", "KLF1"]),
        ("KLF1_NOT_A_GENE", ["KLF1_NOT_A_GENE"]),
        ("my_guide+KLF1", ["my_guide", "KLF1"]),
        ("HLA-A_HLA-B", ["HLA-A", "HLA-B"]),
        ("+", []),
    ],
)
def test_genes_of_a_perturbation(name, genes):
    assert joined_genes(name) == genes


def test_no_gene_stands_for_a_control():
    # the gene CTRL (chymotrypsin-like) is not told from a control; names of perturbations mean the latter
    assert [symbol for symbol in human_symbols().known if is_control(symbol)] == ["CTRL"]
    assert all(
        map(is_control, ["ctrl", "Control", "non-targeting", "nontargeting", "NT", "NTC", "negctrl", "NegCtrl10"])
    )
