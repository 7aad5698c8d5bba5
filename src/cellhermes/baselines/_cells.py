"""Embeddings of cells that are had without a language model."""

from __future__ import annotations

import random
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from scipy import sparse

from .._streams import seed_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Method = Literal["PCA", "Harmony", "scVI", "random"]


def embed_cells(
    expression: np.ndarray | sparse.csr_array | sparse.csr_matrix,
    batch: Sequence[str] | pd.Series | np.ndarray | None = None,
    *,
    methods: Sequence[Method] = ("PCA", "Harmony", "random"),
    counts: np.ndarray | sparse.csr_array | sparse.csr_matrix | None = None,
    n_top_genes: int = 2000,
    n_components: int = 50,
    rng: int | np.random.Generator | None = 0,
) -> dict[str, np.ndarray]:
    """Embed cells without a language model, as :func:`cellhermes.metrics.integration` compares them.

    ``"PCA"``
        Principal components of the most variable genes, each standardised and cut at 10.
    ``"Harmony"``
        These components, corrected for the batch (Korsunsky et al. 2019).
    ``"scVI"``
        The latent means of a variational autoencoder that reads the counts of the most variable genes and the batch,
        with the defaults of scvi-tools (Lopez et al. 2018). Long on a CPU.
    ``"random"``
        Normal numbers.

    Parameters
    ----------
    expression
        Cells x genes, log-normalised.
    batch
        Batch of each cell, for ``"Harmony"`` and ``"scVI"``.
    methods
        Which of the above.
    counts
        Cells x genes, raw counts, for ``"scVI"``.
    n_top_genes
        How many genes count as variable.
    n_components
        Dimensions of PCA, Harmony and random.
    rng
        Seed or generator of all of them.

    Returns
    -------
    Cells x dimensions by method.

    Raises
    ------
    ImportError
        If Harmony or scVI is asked for and harmonypy or scvi-tools is not installed.
    ValueError
        If a method is not known or lacks batches or counts, numbers of cells differ, or expression is negative.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> embeddings = ch.baselines.embed_cells(adata.X, adata.obs["donor"], methods=["PCA", "random"])
    >>> {name: x.shape == (adata.n_obs, 50) for name, x in embeddings.items()}
    {'PCA': True, 'random': True}
    """
    import scanpy as sc
    from anndata import AnnData
    from sklearn.decomposition import PCA

    if unknown := [name for name in methods if name not in get_args(Method)]:
        msg = f"methods has {unknown}; expected some of {get_args(Method)}."
        raise ValueError(msg)
    if batch is None and (needs := {"Harmony", "scVI"} & {*methods}):
        msg = f"methods has {sorted(needs)}, which correct for batches; pass batch=."
        raise ValueError(msg)
    adata = AnnData(sparse.csr_matrix(expression, dtype=np.float32))
    batch = pd.Series(np.full(adata.n_obs, "") if batch is None else np.asarray(batch, dtype=object)).astype(str)
    if adata.n_obs != len(batch) or adata.X.min() < 0:
        msg = (
            f"expression has {adata.n_obs:,} cells with a minimum of {adata.X.min():.3g}, and there are {len(batch):,} "
            "batches; expected one each, and log-normalised values, which are not negative."
        )
        raise ValueError(msg)
    if "scVI" in methods and counts is None:
        msg = "methods has 'scVI', which reads raw counts; pass counts=."
        raise ValueError(msg)
    with warnings.catch_warnings():
        # where few cells leave fewer genes with a dispersion, all of these are taken
        warnings.filterwarnings("ignore", message="`n_top_genes` > number of normalized dispersions")
        sc.pp.highly_variable_genes(adata, n_top_genes=min(n_top_genes, adata.n_vars - 1))
    seed = seed_of(rng)
    variable = adata.var["highly_variable"].to_numpy()
    embeddings = {}
    if {"PCA", "Harmony"} & {*methods}:
        scaled = sc.pp.scale(adata.X[:, variable].toarray(), max_value=10)
        n = min(n_components, *scaled.shape)
        embeddings["PCA"] = PCA(n, random_state=seed).fit_transform(scaled).astype(np.float32)
    if "Harmony" in methods:
        embeddings["Harmony"] = _harmony(embeddings["PCA"], batch, seed)
    if "scVI" in methods:
        embeddings["scVI"] = _scvi(sparse.csr_matrix(counts)[:, variable], batch, seed)
    if "random" in methods:
        values = np.random.default_rng(rng).normal(size=(adata.n_obs, n_components))
        embeddings["random"] = values.astype(np.float32)
    return {name: embeddings[name] for name in methods}


def _harmony(pca: np.ndarray, batch: pd.Series, seed: int) -> np.ndarray:
    try:
        import harmonypy
    except ImportError as error:
        msg = "methods has 'Harmony', which needs harmonypy: pip install 'cellhermes[metrics]'. Or leave it out."
        raise ImportError(msg) from error
    about = pd.DataFrame({"batch": batch})
    return np.asarray(harmonypy.run_harmony(pca, about, ["batch"], random_state=seed, verbose=False).Z_corr, np.float32)


def _scvi(counts: sparse.csr_matrix, batch: pd.Series, seed: int) -> np.ndarray:
    try:
        import scvi
    except ImportError as error:
        msg = "methods has 'scVI', which needs scvi-tools: pip install 'cellhermes[scvi]'. Or leave it out."
        raise ImportError(msg) from error
    from anndata import AnnData

    adata = AnnData(counts.astype(np.float32), obs=pd.DataFrame({"batch": batch}).set_axis(batch.index.astype(str)))
    with _same_random_state(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lightning, about the machine
        scvi.settings.seed = seed
        scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
        model = scvi.model.SCVI(adata)
        model.train(enable_progress_bar=False)
        return np.asarray(model.get_latent_representation(), dtype=np.float32)


@contextmanager
def _same_random_state() -> Iterator[None]:
    """Leave the global random states as they were: scvi-tools takes its seed from them only."""
    import torch

    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
