"""Tables of genes and the class they belong to, for :func:`cellhermes.metrics.gene_property`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from ._files import is_symbol
from ._tables import first_line, once, read_texts

GENES = ("symbol", "gene", "gene_symbol", "gene_name", "ensembl_id")
ANSWERS = ("class", "answer", "label", "category")


def read_gene_labels(path: str | Path, *, member: str | None = None) -> pd.DataFrame:
    r"""Read genes and their class, of one or several tasks.

    A table, with tabs or commas, of which one column holds the gene (``symbol``, ``gene``, ``gene_symbol``,
    ``gene_name`` or ``ensembl_id``; the first of these), one the class (``class``, ``answer``, ``label`` or
    ``category``), and a column ``task`` tells tasks apart, if there are several. So labels of any property, such as the
    range of transcription factors, can be brought as a table of two columns.

    Parameters
    ----------
    path
        The file: plain, gzip or zip, told by its first bytes.
    member
        Name of the file inside a zip archive with several.

    Returns
    -------
    ``task`` (the name of the file, where the table has none), ``gene``, ``answer``, and ``ensembl_id`` where it is
    there; each gene once in each class of a task. A gene in both classes of a task is left in:
    :func:`cellhermes.metrics.gene_property` drops and counts it. ``attrs`` as in :func:`read_gene_categories`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, the file is damaged, or no row is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "tf_range.csv")
    ...     _ = path.write_text("gene,class\nMYOD1,short\nCTCF,long\nCTCF,long\n")
    ...     labels = ch.io.read_gene_labels(path)
    >>> labels[["gene", "answer"]].to_dict("list"), labels.attrs["dropped"]
    ({'gene': ['MYOD1', 'CTCF'], 'answer': ['short', 'long']}, {'repeated': 1})
    """
    path = Path(path)
    header = first_line(path, member)
    gene, answer = (next((name for name in known if name in header.names), None) for known in (GENES, ANSWERS))
    if gene is None or answer is None:
        msg = f"{path} has the columns {header.names[:10]}; expected a gene, one of {GENES}, and a class, one of "
        msg += f"{ANSWERS}."
        raise ValueError(msg)
    table = read_texts(path, member, header)
    name = path.name.split(".")[0] if member is None else Path(member).stem
    frame = pd.DataFrame({"task": table.get("task", name), "gene": table[gene], "answer": table[answer]})
    if "ensembl_id" in table and gene != "ensembl_id":
        frame["ensembl_id"] = table["ensembl_id"]
    usable = frame["gene"].map(is_symbol) & (frame[["task", "answer"]] != "").all(axis=1)
    dropped = Counter({"no gene or class": int((~usable).sum())})
    return once(frame[usable], ["task", "gene", "answer"], path, dropped, format="genes and classes")
