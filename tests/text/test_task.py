"""Tasks: their files, the questions they write, and the answers they read."""

import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cellhermes as ch
from cellhermes.text import Task, Template

PAPER = {  # the ten training sets: two sub-tasks of perturbation, fitness, four interactions, four gene sets
    "perturbation_deg",
    "perturbation_direction",
    "cell_fitness",
    *(f"genetic_interaction_{kind}" for kind in ("synthetic", "phenotypic", "general", "dosage")),
    *(f"gene_set_{kind}" for kind in ("cell_type", "disease", "phenotype", "rare_disease")),
}
FILE = """
version = 3
unit = "row"
source = "a paper"
instructions = ["Is {gene} there? Yes or No.", "{gene}: Yes or No?"]
input = "Cells: {cell_line}"
expression = "Genes: {cell_sentence}"
answers = ["Yes", "No"]
labels = { 1 = "Yes", 0 = "No" }
"""
OWN = Template("own", 1, ("Is it {gene}?",))


def write(folder: Path, text: str = FILE, name: str = "own") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def answering(*answers: str, pattern: str = "") -> Task:
    return Task("own", 1, "row", OWN, answers=answers or None, pattern=pattern)


# ---- files


def test_every_file_is_a_task_and_all_of_the_paper_are_there() -> None:
    stems = {Path(str(f)).stem for f in (files("cellhermes.text") / "tasks").iterdir() if str(f).endswith(".toml")}
    assert {*Task.names()} == stems
    assert {*Task.names()} >= PAPER | {"t_cell_reactivity", "cell_type"}
    assert all(Task.load(name).name == name and Task.load(name).source for name in Task.names())


@pytest.mark.parametrize("name", [*Task.names()])
def test_wordings_differ_and_name_the_answers(name: str) -> None:
    found = Task.load(name)
    texts = found.template.variants
    assert len(set(texts)) == len(texts)
    assert len(texts) >= 8 or name == "question"
    assert all(answer in text for text in texts for answer in found.answers or ())


@pytest.mark.parametrize("name", [*Task.names()])
def test_questions_of_every_task_hold_every_value(name: str) -> None:
    found = Task.load(name)
    found = found if found.answers else found.with_answers(["one thing", "another"])
    values = {"genes": "TP53 MDM2", "cell_sentence": "CD3E IL7R", "perturbation": "KLF1+BAK1"}
    row = {field: values.get(field, f"<{field}>") for field in found.fields} | {"cell_sentence": "CD3E IL7R"}
    for expression in {False, True} if found.takes_expression and "cell_sentence" not in found.fields else {None}:
        for variant in range(len(found.template.variants)):
            frame = {key: [value] for key, value in row.items()}
            (prompt,) = found.prompts(frame, expression=expression, variant=variant)
            shown = {field: row[field].replace("+", " ") for field in found.fields}
            assert all(value in prompt.text for value in shown.values())
            assert ("CD3E IL7R" in prompt.text) == (expression is True or "cell_sentence" in found.fields)
            assert prompt.variant == variant
            assert prompt.version == found.version


def test_a_file_becomes_a_task_with_its_name(tmp_path: Path) -> None:
    found = Task.load(write(tmp_path))
    assert (found.name, found.version, found.answers, found.label) == ("own", 3, ("Yes", "No"), "answer")
    assert found.fields == ("gene", "cell_line")
    assert found.takes_expression
    assert Task.load(str(tmp_path / "own.toml")) == found
    assert Task.load(found) is found


def test_release_layout_instruction_line_break_input(tmp_path: Path) -> None:
    frame = {"gene": ["CD4"], "cell_line": ["K562"], "cell_sentence": ["A B"]}
    found = Task.load(write(tmp_path))
    assert found.prompts(frame)[0].text == "Is CD4 there? Yes or No.\nCells: K562"
    shown = found.prompts(frame, expression=True, variant=1)[0]
    assert shown.text == "CD4: Yes or No?\nGenes: A B\nCells: K562"
    assert [shown.text[slice(*shown.spans[gene])] for gene in "AB"] == ["A", "B"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version = 3", "", "['version'] are missing"),
        ("version = 3", "verzion = 3", "['verzion'] are not known"),
        ("version = 3", 'version = "3"', "version is '3'; expected int"),
        ("version = 3", "version 3", "is no TOML"),
        ('unit = "row"', 'unit = "gene"', "expected one of ('cell', 'row')"),
        ('"{gene}: Yes or No?"', '"Yes or No?"', "every variant must have the same slots"),
        ('"{gene}: Yes or No?"', '"{gene}\\nYes?"', "one line each"),
        ('["Yes", "No"]', '["Yes", "Yes", "No"]', "['Yes'] come more than once"),
        ('["Yes", "No"]', '["Yes"]', "at least two"),
        ('["Yes", "No"]', '["Yes", "No "]', "without blanks at their ends"),
        ('0 = "No"', '0 = "Nope"', "labels lead to ['Nope']"),
        ("{cell_sentence}", "{other}", "expression must have the slot {cell_sentence}"),
        ('["Yes", "No"]', '["Yes", "No"]\npattern = \'(a)(b)\'', "exactly one group"),
        ('["Yes", "No"]', '["Yes", "No"]\npattern = \'(a\'', "no regular expression"),
    ],
)
def test_a_wrong_file_says_what_is_wrong_and_where(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert FILE.count(old) == 1
    path = write(tmp_path, FILE.replace(old, new))
    with pytest.raises(ValueError, match="own.toml") as error:
        Task.load(path)
    assert said in str(error.value)


def test_a_question_without_a_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="no slot with a name"):
        Task("own", 1, "row", Template("own", 1, ("Is it?",)))


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="cell_fitness"):
        Task.load("cell_fitnes")
    with pytest.raises(FileNotFoundError):
        Task.load(tmp_path / "none.toml")


