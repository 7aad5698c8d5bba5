#!/usr/bin/env bash
# zarr: how many chunks of an array are stored already, as one asks before resuming a long run.
#
# Versions: zarr 3.1.6, numcodecs 0.16.6, numpy 2.4.6 (Python 3.11).
#
# Behaviour: `Array.nchunks_initialized` lists the store once and then looks every chunk's key up in the LIST of keys it
# got, so the time grows with the square of the number of chunks. The same number counted by hand from one listing of
# the store (a set) takes time in proportion. An array of 1,000,000 cells in chunks of 50 (20,000 chunks) already takes
# seconds for one look at the property.
#
# Output seen:
#   zarr 3.1.6
#   2,000 and 8,000 chunks: both counts agree
#   nchunks_initialized: four times the chunks, more than eight times the seconds
#   counted from one listing: four times the chunks, less than eight times the seconds
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/count.py" <<'PYTHON'
import asyncio
import time
from importlib.metadata import version

import numpy as np
import zarr
from zarr.storage import MemoryStore


def filled(n_chunks: int) -> zarr.Array:
    array = zarr.create_array(MemoryStore(), shape=(n_chunks,), chunks=(1,), dtype="i1", compressors=None, fill_value=0)
    array[:] = np.ones(n_chunks, dtype="i1")
    return array


def listed(array: zarr.Array) -> int:
    async def keys() -> set[str]:
        return {key async for key in array.store.list_prefix("")}

    stored = asyncio.run(keys())
    return sum(f"c/{chunk}" in stored for chunk in range(array.nchunks))


def seconds(count, array: zarr.Array) -> tuple[float, int]:
    best = float("inf")
    for _ in range(2):
        start = time.process_time()
        number = count(array)
        best = min(best, time.process_time() - start)
    return best, number


arrays = [filled(2_000), filled(8_000)]
(few, n_few), (many, n_many) = (seconds(lambda array: array.nchunks_initialized, array) for array in arrays)
(few_listed, n_few_listed), (many_listed, n_many_listed) = (seconds(listed, array) for array in arrays)
agree = (n_few, n_many) == (n_few_listed, n_many_listed) == (2_000, 8_000)


def words(ratio: float) -> str:
    return f"four times the chunks, {'more' if ratio > 8 else 'less'} than eight times the seconds"


print(f"zarr {version('zarr')}")
print(f"2,000 and 8,000 chunks: both counts {'agree' if agree else 'differ'}")
print(f"nchunks_initialized: {words(many / few)}")
print(f"counted from one listing: {words(many_listed / few_listed)}")
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check zarr==3.1.6 numcodecs==0.16.6 numpy==2.4.6
"$python" "$work/count.py" | tee "$work/seen"
cat >"$work/expected" <<'TEXT'
zarr 3.1.6
2,000 and 8,000 chunks: both counts agree
nchunks_initialized: four times the chunks, more than eight times the seconds
counted from one listing: four times the chunks, less than eight times the seconds
TEXT
if ! diff "$work/expected" "$work/seen"; then
    echo "The behaviour has changed." >&2
    exit 1
fi
