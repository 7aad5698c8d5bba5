"""The released question files become frames: JSON of ``instruction``, ``input`` and ``output``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from .._disk import BOM
from ._files import records


def read_questions(path: str | Path) -> pd.DataFrame:
    """Read questions and answers as the authors release them, or as :meth:`~cellhermes.train.corpus.Pairs.write` does.

    Parameters
    ----------
    path
        A JSON list or JSON lines; each record has ``instruction``, ``output`` and, optionally, ``input``.

    Returns
    -------
    ``question`` (instruction, line break, input), ``answer``, and the two parts as ``instruction`` and ``input``; a
    frame for the task ``"question"``. ``attrs`` holds ``"source"``, the name of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no JSON, or a record lacks a field (the message says which record).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "GI_synthetic_test.json")
    ...     _ = path.write_text('[{"instruction": "Do they interact?", "input": "BRCA1 PARP1", "output": "Yes"}]')
    ...     frame = ch.io.read_questions(path)
    >>> task = ch.text.Task.load("question").with_answers(["Yes", "No"])
    >>> print(task.prompts(frame)[0].text)
    Do they interact?
    BRCA1 PARP1
    """
    path = Path(path)
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
