"""The reward of a text, by an exact table: what it earns for its format, and for being right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellhermes.text import Question
from cellhermes.train import reason_reward

TASK = "t_cell_reactivity"
R, N = "Reactive", "Non-Reactive"

# Text, truth; then format and correctness by the strict rule, and by the release's (0.3 and 1.0).
TABLE = [
    # formatted: right, wrong, no answer, both answers
    ("<reason>CXCL13</reason><output>Reactive</output>", R, (1, 1), (1, 1)),
    ("<reason>CXCL13</reason><output>Reactive</output>", N, (1, 0), (1, 0)),
    ("<reason>IL7R</reason><output>Non-Reactive</output>", N, (1, 1), (1, 1)),
    ("<reason>IL7R</reason><output>Non-Reactive</output>", R, (1, 0), (1, 0)),
    ("<reason>CXCL13</reason>\n<output> reactive. </output>\n", R, (1, 1), (1, 1)),
    ("<reason>CXCL13</reason><output>It is Reactive</output>", R, (1, 1), (1, 1)),
    ("<reason>CXCL13</reason><output>unknown</output>", R, (1, 0), (1, 0)),
    ("<reason>CXCL13</reason><output>Non-Reactive or Reactive</output>", R, (1, 0), (1, 1)),
    ("<reason>CXCL13</reason><output>Reactive or Non-Reactive</output>", R, (1, 0), (1, 0)),
    ("<reason>CXCL13</reason><output>not Reactive</output>", R, (1, 0), (1, 1)),
    # the reason may name the other class; the output decides
    ("<reason>Not Non-Reactive</reason><output>Reactive</output>", R, (1, 1), (1, 1)),
    ("<reason>It could be Reactive</reason><output>Non-Reactive</output>", R, (1, 0), (1, 0)),
    # half formatted
    ("<reason>CXCL13</reason><output>Reactive", R, (0, 0), (1, 1)),
    ("<reason></reason><output>Reactive</output>", R, (0, 0), (0, 1)),
    ("<output>Reactive</output>", R, (0, 0), (0, 1)),
    ("<reason>CXCL13</reason> Reactive", R, (0, 0), (0, 1)),
    ("<output>Reactive</output><reason>CXCL13</reason>", R, (0, 0), (1, 1)),
    ("<reason>a</reason><output>Non-Reactive</output><output>Reactive</output>", R, (0, 0), (1, 1)),
    ("<reason>a</reason><output>Non-Reactive</output><output>Reactive</output>", N, (0, 0), (1, 0)),
    ("Sure. <reason>a</reason><output>Reactive</output>", R, (0, 0), (1, 1)),
    # the output comes before whatever stands around it
    ("<reason>a</reason><output>Reactive</output> Final answer: Non-Reactive", R, (0, 0), (1, 1)),
    # an output without an answer: the release looks elsewhere
    ("<reason>Reactive by CXCL13</reason><output>?</output>", R, (1, 0), (1, 1)),
    # not formatted: the phrase, then the last mention
    ("Reactive", R, (0, 0), (0, 1)),
    ("REACTIVE", R, (0, 0), (0, 1)),
    ("Non-Reactive", N, (0, 0), (0, 1)),
    ("Non-Reactive", R, (0, 0), (0, 0)),
    ("Reactive at first, but Non-Reactive", N, (0, 0), (0, 1)),
    ("Final answer: Reactive. Non-Reactive cells lack CXCL13.", R, (0, 0), (0, 1)),
    ("The final answer is **Non-Reactive**, not Reactive.", N, (0, 0), (0, 1)),
    ("final answer Reactive; final answer Non-Reactive", N, (0, 0), (0, 1)),
    ("NonReactive", R, (0, 0), (0, 0)),
    ("Hyperreactive", R, (0, 0), (0, 0)),
    ("", R, (0, 0), (0, 0)),
]


@pytest.mark.parametrize("compat", [None, "release"])
@pytest.mark.parametrize(("text", "truth", "strict", "released"), TABLE)
def test_table(text, truth, strict, released, compat):
    found = reason_reward([text], [truth], TASK, compat=compat).iloc[0]
    is_formatted, is_right = released if compat else strict
    assert found[["format", "correctness", "reward"]].tolist() == [
        0.3 * is_formatted,
        is_right,
        0.3 * is_formatted + is_right,
    ]


def test_an_answer_outside_the_format_earns_something_by_the_release_only():
    assert reason_reward(["Reactive"], [R], TASK)["reward"].tolist() == [0]
    assert reason_reward(["Reactive"], [R], TASK, compat="release")["reward"].tolist() == [1]


@pytest.mark.parametrize("compat", [None, "release"])
def test_weights_are_those_of_the_true_class(compat):
    texts = [f"<reason>a</reason><output>{answer}</output>" for answer in (R, N, R, N)]
    options = {"class_weights": {N: 3.0}, "format_reward": 0.5, "compat": compat}
    found = reason_reward(texts, [R, N, N, R], TASK, **options)
    assert found["reward"].tolist() == [1.5, 3.5, 0.5, 0.5]
    assert found["answer"].tolist() == [R, N, R, N]


@settings(deadline=None)
@given(st.lists(st.sampled_from([text for text, *_ in TABLE]), max_size=6), st.data())
def test_texts_are_rewarded_one_by_one(texts, data):
    truths = [data.draw(st.sampled_from([R, N])) for _ in texts]
    together = reason_reward(texts, truths, TASK)
    alone = [reason_reward([text], [truth], TASK)["reward"][0] for text, truth in zip(texts, truths, strict=True)]
    assert together["reward"].tolist() == alone
    assert len(together) == len(texts)


@settings(deadline=None)
@given(st.text(), st.sampled_from([R, N]), st.sampled_from([None, "release"]))
def test_any_text_earns_a_sum_of_its_parts(text, truth, compat):
    found = reason_reward([text], [truth], TASK, compat=compat).iloc[0]
    assert found["reward"] in (0, 0.3, 1, 1.3)
    assert found["answer"] in (None, R, N)


def test_answers_of_your_own():
    texts = ["<reason>CD19</reason><output>B cell</output>", "<reason>CD19</reason><output>CD4 T cell</output>"]
    question = Question("cell_type", answers=["B cell", "T cell", "CD4 T cell"])
    found = reason_reward(texts, ["B cell", "T cell"], question)
    assert found["correctness"].tolist() == [1, 0]
    question = Question("cell_type", answers=["T cell", "CD4 T cell"])
    released = reason_reward(["CD4 T cell"], ["T cell"], question, compat="release")
    assert released["answer"].tolist() == ["CD4 T cell"]


def test_of_two_answers_of_which_one_begins_the_other_the_longer_one_is_meant():
    texts = ["<reason>CD27</reason><output>B cell, memory</output>"]
    question = Question("cell_type", answers=["B cell", "B cell, memory"])
    for compat in (None, "release"):
        found = reason_reward(texts, ["B cell"], question, compat=compat)
        assert found["answer"].tolist() == ["B cell, memory"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truths": ["reactive"]}, r"truths has \['reactive'\]; expected answers of task 't_cell_reactivity'"),
        ({"truths": [R, R]}, "There are 1 texts and 2 truths"),
        ({"task": "cell_type"}, "Task 'cell_type' lists its answers, and has none yet"),
        ({"class_weights": {"Yes": 1}}, r"class_weights has \['Yes'\]"),
        ({"class_weights": {R: -1}}, "class weight of 'Reactive' is -1; expected a number of at least 0"),
        ({"class_weights": {R: np.inf}}, "class weight of 'Reactive' is inf"),
        ({"format_reward": True}, "format_reward is True"),
        ({"compat": "paper"}, "compat='paper'; expected 'release' or None"),
    ],
)
def test_what_makes_no_reward_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        reason_reward(**{"texts": ["x"], "truths": [R], "task": TASK} | options)
