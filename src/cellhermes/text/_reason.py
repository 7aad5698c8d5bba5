"""A reason and an answer in one text: how they are asked for, written and read.

Training, its reward and explaining share what is here, so that a model is rewarded for what will be read from it.
"""

import re
from dataclasses import dataclass

from ._template import Prompt, Template

TAGS = ("<reason>", "</reason>", "<output>", "</output>")
REASON = re.compile(r"<reason>(.*?)(?:</reason>|<output>|\Z)", re.DOTALL)
OUTPUT = re.compile(r"<output>(.*?)(?:</output>|\Z)", re.DOTALL)
WHOLE = re.compile(r"\s*<reason>(.*?)</reason>\s*<output>(.*?)</output>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reasoned:
    """What stands in a text that was asked for a reason and an answer.

    Parameters
    ----------
    reason
        The last reason, ``""`` without one. A text that ends too early may lack the closing tag.
    output
        What stands in the last ``<output>``, ``""`` without one.
    is_formatted
        Whether the text is one reason and then one output, both closed and not empty, and nothing else.
    """

    reason: str
    output: str
    is_formatted: bool


def reason_prompt(question: Prompt) -> Prompt:
    """Return a question that asks for the reason first, then for the answer."""
    return Template.load("reason_then_answer").fill(question=question.text)


def write_reasoned(reason: str, answer: str) -> str:
    """Return a reason and an answer in their tags, as :func:`reason_prompt` asks for them."""
    return f"<reason>{reason}</reason><output>{answer}</output>"


def read_reasoned(text: str) -> Reasoned:
    """Reason and output of a text, found as far as they are there; nothing is guessed."""
    reasons, outputs = REASON.findall(text), OUTPUT.findall(text)
    whole = WHOLE.fullmatch(text)
    return Reasoned(
        reason=reasons[-1].strip() if reasons else "",
        output=outputs[-1].strip() if outputs else "",
        is_formatted=bool(whole and all(map(str.strip, whole.groups())) and all(text.count(tag) == 1 for tag in TAGS)),
    )
