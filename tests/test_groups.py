"""Groups of cells: labels are what a user reads, and every group can be asked for by value and by text."""

from __future__ import annotations

import datetime as dt
import re

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest

import cellhermes as ch
from cellhermes._groups import groups_of
from cellhermes._keys import EMBEDDING, group_key
from cellhermes._vectors import write_plain

DAY = pd.Timestamp("2021-03-04")
COLUMNS = {
    "dates": (pd.to_datetime(["2020-01-01", None, "2021-03-04"]), ["2020-01-01", None, "2021-03-04"], DAY),
    "times": (pd.DatetimeIndex(["2020-01-01 12:30", None, DAY]), ["2020-01-01 12:30:00", None, "2021-03-04"], DAY),
    "days": ([dt.date(2020, 1, 1), None, DAY.date()], ["2020-01-01", None, "2021-03-04"], DAY.date()),
    "bool": ([True, True, False], ["True", "True", "False"], False),
    "missing bool": (pd.array([True, None, False], dtype="boolean"), ["True", None, "False"], np.False_),
    "int": ([1, 1, 20], ["1", "1", "20"], 20),
    "missing int": ([1.0, np.nan, 20.0], ["1", None, "20"], 20),
    "nullable int": (pd.array([1, None, 20], dtype="Int64"), ["1", None, "20"], np.int8(20)),
    "float": ([0.5, np.nan, 2.0], ["0.5", None, "2"], 2.0),
    "text": (["B", None, "T"], ["B", None, "T"], "T"),
    "nullable text": (pd.array(["B", None, "T"], dtype="string"), ["B", None, "T"], "T"),
    "text of numbers": (["1.0", np.nan, "2.0"], ["1.0", None, "2.0"], 2.0),
    "empty text": (["B", "", "nan"], ["B", None, "nan"], "nan"),
    "category": (pd.Categorical(["B", None, "T"], categories=["T", "B", "unused"]), ["B", None, "T"], "T"),
    "category of dates": (
        pd.Categorical(pd.to_datetime(["2020-01-01", None, DAY])), ["2020-01-01", None, "2021-03-04"], DAY,
    ),
    "category of numbers": (pd.Categorical([1.0, None, 20.0]), ["1", None, "20"], 20),
    "bins": (pd.cut([0.5, np.nan, 2.5], [0, 1, 3]), ["(0, 1]", None, "(1, 3]"], pd.Interval(1, 3)),
}  # fmt: skip # values, labels of the cells, and the value of the last one


def table(values: object, gene: str = "CD4") -> ad.AnnData:
    obs = pd.DataFrame({"group": values}, index=["a", "b", "c"])
    return ad.AnnData(np.ones((3, 1)), obs=obs, var=pd.DataFrame(index=[gene]))


@pytest.mark.parametrize("name", COLUMNS)
def test_labels_are_texts_and_groups_are_found_by_value_and_text(name: str) -> None:
    values, of_cell, value = COLUMNS[name]
    adata = table(values)
    found = groups_of(adata, "group")
    assert found.labels == sorted({*of_cell} - {None})
    assert found.of_cell.tolist() == of_cell
    for asked in (value, str(value), of_cell[2]):
        one = groups_of(adata, "group", [asked, asked])
        assert one.labels == [of_cell[2]]
        assert one.codes.tolist() == [0 if label == of_cell[2] else -1 for label in of_cell]


def test_groups_keep_the_order_in_which_they_are_asked_for() -> None:
    found = groups_of(table(["B", "NK", "T"]), "group", np.array(["T", "B"]))
    assert found.labels == ["T", "B"]
    assert found.codes.tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ([], ValueError, "groups is empty; pass None for all groups of obs['group'], or some of ['B', 'T']."),
        (["B", "Z"], KeyError, "No cells in groups ['Z'] of obs['group']; the groups with cells are ['B', 'T']."),
        (["unused"], KeyError, "No cells in groups ['unused']"),
        ([""], KeyError, "No cells in groups ['']"),
        ("B", TypeError, "groups is the single value 'B'; expected a list of groups."),
        (3, TypeError, "groups is the single value 3; expected a list of groups."),
    ],
)
def test_groups_that_are_not_there_are_named(groups: object, error: type[Exception], message: str) -> None:
    adata = table(pd.Categorical(["B", "T", "T"], categories=["B", "T", "unused"]))
    with pytest.raises(error, match=re.escape(message)):
        groups_of(adata, "group", groups)


