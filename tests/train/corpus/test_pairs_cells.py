"""Masked genes and next genes: what is shown and what is asked for are the sentence, and nothing else."""

import gc
import hashlib
import re

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cellhermes as ch
from cellhermes.train.corpus._pairs_cells import MASK, _known

words = st.text(st.characters(categories=["L", "N"], include_characters="-._"), min_size=1, max_size=8)
sentences = st.lists(st.lists(words, max_size=30, unique=True).map(" ".join), min_size=1, max_size=8)


def cells(column, **obs):
    return ad.AnnData(obs=pd.DataFrame({"cell_sentence": column, **obs}, index=[f"c{i}" for i in range(len(column))]))


def listed(pair):
    return pair.prompt.text.rsplit(": ", 1)[1].split(" ")


def made(pairs, eligible, *args, **options):
    """The pairs, or none where no cell is eligible, which is an error."""
    if eligible:
        return pairs(*args, **options)
    with pytest.raises(ValueError, match="enough genes"):
        pairs(*args, **options)
    return []


@given(column=sentences, fraction=st.floats(0.01, 0.99), seed=st.integers(-5, 2**40))
def test_masked_genes_are_the_sentence(column, fraction, seed):
    counts = [int(np.floor(len(s.split()) * fraction + 0.5)) for s in column]
    eligible = [i for i, (s, n) in enumerate(zip(column, counts, strict=True)) if 1 <= n < len(s.split())]
    pairs = made(ch.train.corpus.mlm_pairs, eligible, cells(column), mask_fraction=fraction, seed=seed)
    assert [pair.source for pair in pairs] == [f"c{i}" for i in eligible for _ in range(2)]
    assert not pairs or sum(pairs.dropped.values()) == len(column) - len(eligible)
    for pair in pairs:
        i = int(pair.source[1:])
        answer = pair.answer.split(" ")
        shown = listed(pair)
        assert len(answer) == shown.count(MASK) == counts[i]
        gone = iter(answer)
        assert " ".join(next(gone) if word == MASK else word for word in shown) == column[i]


@given(column=sentences, low=st.integers(1, 6), more=st.integers(0, 10), n_answer=st.integers(2, 6))
def test_next_genes_follow_what_is_shown(column, low, more, n_answer):
    eligible = [i for i, s in enumerate(column) if len(s.split()) >= low + n_answer]
    pairs = made(ch.train.corpus.ar_pairs, eligible, cells(column), n_prefix=(low, low + more), n_answer=n_answer)
    assert [pair.source for pair in pairs] == [f"c{i}" for i in eligible for _ in range(2)]
    for pair in pairs:
        shown, answer = listed(pair), pair.answer.split(" ")
        assert len(answer) == n_answer
        assert low <= len(shown) <= low + more
        assert column[int(pair.source[1:])].split()[: len(shown) + n_answer] == shown + answer
        assert re.search(rf"\b{n_answer}\b", pair.prompt.text.split("\n")[0])


