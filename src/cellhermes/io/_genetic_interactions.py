"""Genetic interactions of BioGRID, by the four types of the paper."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from ._files import is_symbol, rows
from ._graphs import TAB3, places
from ._tables import once

# https://wiki.thebiogrid.org/doku.php/experimental_systems, in the four types of the paper. It does not say which
# systems are "general"; here they are the interactions by score.
GENETIC = {
    "Synthetic Growth Defect": "synthetic",
    "Synthetic Haploinsufficiency": "synthetic",
    "Synthetic Lethality": "synthetic",
    "Synthetic Rescue": "synthetic",
    "Phenotypic Enhancement": "phenotypic",
    "Phenotypic Suppression": "phenotypic",
    "Negative Genetic": "general",
    "Positive Genetic": "general",
    "Dosage Growth Defect": "dosage",
    "Dosage Lethality": "dosage",
    "Dosage Rescue": "dosage",
}


def read_genetic_interactions(
    path: str | Path, *, organism: int | None = 9606, member: str | None = None
) -> pd.DataFrame:
    r"""Read genetic interactions of a BioGRID file in TAB3 format, by the four types of the paper.

    Synthetic (lethality, growth defect, haploinsufficiency, rescue), phenotypic (enhancement, suppression), dosage
    (lethality, growth defect, rescue), and general (negative or positive genetic, by score; the paper does not say what
    it calls general). The order of two genes does not count: the first one is the first in the alphabet.

    Parameters
    ----------
    path
        The file as downloaded: plain, gzip or zip, told by its first bytes.
    organism
        NCBI taxonomy id that both interactors must have; None keeps all.
    member
        Name of the file inside a zip archive with several.

    Returns
    -------
    ``gene_a``, ``gene_b``, ``type`` (``"synthetic"``, ...), ``system`` (as BioGRID calls it; the first, where there are
    several) and ``answer`` (``"Yes"``): each pair once in each type. These are positives only;
    :func:`cellhermes.train.questions.sample_negatives` adds negatives. ``attrs`` as in :func:`read_gene_categories`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, a line has another number of columns than the header, or no interaction is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> from cellhermes.io._graphs import TAB3  # the names of the 37 columns
    >>> row = dict.fromkeys(TAB3, "-") | {
    ...     "Official Symbol Interactor A": "PARP1",
    ...     "Official Symbol Interactor B": "BRCA1",
    ...     "Experimental System": "Synthetic Lethality",
    ...     "Organism ID Interactor A": "9606",
    ...     "Organism ID Interactor B": "9606",
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "biogrid.tab3.txt")
    ...     _ = path.write_text("#" + "\t".join(row) + "\n" + "\t".join(row.values()) + "\n")
    ...     frame = ch.io.read_genetic_interactions(path)
    >>> frame.loc[0, ["gene_a", "gene_b", "type"]].tolist()
    ['BRCA1', 'PARP1', 'synthetic']
    """
    table = rows(Path(path), "\t", member)
    place = places(path, next(table), TAB3, "BioGRID TAB3 has 37 columns")
    names = ("Official Symbol Interactor A", "Official Symbol Interactor B", "Experimental System")
    a, b, system = (place[name] for name in names)
    organisms = place["Organism ID Interactor A"], place["Organism ID Interactor B"]
    wanted = None if organism is None else str(organism).encode()
    kinds = {name.encode(): (kind, name) for name, kind in GENETIC.items()}
    dropped: Counter[str] = Counter()
    interactions = []
    for _, row in table:
        pair = sorted(row[column].decode("utf-8", "replace").strip() for column in (a, b))
        if wanted is not None and any(row[column] != wanted for column in organisms):
            dropped["other organism"] += 1
        elif row[system] not in kinds:
            dropped["not genetic"] += 1
        elif pair[0] == pair[1] or not all(map(is_symbol, pair)):
            dropped["no symbol, or a gene with itself"] += 1
        else:
            interactions.append((*pair, *kinds[row[system]], "Yes"))
    frame = pd.DataFrame(interactions, columns=["gene_a", "gene_b", "type", "system", "answer"])
    return once(frame, ["gene_a", "gene_b", "type"], Path(path), dropped, format="BioGRID TAB3")
