"""Whether an embedding of cells keeps cell types apart and batches together, by scib-metrics."""

from __future__ import annotations

import logging
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._streams import seed_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger("cellhermes")
N_NEIGHBORS = 90  # what the measures of neighbourhoods ask for
VERSIONED = ("scib-metrics", "harmonypy", "scvi-tools", "jax", "scikit-learn")
KINDS = {"Bio conservation": "bio conservation", "Batch correction": "batch correction", "Aggregate score": "aggregate"}


def integration(
    embeddings: Mapping[str, np.ndarray],
    batch: Sequence[str] | pd.Series | np.ndarray,
    labels: Sequence[str] | pd.Series | np.ndarray,
    *,
    unintegrated: str | None = None,
    max_cells: int | None = None,
    n_jobs: int = 1,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Measure how embeddings of cells keep cell types and mix batches, with all measures of scib-metrics.

    Conservation of biology is the mean of isolated labels, NMI and ARI of k-means, silhouette of labels and cLISI;
    correction of batches is that of the batch score, iLISI, kBET, graph connectivity and comparison of principal
    component regression; the total is 0.6 and 0.4 of them, as in scIB. Values are not stretched between the best and
    the worst embedding, so that they do not depend on what stands beside them. The batch score of scib-metrics is BRAS
    since version 0.5.6, where the paper's version had the batch silhouette: totals of both cannot be compared, which is
    why versions and measures are in ``attrs``.

    Noise mixes batches perfectly. Read the two means before the total, and beside references
    (:func:`cellhermes.baselines.embed_cells`).

    Parameters
    ----------
    embeddings
        Cells x dimensions by name. The same array under two names is measured once.
    batch
        Batch of each cell, two or more.
    labels
        Cell type of each cell, two or more.
    unintegrated
        Which of the embeddings stands for the data before integration, such as their PCA. None leaves the comparison of
        principal component regression out, and the mean of batch correction is that of the other measures.
    max_cells
        Measure so many cells, drawn at random; None takes all.
    n_jobs
        Threads of the search for neighbours.
    rng
        Seed or generator of the draw of cells; the measures have fixed seeds of their own.

    Returns
    -------
    A row for each embedding and measure: ``embedding``, ``kind`` (``"bio conservation"``, ``"batch correction"``,
    ``"aggregate"``), ``metric``, ``value``. ``attrs`` holds ``"n_cells"``, ``"of_cells"`` (before the draw),
    ``"metrics"``, ``"versions"``, ``"unintegrated"``, ``"seed"``.

    Raises
    ------
    ImportError
        If scib-metrics is not installed.
    KeyError
        If ``unintegrated`` is none of the embeddings.
    ValueError
        If there is one batch or one label, numbers of rows differ, an embedding has NaN or the same vector everywhere,
        labels are missing, or there are not more than 90 cells.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy()
    >>> references = ch.baselines.embed_cells(adata.X, adata.obs["donor"], methods=["PCA", "random"])
    >>> ch.metrics.integration(
    ...     references, adata.obs["donor"], adata.obs["cell_type"], unintegrated="PCA"
    ... )  # doctest: +SKIP
    """
    try:
        from scib_metrics.benchmark import BatchCorrection, Benchmarker
    except ImportError as error:
        msg = "integration needs scib-metrics: pip install 'cellhermes[metrics]'."
        raise ImportError(msg) from error
    from anndata import AnnData

    obs = pd.DataFrame({"batch": np.asarray(batch, dtype=object), "label": np.asarray(labels, dtype=object)})
    arrays = {name: np.asarray(x) for name, x in embeddings.items()}
    _check(arrays, obs)
    if unintegrated is not None and unintegrated not in arrays:
        msg = f"unintegrated={unintegrated!r} is none of the embeddings {list(arrays)}."
        raise KeyError(msg)
    seed = seed_of(rng)
    if max_cells is not None and max_cells < len(obs):
        rows = np.sort(np.random.default_rng(seed).choice(len(obs), max_cells, replace=False))
        obs, arrays = obs.iloc[rows].reset_index(drop=True), {name: x[rows] for name, x in arrays.items()}
        _check(arrays, obs)
    first = _first_equal(arrays)
    different = list(dict.fromkeys(first.values()))
    adata = AnnData(obs=obs.astype(str).astype("category").set_axis(obs.index.astype(str)))
    for name in different:
        adata.obsm[name] = np.ascontiguousarray(arrays[name], dtype=np.float32)
    bench = Benchmarker(
        adata,
        batch_key="batch",
        label_key="label",
        embedding_obsm_keys=different,
        batch_correction_metrics=BatchCorrection(pcr_comparison=unintegrated is not None),
        pre_integrated_embedding_obsm_key=first[unintegrated] if unintegrated is not None else different[0],
        n_jobs=n_jobs,
        progress_bar=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of jax and of pandas, about the inside of scib-metrics
        bench.benchmark()
        table = bench.get_results(min_max_scale=False)
    values = _long(table, first)
    metrics = values.loc[values["kind"] != "aggregate", "metric"].unique().tolist()
    values.attrs = {
        "n_cells": len(obs),
        "of_cells": len(np.asarray(batch)),
        "metrics": metrics,
        "versions": _versions(),
    }
    values.attrs |= {"unintegrated": unintegrated, "seed": seed}
    logger.info("integration: %s cells, %d embeddings, scib-metrics %s", f"{len(obs):,}", len(first), _versions())
    return values


def _check(arrays: Mapping[str, np.ndarray], obs: pd.DataFrame) -> None:
    if not arrays:
        msg = "There is no embedding; expected a dict of arrays by name."
        raise ValueError(msg)
    if missing := int(obs.isna().any(axis=1).sum()):
        msg = f"{missing:,} of {len(obs):,} cells have no batch or no label; leave these cells out."
        raise ValueError(msg)
    for name, what in (("batch", "batches"), ("label", "labels")):
        if (sizes := obs[name].value_counts()).size < 2:
            msg = f"All cells have the same of the {what}: {sizes.to_dict()}; expected two {what} or more."
            raise ValueError(msg)
    if len(obs) <= N_NEIGHBORS:
        msg = f"There are {len(obs)} cells; expected more than {N_NEIGHBORS}, the neighbours that are looked at."
        raise ValueError(msg)
    for name, x in arrays.items():
        if x.ndim != 2 or len(x) != len(obs):
            msg = f"Embedding {name!r} has the shape {x.shape} and there are {len(obs):,} cells; expected a row a cell."
            raise ValueError(msg)
        if bad := int((~np.isfinite(x)).any(axis=1).sum()):
            msg = (
                f"Embedding {name!r} has NaN or infinite values in {bad:,} of {len(x):,} cells; leave these cells out."
            )
            raise ValueError(msg)
        if (x == x[0]).all():
            msg = f"Embedding {name!r} has the same vector in all {len(x):,} cells; there is nothing to measure."
            raise ValueError(msg)


def _first_equal(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """For each name, the first one with the same array."""
    first: dict[str, str] = {}
    for name, x in arrays.items():
        first[name] = next((other for other in first if np.array_equal(arrays[other], x)), name)
    return first


def _long(table: pd.DataFrame, first: Mapping[str, str]) -> pd.DataFrame:
    kinds = table.loc["Metric Type"].map(KINDS)
    rows = [
        (name, kinds[metric], metric, float(table.loc[same, metric]))
        for name, same in first.items()
        for metric in table.columns
    ]
    return pd.DataFrame(rows, columns=["embedding", "kind", "metric", "value"])


def _versions() -> dict[str, str]:
    versions = {}
    for name in VERSIONED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
