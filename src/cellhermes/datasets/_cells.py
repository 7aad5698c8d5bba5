"""Tables of cells: downloaded, checked on arrival, and read with all cells or with a random part of them."""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .. import _fetch
from .._disk import noted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from anndata import AnnData


def immune(*, subsample: int | None = None, rng: int | np.random.Generator | None = 0) -> AnnData:
    """Immune cells of blood and bone marrow: 33,506 cells, ten batches, 16 types (2.1 GB).

    "Immune" of the paper's integration benchmark, from scIB (Luecken et al. 2022).

    Parameters
    ----------
    subsample
        Number of cells to draw; None for all.
    rng
        Seed or generator of the draw.

    Returns
    -------
    AnnData with normalised values in ``X``, counts in ``layers["counts"]``, ``batch`` and ``final_annotation`` in
    ``obs``.

    Raises
    ------
    ConnectionError
        If it is not in the cache and cannot be downloaded.
    ValueError
        If the file is not what it should be.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.immune(subsample=2000)  # doctest: +SKIP
    """
    return _h5ad("immune", subsample, rng)


def pancreas(*, subsample: int | None = None, rng: int | np.random.Generator | None = 0) -> AnnData:
    """Cells of pancreatic islets: 16,382 cells, nine technologies, 14 types (316 MB).

    "Pancreas" of the paper's integration benchmark, from scIB (Luecken et al. 2022).

    Parameters
    ----------
    subsample
        Number of cells to draw; None for all.
    rng
        Seed or generator of the draw.

    Returns
    -------
    AnnData with normalised values in ``X``, counts in ``layers["counts"]``, ``tech`` (the batch) and ``celltype`` in
    ``obs``.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.pancreas()  # doctest: +SKIP
    """
    return _h5ad("pancreas", subsample, rng)


def lung(*, subsample: int | None = None, rng: int | np.random.Generator | None = 0) -> AnnData:
    """Cells of the lung: 32,472 cells, 16 batches, 17 types (1.0 GB).

    "Lung" of the paper's integration benchmark, from scIB (Luecken et al. 2022).

    Parameters
    ----------
    subsample
        Number of cells to draw; None for all.
    rng
        Seed or generator of the draw.

    Returns
    -------
    AnnData with normalised values in ``X``, counts in ``layers["counts"]``, ``batch`` and ``cell_type`` in ``obs``.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.lung(subsample=2000)  # doctest: +SKIP
    """
    return _h5ad("lung", subsample, rng)


def pbmc(*, subsample: int | None = None, rng: int | np.random.Generator | None = 0) -> AnnData:
    """Peripheral blood by two protocols: 15,476 cells.

    "PBMC" of the paper's integration benchmark, as merged for BBKNN (Polanski et al. 2020).

    Parameters
    ----------
    subsample
        Number of cells to draw; None for all.
    rng
        Seed or generator of the draw.

    Returns
    -------
    AnnData with ``batch`` and ``Cell type`` in ``obs``.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.pbmc()  # doctest: +SKIP
    """
    return _h5ad("pbmc", subsample, rng)


def aorta(*, subsample: int | None = None, rng: int | np.random.Generator | None = 0) -> AnnData:
    """Cells of the human aorta, "Aorta" of the paper's integration benchmark, from the authors' record.

    Its original place is a shared folder that gives neither checksums nor permanent addresses, so the copy in
    ``cell_level_downstream_tasks.zip`` of the authors' record is taken.

    Parameters
    ----------
    subsample
        Number of cells to draw; None for all.
    rng
        Seed or generator of the draw.

    Returns
    -------
    AnnData as in the archive.

    Raises
    ------
    ValueError
        If the archive has no single h5ad file of the aorta; the message lists what it has.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.aorta()  # doctest: +SKIP
    """
    with member("cell-tasks", r"aorta[^/]*\.h5ad$") as path:
        return _read(path, {}, subsample, rng)


def tabula_sapiens(tissue: str, *, subsample: int | None = None, rng: int | np.random.Generator | None = 0) -> AnnData:
    """Cells of one data set of Tabula Sapiens, which the paper's sequence corpus was made from.

    The list of data sets is the collection's, as it was when it was first asked for on this machine.

    Parameters
    ----------
    tissue
        Title of a data set, or its part behind "Tabula Sapiens - ", such as ``"Blood"``; the message of the error for
        one that is not there lists all.
    subsample
        Number of cells to draw; None for all.
    rng
        Seed or generator of the draw.

    Returns
    -------
    AnnData with ``cell_type``, ``tissue``, ``donor_id`` and ``assay`` in ``obs``, Ensembl ids as ``var_names`` and
    symbols in ``var["feature_name"]``.

    Raises
    ------
    ValueError
        If there is no such data set.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.tabula_sapiens("Blood", subsample=5000)  # doctest: +SKIP
    """
    entry = _fetch.find("data", "tabula-sapiens")
    assets = _assets(_fetch.data_file(entry, entry.files[0], check=_assets))
    wanted = [title for title in assets if tissue.lower() in (title.lower(), _short(title).lower())]
    if len(wanted) != 1:
        msg = f"Tabula Sapiens has no data set {tissue!r}; it has {', '.join(sorted(map(_short, assets)))}."
        raise ValueError(msg)
    url, size = assets[wanted[0]]
    check = partial(_check, expects=entry.expects)
    return _read(_fetch.derived(entry, url, url.rpartition("/")[2], size, check=check), entry.expects, subsample, rng)


def _short(title: str) -> str:
    return title.removeprefix("Tabula Sapiens - ")


