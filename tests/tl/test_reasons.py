"""Rationales: what is asked, and what is read from the texts."""

import pytest

import cellhermes as ch
from cellhermes.tl._reasons import read_reason

TASK = ch.text.Task.load("t_cell_reactivity")
SYMBOLS = {"CD4", "CD40", "CXCL13", "GZMB", "HLA-DRA", "NKX2-1", "AC008.1"}


@pytest.fixture
def cells(adata):
    adata = adata[:6].copy()
    ch.pp.cell_sentences(adata, n_genes=5)
    return adata


@pytest.mark.parametrize(
    ("text", "genes", "n_absent"),
    [
        ("CXCL13, GZMB and again CXCL13.", "CXCL13;GZMB", 1),
        ("It has CD40 (not cd4), HLA-DRA/AC008.1; NKX2-1.", "CD40;HLA-DRA;AC008.1;NKX2-1", 4),
        ("CD4+ cells", "CD4", 1),
        ("nothing", "", 0),
    ],
)
def test_genes_are_whole_words_in_the_spelling_of_a_symbol(text, genes, n_absent):
    found = read_reason(text, TASK, SYMBOLS, ["CXCL13"], reason_first=False)
    assert found == ("", text, text, genes, len(genes.split(";")) if genes else 0, n_absent)


@pytest.mark.parametrize(
    ("text", "given", "reason"),
    [
        ("<reason>has CXCL13</reason><output>Reactive</output>", "Reactive", "has CXCL13"),
        ("<reason>GZMB</reason>\n<output>Non-Reactive", "Non-Reactive", "GZMB"),
        ("<reason>GZMB <output>Reactive</output>", "Reactive", "GZMB"),
        ("<output>maybe</output>", "", ""),
        ("Reactive, because of GZMB", "", ""),
    ],
)
def test_reason_and_answer_are_read_from_their_tags_and_never_guessed(text, given, reason):
    assert read_reason(text, TASK, SYMBOLS, [], reason_first=True)[:2] == (given, reason)


def test_an_answer_that_names_a_gene_is_no_gene():
    task = ch.text.Task.load("cell_type").with_answers(["CD4 T cell", "B cell"])
    assert read_reason("A CD4 T cell by CD40.", task, SYMBOLS, [], reason_first=False)[3] == "CD40"


@pytest.mark.parametrize("reason_first", [False, True])
def test_the_question_and_the_answer_are_what_is_asked(cells, tiny, monkeypatch, reason_first):
    asked = []

    def generate(self, prompts, **options):
        asked.extend(prompt.text for prompt in prompts)
        assert options["max_new_tokens"] == 7
        return [f"<reason>{prompt.text.split(': ')[1].split()[1]}</reason><output>Reactive" for prompt in prompts]

    monkeypatch.setattr(type(tiny), "generate", generate)
    wanted = [cells.obs_names[3], cells.obs_names[1]]
    question = ch.text.Question(TASK, max_new_tokens=7)
    ch.tl.explain(cells, tiny, question)
    ch.tl.reasons(cells, tiny, question, cells=wanted, reason_first=reason_first)
    table = ch.get.explain(cells, "reasons")
    assert table["cell"].tolist() == [cells.obs_names[1], cells.obs_names[3]]
    assert table["answer"].tolist() == cells.obs["explain_answer"].iloc[[1, 3]].tolist()
    for text, cell, answer in zip(asked, table["cell"], table["answer"], strict=True):
        assert text.startswith(TASK.prompts(cells.obs.loc[[cell]])[0].text + "\n")
        assert (f"The answer is {answer}." in text) != reason_first
    assert table["genes"].tolist() == [cells.obs["cell_sentence"].iloc[i].split()[1] for i in (1, 3)]
    assert table["n_absent"].tolist() == [0, 0]
    assert table["given"].tolist() == (["Reactive"] * 2 if reason_first else ["", ""])


def test_the_bundled_model_warns_that_its_words_mean_nothing(cells, model):
    question = ch.text.Question(TASK, max_new_tokens=2)
    with pytest.warns(UserWarning, match="not tuned on the task"):
        ch.tl.explain(cells, model, question, cells=2)
    with pytest.warns(UserWarning, match="'mini' has never learnt to give reasons"):
        ch.tl.reasons(cells, model, question, cells=1)
