"""Entries that a call writes into an object: refused where they are somebody else's, and written all or none.

An entry is a slot and a key, ``"obs/half"``, or ``"raw.var/mask"``. What a call wrote is noted in
``uns[key]["wrote"]``, so that the next call can tell it from what the user had there.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._keys import PARAMS, WROTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from anndata import AnnData

SLOTS = ("obs", "var", "obsm", "varm", "varp", "layers", "uns")


def is_ours(adata: AnnData, key: str, entry: str) -> bool:
    """Whether an entry was written under a key by a call of ours."""
    stored = adata.uns.get(key)
    if not isinstance(stored, Mapping):
        return False
    if WROTE in stored:
        return entry in map(str, stored[WROTE])
    return "version" in stored.get(PARAMS, ())  # of a store that was written in blocks


def check_free(adata: AnnData, key: str, entries: Iterable[str], *, argument: str = "key_added") -> None:
    """Refuse, before the work, to write over what no call of ours wrote under this key.

    Raises
    ------
    ValueError
        It names the entries, and the argument that gives others.
    """
    there = [entry for entry in (*entries, f"uns/{key}") if _name(entry) in dict(_tables(adata)).get(_slot(entry), ())]
    if taken := [f"{_slot(entry)}[{_name(entry)!r}]" for entry in there if not is_ours(adata, key, entry)]:
        msg = f"{', '.join(taken)} is there already, not written by cellhermes. Pass another {argument}=, or delete it."
        raise ValueError(msg)


@contextmanager
def written(adata: AnnData, key: str, entries: Iterable[str]) -> Iterator[None]:
    """Write entries in the body: after an error or an interruption, the object is as it was before it."""
    ours = map(str, adata.uns.get(key, {}).get(WROTE, ()))
    before = {slot: dict(table.items()) for slot, table in _tables(adata)}
    before["uns"] = {name: dict(one) if isinstance(one, dict) else one for name, one in adata.uns.items()}
    try:
        yield
        names = sorted({*ours, *entries, f"uns/{key}"})
        adata.uns[key] = {**adata.uns.get(key, {}), WROTE: names}
    except BaseException:
        for slot, table in _tables(adata):
            _restore(table, before[slot])
        raise


def _tables(adata: AnnData) -> list[tuple[str, Mapping]]:
    raw = [] if adata.raw is None else [("raw.var", adata.raw.var)]
    return [*((slot, getattr(adata, slot)) for slot in SLOTS), *raw]


def _restore(now: Mapping, before: Mapping) -> None:
    if [*now] != [*before]:  # all, so that they come back in their order
        for name in [*now]:
            del now[name]
    for name, value in before.items():
        if name not in now or now[name] is not value:
            now[name] = value


def _slot(entry: str) -> str:
    return entry.partition("/")[0]


def _name(entry: str) -> str:
    return entry.partition("/")[2]
