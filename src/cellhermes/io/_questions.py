"""The released question files become frames: JSON of ``instruction``, ``input`` and ``output``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from .._disk import BOM
from ._files import records

if TYPE_CHECKING:
    from pathlib import Path


def released_questions(path: Path) -> pd.DataFrame:
    """Read questions and answers as the authors release them; a record that lacks a field is a ``ValueError``."""
    rows = []
    with path.open("rb") as file:  # which of both is seen from the text, not from the name
        is_list = file.read(2**16).removeprefix(BOM).lstrip()[:1] == b"["
    for where, record in records(path, is_list=is_list):
        texts = (
            [record.get(key) or "" for key in ("instruction", "input", "output")] if isinstance(record, dict) else []
        )
        texts = [text.strip() for text in texts if isinstance(text, str)]
        if len(texts) != 3 or not (texts[0] or texts[1]) or not texts[2]:
            msg = f"{where}: expected instruction, input and output, got {str(record)[:120]!r}."
            raise ValueError(msg)
        instruction, block, answer = texts
        rows.append(("\n".join(filter(None, [instruction, block])), answer, instruction, block))
    if not rows:
        msg = f"{path} has no record."
        raise ValueError(msg)
    frame = pd.DataFrame(rows, columns=["question", "answer", "instruction", "input"])
    frame.attrs = {"source": path.name}
    return frame
