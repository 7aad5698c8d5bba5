"""A base and its adapters become one model, written whole or not at all."""

from __future__ import annotations

import logging
import shutil
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Literal

from .. import _place
from .._disk import check_space, flush, is_as_written, noted, sha256_of, write_json
from .._keys import version
from ..model import _card, _identity
from ..model._store import located
from ._bases import check_bases, folders_of
from ._export import write_card

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..model import ModelCard

logger = logging.getLogger("cellhermes")

ADAPTER = "adapter_model.safetensors"
RECORD = "merged.json"  # what was merged, and the files that were written


def merge(
    base: str | Path,
    adapters: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
    overwrite: bool = False,
) -> Path:
    """Merge adapters into their base, and write the result as a model of its own.

    Adapters are merged in float32 and in their order (eq. 6: W + B A alpha / rank, for each), and the sum is cast. Each
    must have been trained on what is below it: the paper's task adapters on the model with the first adapter merged.
    Updates of plain LoRA add up, so that another order would change no more than rounding; it changes the model where
    an adapter is not a sum, as with DoRA, which scales by the norm of the weights below.

    The folder appears under its name when it is whole. The computation takes the memory of the base in the numbers
    of its file: 16 GB for a model of 8 billion in bfloat16. With an adapter that is not a sum it takes float32, 32 GB.

    Parameters
    ----------
    base
        Name, folder or hub id. Where it is an adapter's folder, that adapter and those below are merged too.
    adapters
        Folders of LoRA adapters, the first to merge first; empty if ``base`` is an adapter's folder.
    out
        Folder to write.
    dtype
        Number format of the written weights.
    overwrite
        Replace the model that ``out`` holds.

    Returns
    -------
    ``out``, with ``model.safetensors`` (large models in several files), ``config.json``, the tokenizer, a model card
    (``README.md``), and ``cellhermes.json``, which says how the model is to be read: as the last adapter. Loaded by
    :meth:`CellHermes.from_pretrained <cellhermes.CellHermes.from_pretrained>` and by transformers.

    Raises
    ------
    ~builtins.FileExistsError
        If ``out`` is there already.
    ~builtins.FileNotFoundError
        If an adapter, or the folder that ``out`` is to stand in, is not there.
    ~builtins.OSError
        If ``out`` cannot be written, or the disk is full. Nothing half-written stays.
    ValueError
        If an adapter was trained on another base, or does not fit.

    Examples
    --------
    >>> import tempfile
    >>> import cellhermes as ch
    >>> pairs = [ch.text.QAPair(ch.text.Prompt("Is CD3E a T-cell gene?"), "Yes", "demo")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     config = ch.train.TrainConfig(max_steps=1)
    ...     adapter = ch.train.fit(pairs, config, out=f"{folder}/adapter", device="cpu")
    ...     merged = ch.train.merge("mini", adapter, f"{folder}/merged")
    ...     ch.CellHermes.from_pretrained(merged, device="cpu").card.wrap
    'llama3-chat-blank'
    """
    out = Path(out)
    folders = [Path(adapter) for adapter in ([adapters] if isinstance(adapters, str | Path) else adapters)]
    card = _chain(base, folders)
    _check_out(out, folders_of(card), overwrite=overwrite)
    check_bases(card)
    with _whole(out) as unfinished:
        _write(card, unfinished, dtype)
    logger.info("merge: %s + %s -> %s", _root(card), " + ".join(Path(a).name for a in card.adapters), out)
    return out


def _chain(base: str | Path, folders: Sequence[Path]) -> ModelCard:
    """Make the card of the base with the adapters on top, each of which must name what is below it as its base."""
    for folder in folders:
        if not (folder / _card.ADAPTER).is_file():
            msg = f"Adapter {str(folder)!r} is not there: expected a folder with {_card.ADAPTER}."
            raise FileNotFoundError(msg)
    card = located(_card.resolve(base))
    for folder in folders:
        below, expected = _card.reference(card), _card.trained_on(folder)
        if below != expected:
            msg = (
                f"Adapter {str(folder)!r} was trained on {expected!r}, but would be merged into {below!r}. Pass the "
                f"base and the adapters below it in their order. If both are the same model, write {below!r} as "
                f"base_model_name_or_path in {folder / _card.ADAPTER}."
            )
            raise ValueError(msg)
        card = _card.with_adapter(card, folder)
    if not card.adapters:
        msg = f"Nothing to merge: {str(base)!r} is a model without adapters, and none were passed."
        raise ValueError(msg)
    return card


def _root(card: ModelCard) -> str:
    """Name the model below all adapters."""
    return _card.trained_on(Path(card.adapters[0]))


def _check_out(out: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    if not out.parent.is_dir():
        msg = f"The folder {out.parent} of out={str(out)!r} does not exist."
        raise FileNotFoundError(msg)
    _place.check_apart(out, inputs)
    _place.check_free(out, "folder")
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    if not names:
        return
    if not overwrite:
        msg = f"{out} is there already; pass overwrite=True to replace it, or another path."
        raise FileExistsError(msg)
    record = noted(out / RECORD)
    ours = {**record["files"]} if {"merged in", "files"} <= {*record} and isinstance(record["files"], dict) else {}
    known = {RECORD} if ours else set()
    if other := [name for name in sorted(names - known) if not is_as_written(out / name, ours.get(name))]:
        msg = (
            f"{out} is not replaced: it holds {', '.join(other[:5])}, which a merge has not written, or not like this. "
            "Move what is yours away, or pass another path."
        )
        raise FileExistsError(msg)


def _write(card: ModelCard, folder: Path, dtype: str) -> None:
    from safetensors import SafetensorError

    from ..model._load import load_tokenizer, load_weights, skeleton
    from ..model._tokens import check_vocabulary

    check_space(folder, skeleton(card).num_parameters() * (4 if dtype == "float32" else 2))
    tokenizer = load_tokenizer(card)
    lm = load_weights(card, dtype)
    check_vocabulary(lm, tokenizer, card.name)
    tokenizer.save_pretrained(folder)
    try:
        lm.save_pretrained(folder)
    except SafetensorError as error:  # what the writer makes of a full disk
        msg = f"The merged model could not be written to {folder.parent}: {error}"
        raise OSError(msg) from error
    facts = {
        "sha256 of base with adapters": _identity.sha256(card),
        "adapters": {Path(a).resolve().name: f"sha256 {sha256_of(Path(a) / ADAPTER)}" for a in card.adapters},
        "merged in": "float32",
        "stored in": dtype,
        "parameters": lm.num_parameters(),
        "cellhermes": version(),
    }
    write_card(folder, card=card, base=_root(card), kind="model", facts=facts)
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    write_json(folder / RECORD, {**facts, "files": files})


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Make a folder that takes the name ``out`` once all is written; if something fails, it goes and ``out`` stays."""
    beside = out.with_name(f"{out.name}.{token_hex(4)}.unfinished")
    unfinished, old = beside / "unfinished", beside / "old"
    with _place.writable(out):
        beside.mkdir()
        unfinished.mkdir()
    try:
        yield unfinished
        flush(*unfinished.iterdir())
        if out.exists():
            out.rename(old)
        try:
            unfinished.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
