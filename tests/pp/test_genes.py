from __future__ import annotations

import logging
import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import cellhermes as ch
from cellhermes._keys import GENE_MASK


def with_symbols(symbols, values=None):
    values = np.ones((3, len(symbols)), "float32") if values is None else values
    return ad.AnnData(
        sparse.csr_matrix(values), var=pd.DataFrame({"symbol": symbols}, index=[f"g{i}" for i in range(len(symbols))])
    )


@pytest.mark.parametrize(
    ("symbol", "kept"),
    [
        ("CD3E", True),
        ("C14orf2", False),  # an old name that Ensembl no longer has
        ("MALAT1", False),  # not protein coding
        ("IGKC", False),  # a biotype of its own
        ("MT-CO1", False),
        ("MTOR", True),
        ("RPL3", False),
        ("RPLP0", False),
        ("RPSA", False),
        ("RPS27A", False),
        ("RPS6", False),
        ("RPS6KA1", True),
        ("RPS19BP1", True),
        ("RPS19", False),
        ("MRPL3", True),
        ("RPA1", True),
        ("cd3e", False),
        ("", False),
        ("ENSG00000198851", False),
    ],
)
def test_the_mask_keeps_protein_coding_genes_that_are_neither_mitochondrial_nor_ribosomal(symbol, kept):
    adata = with_symbols([symbol, "CD4", "CD8A", "CD19"])
    ch.pp.mask_genes(adata, gene_symbols="symbol")
    assert adata.var[GENE_MASK].tolist() == [kept, True, True, True]
    assert adata.var[GENE_MASK].dtype == bool


def test_the_mask_of_the_toy_data_is_its_interaction_graph(adata, ppi):
    ch.pp.mask_genes(adata)
    assert set(adata.var_names[adata.var[GENE_MASK]]) == set(ppi)


def test_a_symbol_that_occurs_twice_keeps_the_column_with_the_largest_total():
    values = np.array([[1, 9, 5, 2, 2], [1, 0, 5, 2, 2], [0, 0, 0, 0, 0]], "float32")
    adata = with_symbols(["CD4", "CD8A", "CD8A", "CD19", "CD19"], values)
    ch.pp.mask_genes(adata, gene_symbols="symbol")
    assert adata.var[GENE_MASK].tolist() == [True, False, True, True, False]  # 10 > 9; of equals the first


def test_what_was_dropped_is_counted(adata, caplog):
    with caplog.at_level(logging.INFO, "cellhermes"):
        ch.pp.mask_genes(adata)
    assert "kept 326 of 376 genes; dropped 10 not protein coding, 9 mitochondrial, 31 ribosomal protein" in caplog.text


def test_ids_and_nameless_genes_do_not_count_as_unmatched():
    adata = with_symbols(["CD4", "", "", "ENSG00000198851", "CD8A"])
    adata.var["symbol"] = adata.var["symbol"].where(adata.var["symbol"] != "", None)
    ch.pp.mask_genes(adata, gene_symbols="symbol")
    assert adata.var[GENE_MASK].tolist() == [True, False, False, False, True]


def test_few_known_symbols_are_an_error():
    adata = with_symbols(["CD4", "nonsense1", "nonsense2", "ENSG00000198851"])
    found = (
        "only 1 of 3 named genes (33%) have a human symbol, unlike ['nonsense1', 'nonsense2']; expected at least 50%"
    )
    with pytest.raises(ValueError, match=re.escape(found) + ".*gene_symbols=.*gene_mask="):
        ch.pp.mask_genes(adata, gene_symbols="symbol")
    assert GENE_MASK not in adata.var


def test_mouse_symbols_are_recognised():
    with pytest.raises(ValueError, match=r"0 of 3 named genes.*as mouse genes are.*map_genes"):
        ch.pp.mask_genes(with_symbols(["Cd4", "Cd8a", "Ms4a1"]), gene_symbols="symbol")
    with pytest.raises(ValueError, match="0 of 2 named genes") as error:
        ch.pp.mask_genes(with_symbols(["x", "y"]), gene_symbols="symbol")
    assert "mouse" not in str(error.value)


def test_nothing_left_is_an_error():
    with pytest.raises(
        ValueError, match="no gene of 2 is left in the mask; dropped 1 mitochondrial, 1 ribosomal protein"
    ):
        ch.pp.mask_genes(with_symbols(["MT-CO1", "RPL3"]), gene_symbols="symbol")


def test_ensembl_ids_are_an_error(adata):
    adata.var["symbol"] = adata.var_names
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    with pytest.raises(ValueError, match=r"holds Ensembl ids.*Pass gene_symbols='symbol'"):
        ch.pp.mask_genes(adata)


def test_empty_matrices_are_an_error(adata):
    with pytest.raises(ValueError, match="data has 0 cells"):
        ch.pp.mask_genes(adata[:0].copy())
    with pytest.raises(ValueError, match="0 genes"):
        ch.pp.mask_genes(adata[:, :0].copy())


def test_raw_with_other_genes_has_a_mask_of_its_own(adata):
    adata.raw = adata
    ch.pp.mask_genes(adata, use_raw=True, key_added="of_raw")
    ch.pp.mask_genes(adata)
    assert adata.var["of_raw"].equals(adata.var[GENE_MASK].rename("of_raw"))
    subset = adata[:, :30].copy()
    whole = subset.raw.to_adata()
    ch.pp.mask_genes(whole, key_added="mask")
    for _ in range(2):  # what we wrote is written over
        ch.pp.mask_genes(subset, use_raw=True, key_added="mask")
        assert subset.raw.var["mask"].equals(whole.var["mask"])
    assert "mask" not in subset.var
    subset.raw.var["mine"] = True
    with pytest.raises(ValueError, match=r"raw.var\['mine'\] is there already"):
        ch.pp.mask_genes(subset, use_raw=True, key_added="mine")
