"""Tables of differential expression, with the column names of common tools."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cellhermes as ch


@pytest.mark.parametrize(
    "columns",
    [
        ("perturbation", "cell_line", "gene", "log2FC", "padj"),
        ("Target", "Cell_Type", "Symbol", "log2FoldChange", "padj"),
        ("condition", "cell_line", "names", "logfoldchanges", "pvals_adj"),
        ("perturb", "celltype", "gene_name", "avg_log2FC", "p_val_adj"),
        ("perturbation", "cell", "feature", "logFC", "adj.P.Val"),
    ],
)
def test_columns_of_common_tools_are_found(tmp_path: Path, columns: tuple[str, ...]) -> None:
    path = tmp_path / "effects.tsv"
    rows = [
        ("FEV; AHR", "K562", "HBZ", 2.0, 0.01),
        ("AHR+ctrl", "K562", "HBZ", -2.0, 0.01),
        ("AHR", "K562", "HBA1", -2.0, 0.5),
        ("AHR", "K562", "HBA2", 0.1, 0.01),
        ("ctrl", "K562", "HBA2", 0.1, 0.01),
        ("AHR", "K562", "GYPA", np.nan, 0.01),
    ]
    pd.DataFrame(rows, columns=columns).to_csv(path, sep="\t", index=False)
    found = ch.io.read_perturbation_effects(path, min_log2fc=0.25)
    assert found[["perturbation", "gene", "answer"]].to_numpy().tolist() == [
        ["AHR+FEV", "HBZ", "Yes"],
        ["AHR", "HBZ", "Yes"],
        ["AHR", "HBA1", "No"],
        ["AHR", "HBA2", "No"],
    ]
    assert found["direction"].tolist()[:2] == ["Up", "Down"]
    assert found["direction"].isna().tolist() == [False, False, True, True]
    assert found.attrs["dropped"] == {"value missing, or control": 2}


def test_what_was_recognised_is_said(tmp_path: Path) -> None:
    path = tmp_path / "effects.csv"
    path.write_text("target,names,score\nAHR,HBZ,1\n")
    with pytest.raises(
        ValueError, match=r"no column for cell_line, log2fc, padj. Recognised: {'perturbation': 'target'"
    ):
        ch.io.read_perturbation_effects(path)
    path.write_text("target,names,lfc,fdr\nAHR,HBZ,big,0.1\n")
    with pytest.raises(ValueError, match="column 'lfc' has values that are no numbers"):
        ch.io.read_perturbation_effects(path, cell_line="K562")


def test_no_change_has_no_direction_whatever_its_p_value(tmp_path: Path) -> None:
    path = tmp_path / "effects.csv"
    path.write_text("target,names,lfc,fdr\nAHR,HBZ,0,0.001\nAHR,HBA1,-0.001,0.001\n")
    found = ch.io.read_perturbation_effects(path, cell_line="K562", min_log2fc=0)
    assert found["answer"].tolist() == ["No", "Yes"]
    assert found["direction"].isna().tolist() == [True, False]


def test_effects_fit_both_tasks(tmp_path: Path) -> None:
    path = tmp_path / "effects.csv"
    path.write_text("target,names,lfc,fdr\nAHR+FEV,HBZ,-1,0.01\nAHR,HBZ,0,0.9\n")
    found = ch.io.read_perturbation_effects(path, cell_line="K562")
    deg, direction = (ch.text.Task.load(f"perturbation_{name}") for name in ("deg", "direction"))
    assert deg.answers_of(found) == ["Yes", "No"]
    assert list(deg.prompts(found)[0].spans) == ["AHR", "FEV"]
    changed = found[found["answer"] == "Yes"]
    assert direction.answers_of(changed) == ["Down"]
