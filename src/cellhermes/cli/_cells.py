"""Cells that a command reads, and the file it writes: in blocks, shared out, whole or not at all."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .. import _blocks, _place
from .._adata import opened
from .._disk import check_space, flush, noted, write_json
from .._entries import check_free, written
from .._paths import read_path
from ._run import is_first

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellhermes.model import CellHermes

WRITTEN = "card.json"  # beside finished blocks: which file became of them


def loaded(model: str, dtype: str | None, quantize: str) -> "str | CellHermes":
    """Return the model in the numbers asked for, or its name, with which functions look at their input first."""
    import cellhermes as ch

    ch.model.ModelCard.load(model)  # says at once that it is not known
    return ch.CellHermes.from_pretrained(model, dtype=dtype, quantize=quantize) if dtype or quantize else model


@contextmanager
def sharded(shard: str | None) -> Iterator[None]:
    """Say to the functions which share of the blocks is ours."""
    before = os.environ.get("CELLHERMES_SHARD")
    if shard is not None:
        os.environ["CELLHERMES_SHARD"] = shard
    try:
        yield
    finally:
        if shard is not None:
            os.environ.pop("CELLHERMES_SHARD")
            if before is not None:
                os.environ["CELLHERMES_SHARD"] = before


def check_no_shard(shard: str | None) -> None:
    if shard is not None:
        msg = f"--shard {shard} needs a target that several processes can write; expected OUT.zarr."
        raise ValueError(msg)


def _has_sentences(data: "AnnData | MuData", expression: dict[str, object]) -> bool:
    """Whether cells have sentences; options that say how to make them are refused then."""
    from .._adata import resolve

    if "cell_sentence" not in resolve(data, expression["mod"]).obs:
        return False
    given = [f"{name}=" for name in ("layer", "gene_symbols", "species", "use_raw") if expression[name]]
    if given := given + ["n_orders="] * (expression.get("n_orders", 1) > 1):
        msg = f"IN has sentences already (obs['cell_sentence']), and {', '.join(given)} would change nothing. "
        msg += "Leave it out, or delete that column to make them anew."
        raise ValueError(msg)
    return True


def add_sentences(data: "AnnData | MuData", expression: dict[str, object], **options: object) -> None:
    import cellhermes as ch

    if not _has_sentences(data, expression):
        ch.pp.cell_sentences(data, **mapped(data, expression), **options)


def mapped(data: "AnnData | MuData", expression: Mapping[str, object]) -> dict[str, object]:
    """Write human symbols where a species is named; return how to make sentences then."""
    import cellhermes as ch

    rest = {name: value for name, value in expression.items() if name != "species"}
    if species := expression["species"]:
        ch.pp.map_genes(data, species, gene_symbols=rest["gene_symbols"], mod=rest["mod"])
        rest["gene_symbols"] = None
    return rest


def with_sentences(source: Path, target: Path, expression: dict[str, object]) -> tuple[Path, str | None]:
    """Return a file with the sentences, and the modality in it: the source, or a store of them beside the target."""
    import pandas as pd

    import cellhermes as ch

    from .._result import Result

    Result(target, pd.Index([])).check()  # before sentences are made
    beside = target.with_name(f"{target.stem}.sentences.zarr")
    data = opened(source, beside)
    if _has_sentences(data, expression):
        return source, expression["mod"]
    ch.pp.cell_sentences(data, **mapped(data, expression), out=beside)
    if not beside.exists():
        msg = f"{beside} lacks the other shares. Call again when they are finished, or write it first with "
        msg += "`cellhermes sentences`."
        raise ValueError(msg)
    return beside, None


def read_cells(source: Path, target: Path, mod: str | None) -> "tuple[AnnData | MuData, AnnData]":
    """Return what IN holds, and the cells in it that are meant; OUT has to be a name for the same."""
    from .._adata import resolve

    ending = ".h5mu" if source.suffix.lower() == ".h5mu" else ".h5ad"
    if target.suffix != ending:
        msg = f"IN is {source.name} and OUT {target.name}; expected OUT to end with {ending}, as IN."
        raise ValueError(msg)
    data = read_path(source)
    return data, resolve(data, mod)


def writer(data: "AnnData | MuData") -> Callable[[Path], None]:
    return data.write_h5ad if hasattr(data, "write_h5ad") else data.write


@contextmanager
def computed(adata: "AnnData", key: str, entries: list[str], blocks: Path) -> Iterator[Path]:
    """Compute into a store, which an interruption leaves to go on with, and put its entries into the object."""
    import anndata

    check_free(adata, key, entries)
    blocks.mkdir(exist_ok=True)
    store = blocks / "result.zarr"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Not computed")  # it was, by a call that could not write OUT
        yield store
    result = anndata.read_zarr(store)
    with written(adata, key, entries):
        for slot in ("obs", "obsm", "uns"):
            for name, value in getattr(result, slot).items():
                getattr(adata, slot)[name] = value


def say_state(target: Path) -> None:
    if not is_first():
        return
    unfinished = f"This share is finished; {target} is there once the others are."
    typer.echo(f"Written: {target}" if target.exists() else unfinished)


@contextmanager
def kept(source: Path, target: Path) -> Iterator[Path]:
    """Folder of finished blocks beside the target, which no other run works on meanwhile."""
    if not source.is_file():
        msg = f"{source} is not a file."
        raise FileNotFoundError(msg)
    if target.suffix == ".zarr":
        msg = f"OUT is {target.name}; expected .h5ad."
        raise ValueError(msg)
    work = _blocks.Work(target.with_name(target.name + ".parts"), _blocks.Shard())
    for place in (target, work.folder):
        _place.check_apart(place, [source])
    if not target.parent.is_dir():
        msg = f"The folder {target.parent} of {target.name} does not exist."
        raise FileNotFoundError(msg)
    if os.path.lexists(target):
        if noted(work.folder / WRITTEN) == _identity(target):  # killed just before it would have removed them
            work.remove()
        msg = f"{target} is there already and is left as it is; pass another path, or move it away."
        raise FileExistsError(msg)
    check_space(target.parent, source.stat().st_size)  # OUT is IN and more
    with work:
        work.claim({"file": target.name})
        blocks = work.folder / "blocks"
        try:
            yield blocks
        finally:
            is_needed = any(path.is_file() for path in blocks.rglob("*")) and not target.exists()
    if not is_needed:
        work.remove()


def finish(write: Callable[[Path], None], target: Path, blocks: Path) -> None:
    """Write the target, which has its name only once it is whole and on the disk."""
    whole = blocks.with_name("whole" + target.suffix)
    write(whole)
    flush(whole)
    write_json(blocks.with_name(WRITTEN), _identity(whole))
    if os.path.lexists(target):
        msg = f"{target} was written by another program meanwhile and is left as it is; the result is {whole}."
        raise FileExistsError(msg)
    whole.replace(target)


def _identity(path: Path) -> dict[str, int]:
    """Return what a file keeps when it is renamed."""
    about = path.lstat()
    return {"device": about.st_dev, "inode": about.st_ino, "size": about.st_size, "changed": about.st_mtime_ns}


def check_unused(source: str, options: Mapping[str, object]) -> None:
    """Refuse options that would change nothing."""
    if given := [f"{name}=" for name, value in options.items() if value not in (None, False)]:
        msg = f"{', '.join(given)} would change nothing without {source}; leave it out."
        raise ValueError(msg)
