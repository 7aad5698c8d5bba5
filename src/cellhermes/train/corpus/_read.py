"""Records of a corpus: one pair each, in JSON lines, a JSON list or parquet, and how they are read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...io._files import records
from ...text import Prompt, QAPair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

FIELDS = ("instruction", "input", "output", "task", "template", "version", "variant", "source")

Record = dict[str, str | int]


def read_pairs(path: str | Path) -> Iterator[QAPair]:
    path = Path(path)
    readers = {".jsonl": partial(records, is_list=False), ".json": partial(records, is_list=True)}
    readers |= {".parquet": _read_parquet}
    if path.suffix not in readers:
        msg = f"{path} ends with {path.suffix!r}; expected one of {', '.join(readers)}."
        raise ValueError(msg)
    if not path.is_file():
        msg = f"{path} is not a file."
        raise FileNotFoundError(msg)
    return (pair_of(record, where) for where, record in readers[path.suffix](path))


def record_of(pair: QAPair) -> Record:
    prompt = pair.prompt
    instruction, _, block = prompt.text.partition("\n")
    values = (instruction, block, pair.answer, pair.task, prompt.kind, prompt.version, prompt.variant, pair.source)
    return dict(zip(FIELDS, values, strict=True))


def pair_of(record: object, where: str) -> QAPair:
    try:
        parts = (record["instruction"], record.get("input") or "")
        prompt = Prompt(
            "\n".join(part for part in parts if part).strip(),
            kind=record.get("template", ""),
            variant=record.get("variant", 0),
            version=record.get("version", 0),
        )
        if not isinstance(record["output"], str):
            raise TypeError
        return QAPair(prompt, record["output"], record.get("task", ""), record.get("source", ""))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        msg = f"{where}: expected a record with instruction, input and output, got {str(record)[:120]!r}."
        raise ValueError(msg) from error


def _read_parquet(path: Path) -> Iterator[tuple[str, object]]:
    number = 0
    try:
        with pyarrow("parquet").ParquetFile(path) as file:
            for batch in file.iter_batches(4096):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", record
    except (OSError, ValueError, RuntimeError) as error:  # those of pyarrow name no file
        msg = f"{path} cannot be read as parquet behind row {number}: {error}"
        raise ValueError(msg) from error


def pyarrow(part: str | None = None) -> ModuleType:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        msg = "parquet needs pyarrow: pip install 'cellhermes[train]', or write .jsonl."
        raise ImportError(msg) from error
    return getattr(pa, part) if part else pa
