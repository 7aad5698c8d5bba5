"""`get.prompts` shows what the model reads, token for token."""

import pytest

import cellhermes as ch


@pytest.fixture
def small(adata):
    small = adata[:40].copy()
    ch.pp.cell_sentences(small, n_genes=10)
    return small


def test_shown_text_has_the_ids_that_the_model_reads(small, model):
    ch.tl.embed_cells(small, model)
    shown = ch.get.prompts(small, names=[*small.obs_names[3:5]])
    fill = ch.text.Template.load("cell").fill
    for name, text in zip(shown["name"], shown["prompt"], strict=True):
        genes = small.obs.loc[name, "cell_sentence"].split(" ")
        expected = model._encoder.prompts([fill(genes=genes)])[0].ids
        # Here special tokens are to be read as such: the text shows them written out.
        tokenizer = model._encoder._tokenizer
        tokenizer.encode_special_tokens = False
        try:
            assert tokenizer.encode(text, add_special_tokens=False).ids == expected
        finally:
            tokenizer.encode_special_tokens = True


def test_genes_alone_and_in_their_context(small, model):
    ch.tl.embed_genes(small, model, genes=["CD3E", "LYZ"])
    alone = ch.get.prompts(small, of="genes")
    assert sorted(alone["name"]) == ["CD3E", "LYZ"]
    assert alone["prompt"].str.contains("\n\nGene (?:CD3E|LYZ)<\\|eot_id\\|>").all()
    ch.tl.embed_genes(small, model, genes=["CD3E", "LYZ"], groupby="cell_type", groups=["B"])
    behind = ch.get.prompts(small, of="genes", group="B", names=["LYZ"])
    context = small.uns["X_cellhermes"]["contexts"].iloc[0]
    assert behind["context"].tolist() == [context["cell"]]
    assert context["sentence"] + ". In this cell, Gene LYZ<|eot_id|>" in behind["prompt"].iloc[0]
    assert len(ch.get.prompts(small, of="genes", group="B")) == 2


def test_it_never_writes_and_leaves_empty_cells_out(small):
    small.obs["cell_sentence"] = small.obs["cell_sentence"].where(small.obs_names != small.obs_names[0], "")
    before = small.copy()
    shown = ch.get.prompts(small, wrap="plain")
    assert len(shown) == small.n_obs - 1
    assert shown["prompt"].str.startswith("A cell with genes ranked by expression: ").all()
    assert list(small.uns) == list(before.uns)
    assert small.obs.equals(before.obs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, r"Run `ch.tl.embed_cells\(adata\)` first, or pass wrap="),
        ({"of": "genes"}, ValueError, r"Run `ch.tl.embed_genes\(adata\)` first"),
        ({"of": "things", "wrap": "plain"}, ValueError, "'cells' or 'genes'"),
        ({"wrap": "nope"}, KeyError, "No wrap 'nope'"),
        ({"wrap": "plain", "names": ["nobody"]}, KeyError, "'nobody'"),
        ({"wrap": "plain", "sentence_key": "nope"}, KeyError, "cell_sentences"),
        ({"wrap": "plain", "of": "genes"}, KeyError, "embed_genes"),
        ({"wrap": "plain", "of": "genes", "group": "B"}, KeyError, r"No vectors in groups \['B'\]"),
    ],
)
def test_bad_input_says_what_to_do(small, options, error, message):
    with pytest.raises(error, match=message):
        ch.get.prompts(small, **options)
