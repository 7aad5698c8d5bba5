"""What readers of tables share: text as it is written, and frames that say what was read and what was left out."""

from __future__ import annotations

import csv
import logging
import re
import sys
from collections import deque
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import pandas as pd

from ._files import lines, told_of_na, unpacked
from ._questions import released_questions

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Iterable, Iterator, Sequence

logger = logging.getLogger("cellhermes")

MISSING = ("", "NA", "N/A", "NaN", "nan", "NAN", "<NA>", "None", "null", "NULL")  # among numbers; in texts, only ""
HEAD = 200  # lines in which a header is looked for
SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON = (".json", ".jsonl")


def read_table(path: str | Path) -> pd.DataFrame:
    r"""Read a table of questions, cells or genes.

    Files end with ``.csv`` or ``.tsv`` (plain, gzip or zip), ``.parquet``, ``.json`` or ``.jsonl``. Text stays as it is
    written: ``NA``, ``MARCH1``, ``1E5`` and ``007`` may be names. Only an empty cell is missing, in all of these
    formats. Columns of a parquet file keep their types.

    JSON is a list or lines of the records that the authors release and :meth:`~cellhermes.train.corpus.Pairs.write`
    writes: ``instruction``, ``output`` and, optionally, ``input``.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    One row a line, columns by the names in the first line. Of JSON, one row a record for the task ``"question"``:
    ``question`` (instruction, line break, input), ``answer``, and the two parts as ``instruction`` and ``input``;
    ``attrs`` holds ``"source"``, the name of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it ends otherwise, is damaged, a line has more or fewer fields than the first, or a record lacks one (the
        message has its number).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "questions.csv")
    ...     _ = path.write_text("gene,answer\nNA,1\n1E5,\n")
    ...     frame = ch.io.read_table(path)
    >>> frame["gene"].tolist(), frame["answer"].isna().tolist()
    (['NA', '1E5'], [False, True])
    """
    path = Path(path)
    suffix = Path(re.sub(r"\.(gz|zip)$", "", path.name.lower())).suffix
    if suffix == ".parquet":
        frame = read_parquet(path, str(path))
    elif path.suffix.lower() in JSON:
        frame = released_questions(path)
    elif suffix in SEPARATORS:
        frame = read_texts(path, None, first_line(path, None, SEPARATORS[suffix]))
    else:
        msg = f"{path} ends with {path.suffix!r}; expected {', '.join([*SEPARATORS, *JSON])} or .parquet."
        raise ValueError(msg)
    has_empty = any((frame.iloc[:, i].astype(object) == "").any() for i in range(frame.shape[1]))
    return frame.mask(frame.astype(object) == "") if has_empty else frame


def read_parquet(path: Path, where: str) -> pd.DataFrame:
    """Read a parquet file; errors of pyarrow, which name no file, do so."""
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        msg = f"{where} needs pyarrow: pip install 'cellhermes[train]'."
        raise ImportError(msg) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        msg = f"{where} cannot be read as parquet: {error}"
        raise ValueError(msg) from error


class Header(NamedTuple):
    """Names of the columns of a table, what stands between them, and how many lines stand before them."""

    names: list[str]
    sep: str
    n_before: int


def beginning(path: Path, member: str | None) -> list[str]:
    """Read the lines in which a header is looked for."""
    return [line.decode("utf-8", "replace").rstrip("\r\n") for line in islice(lines(path, member), HEAD)]


def first_line(path: Path, member: str | None, sep: str | None = None) -> Header:
    """Find the header of a table below blank lines and comments, which have fewer fields than what follows."""
    head = beginning(path, member)
    at = next((i for i, line in enumerate(head) if line.strip() and not line.startswith("#")), 0)
    line = head[at] if head else ""
    sep = sep or ("\t" if "\t" in line else ",")
    before = [i for i, text in enumerate(head[:at]) if text.startswith("#")]
    if before and len(names_in(path, head[before[-1]], sep)) == len(names_in(path, line, sep)) > 1:
        at = before[-1]  # names behind a #
    return Header(names_in(path, head[at].lstrip("#") if head else "", sep), sep, at)


def names_in(path: Path, line: str, sep: str) -> list[str]:
    """Read names of columns in a line, without empty ones behind the last."""
    try:
        names = [name.strip() for name in next(csv.reader([line], delimiter=sep), [])]
    except csv.Error as error:
        msg = f"{path} cannot be read as a table, line 1: {error}."
        raise ValueError(msg) from None
    while names and not names[-1]:
        names.pop()
    return names


def read_texts(
    path: Path,
    member: str | None,
    header: Header,
    *,
    columns: Collection[str] | None = None,
    quoting: int = csv.QUOTE_MINIMAL,
) -> pd.DataFrame:
    """Read all fields of a table as text, ``""`` where there is nothing; of some columns, if they are named."""
    names = header.names
    if not names:
        msg = f"{path} is empty; expected a table with names in its first line."
        raise ValueError(msg)
    if twice := sorted({name for name in names if names.count(name) > 1 and (columns is None or name in columns)}):
        msg = f"{path} has several columns {', '.join(map(repr, twice))}; expected names that differ."
        raise ValueError(msg)
    kept = [i for i, name in enumerate(names) if columns is None or name in columns]
    texts: list[list[str]] = [[] for _ in kept]
    with opened(path, member) as file:
        for number, row in _rows(path, file, header, quoting):
            for values, i in zip(texts, kept, strict=True):
                if not row[i].isascii():
                    _check_text(row[i], f"{path}, line {number}")
                values.append(sys.intern(row[i]))  # one string a value, however often it occurs
    columns_by_name = {names[i]: values for i, values in zip(kept, texts, strict=True)}
    return pd.DataFrame(columns_by_name, dtype=object)


