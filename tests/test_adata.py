from __future__ import annotations

import re

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellhermes import _adata, _keys, _rows


def message(text):
    """Pattern for an error that contains this text as it stands."""
    return re.escape(text)


def test_resolve_takes_the_modality_of_a_mudata(adata):
    protein = ad.AnnData(np.ones((adata.n_obs, 1)), obs=adata.obs[[]], var=pd.DataFrame(index=["CD3 protein"]))
    mdata = mudata.MuData({"rna": adata, "prot": protein})
    assert _adata.resolve(mdata, "rna") is mdata.mod["rna"]
    assert _adata.resolve(adata) is adata
    with pytest.raises(ValueError, match=message("choose a modality with mod=, one of ['rna', 'prot']")):
        _adata.resolve(mdata)
    with pytest.raises(KeyError, match=r"modality 'atac' not found; the MuData has \['rna', 'prot'\]"):
        _adata.resolve(mdata, "atac")
    with pytest.raises(ValueError, match="mod='rna' names a modality of a MuData, but data is an AnnData"):
        _adata.resolve(adata, "rna")
    with pytest.raises(TypeError, match="data is a DataFrame; expected an AnnData, or a MuData together with mod="):
        _adata.resolve(pd.DataFrame())


def test_expression_is_x_or_layer_or_raw(adata):
    adata.raw = adata
    assert _adata.expression(adata) is adata.X
    assert _adata.expression(adata, "counts") is adata.layers["counts"]
    assert _adata.expression(adata, use_raw=True) is adata.raw.X


def test_expression_says_what_there_is(adata):
    with pytest.raises(KeyError, match=r"layer 'count' not found; the object has the layers \['counts'\]"):
        _adata.expression(adata, "count")
    with pytest.raises(ValueError, match="layer='counts' and use_raw=True exclude each other"):
        _adata.expression(adata, "counts", use_raw=True)
    with pytest.raises(ValueError, match=message("use_raw=True, but `adata.raw` is not set")):
        _adata.expression(adata, use_raw=True)
    adata.X = None
    with pytest.raises(ValueError, match=message("`adata.X` is empty; pass layer= (the object has ['counts'])")):
        _adata.expression(adata)


def test_symbols_come_from_names_or_column(adata):
    assert _adata.symbols(adata).tolist() == adata.var_names.tolist()
    adata.var["symbol"] = pd.Categorical(["CD3E", None, *["CD4"] * (adata.n_vars - 2)])
    assert _adata.symbols(adata, "symbol")[:3].tolist() == ["CD3E", "", "CD4"]


def test_symbols_of_raw_are_its_own(adata):
    adata.raw = adata
    subset = adata[:, :3].copy()
    assert _adata.symbols(subset, use_raw=True).tolist() == adata.var_names.tolist()


def test_ensembl_ids_name_the_column_to_pass(adata):
    adata.var["noise"] = "x"
    adata.var["feature_name"] = adata.var_names
    adata.var["gene_ids"] = adata.var_names = [f"ENSG{i:011d}.2" for i in range(adata.n_vars)]
    advice = message("expected gene symbols. Pass gene_symbols='feature_name'")
    with pytest.raises(ValueError, match="`adata.var_names` holds Ensembl ids.*" + advice):
        _adata.symbols(adata)
    with pytest.raises(ValueError, match=r"`adata.var\['gene_ids'\]` holds Ensembl ids.*" + advice):
        _adata.symbols(adata, "gene_ids")
    with pytest.raises(KeyError, match=r"not found; its columns are.*Pass gene_symbols='feature_name'"):
        _adata.symbols(adata, "symbol")
    assert _adata.symbols(adata, "feature_name")[0] == adata.var["feature_name"].iloc[0]
    del adata.var["feature_name"]
    with pytest.raises(ValueError, match="No column holds human gene symbols: add one to var"):
        _adata.symbols(adata)


def test_results_per_gene_go_to_raw_where_that_has_other_genes(adata):
    adata.raw = adata
    assert _adata.var_slot(adata, use_raw=True) == "var"
    subset = adata[:, ::-1].copy()
    assert _adata.var_slot(subset, use_raw=False) == "var"
    assert _adata.var_slot(subset, use_raw=True) == "raw.var"


