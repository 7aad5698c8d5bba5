"""Objects as people have them give what the tidy object gives, with one extra argument in a call at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from mudata import MuData
from scipy import sparse

import cellhermes as ch
from cellhermes._gene_names import gene_names, human_meanings

if TYPE_CHECKING:
    from collections.abc import Callable

GROUPS = ["B", "CD8 T"]
SETS = {"T": ["CD3D", "CD3E", "CD8A", "CD2", "CD27", "ACTB", "GAPDH"], "B": ["CD79A", "CD79B", "MS4A1", "CD19"]}


def names_of(species: str, kind: str) -> dict[str, str]:
    """One name of that kind for each human symbol that has one."""
    table = gene_names(species).meanings
    return {symbols[0]: name for name, (of, symbols) in reversed(table.items()) if of == kind and len(symbols) == 1}


@pytest.fixture(scope="module")
def tidy(blood: ad.AnnData) -> ad.AnnData:
    """Log-normalised cells, of genes that have one mouse orthologue and an Ensembl id."""
    ids, mouse = names_of("human", "id"), names_of("mouse", "symbol")
    single = human_meanings([mouse.get(name, "") for name in blood.var_names], "mouse")["symbol"].to_numpy()
    keep = (single == blood.var_names) & blood.var_names.isin([*ids])
    of_groups = blood.obs["cell_type"].isin(GROUPS).to_numpy()
    adata = blood[np.flatnonzero(of_groups)[:12], keep].copy()
    assert adata.n_vars > 200
    adata.X = adata.layers.pop("counts")
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


def mouse(adata: ad.AnnData) -> tuple[ad.AnnData, dict]:
    of_mouse = names_of("mouse", "symbol")
    adata.var_names = [of_mouse[name] for name in adata.var_names]
    ch.pp.map_genes(adata, "mouse")
    return adata, {}


def ensembl(adata: ad.AnnData) -> tuple[ad.AnnData, dict]:
    of_ensembl = names_of("human", "id")
    adata.var_names = [f"{of_ensembl[name]}.{i % 9 + 1}" for i, name in enumerate(adata.var_names)]
    ch.pp.map_genes(adata)
    return adata, {}


def scanpy_tutorial(adata: ad.AnnData) -> tuple[ad.AnnData, dict]:
    adata.raw = adata
    sc.pp.highly_variable_genes(adata, n_top_genes=100)
    in_network = adata.var_names.isin([gene for members in SETS.values() for gene in members])
    adata = adata[:, adata.var["highly_variable"] | in_network].copy()
    adata.X = adata.X.toarray()
    sc.pp.scale(adata, max_value=10)
    return adata, {"use_raw": True}


def cite_seq(adata: ad.AnnData) -> tuple[ad.AnnData, dict]:
    names = ["CD3D-1", "CD19-1", "CD8A-1", "IgG1"]  # as var_names_make_unique calls those that are genes, too
    abundant = np.full((adata.n_obs, len(names)), 20.0, np.float32)
    proteins = ad.AnnData(sparse.csr_matrix(abundant), obs=adata.obs, var=pd.DataFrame(index=names))
    both = ad.concat(
        {"Gene Expression": adata, "Antibody Capture": proteins},
        axis=1,
        label="feature_types",
        merge="first",
        uns_merge="first",
    )
    return both, {}


def cite_seq_mudata(adata: ad.AnnData) -> tuple[MuData, dict]:
    both, _ = cite_seq(adata)
    parts = {name: both[:, both.var["feature_types"] == kind].copy() for name, kind in KINDS_OF_FEATURES.items()}
    mdata = MuData(parts)
    mdata.obs["cell_type"] = parts["rna"].obs["cell_type"]
    del mdata["rna"].obs["cell_type"]
    return mdata, {"mod": "rna"}


KINDS_OF_FEATURES = {"rna": "Gene Expression", "prot": "Antibody Capture"}


def cellxgene(adata: ad.AnnData) -> tuple[ad.AnnData, dict]:
    of_ensembl = names_of("human", "id")
    ids = [of_ensembl[name] for name in adata.var_names]
    adata.var["feature_name"] = pd.Categorical(
        [f"{name}_{i}" if n < 9 else name for n, (name, i) in enumerate(zip(adata.var_names, ids, strict=True))]
    )
    adata.var_names = ids
    adata.raw = adata
    ch.pp.map_genes(adata, gene_symbols="feature_name")
    return adata, {}


def used(adata: ad.AnnData | MuData, extra: dict, model: ch.CellHermes) -> dict[str, object]:
    """Go through README's calls and return what they give, by symbol."""
    mod = {name: value for name, value in extra.items() if name == "mod"}
    inner = adata[mod["mod"]] if mod else adata
    ch.pp.cell_sentences(adata, n_genes=20, **extra)
    ch.tl.embed_cells(adata, model, **mod)
    by_group = {"groupby": "cell_type", "groups": GROUPS, **mod}
    genes = [gene for members in SETS.values() for gene in members]
    ch.tl.embed_genes(adata, model, genes=genes, **by_group)
    ch.tl.gene_network(adata, n_neighbors=4, min_cells=1, **by_group)
    ch.tl.modules(adata, *GROUPS, min_genes=3, **mod)
    ch.tl.enrich(adata, SETS, **mod)
    question = ch.text.Question("cell_type", answers=["B cell", "T cell"])
    ch.tl.predict(adata, model, question, key_added="predicted", **mod)
    ch.tl.explain(adata, model, question, cells=2, **mod)
    ch.tl.faithfulness(adata, model, question, steps=(1, 5), **mod)
    explained = ch.get.explain(inner)
    return {
        "sentences": inner.obs["cell_sentence"].tolist(),
        "cells": inner.obsm["X_cellhermes"],
        "genes": ch.get.gene_vectors(inner, genes, GROUPS[:1]).to_numpy(),
        "modules": ch.get.modules(inner, "genes"),
        "scores": ch.get.modules(inner),
        "enrich": ch.get.enrich(inner),
        "predicted": inner.obs["predicted"].astype(str).tolist(),
        "explained": explained,
        "faithfulness": ch.get.faithfulness(inner, "quality"),
    }


@pytest.fixture(scope="module")
def expected(tidy: ad.AnnData, tiny: ch.CellHermes) -> dict[str, object]:
    return used(tidy.copy(), {}, tiny)


@pytest.mark.parametrize(
    "kind",
    [
        mouse,
        ensembl,
        scanpy_tutorial,
        cite_seq,
        cite_seq_mudata,
        cellxgene,
    ],
)
def test_a_kind_of_object_gives_what_the_tidy_one_gives(
    kind: Callable[[ad.AnnData], tuple], tidy: ad.AnnData, tiny: ch.CellHermes, expected: dict[str, object]
) -> None:
    results = used(*kind(tidy.copy()), tiny)
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(results[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
        elif isinstance(value, pd.DataFrame):
            columns = [*value.select_dtypes("number").columns, *(c for c in ("gene", "module", "term") if c in value)]
            pd.testing.assert_frame_equal(
                results[name][columns], value[columns], rtol=1e-3, atol=1e-5, check_dtype=False, obj=name
            )
        else:
            assert results[name] == value, name
