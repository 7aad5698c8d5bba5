"""An answer is read from text, or it is missing; it is never guessed."""

import re
from functools import lru_cache


def answer_in(text: str, answers: tuple[str, ...] | None, pattern: str = "") -> str | None:
    """Read one of some answers, or any where there are none to choose from; see :meth:`Task.parse`."""
    if pattern:
        matches = list(re.finditer(pattern, text, re.DOTALL))
        text = (matches[-1].group(1) or "") if matches else ""
    text = text.strip()
    if answers is None or not text:
        return text or None
    bare = text.strip(" \t\r\n.!\"'`*").casefold()
    same = [answer for answer in answers if answer.casefold() == bare]
    if len(same) == 1:
        return same[0]
    answers_there = {(match.group(2), bool(match.group(1))) for match in _finder(tuple(answers)).finditer(text)}
    answer, is_denied = answers_there.pop() if len(answers_there) == 1 else (None, False)
    return None if is_denied else answer


@lru_cache(64)
def _finder(answers: tuple[str, ...]) -> re.Pattern:
    """Any answer as a whole word, and a "not" before it; the longest answer that fits is taken."""
    words = "|".join(map(re.escape, sorted(answers, key=len, reverse=True)))
    return re.compile(rf"(\b[Nn]o[tn] +)?(?<!\w)(?<!\w-)({words})(?!\w)(?!-\w)")
