"""What comes with the package by name, listed and loaded in one way: tasks, templates, wraps and modalities."""

from collections.abc import Mapping
from typing import ClassVar, Self


class Named:
    """Something of which the package has some; ``_shipped`` of a subclass reads them."""

    __slots__ = ()
    _or_else: ClassVar[str] = ""  # what else can be passed, for the message

    @classmethod
    def _shipped(cls) -> Mapping[str, Self]:
        """Read what comes with the package, by name."""
        raise NotImplementedError

    @classmethod
    def names(cls) -> list[str]:
        """List what comes with the package.

        Returns
        -------
        Names for :meth:`load`.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Modality.names()  # the first is the default
        ['rna', 'protein', 'gene_activity', 'metabolite']
        """
        return list(cls._shipped())

    @classmethod
    def load(cls, name: str | Self) -> Self:
        """Take one by its name.

        Parameters
        ----------
        name
            One of :meth:`names`, or what was loaded before, which is returned as it is.

        Returns
        -------
        What bears the name.

        Raises
        ------
        KeyError
            If there is none of that name; the message lists the known ones.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.text.Template.load("pathway").fill(pathway="apoptosis").text
        'Pathway apoptosis'
        """
        if isinstance(name, cls):
            return name
        if name not in cls._shipped():
            msg = f"No {cls.__name__.lower()} {name!r}. Known: {', '.join(cls._shipped())}{cls._or_else}."
            raise KeyError(msg)
        return cls._shipped()[name]
