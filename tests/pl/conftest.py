"""Generated cells with networks, modules and enriched gene sets, made once; figures are closed after each test."""

import dataclasses

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

import cellhermes as ch

mpl.use("Agg")

SETS = {
    "T cell activation (GO:0042110)": ["CD3D", "CD3E", "CD3G", "CD2", "CD5", "CD27", "LCK", "ITK"],
    "B cell activation (GO:0042113)": ["CD79A", "CD79B", "MS4A1", "CD19", "CD22", "BLK", "PAX5"],
    "monocyte chemotaxis and much else that makes the name of this gene set long": ["LYZ", "CD14", "S100A8", "S100A9"],
}


@pytest.fixture(scope="session")
def made(folders):
    """Made once and read by all: networks of B and NK cells and of halves of B, modules of B against NK, and some cells
    that are explained."""
    adata = ch.datasets.toy()
    ch.tl.split_groups(adata, "cell_type", groups=["B"])
    ch.tl.gene_network(adata, use_rep="expression", groupby="cell_type", groups=["B", "NK"])
    ch.tl.gene_network(adata, use_rep="expression", groupby="half")
    ch.tl.modules(adata, "B", "NK")
    ch.tl.enrich(
        adata, SETS, of={"T": SETS["T cell activation (GO:0042110)"], "B": ["CD79A", "MS4A1", "CD3E"]}, group="B"
    )
    ch.pp.cell_sentences(adata, n_genes=15)
    tiny = ch.CellHermes.from_pretrained(folders("llama"), device="cpu", wrap="llama3-chat")
    tiny.card = dataclasses.replace(tiny.card, tasks=("t_cell_reactivity",))
    ch.tl.explain(adata, tiny, "t_cell_reactivity", cells=[*adata.obs_names[:12]])
    ch.tl.faithfulness(adata, tiny, "t_cell_reactivity", steps=[1, 5], cells=4)
    return adata


@pytest.fixture
def drawn(made):
    yield made
    plt.close("all")


@pytest.fixture(autouse=True)
def _keeps_the_callers_style():
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")
