"""Pairs of a task: each is a function of its row and number, and says what was asked."""

from dataclasses import replace

import pandas as pd
import pytest

import cellhermes as ch

FRAME = pd.DataFrame(
    {
        "gene": [f"G{i}" for i in range(40)],
        "cell_line": "K562",
        "answer": [1, 0] * 20,
        "split": ["train"] * 30 + ["valid"] * 5 + ["test"] * 5,
        "cell_sentence": "CD3E IL7R",
    }
)


def test_pairs_are_the_training_rows_with_their_answers() -> None:
    pairs = ch.train.questions.task_pairs(FRAME, "cell_fitness")
    assert len(pairs) == 30
    assert [pair.answer for pair in pairs] == ["Yes", "No"] * 15
    assert [pair.source for pair in pairs][:2] == ["K562 G0", "K562 G1"]
    assert {pair.task for pair in pairs} == {"cell_fitness"}
    task = ch.text.Task.load("cell_fitness")
    for pair, row in zip(pairs, FRAME.to_dict("records"), strict=False):
        frame = {name: [value] for name, value in row.items()}
        assert pair.prompt == task.prompts(frame, variant=pair.prompt.variant)[0]


def test_wordings_are_drawn_by_row_and_all_occur() -> None:
    pairs = ch.train.questions.task_pairs(FRAME.drop(columns="split"), "cell_fitness")
    assert {pair.prompt.variant for pair in pairs} == set(range(8))
    assert [pairs[i] for i in (7, 3)] == list(pairs.take([7, 3])) == [list(pairs)[i] for i in (7, 3)]
    other = ch.train.questions.task_pairs(FRAME.drop(columns="split"), "cell_fitness", seed=1)
    assert [pair.prompt.text for pair in other] != [pair.prompt.text for pair in pairs]


def test_several_wordings_of_a_row_differ() -> None:
    pairs = ch.train.questions.task_pairs(FRAME, "cell_fitness", n_wordings=3)
    assert len(pairs) == 90
    for row in range(30):
        three = pairs[3 * row : 3 * row + 3]
        assert len({pair.prompt.variant for pair in three}) == 3
        assert len({(pair.answer, pair.source) for pair in three}) == 1


def test_parts_are_chosen_and_an_empty_one_is_an_error() -> None:
    assert len(ch.train.questions.task_pairs(FRAME, "cell_fitness", part="valid")) == 5
    with pytest.raises(ValueError, match="no row has split='dev'; the frame has {'train': 30"):
        ch.train.questions.task_pairs(FRAME, "cell_fitness", part="dev")


def test_expression_is_shown_where_asked_for() -> None:
    plain, shown = (
        ch.train.questions.task_pairs(FRAME, ch.text.Question("cell_fitness", expression=shown))[0].prompt
        for shown in (None, True)
    )
    assert "CD3E IL7R" not in plain.text
    assert "CD3E IL7R" in shown.text
    assert list(shown.spans) == ["CD3E", "IL7R"]


def test_fingerprint_tells_rows_task_and_seed_apart() -> None:
    def made(frame: pd.DataFrame = FRAME, task: str | ch.text.Task = "cell_fitness", **options: object) -> str:
        return ch.train.questions.task_pairs(frame, task, **options).fingerprint()

    other = [made(FRAME[1:]), made(seed=1), made(n_wordings=2), made(part="test")]
    other += [made(FRAME.assign(answer="No"))]
    fitness = ch.text.Task.load("cell_fitness")
    reworded = replace(fitness, template=replace(fitness.template, variants=fitness.template.variants[::-1]))
    other += [made(task=reworded), made(task=ch.text.Question("cell_fitness", expression=True))]
    assert len({made(), *other}) == 1 + len(other)
    assert made() == made(FRAME.assign(note="not asked for"))


def test_a_question_names_the_columns() -> None:
    renamed = FRAME.rename(columns={"gene": "symbol", "answer": "is_needed"})
    question = ch.text.Question("cell_fitness", fields={"gene": "symbol", "answer": "is_needed"})
    pairs, plain = (ch.train.questions.task_pairs(*call) for call in ((renamed, question), (FRAME, "cell_fitness")))
    assert list(pairs) == list(plain)


def test_wrong_rows_fail_when_pairs_are_made_not_when_they_are_read() -> None:
    with pytest.raises(ValueError, match="no answers of task 'cell_fitness'"):
        ch.train.questions.task_pairs(FRAME.assign(answer="Perhaps"), "cell_fitness")
    with pytest.raises(ValueError, match="no value in 1 of 30"):
        ch.train.questions.task_pairs(
            FRAME.assign(gene=[*FRAME["gene"][:29], None, *FRAME["gene"][30:]]), "cell_fitness"
        )
    with pytest.raises(ValueError, match="lists its answers"):
        ch.train.questions.task_pairs(pd.DataFrame({"cell_sentence": ["A B"], "cell_type": ["T"]}), "cell_type")
    with pytest.raises(ValueError, match="has 8"):
        ch.train.questions.task_pairs(FRAME, "cell_fitness", n_wordings=9)
    with pytest.raises(ValueError, match="no row"):
        ch.train.questions.task_pairs(FRAME[:0].drop(columns="split"), "cell_fitness")


def test_cells_are_asked_from_obs(adata) -> None:
    ch.pp.cell_sentences(adata)
    labels = adata.obs["cell_type"].unique().tolist()
    pairs = ch.train.questions.task_pairs(adata.obs, ch.text.Question("cell_type", answers=labels))
    assert [pair.answer for pair in pairs] == adata.obs["cell_type"].tolist()


def test_pairs_are_written_and_read_back(tmp_path) -> None:
    pairs = ch.train.questions.task_pairs(FRAME, ch.text.Question("cell_fitness", expression=True))
    pairs.write(tmp_path / "pairs.jsonl")
    again = list(ch.train.corpus.Pairs.read(tmp_path / "pairs.jsonl"))
    assert [(p.prompt.text, p.answer, p.task, p.source) for p in again] == [
        (p.prompt.text, p.answer, p.task, p.source) for p in pairs
    ]


def test_two_tasks_are_trained_together(tmp_path) -> None:
    sets = pd.DataFrame({"genes": ["CD3E IL7R", "CD79A MS4A1"] * 3, "answer": ["T cell", "B cell"] * 3})
    sources = {
        "fitness": ch.train.questions.task_pairs(FRAME, "cell_fitness"),
        "sets": ch.train.questions.task_pairs(sets, "gene_set_cell_type"),
    }
    config = ch.train.TrainConfig(max_steps=2, batch_size=2, accumulation=1)
    out = ch.train.fit(sources, config, weights={"fitness": 1, "sets": 1}, out=tmp_path / "joint", device="cpu")
    assert (out / "adapter_model.safetensors").is_file()
