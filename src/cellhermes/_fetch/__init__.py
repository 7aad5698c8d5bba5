"""Downloads by name or address: one cache, every file checked against its hash whenever it is used."""

from ._bundle import read_bundle, write_bundle
from ._cache import check_space, locked, offline, writable
from ._data import data_file, data_files, derived
from ._files import fetch
from ._held import bundled, held_data, held_weights, is_held, remove, remove_halves, verified
from ._registry import Entry, File, find, registry, unknown
from ._unpack import members, unpacked
from ._weights import adapter_folder, base, is_hub_id, is_registered, weights

__all__ = [
    "Entry",
    "File",
    "adapter_folder",
    "base",
    "bundled",
    "check_space",
    "data_file",
    "data_files",
    "derived",
    "fetch",
    "find",
    "held_data",
    "held_weights",
    "is_held",
    "is_hub_id",
    "is_registered",
    "locked",
    "members",
    "offline",
    "read_bundle",
    "registry",
    "remove",
    "remove_halves",
    "unknown",
    "unpacked",
    "verified",
    "weights",
    "writable",
    "write_bundle",
]
