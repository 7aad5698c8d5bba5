"""Genetic interactions, in rows of the documented format."""

from pathlib import Path

import pytest

import cellhermes as ch
from cellhermes.io._graphs import TAB3


def tab3(rows: list[tuple[str, str, str, str]]) -> str:
    lines = ["#" + "\t".join(TAB3)]
    for a, b, system, organism in rows:
        row = dict.fromkeys(TAB3, "-") | {
            "Official Symbol Interactor A": a,
            "Official Symbol Interactor B": b,
            "Experimental System": system,
            "Organism ID Interactor A": "9606",
            "Organism ID Interactor B": organism,
        }
        lines.append("\t".join(row.values()))
    return "\n".join(lines) + "\n"


def test_genetic_interactions_by_type(tmp_path: Path) -> None:
    path = tmp_path / "biogrid.txt"
    path.write_text(
        tab3(
            [
                ("PARP1", "BRCA1", "Synthetic Lethality", "9606"),
                ("BRCA1", "PARP1", "Synthetic Growth Defect", "9606"),
                ("BRCA1", "PARP1", "Negative Genetic", "9606"),
                ("A", "B", "Phenotypic Suppression", "9606"),
                ("A", "B", "Dosage Rescue", "9606"),
                ("A", "B", "Two-hybrid", "9606"),
                ("A", "b", "Dosage Rescue", "10090"),
                ("A", "A", "Dosage Rescue", "9606"),
            ]
        )
    )
    found = ch.io.read_genetic_interactions(path)
    assert found[["gene_a", "gene_b", "type", "system"]].to_numpy().tolist() == [
        ["BRCA1", "PARP1", "synthetic", "Synthetic Lethality"],
        ["BRCA1", "PARP1", "general", "Negative Genetic"],
        ["A", "B", "phenotypic", "Phenotypic Suppression"],
        ["A", "B", "dosage", "Dosage Rescue"],
    ]
    assert set(found["answer"]) == {"Yes"}
    assert found.attrs["dropped"] == {
        "not genetic": 1,
        "other organism": 1,
        "no symbol, or a gene with itself": 1,
        "repeated": 1,
    }


def test_physical_interactions_alone_are_an_error(data_dir: Path) -> None:
    with pytest.raises(ValueError, match="not genetic: 5"):
        ch.io.read_genetic_interactions(data_dir / "biogrid_tab3_sample.txt")
