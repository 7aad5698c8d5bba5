"""Tables of precomputed embeddings: of other models, for the same measures."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from tokenize import TokenError
from typing import TYPE_CHECKING
from zipfile import ZipFile

import numpy as np
import pandas as pd

from .._disk import zip_names
from .._symbols import human_symbols
from ._files import picked, undamaged
from ._tables import MISSING, first_line, opened, read_parquet, told

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = (".csv", ".tsv", ".txt", ".npz", ".parquet", ".h5ad")
REFUSED = (".pkl", ".pickle", ".p", ".joblib", ".pt", ".pth", ".bin", ".npy")


def read_embeddings(path: str | Path, *, key: str | None = None, member: str | None = None) -> pd.DataFrame:
    r"""Read vectors of genes, or of cells, from a file.

    ``.csv``, ``.tsv``, ``.txt`` (plain or gzip)
        A line for each gene, the gene first, then numbers, with commas, tabs or blanks between them; with a line of
        names or without. The text format of word2vec, whose first line has two numbers only, is one of them.
    ``.npz``
        One array of names and one of vectors, with as many rows.
    ``.parquet``
        Numbers, and the genes as index or in the one column of text.
    ``.h5ad``
        Names of observations and ``X``; or with ``key`` an entry of ``obsm``, or one of ``varm`` with the names of
        variables.
    ``.zip``
        An archive with one such file, or several of which ``member`` names one.

    Pickles, and files that hold some (``.pkl``, ``.pt``, object arrays), are refused, as they run code when opened.

    Parameters
    ----------
    path
        The file.
    key
        Entry of ``obsm`` or ``varm`` of an h5ad file, or of the array with vectors in an npz file with several.
    member
        Name of the file inside an archive.

    Returns
    -------
    One row a gene, float32, genes as index; what all measures of gene embeddings take. ``attrs`` as in
    :func:`read_gene_categories`; dropped are rows without a gene (``"no name"``), genes that were there before
    (``"repeated"``) and vectors with NaN (``"not finite"``).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    KeyError
        If an entry is not there.
    ValueError
        If the format is not known or refused, a member is not there, or the file holds no vectors.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "gene2vec.txt")
    ...     _ = path.write_text("2 3\nTP53 0.1 0.2 0.3\nLYZ 1 0 -1\n")
    ...     vectors = ch.io.read_embeddings(path)
    >>> vectors.index.tolist(), vectors.shape
    (['TP53', 'LYZ'], (2, 3))
    """
    path = Path(path)
    if not path.is_file():
        msg = f"There is no file {path}."
        raise FileNotFoundError(msg)
    name = _name(path, member)
    suffix = Path(name.lower().removesuffix(".gz")).suffix
    if suffix in REFUSED or suffix not in SUFFIXES:
        why = "may hold a pickle, which runs code when it is opened" if suffix in REFUSED else "is no known format"
        msg = f"{_where(path, name)} {why}; expected one of {', '.join(SUFFIXES)}. Save the vectors as npz or parquet."
        raise ValueError(msg)
    if suffix in (".csv", ".tsv", ".txt"):
        frame = _text(path, name if path.suffix.lower() == ".zip" else None)
    else:
        frame = _binary(path, name, suffix, key)
    return _finished(frame, path, suffix[1:])


def _binary(path: Path, name: str, suffix: str, key: str | None) -> pd.DataFrame:
    where = _where(path, name)
    with undamaged(path), _whole(path, name) as file:
        if suffix == ".parquet":
            return _parquet(file, where)
        return _npz(file, where, key) if suffix == ".npz" else _h5ad(file, where, key)


def _name(path: Path, member: str | None) -> str:
    """Name the file, or the one in the archive."""
    if path.suffix.lower() != ".zip":
        return path.name
    with undamaged(path), zip_names(), ZipFile(path) as archive:
        return picked(archive, path, member)


def _where(path: Path, name: str) -> str:
    """Write what errors call the file, or the one in the archive."""
    return f"{path}: {name}" if path.suffix.lower() == ".zip" else str(path)


@contextmanager
def _whole(path: Path, name: str) -> Iterator[Path]:
    """Open the file, or the one in the archive, unpacked for as long as it is read."""
    if path.suffix.lower() != ".zip":
        yield path
        return
    with TemporaryDirectory() as folder, ZipFile(path) as archive:
        with zip_names():
            unpacked = archive.extract(name, folder)
        yield Path(unpacked)


def _text(path: Path, member: str | None) -> pd.DataFrame:
    first, sep, n_before = first_line(path, member)
    if len(first) == 1:  # neither tabs nor commas
        first, sep = first[0].split(), " "
    of_word2vec = sep == " " and len(first) == 2 and all(text.isdigit() for text in first)
    numbered = first[1:] in ([str(i + start) for i in range(len(first) - 1)] for start in (0, 1))
    numbered = numbered and first[0] not in human_symbols().known  # TP53 0 1 are the numbers of a gene
    is_header = of_word2vec or numbered or not all(map(_is_number, first[1:]))
    with opened(path, member) as file:
        table = pd.read_csv(
            file, sep=r"\s+" if sep == " " else sep, header=None, skiprows=n_before + int(is_header), index_col=False,
            na_values=MISSING, keep_default_na=False, converters={0: str}, engine="c",
        )  # fmt: skip
    at_end = table.shape[1] > 2 and table.iloc[:, -1].isna().all()  # a separator at the end of each line
    return (table.iloc[:, :-1] if at_end else table).set_index(0)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _npz(file: Path, where: str, key: str | None) -> pd.DataFrame:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {entry: archive[entry] for entry in archive.files}
    except (ValueError, TypeError, SyntaxError, TokenError) as error:  # numpy reads the head of an array as Python
        msg = (
            f"{where} holds an array of Python objects, which is a pickle and not read, or is no archive of arrays "
            f"({error}). Save names as text, with numpy.savez."
        )
        raise ValueError(msg) from error
    names = [array for array in arrays.values() if array.ndim == 1 and array.dtype.kind in "US"]
    vectors = {entry: array for entry, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiu"}
    if key is not None and key not in vectors:
        msg = f"{where} has no array of vectors {key!r}; it has {[*vectors]}."
        raise KeyError(msg)
    vectors = vectors if key is None else {key: vectors[key]}
    if len(names) != 1 or len(vectors) != 1 or len(names[0]) != len(next(iter(vectors.values()))):
        shapes = {entry: (array.shape, str(array.dtype)) for entry, array in arrays.items()}
        msg = f"{where} holds {shapes}; expected one array of names and one of vectors with as many rows (or key=)."
        raise ValueError(msg)
    return pd.DataFrame(next(iter(vectors.values())), index=names[0].astype(str))


def _parquet(file: Path, where: str) -> pd.DataFrame:
    table = read_parquet(file, where)
    text = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    if len(text) == 1 and pd.api.types.is_integer_dtype(table.index):
        return table.set_index(text[0])
    if isinstance(table.index, pd.RangeIndex):
        msg = f"{where} does not say which genes its rows are; expected genes as index, or in the one column of text."
        raise ValueError(msg)
    return table


def _h5ad(file: Path, where: str, key: str | None) -> pd.DataFrame:
    import anndata

    adata = anndata.read_h5ad(file)
    if key is None:
        x = adata.X
        return pd.DataFrame(x.toarray() if hasattr(x, "toarray") else np.asarray(x), index=adata.obs_names)
    for entries, names in ((adata.obsm, adata.obs_names), (adata.varm, adata.var_names)):
        if key in entries:
            return pd.DataFrame(np.asarray(entries[key]), index=names)
    msg = f"{where} has no {key!r}; it has {[*adata.obsm]} in obsm and {[*adata.varm]} in varm."
    raise KeyError(msg)


def _finished(frame: pd.DataFrame, path: Path, form: str) -> pd.DataFrame:
    """Keep each gene once, without NaN, in float32."""
    if wrong := [str(c) for c in frame if not pd.api.types.is_numeric_dtype(frame[c])] or not frame.shape[1]:
        msg = f"{path} has no vectors: columns that are not numbers are {wrong}; expected the gene, then numbers."
        raise ValueError(msg)
    nameless = frame.index.isna() | (frame.index.astype(str).str.strip() == "")
    twice = frame.index.duplicated() & ~nameless
    finite = np.isfinite(frame.to_numpy(float)).all(axis=1)
    dropped = Counter({"no name": int(nameless.sum()), "repeated": int(twice.sum())})
    dropped["not finite"] = int((~finite & ~twice & ~nameless).sum())
    frame = frame[~twice & ~nameless & finite].astype(np.float32)
    frame = frame.set_axis(pd.Index(frame.index.astype(str), name="gene")).set_axis(range(frame.shape[1]), axis=1)
    return told(frame, path, dropped, format=form)
