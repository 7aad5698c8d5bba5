"""Figure 3b and c, embeddings of cells and batches: ``python -m benchmarks.paper.fig3_cells --model mini``.

The five data sets of the paper where they are in the cache, and extracts of blood in their place. Beside the model's
sentence embedding (-s) and its expression-weighted mean of gene embeddings (-w) stand PCA, Harmony and random numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc

import cellhermes as ch

from ..shared import variable_genes
from ._run import counts_in_x, main, normalise

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from ._run import Run

PANELS = {
    "3b": "scib-metrics of CellHermes and twenty others on five data sets: CellHermes among the best four on all five",
    "3c": "UMAP of the Immune data by batch and by type",
}
# name: columns of the batch and of the cell type
DATA = {
    "aorta": ("batch", "cell_type"),
    "immune": ("batch", "final_annotation"),
    "lung": ("batch", "cell_type"),
    "pancreas": ("tech", "celltype"),
    "pbmc": ("batch", "Cell type"),
}
STAND_INS = {
    "PBMC, two batches": ("pbmc_two_batches.h5ad", "batch", "cell_type"),
    "PBMC, three technologies": ("pbmc_three_technologies.h5ad", "technology", "cell_type"),
}
N_CELLS, N_QUICK = 20_000, 300
N_GENES = 2000
TOTAL = "Total"


def make(run: Run) -> None:
    model = run.model()
    tables, shown = [], None
    for name, adata, batch, labels in data_sets(run):
        adata = drawn(adata, batch, labels, N_QUICK if run.options.quick else N_CELLS, run.options.seed)
        normalise(adata)
        found = embeddings(adata, model, batch, run.options.seed)
        table = ch.metrics.integration(
            found, adata.obs[batch], adata.obs[labels], unintegrated="PCA", rng=run.options.seed
        )
        tables.append(table.assign(data=name))
        versions = ", ".join(f"{package} {version}" for package, version in table.attrs["versions"].items())
        run.notes.append(f"{name}: {adata.n_obs:,} cells, {adata.obs[batch].nunique()} batches; {versions}.")
        shown = shown or (adata, batch, labels, found)
    table = pd.concat(tables, ignore_index=True)
    wide = table[table["kind"] == "aggregate"].pivot(index=["data", "embedding"], columns="metric", values="value")
    run.table("3b", wide.reset_index())
    run.table("3b, all measures", table)
    run.figure("3b", scores(table[table["metric"] == TOTAL]))
    run.figure("3c", maps(*shown))


def data_sets(run: Run) -> list[tuple[str, AnnData, str, str]]:
    """Those of the paper that are in the cache, and blood in place of the others."""
    held = [(name, run.cells(name, None, ""), *columns) for name, columns in DATA.items()]
    held = [one for one in held if one[1] is not None]
    if len(held) < len(DATA):
        for name, (file, *columns) in STAND_INS.items():
            if path := run.file(file):
                run.notes.append(f"In place of what is missing: {name} ({file}).")
                held.append((name, counts_in_x(sc.read_h5ad(path)), *columns))
    return held


def drawn(adata: AnnData, batch: str, labels: str, n: int, seed: int) -> AnnData:
    """At most so many cells, those with a type and a batch."""
    adata = adata[adata.obs[[batch, labels]].notna().all(axis=1).to_numpy()].copy()
    if adata.n_obs > n:
        rows = np.sort(np.random.default_rng(seed).choice(adata.n_obs, n, replace=False))
        adata = adata[rows].copy()
    return adata


def embeddings(adata: AnnData, model: ch.CellHermes, batch: str, seed: int) -> dict[str, np.ndarray]:
    """The model's, and references."""
    ch.pp.cell_sentences(adata)
    ch.tl.embed_cells(adata, model)
    ch.tl.embed_genes(adata, model, genes=variable_genes(adata, N_GENES))
    ch.tl.embed_cells(adata, model, method="weighted", key_added="X_weighted")
    ours = {f"{model.card.name}-s": adata.obsm["X_cellhermes"], f"{model.card.name}-w": adata.obsm["X_weighted"]}
    return ours | ch.baselines.embed_cells(adata.X, adata.obs[batch], rng=seed)


def scores(table: pd.DataFrame) -> Axes:
    """Totals by data set."""
    wide = table.pivot(index="embedding", columns="data", values="value")
    wide = wide.loc[wide.mean(axis=1).sort_values(ascending=False).index]
    _, ax = plt.subplots(figsize=(2.5 + 0.9 * wide.shape[1], 0.4 * len(wide) + 1))
    ax.imshow(wide, cmap="Blues", vmin=0.3, vmax=0.8, aspect="auto")
    for i, j in np.ndindex(wide.shape):
        ax.text(j, i, f"{wide.iloc[i, j]:.2f}", ha="center", va="center", color="w" if wide.iloc[i, j] > 0.6 else "k")
    ax.set_xticks(range(wide.shape[1]), [name.replace(", ", ",\n") for name in wide])
    ax.set_yticks(range(len(wide)), wide.index)
    ax.set_title("scib-metrics, total", fontsize=10)
    return ax


def maps(adata: AnnData, batch: str, labels: str, found: dict[str, np.ndarray]) -> Axes:
    """UMAPs of the model's embedding and of PCA, by batch and by type."""
    names = [next(iter(found)), "PCA"]
    _, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    for name, row in zip(names, axes, strict=True):
        adata.obsm["X_shown"] = found[name]
        sc.pp.neighbors(adata, use_rep="X_shown")
        sc.tl.umap(adata)
        for column, ax in zip((batch, labels), row, strict=True):
            sc.pl.umap(adata, color=column, ax=ax, show=False, title=f"{name}, {column}", frameon=False)
    return axes[0, 0]


if __name__ == "__main__":
    main("fig3_cells")