def test_a_column_without_groups_is_refused() -> None:
    with pytest.raises(KeyError, match=re.escape("`adata.obs['leiden']` not found. Its columns are ['group'].")):
        groups_of(table(["B", "T", "T"]), "leiden")
    with pytest.raises(ValueError, match=re.escape("`adata.obs['group']` has no value for any of 3 cells")):
        groups_of(table([None, "", np.nan]), "group")


def test_groups_of_a_mudata_may_be_joint_or_of_another_modality() -> None:
    rna, protein = table(["B", "T", "T"]), table(["x", "y", "z"], "CD4 protein")[::-1].copy()
    protein.obs["cell_type"] = ["of c", "of b", "of a"]
    mdata = mudata.MuData({"rna": rna, "protein": protein})
    mdata.obs["leiden"] = pd.Series({"c": "1", "a": "0", "b": "0"})
    assert groups_of(mdata, "leiden", mod="rna").of_cell.tolist() == ["0", "0", "1"]
    assert groups_of(mdata, "leiden", mod="protein").of_cell.tolist() == ["1", "0", "0"]
    assert groups_of(mdata, "protein:cell_type", mod="rna").of_cell.tolist() == ["of a", "of b", "of c"]
    assert groups_of(mdata, "rna:group", mod="rna").labels == ["B", "T"]
    assert groups_of(mdata, "group", mod="protein").labels == ["x", "y", "z"]  # its own column comes first
    with pytest.raises(KeyError, match=r"`adata.obs\['nope'\]` not found.*Joint columns of the MuData: \["):
        groups_of(mdata, "nope", mod="rna")


def test_a_cell_that_only_another_modality_has_is_in_no_group() -> None:
    rna, protein = table(["B", "T", "T"]), table(["x", "y", "z"], "CD4 protein")[:2].copy()
    mdata = mudata.MuData({"rna": rna, "protein": protein})
    assert groups_of(mdata, "protein:group", mod="rna").of_cell.tolist() == ["x", "y", None]


def test_keys_of_groups_are_made_of_their_labels() -> None:
    assert group_key("X", DAY) == "X:2021-03-04"
    assert group_key("X", 3.0) == "X:3"
    assert group_key("X", "CD4/CD8") == "X:CD4_CD8"


@pytest.fixture(scope="module")
def embedded(model: ch.CellHermes) -> ad.AnnData:
    adata = ch.datasets.toy(n_obs=40)
    ch.pp.cell_sentences(adata, n_genes=10)
    ch.tl.embed_genes(adata, model, genes=["CD3E", "MS4A1", "NKG7"], groupby="cell_type", groups=["B", "NK"])
    return adata


TAKE_GROUPS = {
    "embed_genes": lambda adata, groups: ch.tl.embed_genes(adata, groupby="cell_type", groups=groups),
    "gene_network of vectors": lambda adata, groups: ch.tl.gene_network(adata, groupby="cell_type", groups=groups),
    "gene_network of expression": lambda adata, groups: ch.tl.gene_network(
        adata, groupby="cell_type", groups=groups, use_rep="expression"
    ),
    "split_groups": lambda adata, groups: ch.tl.split_groups(adata, "cell_type", groups=groups),
    "gene_vectors": lambda adata, groups: ch.get.gene_vectors(adata, groups=groups),
}


@pytest.mark.parametrize("name", TAKE_GROUPS)
def test_all_that_take_groups_refuse_the_same_in_the_same_way(name: str, embedded: ad.AnnData) -> None:
    for groups, error, message in (
        ([], ValueError, r"groups is empty; pass None for all groups .* or some of \['B', .*'NK'"),
        (["B", "Z"], KeyError, r"No (cells|vectors) in groups \['Z'\] .*the groups with \1 are \['B', .*'NK'"),
        ("B", TypeError, "groups is the single value 'B'; expected a list of groups"),
    ):
        with pytest.raises(error, match=message):
            TAKE_GROUPS[name](embedded, groups)


def test_a_group_that_is_not_compared_has_cells_still() -> None:
    found = groups_of(table(["B", "NK", None]), "group", ["B"])
    assert found.codes.tolist() == [0, -1, -1]
    assert found.has_group.tolist() == [True, True, False]


def test_vectors_without_groups_are_no_vectors_of_a_group() -> None:
    adata = table(["B", "NK", "T"])
    write_plain(adata, EMBEDDING, np.ones((1, 2), np.float32), {"gene_symbols": None})
    with pytest.raises(KeyError, match=r"No group of obs\['group'\] .* has vectors of genes. Run `ch.tl.embed_genes"):
        ch.tl.gene_network(adata, groupby="group")
