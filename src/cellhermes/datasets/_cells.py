"""Tables of cells: downloaded, checked on arrival, and read with all cells or with a random part of them."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .. import _fetch
from .._disk import noted
from ._archives import archived, member

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from anndata import AnnData


def cells(name: str, *, subsample: int | None = None, rng: int | np.random.Generator | None = 0) -> AnnData:
    """Read a published table of cells.

    The first five are those of the paper's integration benchmark:

    - ``"immune"``: blood and bone marrow, 33,506 cells, ten batches, 16 types (2.1 GB; scIB, Luecken et al. 2022).
      Normalised, counts in ``layers["counts"]``; ``batch`` and ``final_annotation``.
    - ``"pancreas"``: islets, 16,382 cells, nine technologies, 14 types (316 MB; scIB). Normalised, counts in
      ``layers["counts"]``; ``tech`` (the batch) and ``celltype``.
    - ``"lung"``: 32,472 cells, 16 batches, 17 types (1.0 GB; scIB). Normalised, counts in ``layers["counts"]``;
      ``batch`` and ``cell_type``.
    - ``"pbmc"``: peripheral blood by two protocols, 15,476 cells, as merged for BBKNN (Polanski et al. 2020); ``batch``
      and ``Cell type``.
    - ``"aorta"``: the copy in the archive ``cell-tasks`` of the authors' record, as its original place gives neither
      checksums nor permanent addresses.
    - ``"melanoma"``: counts (float32, CSR) of cells of melanoma patients treated with their own T cells (GSE222448):
      all samples of the series with counts, of which the paper's T cells are a part; nothing is filtered. ``sample`` is
      the name of the file; genes that a sample does not list are 0 there.
    - ``"tabula_sapiens/Blood"`` or another data set of Tabula Sapiens, which the paper's sequence corpus was made from,
      by its title or by what follows "Tabula Sapiens - ". The list is the collection's, as it was when it was first
      asked for on this machine. Ensembl ids as ``var_names``, symbols in ``var["feature_name"]``; ``cell_type``,
      ``tissue``, ``donor_id`` and ``assay``.

    Parameters
    ----------
    name
        One of these.
    subsample
        Number of cells to draw; None for all.
    rng
        Seed or generator of the draw.

    Returns
    -------
    AnnData as its authors publish it, with the named columns in ``obs``.

    Raises
    ------
    ConnectionError
        If it is not in the cache and cannot be downloaded.
    ValueError
        If there is no such data set, or the file is not what it should be.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.cells("immune", subsample=2000)  # doctest: +SKIP
    """
    if subsample is not None and subsample < 1:
        msg = f"subsample={subsample}; expected at least 1, or None for all cells."
        raise ValueError(msg)
    collection, _, tissue = name.partition("/")
    if name == "melanoma":
        return _drawn(_melanoma(), subsample, rng)
    if collection == "tabula_sapiens":
        return _read(*_of_tabula_sapiens(tissue), subsample, rng)
    entries = {key: entry for key, entry in _fetch.registry()["data"].items() if entry.expects.get("n_obs")}
    archives = archived(".h5ad")
    if name in archives:
        with member(*archives[name]) as path:
            return _read(path, {}, subsample, rng)
    if name not in entries:
        known = [*entries, *archives, "melanoma", "tabula_sapiens/<tissue>"]
        raise ValueError(_fetch.unknown("cells", name, known))
    entry = entries[name]
    path = _fetch.data_file(entry, entry.files[0], check=partial(_check, expects=entry.expects))
    return _read(path, entry.expects, subsample, rng)


def _of_tabula_sapiens(tissue: str) -> tuple[Path, Mapping[str, int | list[str]]]:
    """File of one data set of the collection, and what it should hold."""
    entry = _fetch.find("data", "tabula-sapiens")
    assets = _assets(_fetch.data_file(entry, entry.files[0], check=_assets))
    titles = [title for title in assets if tissue.lower() in (title.lower(), _short(title).lower())]
    if len(titles) != 1:
        msg = f"Tabula Sapiens has no data set {tissue!r}; it has {', '.join(sorted(map(_short, assets)))}."
        raise ValueError(msg)
    url, size = assets[titles[0]]
    check = partial(_check, expects=entry.expects)
    return _fetch.derived(entry, url, url.rpartition("/")[2], size, check=check), entry.expects


def _short(title: str) -> str:
    return title.removeprefix("Tabula Sapiens - ")


def _assets(path: Path) -> dict[str, tuple[str, int]]:
    """Address and size of the h5ad file of each data set of a collection, by title."""
    try:
        assets = {
            dataset["title"]: (asset["url"], int(asset.get("filesize") or 0))
            for dataset in noted(path)["datasets"]
            for asset in dataset["assets"]
            if asset["filetype"] == "H5AD"
        }
    except (KeyError, TypeError):
        assets = {}
    if not assets:
        msg = f"{path.name.removesuffix('.part')} lists no data sets; expected the index of a collection."
        raise ValueError(msg)
    return assets


def _melanoma() -> AnnData:
    """Join the samples of the series, each with the name of its file."""
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
    """Read a table with a row for each gene and a column for each cell, a few genes at a time."""
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
        f"{n:,} {what}, expected {expects[key]:,}"
        for what, key, n in (("cells", "n_obs", adata.n_obs), ("genes", "n_vars", adata.n_vars))
        if expects.get(key) and expects[key] != n
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

    adata = ad.read_h5ad(path, backed=None if subsample is None else "r")
    try:
        _compare(path, adata, expects)
        return _drawn(adata, subsample, rng)
    finally:
        if adata.isbacked:
            adata.file.close()


def _drawn(adata: AnnData, subsample: int | None, rng: int | np.random.Generator | None) -> AnnData:
    """Draw some cells at random, in the order of the file."""
    if subsample is None:
        return adata
    n_obs = min(subsample, adata.n_obs)
    part = adata[np.sort(np.random.default_rng(rng).choice(adata.n_obs, n_obs, replace=False))]
    return part.to_memory() if adata.isbacked else part.copy()
