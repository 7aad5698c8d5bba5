#!/usr/bin/env bash
# What is left of numpy's global generator after scanpy scored genes, drew cells, or laid out a graph.
#
# Versions: scanpy 1.11.5, anndata 0.12.19, numpy 2.4.6, python-igraph 1.0.0 (Python 3.11).
#
# Behaviour: sc.pp.pca, sc.pp.neighbors, sc.tl.umap, sc.tl.leiden and sc.pp.sample draw from generators of their own.
# sc.tl.score_genes (and so score_genes_cell_cycle), sc.pp.subsample and sc.tl.draw_graph seed numpy's global one with
# their random_state, 0 by default, and leave it so; draw_graph seeds that of Python, too. A permutation that is drawn
# after each of several scores, as for a null of a gene set, is then the same permutation each time, whatever seed was
# set before. Nothing is said.
#
# Output seen:
#   scanpy 1.11.5
#   score_genes          next three draws after two seeds: equal
#   subsample            next three draws after two seeds: equal
#   draw_graph           next three draws after two seeds: equal
#   sample               next three draws after two seeds: different
#   pca                  next three draws after two seeds: different
#   neighbors            next three draws after two seeds: different
#   five permutations, each behind a score: 1 different
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/show.py" <<'PYTHON'
import warnings
from importlib.metadata import version

import anndata as ad
import numpy as np
import scanpy as sc

warnings.simplefilter("ignore")
counts = np.random.default_rng(0).poisson(2, (150, 60)).astype("float32")
adata = ad.AnnData(counts)
adata.obs_names = [f"cell{i}" for i in range(150)]
adata.var_names = [f"G{i}" for i in range(60)]
sc.pp.normalize_total(adata)
sc.pp.log1p(adata)
sc.pp.pca(adata, n_comps=5)
sc.pp.neighbors(adata)
calls = {
    "score_genes": lambda: sc.tl.score_genes(adata, ["G1", "G2"], n_bins=5),
    "subsample": lambda: sc.pp.subsample(adata, 0.5, copy=True),
    "draw_graph": lambda: sc.tl.draw_graph(adata, layout="fr"),
    "sample": lambda: sc.pp.sample(adata, 0.5, copy=True),
    "pca": lambda: sc.pp.pca(adata, n_comps=5),
    "neighbors": lambda: sc.pp.neighbors(adata),
}


def draws(call, seed):
    np.random.seed(seed)
    call()
    return np.random.random(3).tolist()


print(f"scanpy {version('scanpy')}")
for name, call in calls.items():
    equal = draws(call, 1) == draws(call, 2)
    print(f"{name:<20} next three draws after two seeds: {'equal' if equal else 'different'}")
np.random.seed(1)
permutations = set()
for _ in range(5):
    calls["score_genes"]()
    permutations.add(tuple(np.random.permutation(150)))
print(f"five permutations, each behind a score: {len(permutations)} different")
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check \
    scanpy==1.11.5 anndata==0.12.19 numpy==2.4.6 igraph==1.0.0 "pynndescent<0.7"
seen=$("$python" "$work/show.py" 2>/dev/null)
echo "$seen"

expected=$(sed -n 's/^#   //p' "$0" | sed -n '/^scanpy 1/,$p')
[ "$seen" = "$expected" ] || { echo "The behaviour has changed."; exit 1; }