def test_a_view_of_a_backed_object_is_refused(adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    _adata.writable(backed)
    with pytest.raises(ValueError, match=message("pass data.to_memory(), or the whole object")):
        _adata.writable(backed[:10])
    backed.file.close()


def test_empty_objects_are_refused(adata):
    with pytest.raises(ValueError, match="data has 0 cells and 376 genes"):
        _adata.check_not_empty(adata[:0])
    with pytest.raises(ValueError, match="data has 300 cells and 0 genes"):
        _adata.check_not_empty(adata[:, :0])


@pytest.mark.parametrize("slot", ["obs", "var", "varm"])
def test_what_is_missing_is_named_with_the_call_that_makes_it(adata, slot):
    require = getattr(_adata, f"require_{slot}")
    with pytest.raises(KeyError, match=rf"`adata.{slot}\['k'\]` not found. Run `ch.pp.x\(adata\)` first"):
        require(adata, "k", "Run `ch.pp.x(adata)` first, or pass `key=`.")
    length = adata.n_obs if slot == "obs" else adata.n_vars
    getattr(adata, slot)["k"] = np.zeros((length, 2)) if slot.endswith("m") else np.zeros(length)
    assert len(require(adata, "k", "")) == length


def test_group_keys_have_no_slash_and_do_not_collide():
    assert _keys.group_keys("X", ["CD4 T", "a/b"]) == {"CD4 T": "X:CD4 T", "a/b": "X:a_b"}
    with pytest.raises(ValueError, match=r"groups 'a/b' and 'a_b' would both be stored as 'X:a_b'"):
        _keys.group_keys("X", ["a/b", "a_b"])


def test_params_survive_h5ad(adata, tmp_path):
    adata.uns["k"] = {"table": pd.DataFrame({"a": [1]})}
    _keys.write_params(adata, "k", {"layer": None, "n": 3, "on": True, "share": 0.5, "name": "x"})
    assert list(adata.uns["k"]) == ["table", "params"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    params = _keys.read_params(ad.read_h5ad(tmp_path / "a.h5ad"), "k")
    assert params == {"layer": "", "n": 3, "on": True, "share": 0.5, "name": "x", "version": _keys.version()}
    assert _keys.read_params(adata, "absent") == {}


def with_repeats(names, columns, **var):
    """Cells whose genes have these names, one column each."""
    x = np.array(columns, dtype=np.float32).T
    return ad.AnnData(sparse.csr_matrix(x), var=pd.DataFrame(var, index=[f"g{i}" for i in range(len(names))]))


def test_a_symbol_means_its_column_with_the_larger_total():
    names = ["A", "B", "A", "", "B", "", "C"]
    adata = with_repeats(names, [[1, 0], [2, 2], [0, 3], [9, 9], [4, 0], [8, 8], [0, 0]], symbol=names)
    assert _adata.columns_of_symbols(adata, "symbol").to_dict() == {"B": 1, "A": 2, "C": 6}  # of equals, the first
    adata.layers["other"] = adata.X.multiply([[9, 1, 1, 1, 1, 1, 1]]).tocsr()
    assert _adata.columns_of_symbols(adata, "symbol", layer="other").to_dict() == {"A": 0, "B": 1, "C": 6}


def test_a_mask_decides_which_column_a_symbol_means():
    names = ["A", "B", "A", "B", "A"]
    adata = with_repeats(names, [[1], [2], [3], [4], [5]], symbol=names)
    adata.var["sentence_gene"] = [True, False, True, False, False]
    assert _adata.columns_of_symbols(adata, "symbol").to_dict() == {"A": 2, "B": 3}
    adata.var["mine"] = [True, True, False, False, False]
    assert _adata.columns_of_symbols(adata, "symbol", gene_mask="mine").to_dict() == {"A": 0, "B": 1}
    _keys.write_params(adata, "cell_sentence", {"gene_mask": "mine"})
    assert _adata.columns_of_symbols(adata, "symbol").to_dict() == {"A": 0, "B": 1}


def test_raw_has_its_own_columns_of_symbols():
    names = ["A", "A", "B"]
    adata = with_repeats(names, [[1], [2], [3]], symbol=names)
    adata.raw = adata
    small = adata[:, [0, 2]].copy()
    small.var["sentence_gene"] = True
    assert _adata.columns_of_symbols(small, "symbol", use_raw=True).to_dict() == {"A": 1, "B": 2}
    assert _adata.columns_of_symbols(small, "symbol").to_dict() == {"A": 0, "B": 1}


def test_without_values_a_symbol_means_its_first_column():
    adata = ad.AnnData(var=pd.DataFrame({"symbol": ["A", "B", "A"]}, index=["x", "y", "z"]), shape=(2, 3))
    assert _adata.columns_of_symbols(adata, "symbol").to_dict() == {"A": 0, "B": 1}


def test_masked_values_are_not_read_as_what_lies_under_the_mask(adata):
    x = adata.X.toarray()
    adata.layers["masked"] = np.ma.masked_array(x, np.arange(x.size).reshape(x.shape) < 3)
    with pytest.raises(TypeError, match=message("`adata.layers['masked']` is a masked array with 3 masked values")):
        _adata.expression(adata, "masked")
    adata.layers["whole"] = np.ma.masked_array(x, mask=False)
    (_, block), *_ = _rows.row_blocks(_adata.expression(adata, "whole"), 10_000)
    np.testing.assert_array_equal(block.toarray(), x)


@pytest.mark.parametrize(
    ("dtype", "says"),
    [(object, "Python objects (type object)"), (str, "texts (type <U"), (complex, "complex numbers (type complex128)")],
)
def test_what_is_no_number_is_named(adata, dtype, says):
    x = adata.X.toarray().astype(dtype)
    adata.layers["other"] = x
    with pytest.raises(TypeError, match=message(f"`adata.layers['other']` holds {says}")):
        _adata.expression(adata, "other")
    adata.X = x
    with pytest.raises(TypeError, match=message("expected real numbers. If they are, convert it with")):
        _adata.expression(adata)
    adata.raw = adata
    with pytest.raises(TypeError, match=message(f"`adata.raw.X` holds {says}")):
        _adata.expression(adata, use_raw=True)
