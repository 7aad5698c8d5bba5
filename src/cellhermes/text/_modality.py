"""What the ranked lists of a modality hold, in words: genes by expression, proteins by abundance, ..."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ._template import entries

PROTEIN_CODING = "protein_coding"


@dataclass(frozen=True, slots=True)
class Modality:
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
    def names(cls) -> list[str]:
        """List the modalities of ``text/templates/modalities.toml``; the first is the default.

        Returns
        -------
        Names for :meth:`load`.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Modality.names()
        ['rna', 'protein', 'gene_activity', 'metabolite']
        """
        return list(entries()["modalities"])

    @classmethod
    def load(cls, modality: "str | Modality") -> "Modality":
        """Return one modality by name.

        Parameters
        ----------
        modality
            One of :meth:`names`, or a modality, which is returned as it is.

        Returns
        -------
        The modality.

        Raises
        ------
        KeyError
            If there is none of that name; the message lists the known ones.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Modality.load("rna").nouns
        'genes'
        """
        if isinstance(modality, Modality):
            return modality
        if modality not in cls.names():
            msg = f"No modality {modality!r}. Known: {', '.join(cls.names())}."
            raise KeyError(msg)
        return cls(modality, **entries()["modalities"][modality])

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
