"""What the ranked lists of a modality hold, in words: genes by expression, proteins by abundance, ..."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

from ._named import Named
from ._template import entries

PROTEIN_CODING = "protein_coding"


@dataclass(frozen=True, slots=True)
class Modality(Named):
    """Words of a modality, and which of its features may stand in a sentence.

    Parameters
    ----------
    name
        Key in ``templates/modalities.toml``.
    noun
        What one word of a sentence is.
    nouns
        Its plural.
    measure
        What the words are ranked by.
    sentence
        What stands in front of the list.
    mask
        ``"protein_coding"`` for the rules of :func:`cellhermes.pp.mask_genes`; otherwise a regular expression that
        finds the names to keep.
    features
        A regular expression that finds the feature types (``var["feature_types"]``) and names of modalities that mean
        it.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.text.Modality.load("protein").sentence
    'A cell with surface proteins ranked by abundance'
    """

    name: str
    noun: str
    nouns: str
    measure: str
    sentence: str
    mask: str
    features: str

    @classmethod
    @cache
    def _shipped(cls) -> Mapping[str, Self]:
        """Read the modalities of ``text/templates/modalities.toml``; the first is the default."""
        return {name: cls(name, **entry) for name, entry in entries()["modalities"].items()}

    def keeps(self, names: Sequence[str]) -> list[bool]:
        """Say which features may stand in a sentence, for ``var["sentence_gene"]``.

        Parameters
        ----------
        names
            Names of features.

        Returns
        -------
        Whether each is kept. Names that are empty or hold white space are not: blanks separate words.

        Raises
        ------
        ValueError
            If the rule is that of :func:`cellhermes.pp.mask_genes`, which has to see the data.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Modality.load("protein").keeps(["CD3", "CD19", "IgG1-isotype"])
        [True, True, False]
        """
        if self.mask == PROTEIN_CODING:
            msg = f"Modality {self.name!r} is masked by the rules for genes; call `ch.pp.mask_genes(data)`."
            raise ValueError(msg)
        return [bool(re.search(self.mask, name)) and len(name.split()) == 1 for name in names]
