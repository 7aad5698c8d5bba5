"""Halves of groups: disjoint, complete, seeded."""

import numpy as np
import pytest

import cellhermes as ch


def test_halves_are_disjoint_and_complete(adata):
    ch.tl.split_groups(adata, "cell_type", groups=["B", "NK"])
    assert list(adata.obs["half"].cat.categories) == ["B (half 1)", "B (half 2)", "NK (half 1)", "NK (half 2)"]
    for group in ("B", "NK"):
        own = adata.obs["half"][adata.obs["cell_type"] == group]
        counts = own.value_counts()
        assert abs(counts[f"{group} (half 1)"] - counts[f"{group} (half 2)"]) <= 1
        assert counts[[f"{group} (half 1)", f"{group} (half 2)"]].sum() == len(own)
    assert adata.obs["half"][~adata.obs["cell_type"].isin(["B", "NK"])].isna().all()
    assert adata.uns["half"]["params"]["groups"] == ["B", "NK"]


def test_seed_decides(adata):
    halves = []
    for rng in (1, 1, 2, np.random.default_rng(1)):
        ch.tl.split_groups(adata, "cell_type", rng=rng)
        halves.append(adata.obs["half"].copy())
    assert halves[0].equals(halves[1])
    assert not halves[0].equals(halves[2])
    assert halves[0].equals(halves[3])
    assert adata.uns["half"]["params"]["seed"] == "unknown"


def test_halves_survive_the_disk(adata, tmp_path):
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"B": "B/plasma α"})
    ch.tl.split_groups(adata, "cell_type", groups=["B/plasma α"])
    adata.write_h5ad(tmp_path / "a.h5ad")


@pytest.mark.parametrize(
    ("groupby", "groups", "error", "message"),
    [
        ("nope", None, KeyError, r"obs\['nope'\].*Its columns are"),
        ("cell_type", "B", TypeError, "single value 'B'"),
        (
            "cell_type",
            ["B", "Z"],
            KeyError,
            r"No cells in groups \['Z'\] of obs\['cell_type'\]; the groups with cells",
        ),
        ("rare", None, ValueError, r"Groups \['one'\].*fewer than two cells"),
    ],
)
def test_bad_input_is_named(adata, groupby, groups, error, message):
    adata.obs["rare"] = ["one", *["many"] * (adata.n_obs - 1)]
    with pytest.raises(error, match=message):
        ch.tl.split_groups(adata, groupby, groups=groups)
    assert "half" not in adata.obs
