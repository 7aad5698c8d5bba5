"""How a training run went."""

from pathlib import Path

import pandas as pd

from .._disk import json_object

FIRST = ["step", "epoch", "tokens", "seconds"]  # on every line


def training_log(folder: str | Path) -> pd.DataFrame:
    """Read the log of a training run, also of one that is still running.

    Parameters
    ----------
    folder
        Folder of the run, with ``log.jsonl`` in it; or the path of such a file.

    Returns
    -------
    One row a line of the log, in order: ``step``, ``epoch``, ``tokens`` and ``seconds`` so far; ``loss``,
    ``learning_rate`` and ``grad_norm`` on lines of training; ``eval_loss``, ``eval_accuracy`` and the same of each task
    (``eval_accuracy/<task>``) on lines of evaluation; ``reward`` and what :func:`cellhermes.train.reinforce` names
    beside it in a reinforcement. NaN where a line has no such value. A last line that is only half
    written is left out.

    Raises
    ------
    FileNotFoundError
        If there is no log.
    ValueError
        If a line is not a record with a step.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     line = '{"step": 1, "epoch": 0.1, "tokens": 512, "seconds": 1.0, "loss": 2.5}'
    ...     _ = (Path(folder) / "log.jsonl").write_text(line)
    ...     ch.get.training_log(folder)[["step", "loss"]]
       step  loss
    0     1   2.5
    """
    path = Path(folder)
    path = path / "log.jsonl" if path.is_dir() else path
    if not path.is_file():
        msg = f"no log of a training run at {path}; expected the folder that the run writes to."
        raise FileNotFoundError(msg)
    lines = path.read_bytes().splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json_object(line, "it")
            if "step" not in record:
                msg = "it has no step"
                raise ValueError(msg)
        except ValueError as error:
            if number == len(lines):
                break  # being written, or cut off when the run was stopped
            msg = f"{path}, line {number} is not a record of a run ({error}): {line[:60].decode('utf-8', 'replace')!r}."
            raise ValueError(msg) from error
        records.append(record)
    return pd.DataFrame(
        records, columns=list(dict.fromkeys([*FIRST, *(name for record in records for name in record)]))
    )
