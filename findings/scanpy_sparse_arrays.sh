#!/usr/bin/env bash
# Which of scanpy's functions take an X that is a scipy sparse array, as anndata reads it on request.
#
# Versions: scanpy 1.11.5, anndata 0.12.19, scipy 1.17.1, numpy 2.4.6 (Python 3.11).
#
# Behaviour: anndata takes csr_array as X, writes it as it writes csr_matrix, and reads either as csr_array where
# settings.use_sparse_array_on_read is True. Of scanpy's functions, filters, PCA and neighbours then give what they give
# for the matrix. normalize_total, log1p, scale, highly_variable_genes, score_genes and rank_genes_groups raise, each
# with an error of something further inside ("Data matrix has wrong shape (150, 1), need to be (150, 60)"), never one
# that names the type of X. One function is the other way round: tl.dendrogram on X itself raises for a matrix and
# works for an array. So an object that was saved by one reader stops in the first call of a tutorial in another
# session, by a setting that has nothing to do with it.
#
# Output seen:
#   scanpy 1.11.5
#   read back as csr_array
#   filter_cells           matrix: ok          array: ok, equal
#   filter_genes           matrix: ok          array: ok, equal
#   normalize_total        matrix: ok          array: ValueError
#   log1p                  matrix: ok          array: TypeError
#   highly_variable_genes  matrix: ok          array: TypeError
#   scale                  matrix: ok          array: TypeError
#   pca                    matrix: ok          array: ok, equal
#   neighbors              matrix: ok          array: ok, equal
#   score_genes            matrix: ok          array: ValueError
#   rank_genes_groups      matrix: ok          array: TypeError
#   dendrogram             matrix: TypeError   array: ok
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/show.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse

warnings.simplefilter("ignore")
counts = np.random.default_rng(0).poisson(1, (150, 60)).astype("float32")
genes = [f"G{i}" for i in range(60)]
groups = pd.Categorical(np.array(["a", "b"])[np.arange(150) % 2])


def log1p_first(function):
    return lambda adata: (sc.pp.log1p(adata), function(adata))


CALLS = {
    "filter_cells": (lambda a: sc.pp.filter_cells(a, min_genes=10), lambda a: a.obs["n_genes"]),
    "filter_genes": (lambda a: sc.pp.filter_genes(a, min_cells=10), lambda a: a.var["n_cells"]),
    "normalize_total": (lambda a: sc.pp.normalize_total(a, target_sum=10), lambda a: a.X.toarray()),
    "log1p": (sc.pp.log1p, lambda a: a.X.toarray()),
    "highly_variable_genes": (
        log1p_first(lambda a: sc.pp.highly_variable_genes(a, n_top_genes=10)),
        lambda a: a.var["dispersions_norm"],
    ),
    "scale": (sc.pp.scale, lambda a: a.X),
    "pca": (lambda a: sc.pp.pca(a, n_comps=5), lambda a: np.abs(a.obsm["X_pca"])),
    "neighbors": (lambda a: sc.pp.neighbors(a, use_rep="X"), lambda a: a.obsp["distances"].toarray()),
    "score_genes": (lambda a: sc.tl.score_genes(a, ["G1", "G2"], n_bins=5), lambda a: a.obs["score"]),
    "rank_genes_groups": (
        log1p_first(lambda a: sc.tl.rank_genes_groups(a, "group")),
        lambda a: sc.get.rank_genes_groups_df(a, "a").sort_values("names")["scores"],
    ),
    "dendrogram": (
        lambda a: sc.tl.dendrogram(a, "group", use_rep="X"),
        lambda a: a.uns["dendrogram_group"]["correlation_matrix"],
    ),
}


def outcome(kind, call, result):
    adata = ad.AnnData(kind(counts), obs=pd.DataFrame({"group": groups}, index=[f"cell{i}" for i in range(150)]))
    adata.var_names = genes
    try:
        call(adata)
    except Exception as error:
        return type(error).__name__
    return np.asarray(result(adata), float)


print(f"scanpy {version('scanpy')}")
ad.AnnData(sparse.csr_matrix(counts)).write_h5ad(sys.argv[1])
with ad.settings.override(use_sparse_array_on_read=True):
    print(f"read back as {type(ad.read_h5ad(sys.argv[1]).X).__name__}")
for name, (call, result) in CALLS.items():
    matrix, array = outcome(sparse.csr_matrix, call, result), outcome(sparse.csr_array, call, result)
    first, second = ("ok" if isinstance(one, np.ndarray) else one for one in (matrix, array))
    if first == second == "ok":
        second += ", equal" if np.allclose(matrix, array, atol=1e-4, equal_nan=True) else ", different"
    print(f"{name:<22} matrix: {first:<11} array: {second}")
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check \
    scanpy==1.11.5 anndata==0.12.19 scipy==1.17.1 numpy==2.4.6 "pynndescent<0.7"
seen=$("$python" "$work/show.py" "$work/counts.h5ad" 2>/dev/null)
echo "$seen"

expected=$(sed -n 's/^#   //p' "$0" | sed -n '/^scanpy 1/,$p')
[ "$seen" = "$expected" ] || { echo "The behaviour has changed."; exit 1; }
