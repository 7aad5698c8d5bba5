"""Words of modalities."""

import pytest

import cellhermes as ch


@pytest.mark.parametrize("name", list(ch.text.Modality.names()))
def test_modalities_have_all_their_words(name):
    modality = ch.text.Modality.load(name)
    assert all([modality.noun, modality.nouns, modality.measure, modality.sentence, modality.mask])
    assert modality.nouns in modality.sentence
    assert modality.sentence.startswith("A cell with")


def test_rna_reads_like_the_cell_prompt():
    assert ch.text.Template.load("cell").variants[0] == ch.text.Modality.load("rna").sentence + ": {genes}"


def test_the_mask_leaves_out_controls_and_names_with_blanks():
    protein = ch.text.Modality.load("protein")
    names = ["CD3", "CD56(NCAM)", "IgG1", "Mouse IgG2a", "Rat_isotype_ctrl", "IgD", "HLA-DR", "", "T cell"]
    assert [name for name, keep in zip(names, protein.keeps(names), strict=True) if keep] == [
        "CD3",
        "CD56(NCAM)",
        "IgD",
        "HLA-DR",
    ]
    assert ch.text.Modality.load("metabolite").keeps(["lactate", "citric acid"]) == [True, False]


def test_rules_for_genes_are_referred_to():
    with pytest.raises(ValueError, match=r"ch\.pp\.mask_genes"):
        ch.text.Modality.load("rna").keeps(["CD3E"])


def test_unknown_modality_lists_the_known():
    with pytest.raises(KeyError, match="Known: rna, protein, gene_activity, metabolite"):
        ch.text.Modality.load("atac")
