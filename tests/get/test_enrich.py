"""Reading enriched gene sets."""

import numpy as np
import pytest

import cellhermes as ch


@pytest.fixture
def tested(adata):
    ch.tl.gene_network(adata, use_rep="expression")
    ch.tl.enrich(
        adata, {"a": ["CD3D", "CD3E", "CD3G"], "b": ["LYZ", "CD14", "VCAN"]}, of={"0": ["CD3D"], "none": ["PAX5"]}
    )
    return adata


def test_a_list_is_asked_for_by_name_or_number(tested):
    assert ch.get.enrich(tested, 0)["term"].tolist() == ["a"]
    assert ch.get.enrich(tested, "0")["term"].tolist() == ["a"]
    assert ch.get.enrich(tested, np.int64(0))["term"].tolist() == ["a"]
    assert ch.get.enrich(tested)["of"].tolist() == ["0"]


def test_a_list_without_any_shared_gene_is_empty_and_an_unknown_one_an_error(tested):
    assert ch.get.enrich(tested, "none").empty
    with pytest.raises(KeyError, match=r"'7' was not tested; known: \['0', 'none'\]"):
        ch.get.enrich(tested, 7)


def test_the_table_is_fresh(tested):
    ch.get.enrich(tested)["pval"] = -1
    assert (ch.get.enrich(tested)["pval"] > 0).all()


def test_nothing_stored_says_which_call_to_make(adata):
    with pytest.raises(KeyError, match=r"Run `ch.tl.enrich\(adata, gene_sets\)` first"):
        ch.get.enrich(adata)