def _check_text(text: str, where: str) -> None:
    """Refuse a text with bytes that are no UTF-8."""
    shown = text.encode(errors="surrogateescape").decode(errors="replace")
    if shown != text:
        msg = f"{where}: {shown[:60]!r} is no UTF-8; save the file as UTF-8."
        raise ValueError(msg)


def _rows(path: Path, file: BinaryIO, header: Header, quoting: int) -> Iterator[tuple[int, list[str]]]:
    """Read rows below the names, without blank ones; each has as many fields, but for empty ones behind the last."""
    n, n_before = len(header.names), header.n_before
    is_first = True
    with TextIOWrapper(file, "utf-8", newline="", errors="surrogateescape") as text:
        for _ in range(n_before + 1):
            next(text)
        reader = Quoted(text, header.sep, quoting)
        for fields in reader:
            row = [field.strip() for field in fields]
            if is_first and len(row) == 1 < n and row[0].startswith("#"):  # comments go on below the names
                continue
            number = n_before + 1 + reader.line_num
            if any(row[n:]) or (len(row) < n and any(row)):
                msg = f"{path}, line {number}: {len(row)} fields, but line {n_before + 1} has {n} names. "
                msg += f"Row: {row[:6]}."
                if len(row) == n + 1:
                    msg += " (R writes names of rows without a name of their column; row.names=FALSE leaves them out.)"
                raise ValueError(msg)
            if any(row):
                is_first = False
                yield number, row


class Quoted:
    """Fields of each line, which may be in quotation marks; a mark that nothing closes would swallow lines."""

    def __init__(self, lines: Iterable[str], sep: str, quoting: int) -> None:
        self._taken: list[str] = []
        self._form = {"delimiter": sep, "quoting": quoting}
        self._reader = csv.reader(map(self._take, lines), **self._form)

    def _take(self, line: str) -> str:
        self._taken.append(line)
        return line

    @property
    def line_num(self) -> int:
        """Count the lines that were read."""
        return self._reader.line_num

    def __iter__(self) -> Iterator[list[str]]:
        for fields in self._reader:
            if len(self._taken) > 1:  # raises csv.Error unless the marks stand around whole fields
                try:
                    deque(csv.reader(self._taken, **self._form, strict=True), maxlen=0)
                except csv.Error:
                    msg = f"a quotation mark that is not closed stands in {self._taken[0][:120]!r}"
                    raise csv.Error(msg) from None
            self._taken.clear()
            yield fields


def numbers(values: pd.Series, path: Path, name: str) -> pd.Series:
    """Read texts as numbers, missing ones as NaN."""
    texts = values.str.strip()
    missing = texts.str.lower().isin({text.lower() for text in MISSING})
    parsed = pd.to_numeric(texts.mask(missing), errors="coerce")
    if (bad := parsed.isna() & ~missing).any():
        msg = f"{path}: column {name!r} has values that are no numbers, such as {values[bad].iloc[0]!r}."
        raise ValueError(msg)
    return parsed.astype(float)


@contextmanager
def opened(path: Path, member: str | None) -> Iterator[BinaryIO]:
    """Open the bytes of a text file; what cannot be read is a ``ValueError`` that names the file."""
    with unpacked(path, member) as (file, _):
        try:
            yield file
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, csv.Error) as error:
            msg = f"{path} cannot be read as a table: {error}"
            raise ValueError(msg) from error


def once(frame: pd.DataFrame, key: Sequence[str], path: Path, dropped: Counter[str], **about: object) -> pd.DataFrame:
    """Keep the first row of each key."""
    first = ~frame.duplicated(list(key))
    dropped["repeated"] += int((~first).sum())
    return told(frame[first].reset_index(drop=True), path, dropped, **about)


def told(frame: pd.DataFrame, path: Path, dropped: Counter[str], **about: object) -> pd.DataFrame:
    """Note in the frame's ``attrs`` and in the log what was read and dropped."""
    counts = {reason: number for reason, number in dropped.items() if number}
    listed = ", ".join(f"{reason}: {number:,}" for reason, number in counts.items()) or "nothing"
    if frame.empty:
        msg = f"{path} has no row that can be used. Dropped: {listed}."
        raise ValueError(msg)
    if "gene" in frame:
        told_of_na(path, {*frame["gene"].unique()})
    frame.attrs = {**about, "source": path.name, "rows": len(frame) + sum(counts.values()), "dropped": counts}
    logger.info("%s: %s rows (%s). Dropped: %s.", path, f"{len(frame):,}", about["format"], listed)
    return frame
