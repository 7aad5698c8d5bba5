"""A training run as one TOML file: read, checked, and handed to ``fit`` or ``reinforce``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .._disk import parsed
from .._paths import open_path
from ..io import read_table
from ..model import _card
from ..text import Question
from . import _folder
from ._config import TrainConfig
from ._fit import fit
from ._held_out import hold_out
from ._reinforce import reinforce
from ._reinforce_config import ReinforceConfig
from .corpus._pairs import Pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from ..text import QAPair
    from ._held_out import HeldOut

    Table = Mapping[str, object]

Kind = TypeVar("Kind", TrainConfig, ReinforceConfig)

COMMON = ("base", "out", "wrap", "device")
KEYS = (*COMMON, "train", "pairs", "evaluation")
REINFORCE_KEYS = (*COMMON, "reinforce", "questions")
PAIRS_KEYS = ("name", "path", "weight", "cap")
EVALUATION_KEYS = ("path", "held_out")
QUESTIONS_KEYS = ("path", "task", "answers", "expression", "part", "n_wordings")
TABLES = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".h5ad")


def run(path: str | Path, *, out: str | Path | None = None, overwrite: bool = False) -> Path:
    """Train as a TOML file says.

    The same as :func:`~cellhermes.train.fit` with the file's values, for command lines and clusters: ``cellhermes train
    run.toml``, ``accelerate launch -m cellhermes.train run.toml``. The whole file is checked first, so that a misspelt
    key costs a second and not a night. Paths in the file count from its folder.

    Parameters
    ----------
    path
        The file. ``base`` (default ``"mini"``), ``out``, ``wrap`` and ``device`` are as in ``fit``; the table
        ``[train]`` holds fields of :class:`~cellhermes.train.TrainConfig` and optionally ``preset``; each ``[[pairs]]``
        has the ``path`` of a corpus, and optionally ``name``, ``weight`` (share of an epoch) and ``cap`` (at most so
        many of its pairs); ``[evaluation]`` has the ``path`` of held-out pairs, or ``held_out``: at least so many pairs
        are evaluated on and not trained on. Whole cells, edges and genes are drawn from all corpora together, and
        edges that are asked for are taken out of the lists of neighbours of the others. The log says how many, and
        what training still has of them.

        With a table ``[questions]`` the file is one of :func:`~cellhermes.train.reinforce`: its ``path`` is a table
        (``.csv``, ``.tsv``, ``.parquet``, or the ``obs`` of an ``.h5ad``), and ``task``, ``answers``, ``expression``,
        ``part`` and ``n_wordings`` are as there; ``[reinforce]`` holds fields of
        :class:`~cellhermes.train.ReinforceConfig`, and ``[reinforce.train]`` those of its ``train``.
    out
        Folder of the result, in place of the file's.
    overwrite
        Replace what an earlier run left there.

    Returns
    -------
    Folder of the result.

    Raises
    ------
    ~builtins.FileNotFoundError
        If the file or a corpus is not there.
    KeyError
        If there is no such preset.
    ValueError
        If the file is not TOML, has an unknown key or a value out of its range, or names an unknown base.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import cellhermes as ch
    >>> pair = '{"instruction": "Is CD3E a T-cell gene?", "output": "Yes"}'
    >>> text = '''
    ... out = "adapter"
    ... [train]
    ... max_steps = 1
    ... [[pairs]]
    ... path = "corpus.jsonl"
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "corpus.jsonl").write_text(pair)
    ...     _ = Path(folder, "run.toml").write_text(text)
    ...     adapter = ch.train.run(f"{folder}/run.toml")
    ...     (adapter / "adapter_model.safetensors").is_file()
    True
    """
    path = Path(path)
    content = _content(path)
    common = {"wrap": _typed(content, "wrap", str, str(path)), "device": _typed(content, "device", str, str(path))}
    if "questions" in content or "reinforce" in content:
        _check_keys(content, REINFORCE_KEYS, str(path))
        config = _config(content.get("reinforce", {}), path, "reinforce", ReinforceConfig)
        frame, options = _questions(content.get("questions", {}), path)
        options |= {**common, "out": _target(content, out, path), "base": _base(content, path), "overwrite": overwrite}
        return reinforce(frame, config=config, **options)
    _check_keys(content, KEYS, str(path))
    config = _config(content.get("train", {}), path, "train", TrainConfig)
    files, weights, caps = _sources(content.get("pairs", []), path)
    n_held_out, evaluation = _evaluation(content.get("evaluation", {}), path)
    target = _target(content, out, path)
    base = _base(content, path)
    _folder.check(target, [*files.values(), *([evaluation] if evaluation else [])])
    sources: dict[str, Path | list[QAPair]] = dict(files)
    if n_held_out:
        held = _held_out(files, n_held_out, config.seed, path)
        sources, evaluation = held.train, held.pairs
    return fit(
        sources,
        config,
        out=target,
        base=base,
        evaluation=evaluation,
        weights=weights or None,
        caps=caps or None,
        overwrite=overwrite,
        **common,
    )


# ------------------------------------------------------------------------------------------------------------- reading


def _content(path: Path) -> Table:
    if not path.is_file():
        msg = f"{path} is not a file."
        raise FileNotFoundError(msg)
    return parsed(path.read_bytes(), path, "TOML")


def _check_keys(table: object, known: tuple[str, ...], where: str) -> None:
    if not isinstance(table, dict):
        msg = f"{where} is {table!r}; expected a table with the keys {', '.join(known)}."
        raise ValueError(msg)
    if unknown := sorted(set(table) - set(known)):
        msg = f"{where} has unknown keys {unknown}. Known: {', '.join(known)}."
        raise ValueError(msg)


def _typed(table: Table, key: str, kind: type, where: str) -> object:
    """Take a value of a kind, or None; a true or false is no number."""
    value = table.get(key)
    kinds = (int, float) if kind is float else (kind,)
    if value is None or (isinstance(value, kinds) and isinstance(value, bool) == (kind is bool)):
        return value
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
    msg = f"{where}: {key} is {value!r}; expected {words[kind]}."
    raise ValueError(msg)


def _at_least(table: Table, key: str, kind: type, low: float, where: str) -> float | None:
    value = _typed(table, key, kind, where)
    if value is not None and not low <= value < float("inf"):
        msg = f"{where}: {key} is {value!r}; expected at least {low}."
        raise ValueError(msg)
    return value


def _config(table: object, path: Path, name: str, kind: type[Kind]) -> Kind:
    where = f"[{name}] of {path}"
    if not isinstance(table, dict):
        msg = f"{where} is {table!r}; expected a table of fields of {kind.__name__}."
        raise ValueError(msg)
    try:
        return kind.from_dict(table)
    except (KeyError, TypeError, ValueError) as error:
        error.add_note(f"This stands in {where}.")
        raise


def _sources(blocks: object, path: Path) -> tuple[dict[str, Path], dict[str, float], dict[str, int]]:
    """List files by name, weights and caps."""
    if not isinstance(blocks, list) or not blocks:
        msg = f"{path} has no [[pairs]]; expected one such block for each corpus, with its path."
        raise ValueError(msg)
    files, weights, caps = {}, {}, {}
    for number, block in enumerate(blocks, 1):
        where = f"[[pairs]] {number} of {path}"
        _check_keys(block, PAIRS_KEYS, where)
        file = _corpus(block, path, where)
        name = _typed(block, "name", str, where) or file.stem
        if name in files:
            msg = f"{where} is called {name!r}, as one before; give each block its own name."
            raise ValueError(msg)
        files[name] = file
        if (weight := _at_least(block, "weight", float, 0, where)) is not None:
            weights[name] = weight
        if (cap := _at_least(block, "cap", int, 1, where)) is not None:
            caps[name] = cap
    if weights and (missing := [name for name in files if name not in weights]):
        msg = f"{path}: [[pairs]] {missing} have no weight, but others do; expected one for each block, or for none."
        raise ValueError(msg)
    return files, weights, caps


def _corpus(table: Table, path: Path, where: str) -> Path:
    name = _typed(table, "path", str, where)
    if not name:
        msg = f"{where} has no path; expected that of a corpus (.jsonl, .json or .parquet)."
        raise ValueError(msg)
    file = path.parent / name
    Pairs.read(file)  # whether it is there, and of a known format
    return file


def _evaluation(table: object, path: Path) -> tuple[int, Path | None]:
    """Read how many pairs to hold out, or the file of held-out ones."""
    where = f"[evaluation] of {path}"
    _check_keys(table, EVALUATION_KEYS, where)
    if len(table) > 1:
        msg = f"{where} has both path and held_out; expected one of them."
        raise ValueError(msg)
    n = _at_least(table, "held_out", int, 1, where) or 0
    return n, _corpus(table, path, where) if "path" in table else None


def _questions(table: object, path: Path) -> tuple[pd.DataFrame, dict[str, object]]:
    """Read a table of questions, and how it is asked."""
    where = f"[questions] of {path}"
    _check_keys(table, QUESTIONS_KEYS, where)
    name, task = _typed(table, "path", str, where), _typed(table, "task", str, where)
    if not name or not task:
        msg = f"{where} has no {'task' if name else 'path'}; expected the path of a table, and the name of a task."
        raise ValueError(msg)
    kinds = {"answers": list, "expression": bool, "part": str, "n_wordings": int}
    options = {key: value for key, kind in kinds.items() if (value := _typed(table, key, kind, where)) is not None}
    asked = {key: options.pop(key) for key in ("answers", "expression") if key in options}
    file = path.parent / name
    if file.suffix not in TABLES:
        msg = f"{where}: {name!r} ends with {file.suffix!r}; expected one of {', '.join(TABLES)}."
        raise ValueError(msg)
    if not file.is_file():
        msg = f"{file} is not a file."
        raise FileNotFoundError(msg)
    try:
        question = Question(path.parent / task if task.endswith(".toml") else task, **asked)
    except (KeyError, TypeError, ValueError) as error:
        error.add_note(f"This stands in {where}.")
        raise
    return _table(file), {"task": question, **options}


def _table(file: Path) -> pd.DataFrame:
    if file.suffix == ".h5ad":
        adata = open_path(file)
        adata.file.close()
        return adata.obs
    return read_table(file)


def _target(content: Table, out: str | Path | None, path: Path) -> Path:
    if out is not None:
        return Path(out)
    name = _typed(content, "out", str, str(path))
    if not name:
        msg = f'{path} names no folder for the result; write out = "..." in it, or pass out.'
        raise ValueError(msg)
    return path.parent / name


def _base(content: Table, path: Path) -> str:
    """Take a name, a folder beside the file, or a hub id; whether there is such a base shows here."""
    base = str(_typed(content, "base", str, str(path)) or "mini")
    if base not in _card.named() and (path.parent / base).is_dir():
        base = str(path.parent / base)
    try:
        _card.resolve(base)
    except ValueError as error:
        msg = f"base of {path}: {error}"
        raise ValueError(msg) from error
    return base


def _held_out(files: Mapping[str, Path], n: int, seed: int, path: Path) -> HeldOut:
    """Hold pairs out of what is trained on, drawn from all files together."""
    try:
        return hold_out({name: list(Pairs.read(file)) for name, file in files.items()}, n, seed=seed)
    except ValueError as error:
        error.add_note(f"This stands in [evaluation] of {path}.")
        raise
