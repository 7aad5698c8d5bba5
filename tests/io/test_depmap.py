"""Gene dependencies, in a small file of the documented format."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cellhermes as ch


def write_depmap(folder: Path, effects: pd.DataFrame) -> tuple[Path, Path]:
    effects.to_csv(folder / "CRISPRGeneEffect.csv", index_label="ModelID")
    (folder / "Model.csv").write_text(
        "ModelID,PatientID,CellLineName,OncotreeLineage\n"
        'ACH-000001,PT-1,NIH:OVCAR-3,Ovary/Fallopian Tube\nACH-000002,PT-2,"HL-60, x",Myeloid\nACH-000003,PT-3,,\n'
    )
    return folder / "CRISPRGeneEffect.csv", folder / "Model.csv"


EFFECTS = pd.DataFrame(
    [[-1.2, 0.1, -0.5], [np.nan, -0.4, -0.2], [-0.6, 0.0, -2.0]],
    index=["ACH-000001", "ACH-000002", "ACH-000003"],
    columns=["RPL3 (6122)", "HLA-A (3105)", "TP53 (7157)"],
)


def test_depmap_against_a_loop(tmp_path: Path) -> None:
    effects, models = write_depmap(tmp_path, EFFECTS)
    names = {"ACH-000001": "NIH:OVCAR-3", "ACH-000002": "HL-60, x", "ACH-000003": "ACH-000003"}
    expected = [
        (names[line], column.split(" ")[0], "Yes" if value <= -0.5 else "No")
        for line, row in EFFECTS.iterrows()
        for column, value in row.items()
        if not np.isnan(value)
    ]
    found = ch.io.read_depmap(effects, models)
    assert list(zip(found["cell_line"], found["gene"], found["answer"], strict=True)) == expected
    assert found["lineage"].tolist()[:1] == ["Ovary/Fallopian Tube"]
    assert found.attrs["dropped"] == {"not measured": 1}


def test_depmap_effects_in_between_and_chosen_rows(tmp_path: Path) -> None:
    effects, models = write_depmap(tmp_path, EFFECTS)
    found = ch.io.read_depmap(
        effects, models, min_effect=-0.2, genes=["TP53"], cell_lines=["ACH-000002", "NIH:OVCAR-3"]
    )
    assert found[["cell_line", "gene", "answer"]].to_numpy().tolist() == [
        ["NIH:OVCAR-3", "TP53", "Yes"],
        ["HL-60, x", "TP53", "No"],
    ]
    found = ch.io.read_depmap(effects, min_effect=0.0)
    assert found.attrs["dropped"] == {"not measured": 1, "effect in between": 2}
    assert set(found["cell_line"]) <= set(EFFECTS.index)


def test_depmap_of_another_release_or_another_table_is_an_error(tmp_path: Path) -> None:
    effects, models = write_depmap(tmp_path, EFFECTS.rename(index={"ACH-000003": "ACH-9"}))
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"lacks 1 of 3 cell lines, such as \['ACH-9'\]"):
        ch.io.read_depmap(effects, models)
    with pytest.raises(ValueError, match="expected CRISPRGeneEffect.csv"):
        ch.io.read_depmap(models)
    with pytest.raises(ValueError, match="expected Model.csv"):
        ch.io.read_depmap(effects, other)
    with pytest.raises(ValueError, match="must be above"):
        ch.io.read_depmap(effects, min_effect=-1)
    effects.write_text("ModelID,TP53 (7157)\nACH-000001,x\n")
    with pytest.raises(ValueError, match=r"'TP53 \(7157\)' has values that are no numbers"):
        ch.io.read_depmap(effects)
