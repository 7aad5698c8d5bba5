"""A question: what it is made of, what it shows of a frame, and its record."""

import json
from dataclasses import FrozenInstanceError, replace

import pandas as pd
import pytest

import cellhermes as ch
from cellhermes.text import Question, Task

TASK = "genetic_interaction_synthetic"


def test_a_task_is_a_question_with_its_defaults_and_a_question_stays_itself():
    question = Question(TASK)
    assert Question.of(TASK) == Question.of(Task.load(TASK)) == question
    assert Question.of(question) is question
    with pytest.raises(FrozenInstanceError):
        question.variant = 1


def test_fields_name_the_columns_of_a_frame():
    frame = pd.DataFrame({"source": ["BRCA1"], "target": ["PARP1"], "gene_a": ["CD4"], "truth": [1]})
    question = Question(TASK, fields={"gene_a": "source", "gene_b": "target", "answer": "truth"})
    expected = Task.load(TASK).prompts({"gene_a": ["BRCA1"], "gene_b": ["PARP1"]})
    assert question.prompts(frame) == expected
    assert question.shown == {"gene_a": "source", "gene_b": "target"}
    assert question.columns(frame) == {"gene_a": ["BRCA1"], "gene_b": ["PARP1"]}
    assert question.answers_of(frame) == ["Yes"]
    with pytest.raises(KeyError, match=r"needs the column 'target'; there are \['source', 'gene_b'\]"):
        question.prompts({"source": ["BRCA1"], "gene_b": ["PARP1"]})


@pytest.mark.parametrize(
    ("task", "options", "error", "message"),
    [
        (TASK, {"fields": {"gene_c": "x"}}, KeyError, r"has no field \['gene_c'\]"),
        (TASK, {"variant": 99}, ValueError, "variant=99; task .* has the wordings 0 to"),
        (TASK, {"calibration": float("nan")}, ValueError, "expected a temperature above 0"),
        ("cell_type", {}, ValueError, "lists its answers, and has none yet"),
        ("t_cell_reactivity", {"expression": False}, ValueError, "cannot be asked with expression=False"),
    ],
)
def test_what_cannot_be_asked_is_refused_when_it_is_made(task, options, error, message):
    with pytest.raises(error, match=message):
        Question(task, **options)


def test_all_that_decides_an_answer_is_in_the_record_and_its_hash():
    question = Question("cell_fitness")
    others = {
        "answers": ["Yes", "No", "Maybe"], "fields": {"gene": "symbol"}, "variant": 1, "expression": True,
        "decode": "generate", "normalize": "mean", "prior": "N/A", "calibration": 2.0, "abstain_below": 0.5,
    }  # fmt: skip
    changed = [replace(question, **{name: value}) for name, value in others.items()]
    changed += [replace(question, decode="generate", max_new_tokens=3)]
    hashes = {one.fingerprint() for one in (question, *changed)}
    assert len(hashes) == len(changed) + 1
    assert json.loads(json.dumps(question.about)) == question.about
    assert replace(question).fingerprint() == question.fingerprint()


def test_columns_are_named_for_cells_as_for_tables(adata, tiny):
    adata = adata[:12].copy()
    ch.pp.cell_sentences(adata, n_genes=6, key_added="words")
    adata.obs["line"], adata.obs["symbol"] = "K562", "CD4"
    fields = {"cell_line": "line", "gene": "symbol", "cell_sentence": "words"}
    question = Question("cell_fitness", fields=fields, expression=True)
    ch.tl.predict(adata, tiny, question)
    renamed = adata.obs.rename(columns={column: field for field, column in fields.items()})
    expected = ch.tl.answer(renamed, tiny, Question("cell_fitness", expression=True))
    assert adata.obs["cell_fitness"].tolist() == expected["answer"].tolist()
    assert adata.uns["cell_fitness"]["params"]["fields"] == fields
    ch.tl.explain(adata, tiny, question)
    ch.tl.faithfulness(adata, tiny, question, steps=[1], cells=2)
    assert ch.get.importance(adata)["position"].min() == 1
    with pytest.raises(ValueError, match=r"not the one of explanation 'explain', .*: variant differ"):
        ch.tl.faithfulness(adata, tiny, replace(question, variant=1))
