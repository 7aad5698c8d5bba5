"""A reason and an answer in one text: what is written can be read, and what is half there is read as far as it is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellhermes as ch
from cellhermes.text._reason import TAGS, Reasoned, read_reasoned, reason_prompt, write_reasoned

WORDS = st.text(max_size=30).map(str.strip).filter(bool).filter(lambda text: not any(tag in text for tag in TAGS))


@settings(deadline=None)
@given(WORDS, WORDS)
def test_what_is_written_is_read(reason, answer):
    assert read_reasoned(write_reasoned(reason, answer)) == Reasoned(reason, answer, is_formatted=True)


@pytest.mark.parametrize(
    ("text", "reason", "output", "is_formatted"),
    [
        (" <reason> a\nb </reason>\n<output> Yes </output>\n", "a\nb", "Yes", True),
        ("<reason>a</reason><output>Yes", "a", "Yes", False),  # not closed
        ("<reason>a<output>Yes</output>", "a", "Yes", False),
        ("<reason></reason><output>Yes</output>", "", "Yes", False),  # empty
        ("<reason>a</reason><output> </output>", "a", "", False),
        ("<output>Yes</output><reason>a</reason>", "a", "Yes", False),  # the answer before the reason
        ("Well: <reason>a</reason><output>Yes</output>", "a", "Yes", False),  # something around
        ("<reason>a</reason><output>Yes</output> or so", "a", "Yes", False),
        ("<reason>a</reason> so <output>Yes</output>", "a", "Yes", False),  # something between
        ("<reason>a</reason><output>No</output><output>Yes</output>", "a", "Yes", False),  # two answers
        ("<reason>a</reason><reason>b</reason><output>Yes</output>", "b", "Yes", False),
        ("<reason>a<reason>b</reason><output>Yes</output>", "a<reason>b", "Yes", False),
        ("Yes", "", "", False),
        ("", "", "", False),
    ],
)
def test_a_text_is_read_as_far_as_it_is_there(text, reason, output, is_formatted):
    assert read_reasoned(text) == Reasoned(reason, output, is_formatted)


def test_the_question_asks_for_the_tags_that_are_read():
    asked = reason_prompt(ch.text.Prompt("Is CD3E a gene?"))
    assert asked.text.startswith("Is CD3E a gene?\n")
    assert all(tag in asked.text for tag in TAGS)
    assert asked.kind == "reason_then_answer"