# ---- questions


def test_a_frame_and_a_mapping_give_the_same_questions() -> None:
    columns = {"gene": ["CD4", "CD8A"], "cell_line": ["K562", "A549"]}
    asked = Task.load("cell_fitness")
    assert asked.prompts(pd.DataFrame(columns).astype("category")) == asked.prompts(columns)


def test_lists_of_genes_may_be_strings_or_sequences() -> None:
    asked = Task.load("gene_set_disease")
    given_as = ["TP53  MDM2", ["TP53", "MDM2"], np.array(["TP53", "MDM2"]), ("TP53", "MDM2")]
    assert asked.columns({"genes": given_as})["genes"] == [["TP53", "MDM2"]] * 4
    prompts = asked.prompts({"genes": given_as})
    assert {prompt.text for prompt in prompts} == {prompts[0].text}
    assert all(prompt.text[slice(*prompt.spans["MDM2"])] == "MDM2" for prompt in prompts)


def test_a_seed_draws_the_same_wordings_and_uses_all() -> None:
    asked, frame = Task.load("cell_fitness"), {"gene": ["CD4"] * 200, "cell_line": ["K562"] * 200}
    first = asked.prompts(frame, rng=1)
    assert first == asked.prompts(frame, rng=np.random.default_rng(1))
    assert {prompt.variant for prompt in first} == set(range(len(asked.template.variants)))
    assert [p.variant for p in asked.prompts({k: v[:2] for k, v in frame.items()}, variant=[3, 1])] == [3, 1]


@pytest.mark.parametrize("variant", [8, -1, [0]])
def test_a_wording_that_is_not_there_is_refused(variant: object) -> None:
    with pytest.raises(ValueError, match="expected numbers from 0 to 7"):
        Task.load("cell_fitness").prompts({"gene": ["A", "B"], "cell_line": ["K", "K"]}, variant=variant)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, "", "  ", []])
def test_a_missing_value_names_its_row(missing: object) -> None:
    with pytest.raises(ValueError, match=r"column 'genes' has no value in 1 of 2 rows \(counted from 0: 1\)"):
        Task.load("gene_set_disease").prompts({"genes": ["TP53", missing]})


def test_a_missing_column_says_what_is_there() -> None:
    with pytest.raises(KeyError, match=r"needs the column 'cell_line'; there are \['gene'\]"):
        Task.load("cell_fitness").prompts({"gene": ["A"]})
    with pytest.raises(KeyError, match="cell_sentences"):
        Task.load("t_cell_reactivity").prompts({"gene": ["A"]})


def test_expression_is_refused_where_it_has_no_place_and_demanded_where_it_has() -> None:
    with pytest.raises(ValueError, match="no place for the genes of a cell"):
        Task.load("gene_set_disease").prompts({"genes": ["A"]}, expression=True)
    with pytest.raises(ValueError, match="cannot be asked with expression=False"):
        Task.load("cell_type").with_answers(["a", "b"]).prompts({"cell_sentence": ["A"]}, expression=False)


def test_answers_that_are_listed_have_to_be_given() -> None:
    with pytest.raises(ValueError, match="lists its answers"):
        Task.load("cell_type").prompts({"cell_sentence": ["A"]})
    (prompt,) = Task.load("cell_type").with_answers(["B cell", "T cell"]).prompts({"cell_sentence": ["A"]})
    assert prompt.text.endswith("Possible answers: B cell, T cell")


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        Task.load("cell_fitness").prompts({"gene": ["A"], "cell_line": ["K", "L"]})


def test_cells_of_an_anndata_are_asked_as_they_are(adata) -> None:
    ch.pp.cell_sentences(adata)
    asked = Task.load("cell_type").with_answers(adata.obs["cell_type"].unique())
    prompts = asked.prompts(adata.obs)
    assert len(prompts) == adata.n_obs
    assert list(prompts[0].spans) == adata.obs["cell_sentence"].iloc[0].split()
    assert asked.answers_of(adata.obs) == adata.obs["cell_type"].tolist()


# ---- true answers


