#!/usr/bin/env bash
# scanpy.pp.neighbors on more cells than it compares one by one.
#
# Versions: scanpy 1.11.5, pynndescent 0.7.0, scipy 1.17.1, umap-learn 0.5.12, numba 0.68.1 (Python 3.11).
#
# Behaviour: up to 8,191 cells (4,095 with metric="cosine") scanpy finds neighbours exactly; from there on it takes
# PyNNDescentTransformer. Release 0.7.0 of pynndescent returns a scipy.sparse.csr_array where 0.6.0 returned a
# csr_matrix, and scanpy calls getnnz(axis=1), which sparse arrays do not have. With pynndescent 0.6.0 the same call
# works. scanpy 1.11.5 asks for pynndescent>=0.5.13 only, so that a plain `pip install scanpy` gets the failing pair.
#
# Output seen:
#   scanpy 1.11.5, scipy 1.17.1, pynndescent 0.7.0
#   4,095 cells: works
#   4,096 cells: AttributeError: 'csr_array' object has no attribute 'getnnz'
#   scanpy 1.11.5, scipy 1.17.1, pynndescent 0.6.0
#   4,096 cells: works
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python
pins=(scanpy==1.11.5 scipy==1.17.1 anndata==0.12.19 numpy==2.4.6 pandas==2.3.3 numba==0.68.1 umap-learn==0.5.12 scikit-learn==1.9.1)

cat >"$work/neighbors.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import anndata
import numpy as np
import scanpy as sc

warnings.simplefilter("ignore")
print(", ".join(f"{name} {version(name)}" for name in ("scanpy", "scipy", "pynndescent")))
for n_cells in map(int, sys.argv[1:]):
    cells = anndata.AnnData(np.random.default_rng(0).normal(size=(n_cells, 8)).astype("float32"))
    try:
        sc.pp.neighbors(cells, use_rep="X", metric="cosine")
        print(f"{n_cells:,} cells: works")
    except AttributeError as error:
        print(f"{n_cells:,} cells: AttributeError: {error}")
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check "${pins[@]}" pynndescent==0.7.0
"$python" "$work/neighbors.py" 4095 4096 | tee "$work/seen"
"$python" -m pip install --quiet --disable-pip-version-check pynndescent==0.6.0
"$python" "$work/neighbors.py" 4096 | tee -a "$work/seen"

cat >"$work/expected" <<'TEXT'
scanpy 1.11.5, scipy 1.17.1, pynndescent 0.7.0
4,095 cells: works
4,096 cells: AttributeError: 'csr_array' object has no attribute 'getnnz'
scanpy 1.11.5, scipy 1.17.1, pynndescent 0.6.0
4,096 cells: works
TEXT
if ! diff "$work/expected" "$work/seen"; then
    echo "The behaviour has changed." >&2
    exit 1
fi
