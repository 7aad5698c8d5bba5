"""What tools write: all of it or nothing, and never over what is the user's."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import cellhermes as ch
from cellhermes._entries import SLOTS, check_free, is_ours, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

NETWORK = {"use_rep": "expression", "n_neighbors": 4, "genes": list(ch.datasets.toy(n_obs=4).var_names[:40])}
WRITERS = {"write_params", "write_groups", "write_groups_of", "write_plain"}
SETS = {"T cell": ["CD3D", "CD3E", "CD3G"]}
TOOLS: dict[str, tuple[str, Callable, set[str]]] = {
    "mask_genes": ("pp._genes", lambda a, m: ch.pp.mask_genes(a), {"var/sentence_gene"}),
    "cell_sentences": ("pp._sentences", lambda a, m: ch.pp.cell_sentences(a, n_genes=6), {"obs/cell_sentence"}),
    "cell_sentences in two orders": (
        "pp._sentences",
        lambda a, _: ch.pp.cell_sentences(a, n_genes=5, n_orders=2),
        {"obs/cell_sentence", "obs/cell_sentence_order_2", "obs/cell_sentence_tied", "uns/cell_sentence_order_2"},
    ),
    "embed_cells": ("tl._embed_cells", lambda a, m: ch.tl.embed_cells(a, m), {"obsm/X_cellhermes"}),
    "predict": (
        "tl._predict",
        lambda a, m: ch.tl.predict(a, m, "t_cell_reactivity"),
        {"obs/t_cell_reactivity", "obsm/t_cell_reactivity"},
    ),
    "predict texts": (
        "tl._predict",
        lambda a, m: ch.tl.predict(a, m, ch.text.Question("t_cell_reactivity", decode="generate", max_new_tokens=2)),
        {"obs/t_cell_reactivity", "obs/t_cell_reactivity_text"},
    ),
    "explain": (
        "tl._explain",
        lambda a, m: ch.tl.explain(a, m, "t_cell_reactivity"),
        {"layers/explain", "obs/explain_answer", "obsm/explain"},
    ),
    "enrich": ("tl._enrich", lambda a, m: ch.tl.enrich(a, SETS, of=["CD3E"], background=list(a.var_names)), set()),
    "embed_genes": (
        "tl._embed_genes",
        lambda a, m: ch.tl.embed_genes(a, m, genes=list(a.var_names[:20])),
        {"varm/X_cellhermes"},
    ),
    "embed_genes of groups": (
        "tl._embed_genes",
        lambda a, m: ch.tl.embed_genes(a, m, genes=["CD3E", "LYZ"], groupby="sample"),
        set(),
    ),
    "gene_network": (
        "tl._gene_network",
        lambda a, m: ch.tl.gene_network(a, groupby="sample", **NETWORK),
        {"varp/gene_network:one", "varp/gene_network:two", "var/gene_network:one_n_cells"},
    ),
    "modules": (
        "tl._modules",
        lambda a, m: ch.tl.modules(a, "one", "two", network_key="control", min_genes=3),
        {"var/modules:one", "var/modules:two", "obsm/modules"},
    ),
    "split_groups": ("tl._split_groups", lambda a, m: ch.tl.split_groups(a, "sample"), {"obs/half"}),
}


@pytest.fixture(scope="module")
def plain() -> AnnData:
    """What a user has: values, cell types, and an entry in every slot."""
    adata = ch.datasets.toy(n_obs=12)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.obsm["X_pca"], adata.varm["PCs"] = np.ones((12, 2)), np.ones((adata.n_vars, 2))
    adata.varp["mine"] = sparse.eye(adata.n_vars, format="csr")
    adata.obs["sample"] = ["one", "two"] * 6
    adata.uns["mine"] = {"deep": {"list": [1, 2]}}
    return adata


@pytest.fixture(scope="module")
def prepared(plain: AnnData) -> AnnData:
    """With what tools need, made by cellhermes."""
    adata = plain.copy()
    ch.pp.cell_sentences(adata, n_genes=5)
    ch.tl.gene_network(adata, groupby="sample", key_added="control", **NETWORK)
    return adata


@pytest.fixture
def ready(prepared: AnnData) -> AnnData:
    return prepared.copy()


def entries_of(adata: AnnData) -> dict[str, object]:
    return {f"{slot}/{name}": value for slot in SLOTS for name, value in getattr(adata, slot).items()}


def assert_same(one: object, two: object) -> None:
    """Equal in values and types, all the way down."""
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert list(one) == list(two)
        for name in one:
            assert_same(one[name], two[name])
    elif isinstance(one, pd.DataFrame | pd.Series):
        getattr(pd.testing, f"assert_{'frame' if isinstance(one, pd.DataFrame) else 'series'}_equal")(one, two)
    elif sparse.issparse(one):
        assert (one != two).nnz == 0
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, two)
        assert one.dtype == two.dtype
    else:
        assert one == two


def assert_unchanged(adata: AnnData, before: AnnData) -> None:
    assert_same(entries_of(adata), entries_of(before))
    assert_same(adata.X, before.X)


class Stop:
    """Raises at one of the writes into an object, counted from 0."""

    def __init__(self, at: int) -> None:
        self.at, self.n, self.on = at, 0, False

    def wrap(self, function: Callable) -> Callable:
        def counted(*args: object, **options: object) -> object:
            if self.on:
                self.n += 1
                if self.n == self.at + 1:
                    raise KeyboardInterrupt
            return function(*args, **options)

        return counted


@pytest.mark.parametrize("name", TOOLS)
def test_a_call_that_is_stopped_while_it_writes_leaves_the_object_as_it_was(
    name: str, ready: AnnData, tiny: ch.CellHermes, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, call, entries = TOOLS[name]
    module = import_module(f"cellhermes.{place}")
    stops, at = 0, 0
    for made_before in (False, True):  # entries are added, and written over
        if made_before:
            call(ready, tiny)
        for at in range(20):
            stop, adata = Stop(at), ready.copy()

            @contextmanager
            def watched(*args: object, stop: Stop = stop) -> Iterator[None]:
                with written(*args):
                    stop.on = True
                    yield

            with monkeypatch.context() as patch:
                patch.setattr(module, "written", watched)
                patch.setattr(pd.DataFrame, "__setitem__", stop.wrap(pd.DataFrame.__setitem__))
                for kind in {type(adata.obsm), type(adata.layers), type(adata.varp)}:
                    patch.setattr(kind, "__setitem__", stop.wrap(kind.__setitem__))
                for writer in WRITERS & {*vars(module)}:
                    patch.setattr(module, writer, stop.wrap(getattr(module, writer)))
                try:
                    call(adata, tiny)
                except KeyboardInterrupt:
                    stops += 1
                    assert_unchanged(adata, ready)
                else:
                    break
    assert stops >= 2 * max(1, len(entries))


@pytest.mark.parametrize("name", ["embed_cells", "predict", "predict texts", "explain"])
def test_a_call_that_is_stopped_in_the_model_leaves_the_object_as_it_was(
    name: str, ready: AnnData, tiny: ch.CellHermes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop(0)
    stop.on = True
    for verb in ("embed", "score", "generate", "attend"):
        monkeypatch.setattr(ch.CellHermes, verb, stop.wrap(getattr(ch.CellHermes, verb)))
    before = ready.copy()
    with pytest.raises(KeyboardInterrupt):
        TOOLS[name][1](ready, tiny)
    assert_unchanged(ready, before)


@pytest.mark.parametrize("name", TOOLS)
def test_what_a_call_wrote_is_written_over_by_the_next_and_known_after_a_copy_on_disk(
    name: str, ready: AnnData, tiny: ch.CellHermes, tmp_path: str
) -> None:
    _, call, entries = TOOLS[name]
    call(ready, tiny)
    assert entries <= entries_of(ready).keys()
    ready.write_h5ad(tmp_path / "a.h5ad")
    call(sc.read_h5ad(tmp_path / "a.h5ad"), tiny)
    call(ready, tiny)


USERS = [(name, entry) for name, (_, _, entries) in TOOLS.items() for entry in sorted(entries)]
USERS += [("enrich", "uns/enrich"), ("split_groups", "uns/half"), ("embed_cells", "uns/X_cellhermes")]


@pytest.mark.parametrize(("name", "entry"), USERS)
def test_what_is_the_users_is_refused_before_the_work(
    name: str,
    entry: str,
    plain: AnnData,
    prepared: AnnData,
    tiny: ch.CellHermes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adata = (plain if name.startswith(("mask_genes", "cell_sentences")) else prepared).copy()
    slot, _, key = entry.partition("/")
    n = adata.n_vars if slot.startswith("var") else adata.n_obs
    mine = {"obs": ["mine"] * n, "var": [True] * n, "uns": {"mine": 1}, "layers": adata.X}
    mine |= {"obsm": np.ones((n, 2)), "varm": np.ones((n, 2)), "varp": sparse.eye(n, format="csr")}
    getattr(adata, slot)[key] = mine[slot]
    before = adata.copy()
    for verb in ("embed", "score", "generate", "attend"):
        monkeypatch.setattr(ch.CellHermes, verb, lambda *_, **__: pytest.fail("it was computed"))
    with pytest.raises(ValueError, match=rf"{slot}\['{key}'\] is there already, not written by .* another key_added="):
        TOOLS[name][1](adata, tiny)
    assert_unchanged(adata, before)


def test_a_mask_of_the_users_is_read_and_never_written_over(plain: AnnData) -> None:
    adata = plain.copy()
    adata.var["sentence_gene"] = mask = np.arange(adata.n_vars) < 3
    ch.pp.cell_sentences(adata)
    assert adata.var["sentence_gene"].tolist() == mask.tolist()
    assert {word for s in adata.obs["cell_sentence"] for word in s.split()} <= {*adata.var_names[:3]}
    with pytest.raises(ValueError, match=r"var\['sentence_gene'\] is there already"):
        ch.pp.mask_genes(adata)
    ch.pp.mask_genes(adata, key_added="rule")
    ch.pp.cell_sentences(adata, gene_mask="rule")
    assert adata.var["sentence_gene"].tolist() == mask.tolist()


@pytest.mark.parametrize("mine", ["mine", {"params": {"mine": 1}}])
def test_an_entry_of_the_users_with_the_name_of_ours_is_refused(plain: AnnData, mine: object) -> None:
    adata = plain.copy()
    ch.pp.cell_sentences(adata)
    adata.uns |= {"gene_network": mine, "sentence_gene": mine}
    with pytest.raises(ValueError, match=r"uns\['gene_network'\] is there already, .* another key_added="):
        ch.tl.gene_network(adata, groupby="sample", **NETWORK)
    del adata.var["sentence_gene"], adata.obs["cell_sentence"]
    with pytest.raises(ValueError, match=r"uns\['sentence_gene'\] is there already, .* another gene_mask="):
        ch.pp.cell_sentences(adata, key_added="words")
    assert adata.uns["gene_network"] == adata.uns["sentence_gene"] == mine


def test_texts_of_the_users_beside_answers_stay(ready: AnnData, tiny: ch.CellHermes) -> None:
    ready.obs["answers_text"] = "mine"
    ch.tl.predict(ready, tiny, "t_cell_reactivity", key_added="answers")
    assert (ready.obs["answers_text"] == "mine").all()


def test_entries_are_known_by_key() -> None:
    adata = ch.datasets.toy(n_obs=4)
    with written(adata, "a/b", ["obs/a/b"]):
        adata.obs["a/b"] = 1
    assert is_ours(adata, "a/b", "obs/a/b")
    check_free(adata, "a/b", ["obs/a/b"])
    with pytest.raises(ValueError, match=r"obs\['a/b'\] is there already"):
        check_free(adata, "other", ["obs/a/b"])
    with written(adata, "a/b", ["obs/c"]):
        adata.obs["c"] = 1
    assert is_ours(adata, "a/b", "obs/a/b"), "what earlier calls wrote is still known"


def test_nested_entries_are_given_back() -> None:
    adata = ch.datasets.toy(n_obs=4)
    adata.uns["key"] = {"params": {"version": "0"}, "table": [1]}
    before, columns = deepcopy(adata.uns), list(adata.obs)
    with pytest.raises(KeyError), written(adata, "key", []):
        _write_and_fail(adata)
    assert adata.uns == before
    assert list(adata.obs) == columns


def _write_and_fail(adata: AnnData) -> None:
    adata.uns["key"]["table"] = [2]
    del adata.obs["batch"], adata.obs["cell_type"], adata.obs["nope"]
