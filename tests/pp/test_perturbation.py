"""Effects of perturbations: against scipy, gene by gene."""

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from mudata import MuData
from scipy import sparse, stats

import cellhermes as ch

COLUMNS = ["perturbation", "cell_line", "gene", "log2fc", "padj", "answer", "direction", "cell_sentence"]


def screen(n: int = 160) -> AnnData:
    """Cells of two lines; in K562, KLF1 raises HBZ and lowers ACTB."""
    rng = np.random.default_rng(0)
    genes = ["HBZ", "ACTB", "GAPDH", "CD3E", "MALAT1", "B2M", "RPL3", "NOWHERE"]
    obs = pd.DataFrame(
        {
            "guide": rng.choice(["ctrl", "KLF1+ctrl", "FEV+KLF1", "KLF1+FEV"], n),
            "cell_line": rng.choice(["K562", "A549"], n),
        },
        index=[f"cell {i}" for i in range(n)],
    )
    mean = rng.gamma(3, 1, (1, len(genes))) * np.ones((n, 1))
    mean[:, -1] = 0
    hit = (obs["guide"] == "KLF1+ctrl") & (obs["cell_line"] == "K562")
    mean[hit, 0] *= 6
    mean[hit, 1] /= 6
    counts = rng.poisson(mean)
    return AnnData(sparse.csr_matrix(np.log1p(counts * 1.7)), obs=obs, var=pd.DataFrame(index=genes))


def effects(adata: AnnData | MuData, **options: object) -> pd.DataFrame:
    return ch.pp.perturbation_effects(adata, "guide", "ctrl", **{"min_cells": 5} | options)


def test_against_scipy() -> None:
    adata = screen()
    found = effects(adata)
    assert list(found) == COLUMNS
    values = adata.to_df()
    names = adata.obs["guide"].map({"ctrl": "", "KLF1+ctrl": "KLF1"}).fillna("FEV+KLF1")
    keys = found[["cell_line", "perturbation"]].drop_duplicates().to_numpy().tolist()
    assert keys == [[line, name] for line in ("A549", "K562") for name in ("FEV+KLF1", "KLF1")]
    for line, name in keys:
        rows = found[(found["cell_line"] == line) & (found["perturbation"] == name)].set_index("gene")
        assert list(rows.index) == list(adata.var_names[:-1])  # no cell expresses the last one
        here = adata.obs["cell_line"] == line
        treated, control = values[here & (names == name)], values[here & (names == "")]
        p = [
            stats.mannwhitneyu(treated[g], control[g], method="asymptotic", use_continuity=False).pvalue
            for g in rows.index
        ]
        np.testing.assert_allclose(rows["padj"], stats.false_discovery_control(p), rtol=1e-6)
        fold = np.log2((np.expm1(treated.mean()) + 1e-9) / (np.expm1(control.mean()) + 1e-9))
        np.testing.assert_allclose(rows["log2fc"], fold[rows.index], rtol=1e-4)
        expected = np.where((rows["padj"] < 0.05) & (rows["log2fc"].abs() >= 0.25), "Yes", "No")
        assert rows["answer"].tolist() == expected.tolist()
    hit = found[(found["cell_line"] == "K562") & (found["perturbation"] == "KLF1")].set_index("gene")
    assert hit.loc[["HBZ", "ACTB"], "direction"].tolist() == ["Up", "Down"]
    assert found["direction"].notna().equals(found["answer"] == "Yes")


def test_sentence_is_that_of_the_mean_control_cell() -> None:
    adata = screen()
    found = effects(adata)
    for line, rows in found.groupby("cell_line"):
        cells = adata[(adata.obs["cell_line"] == line) & (adata.obs["guide"] == "ctrl")]
        mean = cells.to_df().mean().drop(["RPL3", "NOWHERE", "MALAT1"])  # ribosomal; no symbol; not coding
        assert set(rows["cell_sentence"]) == {" ".join(mean.sort_values(ascending=False).index)}