def _assets(path: Path) -> dict[str, tuple[str, int]]:
    """Address and size of the h5ad file of each data set of a collection, by title."""
    try:
        found = {
            dataset["title"]: (asset["url"], int(asset.get("filesize") or 0))
            for dataset in noted(path)["datasets"]
            for asset in dataset["assets"]
            if asset["filetype"] == "H5AD"
        }
    except (KeyError, TypeError):
        found = {}
    if not found:
        msg = f"{path.name.removesuffix('.part')} lists no data sets; expected the index of a collection."
        raise ValueError(msg)
    return found


def melanoma_counts() -> AnnData:
    """Counts of cells of melanoma patients treated with their own T cells, from GEO (GSE222448).

    All samples of the series with counts, of which the paper's T cells are a part; nothing is filtered.

    Returns
    -------
    AnnData with counts in ``X`` (float32, CSR) and the name of the file as ``obs["sample"]``; genes that a sample does
    not list are 0 there.

    Raises
    ------
    ValueError
        If the archive holds no tables of counts; the message lists what it has.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.melanoma_counts()  # doctest: +SKIP
    """
    import anndata as ad

    entry = _fetch.find("data", "melanoma-counts")
    archive = _fetch.data_file(entry, entry.files[0], check=_fetch.members)
    with _fetch.unpacked(archive, r"counts\.tsv(\.gz)?$") as paths:
        if not paths:
            msg = f"{archive.name} has no ...counts.tsv.gz; it has {list(_fetch.members(archive))[:40]}."
            raise ValueError(msg)
        samples = {re.sub(r"^GSM\d+_|[-_.]?counts\.tsv(\.gz)?$", "", path.name): _counts(path) for path in paths}
    adata = ad.concat(samples, join="outer", label="sample", index_unique="-", fill_value=0)
    adata.X = adata.X.tocsr()
    return adata


def _counts(path: Path) -> AnnData:
    """A table with a row for each gene and a column for each cell, read a few genes at a time."""
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    genes, blocks = [], []
    try:
        for block in pd.read_csv(path, sep="\t", index_col=0, chunksize=1000):
            genes += block.index.astype(str).tolist()
            blocks.append(sparse.csr_matrix(block.to_numpy(np.float32)))
            cells = block.columns.astype(str)
    except (ValueError, EOFError, OSError) as error:
        msg = f"{path.name} is no table of counts: {error}"
        raise ValueError(msg) from error
    adata = AnnData(sparse.vstack(blocks).T.tocsr(), pd.DataFrame(index=cells), pd.DataFrame(index=genes))
    adata.var_names_make_unique()
    return adata


# ---- reading


def _h5ad(name: str, subsample: int | None, rng: int | np.random.Generator | None) -> AnnData:
    entry = _fetch.find("data", name)
    path = _fetch.data_file(entry, entry.files[0], check=partial(_check, expects=entry.expects))
    return _read(path, entry.expects, subsample, rng)


@contextmanager
def member(name: str, pattern: str) -> Iterator[Path]:
    """The one file of a data set's archive whose name matches, for as long as it is read."""
    entry = _fetch.find("data", name)
    archive = _fetch.data_file(entry, entry.files[0], check=_fetch.members)
    held = _fetch.members(archive)
    found = [inside for inside in held if re.search(pattern, inside, re.I) and "__MACOSX" not in inside]
    if len(found) != 1:
        listed = ", ".join(sorted(held)[:40])
        msg = f"{archive.name} has {len(found)} files that match {pattern!r}, expected one. It has: {listed}."
        raise ValueError(msg)
    with _fetch.unpacked(archive, f"^{re.escape(found[0])}$") as (path,):
        yield path


def _check(path: Path, *, expects: Mapping[str, int | list[str]]) -> None:
    """Whether an h5ad file has the cells, genes, columns and layers that it should; reads no expression."""
    import anndata as ad

    try:
        adata = ad.read_h5ad(path, backed="r")
    except (OSError, KeyError, ValueError, AttributeError, TypeError) as error:  # what reading another file raises
        msg = f"{path.name.removesuffix('.part')} cannot be read as h5ad: {error}"
        raise ValueError(msg) from error
    try:
        _compare(path, adata, expects)
    finally:
        adata.file.close()


def _compare(path: Path, adata: AnnData, expects: Mapping[str, int | list[str]]) -> None:
    problems = [
        f"{found:,} {what}, expected {expects[key]:,}"
        for what, key, found in (("cells", "n_obs", adata.n_obs), ("genes", "n_vars", adata.n_vars))
        if expects.get(key) and expects[key] != found
    ]
    problems += [f"no column obs[{name!r}]" for name in expects.get("obs", []) if name not in adata.obs]
    problems += [f"no layers[{name!r}]" for name in expects.get("layers", []) if name not in adata.layers]
    if problems:
        msg = f"{path.name.removesuffix('.part')} has {'; '.join(problems)}. Columns of obs: {list(adata.obs)[:20]}."
        raise ValueError(msg)


def _read(
    path: Path, expects: Mapping[str, int | list[str]], subsample: int | None, rng: int | np.random.Generator | None
) -> AnnData:
    import anndata as ad

    if subsample is not None and subsample < 1:
        msg = f"subsample={subsample}; expected at least 1, or None for all cells."
        raise ValueError(msg)
    if subsample is None:
        adata = ad.read_h5ad(path)
        _compare(path, adata, expects)
        return adata
    backed = ad.read_h5ad(path, backed="r")
    try:
        _compare(path, backed, expects)
        n_obs = min(subsample, backed.n_obs)
        chosen = np.sort(np.random.default_rng(rng).choice(backed.n_obs, n_obs, replace=False))  # order of the file
        return backed[chosen].to_memory()
    finally:
        backed.file.close()
