"""Prompts know where their genes stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cellhermes as ch
from cellhermes.text import Prompt, Template

words = st.text(st.characters(categories=["L", "N"], include_characters="-._"), min_size=1, max_size=8)


@given(genes=st.lists(words, min_size=1, max_size=20, unique=True), gene=words)
def test_spans_are_the_genes(genes, gene):
    prompt = ch.text.Template.load("gene_in_cell").fill(genes=genes, gene=gene)
    assert {g: prompt.text[slice(*span)] for g, span in prompt.spans.items()} == {g: g for g in genes}
    assert prompt.text[slice(*prompt.entity)] == gene


@given(genes=st.lists(words, min_size=1, max_size=20, unique=True), gene=words)
def test_prefix_is_the_same_for_all_genes_and_stands_before_a_blank(genes, gene):
    fill = ch.text.Template.load("gene_in_cell").fill
    one, other = fill(genes=genes, gene=gene), fill(genes=genes, gene="OTHER")
    assert one.text[: one.prefix_len] == other.text[: other.prefix_len]
    assert one.text[one.prefix_len] == " "
    assert one.text[one.prefix_len + 1 :] == gene


def test_released_input_format_to_the_letter():
    genes = ["MALAT1", "TMSB4X"]
    assert ch.text.Template.load("gene").fill(gene="BRCA1").text == "Gene BRCA1"
    cell = ch.text.Template.load("cell").fill(genes=genes).text
    assert cell == "A cell with genes ranked by expression: MALAT1 TMSB4X"
    in_cell = ch.text.Template.load("gene_in_cell").fill(genes=genes, gene="BRCA1").text
    assert in_cell == cell + ". In this cell, Gene BRCA1"


@pytest.mark.parametrize("name", sorted(ch.text.Template.names()))
def test_every_template_fills(name):
    template = ch.text.Template.load(name)
    prompt = template.fill(**{s: ["CD3E", "IL7R"] if s == "genes" else f"the {s}" for s in template.slots})
    assert "{" not in prompt.text
    assert prompt.kind == name
    assert template.version >= 1


def test_variant_is_drawn_and_told():
    template = Template("t", 1, ("One {x}", "Two {x}", "Three {x}"))
    assert template.fill(x="a").text == "One a"
    seen = {template.fill(x="a", rng=seed).variant for seed in range(40)}
    assert seen == {0, 1, 2}
    for seed in range(5):
        prompt = template.fill(x="a", rng=seed)
        assert prompt.text == template.fill(x="a", rng=seed).text == template.variants[prompt.variant].format(x="a")


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({}, r"has the slots \['genes'\], got \[\]"),
        ({"genes": ["A"], "gene": "B"}, "got \\['gene', 'genes'\\]"),
        ({"genes": []}, "nothing to write for \\['genes'\\]"),
        ({"genes": ["A", ""]}, "nothing to write for \\['genes'\\]"),
    ],
)
def test_wrong_slots_are_named(slots, message):
    with pytest.raises(ValueError, match=message):
        ch.text.Template.load("cell").fill(**slots)


def test_variants_must_share_their_slots():
    with pytest.raises(ValueError, match="same slots"):
        Template("t", 1, ("One {x}", "Two {y}"))
    with pytest.raises(ValueError, match="none of its slots"):
        Template("t", 1, ("One {x}",), entity="y")


@pytest.mark.parametrize("text", ["", " a", "a\n"])
def test_prompt_has_no_outer_white_space(text):
    with pytest.raises(ValueError, match="white space"):
        Prompt(text)


def test_prefix_must_stand_before_a_blank():
    with pytest.raises(ValueError, match="before a blank"):
        Prompt("Gene CD4", prefix_len=2)


def test_unknown_names_list_the_known():
    with pytest.raises(KeyError, match="gene_in_cell"):
        ch.text.Template.load("cells")
    with pytest.raises(KeyError, match="llama3-chat"):
        ch.text.Wrap.load("chat")
