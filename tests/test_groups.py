"""Groups of cells: labels are what a user reads, and every group can be asked for by value and by text."""

from __future__ import annotations

import datetime as dt
import re
import warnings
from typing import TYPE_CHECKING

import anndata as ad
import matplotlib.pyplot as plt
import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import cellhermes as ch
from cellhermes._groups import groups_of
from cellhermes._keys import EMBEDDING, group_key
from cellhermes._vectors import write_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


GENES = list(ch.datasets.toy(n_obs=4).var_names[:40])
NETWORK = {"groupby": "cluster", "genes": GENES, "n_neighbors": 5}
CONTROL = {**NETWORK, "use_rep": "expression", "key_added": "control"}
OF_GENES = {"of": "genes", "names": GENES[:1]}


@pytest.fixture(scope="module")
def made_once(model: ch.CellHermes) -> ad.AnnData:
    """Vectors, networks and modules of clusters, which are numbers as a column with missing values has them."""
    adata = ch.datasets.toy(n_obs=60)
    adata.obs["cluster"] = np.resize([1.0, 2.0, np.nan, 3.0], 60)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    ch.pp.cell_sentences(adata, n_genes=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of so few cells
        ch.tl.embed_genes(adata, model, genes=GENES, groupby="cluster", groups=[1, 2])
        ch.tl.gene_network(adata, groups=[1, 2], **CONTROL)
        ch.tl.modules(adata, 1, 2, network_key="control", min_genes=2)
    return adata


TAKE_GROUPS: dict[str, Callable] = {
    "embed_genes": lambda a, model, groups: ch.tl.embed_genes(
        a, model, genes=GENES[:1], groupby="cluster", groups=groups
    ),
    "gene_network of vectors": lambda a, _, groups: ch.tl.gene_network(a, groups=groups, **NETWORK),
    "gene_network of expression": lambda a, _, groups: ch.tl.gene_network(a, groups=groups, **CONTROL),
    "split_groups": lambda a, _, groups: ch.tl.split_groups(a, "cluster", groups=groups),
    "gene_vectors": lambda a, _, groups: ch.get.gene_vectors(a, groups=groups),
}
TAKE_ONE: dict[str, Callable] = {
    "modules": lambda a, _, group: ch.tl.modules(a, group, 2, network_key="control", min_genes=2),
    "modules without reference": lambda a, _, group: ch.tl.modules(a, group, network_key="control", min_genes=2),
    "reference of modules": lambda a, _, group: ch.tl.modules(a, 2, group, network_key="control", min_genes=2),
    "enrich": lambda a, _, group: ch.tl.enrich(
        a, {"all": GENES}, of=GENES[0], group=group, network_key="control", min_size=1
    ),
    "enrich of modules": lambda a, _, group: ch.tl.enrich(
        a, {"all": GENES}, group=group, network_key="control", min_size=1
    ),
    "graph": lambda a, _, group: ch.get.gene_network(a, group, key="control"),
    "degree_change": lambda a, _, group: ch.get.degree_change(a, group, 2, key="control"),
    "reference of degree_change": lambda a, _, group: ch.get.degree_change(a, 2, group, key="control"),
    "genes of modules": lambda a, _, group: ch.get.modules(a, "genes", group=group),
    "prompts": lambda a, _, group: ch.get.prompts(a, group=group, **OF_GENES),
    "prompts in a wrap": lambda a, _, group: ch.get.prompts(a, group=group, wrap="plain", **OF_GENES),
    "drawn network": lambda a, _, group: ch.pl.gene_network(a, GENES[0], group, key="control"),
    "drawn degrees": lambda a, _, group: ch.pl.degree_change(a, group, 2, key="control"),
}


@pytest.fixture
def made(made_once: ad.AnnData) -> Iterator[ad.AnnData]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield made_once.copy()
    plt.close("all")


@pytest.mark.parametrize("name", TAKE_GROUPS)
def test_all_that_take_groups_refuse_the_same_in_the_same_way(
    name: str, made: ad.AnnData, model: ch.CellHermes
) -> None:
    for groups, error, message in (
        ([], ValueError, r"groups is empty; pass None for all groups .* or some of \['1', '2'"),
        (["1", "Z"], KeyError, r"No (cells|vectors) in groups \['Z'\] .*the groups with \1 are \['1', '2'"),
        ([np.nan], KeyError, r"No (cells|vectors) in groups \['nan'\] "),
        ("1", TypeError, "groups is the single value '1'; expected a list of groups"),
        (1.0, TypeError, r"groups is the single value 1.0; expected a list of groups"),
    ):
        with pytest.raises(error, match=message):
            TAKE_GROUPS[name](made, model, groups)


@pytest.mark.parametrize("name", TAKE_ONE)
def test_all_that_take_a_group_refuse_the_same_in_the_same_way(
    name: str, made: ad.AnnData, model: ch.CellHermes
) -> None:
    for group, error, message in (
        ("Z", KeyError, r"No (networks|vectors) in groups \['Z'\] under .*the groups with \1 are \['1', '2'\]. Run `"),
        (np.nan, KeyError, r"No (networks|vectors) in groups \['nan'\] under "),
        (["1"], TypeError, r"group is \['1'\]; expected a single group"),
        ([], TypeError, r"group is \[\]; expected a single group"),
    ):
        with pytest.raises(error, match=message):
            TAKE_ONE[name](made, model, group)


def test_an_entry_with_the_vectors_of_a_group_that_has_none_is_refused_in_that_way(made: ad.AnnData) -> None:
    with pytest.raises(
        KeyError, match=r"No vectors in groups \['Z'\] under 'X_cellhermes'; .* are \['1', '2'\]. Run `"
    ):
        ch.tl.embed_cells(made, method="weighted", genes_key="X_cellhermes:Z")


@pytest.mark.parametrize("group", [1, 1.0, np.float32(1), "1", "1.0"], ids=repr)
@pytest.mark.parametrize("name", TAKE_GROUPS | TAKE_ONE)
def test_all_find_a_group_by_its_value_and_by_texts_of_it(
    name: str, group: object, made: ad.AnnData, model: ch.CellHermes
) -> None:
    call, asked = (TAKE_GROUPS[name], [group]) if name in TAKE_GROUPS else (TAKE_ONE[name], group)
    call(made, model, asked)


def test_a_text_like_a_number_is_another_group() -> None:
    adata = table(["1", "1.0", "B.0"])
    assert [groups_of(adata, "group", [asked]).labels for asked in ("1", "1.0", 1.0, "B.0")] == [
        ["1"], ["1.0"], ["1"], ["B.0"],
    ]  # fmt: skip
    with pytest.raises(KeyError, match=r"No cells in groups \['B'\]"):
        groups_of(adata, "group", ["B"])


def test_a_group_that_is_not_compared_has_cells_still() -> None:
    found = groups_of(table(["B", "NK", None]), "group", ["B"])
    assert found.codes.tolist() == [0, -1, -1]
    assert found.has_group.tolist() == [True, True, False]


def test_vectors_without_groups_are_no_vectors_of_a_group() -> None:
    adata = table(["B", "NK", "T"])
    write_plain(adata, EMBEDDING, np.ones((1, 2), np.float32), {"gene_symbols": None})
    with pytest.raises(KeyError, match=r"No group of obs\['group'\] .* has vectors of genes. Run `ch.tl.embed_genes"):
        ch.tl.gene_network(adata, groupby="group")