@given(seed=st.integers(0, 99), order=st.permutations(range(20)), n=st.integers(1, 5))
def test_order_and_shards_do_not_change_a_pair(seed, order, n):
    adata = cells([" ".join(f"G{(7 * i + j) % 50}" for j in range(10 + 4 * i)) for i in range(10)])
    for pairs in (
        ch.train.corpus.mlm_pairs(adata, seed=seed),
        ch.train.corpus.ar_pairs(adata, n_prefix=(2, 9), n_answer=3, seed=seed),
    ):
        whole = list(pairs)
        assert [pairs[i] for i in order] == [whole[i] for i in order] == list(pairs.take(order))
        shards = [list(pairs.shard(k, n)) for k in range(n)]
        assert [shards[i % n][i // n] for i in range(20)] == whole


def test_seeds_and_numbers_change_masks_and_wordings(adata):
    ch.pp.cell_sentences(adata)
    one, other = ch.train.corpus.mlm_pairs(adata, seed=0), ch.train.corpus.mlm_pairs(adata, seed=1)
    assert list(one) == list(ch.train.corpus.mlm_pairs(adata, seed=0))
    assert np.mean([a.answer == b.answer for a, b in zip(one, other, strict=True)]) < 0.01
    assert np.mean([one[2 * i].answer == one[2 * i + 1].answer for i in range(300)]) < 0.01
    assert {pair.prompt.variant for pair in one} == set(range(20))
    places = np.array([[word == MASK for word in listed(pair)] for pair in one if len(listed(pair)) == 100])
    assert np.abs(places.mean(axis=0) - 0.15).max() < 0.07  # all places are masked equally often


def test_each_cell_gives_a_pair_without_and_one_with_metadata(adata):
    ch.pp.cell_sentences(adata)
    for pairs in (
        ch.train.corpus.mlm_pairs(adata, metadata=["cell_type", "batch"]),
        ch.train.corpus.ar_pairs(adata, metadata=["cell_type", "batch"]),
    ):
        assert len(pairs) == 2 * adata.n_obs
        for i, (cell, row) in enumerate(adata.obs.iterrows()):
            plain, full = pairs[2 * i], pairs[2 * i + 1]
            assert plain.source == full.source == cell
            assert plain.prompt.kind.endswith("/plain")
            assert full.prompt.kind.endswith("/metadata")
            known = f"About the cell: cell type = {row['cell_type']}; batch = {row['batch']}\nA cell with"
            assert known in full.prompt.text
            assert "About" not in plain.prompt.text


def test_missing_metadata_is_left_out():
    sentence = " ".join(f"G{i}" for i in range(40))
    values = ["lung", None, np.nan, "", "nan", "unknown", "NA", " two  words\n"]
    adata = cells([sentence] * 8, tissue=values, age=[3.0, np.nan, 2.5, *[np.nan] * 5])
    adata.obs["kind"] = pd.Categorical(["a", *[None] * 7])
    texts = [
        pair.prompt.text.split("\n")[1:-1]
        for pair in ch.train.corpus.mlm_pairs(adata, metadata=["tissue", "age", "kind"])
    ]
    assert texts[1::2] == [
        ["About the cell: tissue = lung; age = 3; kind = a"],
        [],
        ["About the cell: age = 2.5"],
        [],
        [],
        [],
        [],
        ["About the cell: tissue = two words"],
    ]
    pairs = ch.train.corpus.ar_pairs(adata, metadata={"tissue": "organ"})
    assert "organ = lung" in pairs[1].prompt.text
    assert [pair.prompt.kind for pair in pairs[1::2]] == [
        f"next_genes/{kind}" for kind in ["metadata", *["plain"] * 6, "metadata"]
    ]
    assert len(pairs) == 16


def test_cells_without_enough_genes_are_counted():
    adata = cells(["", np.nan, "A", "A B C", " ".join(f"G{i}" for i in range(30))])
    pairs = ch.train.corpus.mlm_pairs(adata)
    assert {pair.source for pair in pairs} == {"c4"}
    assert dict(pairs.dropped) == {"cells without a sentence": 2, "cells with too few genes": 2}
    with pytest.raises(ValueError, match="none of 4 cells has enough genes for next_genes"):
        ch.train.corpus.ar_pairs(adata[:4])


def test_proteins_beside_genes_speak_of_proteins(adata):
    """CITE-seq: the same cells with surface proteins, control antibodies among them."""
    names = [*(f"CD{i}-ab" for i in range(1, 30)), "IgG1-isotype"]
    rng = np.random.default_rng(0)
    proteins = ad.AnnData(
        rng.poisson(5, (adata.n_obs, 30)).astype("float32"), obs=adata.obs, var=pd.DataFrame(index=names)
    )
    proteins.var["sentence_gene"] = ch.text.Modality.load("protein").keeps(names)
    data = mudata.MuData({"rna": adata, "protein": proteins})
    ch.pp.cell_sentences(data, mod="protein")
    ch.pp.cell_sentences(data, mod="rna")
    both = {
        mod: ch.train.corpus.mlm_pairs(data, mod=mod, modality=mod, metadata=["cell_type"])
        for mod in ("rna", "protein")
    }
    for mod, pairs in both.items():
        text = pairs[1].prompt.text
        assert ("protein" in text, "gene" in text) == (mod == "protein", mod == "rna")
        assert "cell type = " in text
    assert both["protein"][1].prompt.kind == "masked_genes/metadata/protein"
    assert not any("isotype" in pair.prompt.text + pair.answer for pair in both["protein"])
    pairs = ch.train.corpus.ar_pairs(data, mod="protein", modality="protein", n_prefix=5, n_answer=4)
    assert pairs[0].prompt.kind == "next_genes/plain/protein"


@pytest.mark.parametrize(
    ("pairs", "options", "error", "message"),
    [
        ("mlm_pairs", {"mask_fraction": 0}, ValueError, "mask_fraction=0; expected a share above 0"),
        ("mlm_pairs", {"mask_fraction": 1.0}, ValueError, "below 1"),
        ("mlm_pairs", {"mask_fraction": float("nan")}, ValueError, "mask_fraction=nan"),
        ("mlm_pairs", {"metadata": ["tissue"]}, KeyError, r"obs\['tissue'\]` not found; choose metadata from .*batch"),
        ("mlm_pairs", {"sentence_key": "s"}, KeyError, r"obs\['s'\]` not found. Run `ch.pp.cell_sentences"),
        ("mlm_pairs", {"modality": "atac"}, KeyError, "No modality 'atac'"),
        ("mlm_pairs", {"mod": "rna"}, ValueError, "data is an AnnData"),
        ("ar_pairs", {"n_prefix": 0}, ValueError, "n_prefix=0; expected"),
        ("ar_pairs", {"n_prefix": (9, 8)}, ValueError, "rising order"),
        ("ar_pairs", {"n_answer": 1}, ValueError, "at least 2"),
        ("ar_pairs", {"n_prefix": 99}, ValueError, "none of 300 cells has enough genes"),
    ],
)
def test_wrong_arguments_are_explained(adata, pairs, options, error, message):
    ch.pp.cell_sentences(adata)
    with pytest.raises(error, match=message):
        getattr(ch.train.corpus, pairs)(adata, **options)


def test_one_sentence_is_not_a_list_of_letters(adata):
    ch.pp.cell_sentences(adata)
    assert "cell type = " in ch.train.corpus.mlm_pairs(adata, metadata="cell_type")[1].prompt.text


def test_the_record_names_what_was_read(adata):
    ch.pp.cell_sentences(adata)
    about = ch.train.corpus.mlm_pairs(adata, metadata=["batch"], seed=3).about
    assert about["seed"] == 3
    assert about["templates"] == {"masked_genes/plain": 1, "masked_genes/metadata": 1}
    changed = adata.copy()
    changed.obs.loc[changed.obs_names[0], "cell_sentence"] += " CD3E"
    other = ch.train.corpus.mlm_pairs(changed, metadata=["batch"], seed=3).about
    assert other["sentences_sha256"] != about["sentences_sha256"]
    sentences = "".join(f"{sentence}\n" for sentence in adata.obs["cell_sentence"]).encode() + b"\0"
    assert about["sentences_sha256"] == hashlib.sha256(sentences).hexdigest()
    changed = adata.copy()
    changed.obs["batch"] = "one"
    other = ch.train.corpus.mlm_pairs(changed, metadata=["batch"], seed=3).about
    assert other["names_and_metadata_sha256"] != about["names_and_metadata_sha256"]
    assert other["sentences_sha256"] == about["sentences_sha256"]


def test_both_objectives_share_their_sentences(adata):
    ch.pp.cell_sentences(adata)
    masked, following = ch.train.corpus.mlm_pairs(adata), ch.train.corpus.ar_pairs(adata)
    assert masked._make.cells.sentences is following._make.cells.sentences
    del masked, following
    gc.collect()
    assert not _known


def test_pairs_of_a_store_are_those_of_the_object(adata, tmp_path):
    ch.pp.cell_sentences(adata, out=tmp_path / "s.zarr", chunk_size=64)
    ch.pp.cell_sentences(adata)
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata.obs["cell_sentence"] = adata.obs["cell_sentence"].astype(str)
    for make in (ch.train.corpus.mlm_pairs, ch.train.corpus.ar_pairs):
        expected = make(adata, metadata=["cell_type", "donor"])
        for source in (tmp_path / "s.zarr", tmp_path / "a.h5ad", ad.experimental.read_lazy(tmp_path / "s.zarr")):
            found = make(source, metadata=["cell_type", "donor"])
            assert found.fingerprint() == expected.fingerprint()
            assert list(found) == list(expected)
