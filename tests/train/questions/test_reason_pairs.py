"""Pairs to learn to reason from: the question asks for the tags, and the answer has them."""

import pandas as pd
import pytest

import cellhermes as ch
from cellhermes.text._reason import reason_prompt
from cellhermes.train.questions._reason_pairs import asking_for_reasons

FRAME = pd.DataFrame(
    {
        "gene": [f"G{i}" for i in range(10)],
        "cell_line": "K562",
        "answer": [1, 0] * 5,
        "why": [f"Reason {i}." for i in range(10)],
        "split": ["test", "train"] * 5,
    }
)


def test_answers_hold_the_rationale_and_earn_the_whole_reward():
    pairs = ch.train.questions.task_pairs(FRAME, "cell_fitness", reasons="why")
    assert [pair.answer for pair in pairs] == [
        f"<reason>Reason {i}.</reason><output>No</output>" for i in (1, 3, 5, 7, 9)
    ]
    rewards = ch.train.reason_reward([pair.answer for pair in pairs], ["No"] * 5, "cell_fitness")
    assert rewards["reward"].tolist() == [1.3] * 5


def test_questions_are_those_of_the_task_and_ask_for_a_reason():
    plain = ch.train.questions.task_pairs(FRAME, "cell_fitness", n_wordings=2, seed=3)
    pairs = ch.train.questions.task_pairs(FRAME, "cell_fitness", reasons="why", n_wordings=2, seed=3)
    asked = asking_for_reasons(plain)
    for one, told, bare in zip(plain, pairs, asked, strict=True):
        assert told.prompt == bare.prompt == reason_prompt(one.prompt)
        assert bare.answer == one.answer
        assert (told.task, told.source) == (one.task, one.source)
    # both wordings of a row have its reason, in whichever order they are read
    assert [pair.answer for pair in pairs.take([5, 4])] == ["<reason>Reason 5.</reason><output>No</output>"] * 2
    assert pairs[5] == list(pairs)[5]


def test_other_reasons_are_other_pairs():
    other = FRAME.assign(why=FRAME["why"] + " So it is.")
    one, two, again = (
        ch.train.questions.task_pairs(frame, "cell_fitness", reasons="why") for frame in (FRAME, other, FRAME)
    )
    assert one.fingerprint() == again.fingerprint() != two.fingerprint()
    assert one.fingerprint() != ch.train.questions.task_pairs(FRAME, "cell_fitness").fingerprint()


@pytest.mark.parametrize("answers", [None, ["Yes", "No"]])
def test_a_task_without_answers_takes_those_that_are_there(answers):
    frame = {"question": ["Is it?"], "answer": ["Yes"], "reason": ["Because."]}
    (pair,) = ch.train.questions.task_pairs(frame, ch.text.Question("question", answers=answers), reasons="reason")
    assert pair.answer == "<reason>Because.</reason><output>Yes</output>"


def test_missing_reasons_and_reasons_with_tags_are_errors():
    with pytest.raises(KeyError, match="needs the column 'reason'"):
        ch.train.questions.task_pairs(FRAME, "cell_fitness", reasons="reason")
    with pytest.raises(ValueError, match="'why' has no value in 1 of 5 rows"):
        ch.train.questions.task_pairs(FRAME.assign(why=["", None] + ["x"] * 8), "cell_fitness", reasons="why")
    tagged = FRAME.assign(why=["x", "so <output>No</output>"] + ["x"] * 8)
    with pytest.raises(ValueError, match="tag of their own in 1 rows, the first is row 0"):
        ch.train.questions.task_pairs(tagged, "cell_fitness", reasons="why")
    with pytest.raises(ValueError, match="no answers of task 'cell_fitness'"):
        ch.train.questions.task_pairs(FRAME.assign(answer="Maybe"), "cell_fitness", reasons="why")