@pytest.mark.parametrize("kind", ["csc", "dense", "view", "layer", "mudata"])
def test_matrices_of_other_kinds_give_the_same(kind: str) -> None:
    adata = screen()
    expected = effects(adata)
    if kind == "csc":
        adata.X = adata.X.tocsc()
    elif kind == "dense":
        adata.X = adata.X.toarray()
    elif kind == "view":
        twice = sc.concat([adata, adata], index_unique="-")
        adata = twice[: len(adata)]
        assert adata.is_view
    elif kind == "layer":
        adata.layers["log"], adata.X = adata.X, adata.X * 0
    options = {"layer": {"layer": "log"}, "mudata": {"mod": "rna"}}.get(kind, {})
    found = effects(MuData({"rna": adata}) if kind == "mudata" else adata, **options)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


def test_the_object_is_not_changed() -> None:
    adata, before = screen(), screen()
    effects(adata)
    assert list(adata.obs) == list(before.obs)
    assert not list(adata.var)
    assert not adata.uns
    assert (adata.X != before.X).nnz == 0


def test_small_groups_are_left_out_and_counted() -> None:
    adata = screen()
    adata.obs.loc[adata.obs_names[:3], "guide"] = "BAK1"
    adata.obs.loc[adata.obs_names[3:6], "cell_line"] = "small"
    found = effects(adata)
    assert "BAK1" not in set(found["perturbation"])
    assert set(found["cell_line"]) == {"K562", "A549"}
    dropped = found.attrs["dropped"]
    assert dropped["cell line with too few control cells"] == 1
    assert 1 <= dropped["perturbation with too few cells"] <= 3
    with pytest.raises(ValueError, match="no perturbation and control have 1000 cells in one line"):
        effects(adata, min_cells=1000)


def test_what_cannot_be_compared_is_refused() -> None:
    adata = screen()
    with pytest.raises(KeyError, match=r"no cell has 'none' in .*'KLF1\+FEV'"):
        ch.pp.perturbation_effects(adata, "guide", "none")
    with pytest.raises(KeyError, match="cell_line="):
        effects(adata, cell_line="line")
    counts = adata.copy()
    counts.X = np.round(adata.X)
    with pytest.raises(ValueError, match="looks like raw counts"):
        effects(counts)
    scaled = adata.copy()
    scaled.X = adata.X.toarray() - 1
    with pytest.raises(ValueError, match="negative"):
        effects(scaled)
    adata.obs.loc[adata.obs_names[0], "guide"] = np.nan
    with pytest.raises(ValueError, match="no value for 1 cells"):
        effects(adata)


def test_stimulation_of_blood_cells_raises_interferon_genes(data_dir) -> None:
    adata = sc.read_h5ad(data_dir / "kang_labelled_1267genes.h5ad")
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    found = ch.pp.perturbation_effects(adata, "condition", "ctrl", cell_line="cell_type")
    rows = found[found["gene"].isin(["ISG15", "IFI6", "IFIT3"])]
    assert len(rows) >= 10
    assert set(rows["direction"]) == {"Up"}
    task = ch.text.Task.load("perturbation_deg")
    assert len(task.prompts(found, expression=True)) == len(found) == len(task.answers_of(found))


@pytest.mark.parametrize("stores_a_mask", [False, True])
def test_a_symbol_in_two_columns_is_tested_where_its_total_is_larger(stores_a_mask: bool) -> None:
    adata = screen()
    faint = sparse.csr_matrix(np.eye(adata.n_obs, 1) * 0.01)
    var = pd.DataFrame({"symbol": ["HBZ", *adata.var_names]}, index=["faint", *adata.var_names])
    twice = AnnData(sparse.hstack([faint, adata.X], format="csr"), obs=adata.obs.copy(), var=var)
    if stores_a_mask:
        ch.pp.mask_genes(twice, gene_symbols="symbol")
    pd.testing.assert_frame_equal(effects(twice, gene_symbols="symbol"), effects(adata))


def test_genes_joined_by_an_underscore_are_those_joined_by_a_plus() -> None:
    adata = screen()
    expected = effects(adata)
    adata.obs["guide"] = adata.obs["guide"].str.replace("+", "_")
    pd.testing.assert_frame_equal(effects(adata), expected)


def test_values_without_logarithm_are_warned_of() -> None:
    adata = screen()
    adata.X = adata.X.multiply(100).tocsr()
    with pytest.warns(UserWarning, match="as normalised values have before the logarithm"):
        effects(adata)
