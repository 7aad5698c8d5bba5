#!/usr/bin/env bash
# Selecting cells with a boolean pandas Series whose rows are in another order than the cells.
#
# Versions: anndata 0.12.19, pandas 2.3.3, numpy 2.4.6 (Python 3.11).
#
# Behaviour: pandas lines a boolean Series up with the table by its index, so that a quality table that was sorted (or
# merged, or read from elsewhere) still selects the right rows of adata.obs. AnnData takes the same Series by position
# and does not look at its index: other cells come back, as many as asked for and without a word. Two neighbouring
# statements behave otherwise: a Series of cell NAMES is looked up by name, and a Series assigned to adata.obs is lined
# up by its index. `adata[keep.reindex(adata.obs_names)]` selects what was meant.
#
# Output seen:
#   anndata 0.12.19, pandas 2.3.3
#   adata.obs.loc[keep]                  c, d
#   adata[keep]                          a, b
#   adata[keep.index[keep]]              c, d
#   adata[keep.reindex(adata.obs_names)] c, d
#   adata.obs["keep"] = keep; adata.obs  c, d
#   warnings: 0
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/show.py" <<'PYTHON'
import warnings
from importlib.metadata import version

import anndata
import numpy as np
import pandas as pd

cells = pd.DataFrame({"n_genes": [10, 20, 900, 800]}, index=["a", "b", "c", "d"])
adata = anndata.AnnData(np.zeros((4, 1), dtype="float32"), obs=cells)
quality = cells.sort_values("n_genes", ascending=False)
keep = quality["n_genes"] > 500

print(", ".join(f"{name} {version(name)}" for name in ("anndata", "pandas")))
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    selected = {
        "adata.obs.loc[keep]": adata.obs.loc[keep].index,
        "adata[keep]": adata[keep].obs_names,
        "adata[keep.index[keep]]": adata[keep.index[keep]].obs_names,
        "adata[keep.reindex(adata.obs_names)]": adata[keep.reindex(adata.obs_names)].obs_names,
    }
adata.obs["keep"] = keep
selected['adata.obs["keep"] = keep; adata.obs'] = adata.obs_names[adata.obs["keep"]]
for statement, names in selected.items():
    print(f"{statement:<36} {', '.join(names)}")
print(f"warnings: {len(seen)}")
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check anndata==0.12.19 pandas==2.3.3 numpy==2.4.6
"$python" "$work/show.py" | tee "$work/seen"
cat >"$work/expected" <<'TEXT'
anndata 0.12.19, pandas 2.3.3
adata.obs.loc[keep]                  c, d
adata[keep]                          a, b
adata[keep.index[keep]]              c, d
adata[keep.reindex(adata.obs_names)] c, d
adata.obs["keep"] = keep; adata.obs  c, d
warnings: 0
TEXT
if ! diff "$work/expected" "$work/seen"; then
    echo "The behaviour has changed." >&2
    exit 1
fi
