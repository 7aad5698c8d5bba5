#!/usr/bin/env bash
# write_h5ad(compression="gzip") on a column of text, such as one cell sentence for each cell.
#
# Versions: anndata 0.12.19, h5py 3.16.0, zarr 3.1.6, numcodecs 0.16.6, pandas 2.3.3 (Python 3.11).
#
# Behaviour: a column of strings is a dataset of the variable-length type. HDF5 compresses what lies in the dataset,
# which for this type is one 16-byte reference for each cell; the characters go into the file's global heap, which no
# filter reaches. h5py answers "gzip" when it is asked for the dataset's compression, yet the text is stored as it is:
# the file shrinks by a few per cent where gzip on the same text saves over nine tenths. write_zarr on the same data
# compresses the characters without being asked.
#
# Output seen:
#   anndata 0.12.19, h5py 3.16.0, zarr 3.1.6
#   text compressed by gzip alone: under a tenth
#   compression of the dataset in the file: gzip
#   write_h5ad(compression="gzip"): more than nine tenths of the text
#   write_zarr(): under a tenth
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/sizes.py" <<'PYTHON'
import sys
import warnings
import zlib
from importlib.metadata import version
from pathlib import Path

import anndata
import h5py
import pandas as pd

warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
genes = " ".join(f"GENE{number}" for number in range(120))
sentences = [f"{genes} cell{number}" for number in range(4_000)]
cells = anndata.AnnData(obs=pd.DataFrame({"sentence": sentences}, index=[f"c{i}" for i in range(len(sentences))]))
text = "".join(sentences).encode()


def share(n_bytes: int) -> str:
    part = n_bytes / len(text)
    return "under a tenth" if part < 0.1 else "more than nine tenths of the text" if part > 0.9 else f"{part:.0%}"


cells.write_h5ad(folder / "cells.h5ad", compression="gzip")
cells.write_zarr(folder / "cells.zarr")
with h5py.File(folder / "cells.h5ad") as file:
    compression = file["obs/sentence"].compression

print(", ".join(f"{name} {version(name)}" for name in ("anndata", "h5py", "zarr")))
print(f"text compressed by gzip alone: {share(len(zlib.compress(text)))}")
print(f"compression of the dataset in the file: {compression}")
print(f'write_h5ad(compression="gzip"): {share((folder / "cells.h5ad").stat().st_size)}')
print(f"write_zarr(): {share(sum(path.stat().st_size for path in (folder / 'cells.zarr').rglob('*') if path.is_file()))}")
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check \
    anndata==0.12.19 h5py==3.16.0 zarr==3.1.6 numcodecs==0.16.6 pandas==2.3.3 numpy==2.4.6
"$python" "$work/sizes.py" "$work" | tee "$work/seen"
cat >"$work/expected" <<'TEXT'
anndata 0.12.19, h5py 3.16.0, zarr 3.1.6
text compressed by gzip alone: under a tenth
compression of the dataset in the file: gzip
write_h5ad(compression="gzip"): more than nine tenths of the text
write_zarr(): under a tenth
TEXT
if ! diff "$work/expected" "$work/seen"; then
    echo "The behaviour has changed." >&2
    exit 1
fi