def test_labels_are_translated_whatever_their_type() -> None:
    given_as = [1, 1.0, "1", True, np.True_, np.int64(0), "No", 0.0]
    assert Task.load("cell_fitness").answers_of({"answer": given_as}) == ["Yes"] * 5 + ["No"] * 3
    assert Task.load("perturbation_direction").answers_of({"direction": [1, -1, "Up"]}) == ["Up", "Down", "Up"]


def test_labels_outside_the_answers_are_named() -> None:
    with pytest.raises(ValueError, match=r"2 labels in column 'answer' .* such as \['Perhaps', 'maybe'\]"):
        Task.load("cell_fitness").answers_of({"answer": ["Yes", "maybe", "Perhaps", "maybe"]})


# ---- reading answers


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Reactive", "Reactive"),
        (" reactive.\n", "Reactive"),
        ("**Non-Reactive**", "Non-Reactive"),
        ("NON-REACTIVE", "Non-Reactive"),
        ("The cell is Non-Reactive because of IL7R.", "Non-Reactive"),
        ("Reactive: the cell is Reactive", "Reactive"),
        ("Reactive or Non-Reactive", None),
        ("not Reactive", None),
        ("Not Non-Reactive", None),
        ("Reactiveness", None),
        ("Hyper-Reactive", None),
        ("I cannot say", None),
        ("", None),
    ],
)
def test_reading_of_answers_that_contain_each_other(text: str, read: str | None) -> None:
    assert Task.load("t_cell_reactivity").parse(text) == read


@pytest.mark.parametrize(
    ("text", "read"), [("Yes, there is no doubt.", "Yes"), ("I have no idea", None), ("no", "No"), ("Nothing", None)]
)
def test_case_counts_inside_a_sentence(text: str, read: str | None) -> None:
    assert Task.load("cell_fitness").parse(text) == read


def test_answers_that_differ_by_case_alone_are_told_apart() -> None:
    asked = answering("PDC", "pDC")
    assert [asked.parse(text) for text in ("PDC", "pDC", "pdc")] == ["PDC", "pDC", None]


def test_a_longer_answer_that_begins_with_a_shorter_one_is_taken() -> None:
    asked = answering("T cell", "T cell naive", "CD8 T cell")
    assert asked.parse("This is a T cell naive by its genes.") == "T cell naive"
    assert asked.parse("This is a CD8 T cell by its genes.") == "CD8 T cell"


def test_a_pattern_finds_the_last_group() -> None:
    asked = answering("Yes", "No", pattern=r"<output>(.*?)</output>")
    assert asked.parse("Yes? <output>Yes</output> hm, <output> No </output>") == "No"
    assert asked.parse("Yes") is None
    assert answering(pattern=r"Answer: (\w+)").parse("x. Answer: TP53") == "TP53"


def test_an_open_task_takes_the_text() -> None:
    assert answering().parse("  TP53\n") == "TP53"
    assert answering().parse(" ") is None


words = st.text(st.sampled_from("ab-+( "), min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.lists(words, min_size=2, max_size=6, unique=True))
def test_every_answer_reads_as_itself(answers: list[str]) -> None:
    asked = answering(*answers)
    assert [asked.parse(answer) for answer in answers] == answers


@given(st.lists(words, min_size=2, max_size=6, unique=True), st.text(st.sampled_from("ab-+( not"), max_size=30))
def test_what_is_read_is_an_answer_that_stands_there(answers: list[str], text: str) -> None:
    read = answering(*answers).parse(text)
    assert read is None or (read in answers and read in text)


# ---- versions


def test_fingerprint_changes_with_whatever_decides(tmp_path: Path) -> None:
    original = Task.load(write(tmp_path)).fingerprint()
    changes = [("version = 3", "version = 4"), ("Is {gene}", "Is it {gene}"), ("Genes: ", "G: "), ("0 = ", "2 = ")]
    changed = [Task.load(write(tmp_path, FILE.replace(*change))).fingerprint() for change in changes]
    changed += [Task.load(write(tmp_path)).with_answers(["No", "Yes"]).fingerprint()]
    assert len({original, *changed}) == 6
    assert Task.load(write(tmp_path, FILE.replace("a paper", "a book"))).fingerprint() == original


def test_other_answers_leave_labels_that_lead_nowhere() -> None:
    assert Task.load("cell_fitness").with_answers(["Yes", "Unclear"]).labels == {"1": "Yes", "True": "Yes"}


def test_tables_in_files_are_read_as_strings() -> None:
    raw = tomllib.loads((files("cellhermes.text") / "tasks" / "perturbation_direction.toml").read_text("utf-8"))
    assert raw["labels"] == {"1": "Up", "-1": "Down"}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ("Yes", "expected at least two"),
        (["B", None], "is None; leave out"),
        (["B", np.nan], "is nan"),
        (["B", pd.NA], "<NA>"),
    ],
)
def test_one_text_and_missing_values_are_no_answers(answers, message):
    with pytest.raises(ValueError, match=message):
        Task.load("cell_type").with_answers(answers)


def test_numbers_and_words_for_nothing_are_answers():
    assert Task.load("cell_type").with_answers([1, "None", "nan"]).answers == ("1", "None", "nan")
