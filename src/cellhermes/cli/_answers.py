"""``cellhermes predict``, ``cellhermes explain`` and ``cellhermes tasks``."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import _cells
from ._arguments import Answer, BatchSize, Dtype, GeneSymbols, Layer, Mod, Model, Quantize, Shard, Species, Task, UseRaw

if TYPE_CHECKING:
    import pandas as pd

CELLS = (".h5ad", ".h5mu")
TABLES = {".csv": ",", ".tsv": "\t", ".parquet": None}  # that are written, and what stands between columns
QUESTIONS = (*TABLES, ".json", ".jsonl")  # that are read


def predict(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="Cells (.h5ad, .h5mu, .zarr) or questions (.csv, .tsv, .parquet, .json)."),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="The same with answers: .h5ad, or .csv, .tsv, .parquet; .zarr: answers, in blocks."
        ),
    ],
    task: Task,
    model: Model = "mini",
    dtype: Dtype = None,
    quantize: Quantize = "",
    answer: Answer = None,
    expression: Annotated[
        bool | None, typer.Option("--expression/--no-expression", help="Show the cell's genes; default: if needed.")
    ] = None,
    decode: Annotated[str | None, typer.Option(help="'score' or 'generate'; default: score known answers.")] = None,
    normalize: Annotated[
        str | None,
        typer.Option(help="'sum' or 'mean' over the tokens of an answer; default: mean unless tuned on the task."),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="Text that says nothing; what answers get behind it is taken off. '' takes nothing off; "
            "default: N/A unless tuned on the task."
        ),
    ] = None,
    calibration: Annotated[float, typer.Option(help="Temperature of the probabilities.")] = 1.0,
    abstain_below: Annotated[float | None, typer.Option(help="No answer below this probability.")] = None,
    key_added: Annotated[
        str | None, typer.Option(help="Column of the answers; default the task's name, in a table 'predicted'.")
    ] = None,
    layer: Layer = None,
    gene_symbols: GeneSymbols = None,
    species: Species = None,
    use_raw: UseRaw = False,  # noqa: FBT002
    mod: Mod = None,
    batch_size: BatchSize = None,
    shard: Shard = None,
) -> None:
    """Answer one question of a task for each cell, or for each row of a table."""
    import pandas as pd

    import cellhermes as ch

    how = {"answers": answer, "expression": expression, "decode": decode, "normalize": normalize, "prior": prior}
    how |= {"calibration": calibration, "abstain_below": abstain_below}
    read_as = {"layer": layer, "gene_symbols": gene_symbols, "species": species, "use_raw": use_raw, "mod": mod}
    lm = _cells.loaded(model, dtype, quantize)
    if target.suffix == ".zarr":
        with _cells.sharded(shard):
            asked, data = ch.text.Question(task, **how), source
            if "cell_sentence" in asked.shown:
                data, mod = _cells.with_sentences(source, target, read_as)
            ch.tl.predict(data, lm, asked, batch_size=batch_size, key_added=key_added, mod=mod, out=target)
        _cells.say_state(target)
        return
    _cells.check_no_shard(shard)
    if target.suffix not in (*TABLES, *CELLS):
        msg = f"IN is {source.name} and OUT {target.name}; expected {', '.join(CELLS)}, or {', '.join(TABLES)}."
        raise ValueError(msg)
    if (source.suffix in QUESTIONS) != (target.suffix in TABLES):
        msg = f"IN is {source.name} and OUT {target.name}; cells are written as they were, questions as a table."
        raise ValueError(msg)
    if target.suffix == ".parquet" and find_spec("pyarrow") is None:  # pandas would say so after the work
        msg = f"{target.name} needs pyarrow: pip install 'cellhermes[train]'. Or write .csv."
        raise ImportError(msg)
    with _cells.kept(source, target) as blocks:
        asked = ch.text.Question(task, **how)
        if source.suffix not in QUESTIONS:
            data, adata = _cells.read_cells(source, target, mod)
            if "cell_sentence" in asked.shown:
                _cells.add_sentences(data, read_as)
            key = key_added or asked.task.name
            entries = [f"obs/{key}", f"obsm/{key}" if asked.decode == "score" else f"obs/{key}_text"]
            with _cells.computed(adata, key, entries, blocks) as store:
                ch.tl.predict(data, lm, asked, batch_size=batch_size, key_added=key, mod=mod, out=store)
            write = _cells.writer(data)
        else:
            _cells.check_unused("cells", read_as)
            data, key = ch.io.read_table(source), key_added or "predicted"
            _check_columns([*data], key, source.name)
            answers = ch.tl.answer(data, lm, asked, batch_size=batch_size, checkpoint=blocks)
            write = lambda path: _write_table(pd.concat([data, answers.rename(columns={"answer": key})], axis=1), path)
        _cells.finish(write, target, blocks)
    typer.echo(f"{len(data):,} questions of {asked.task.name}: {target}")


def explain(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Annotated data to read: .h5ad or .h5mu.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The same with explanations.")],
    task: Task,
    model: Model = "mini",
    dtype: Dtype = None,
    quantize: Quantize = "",
    answer: Answer = None,
    method: Annotated[str, typer.Option(help="'attention' or 'occlusion'.")] = "attention",
    cells: Annotated[int | None, typer.Option(min=1, help="Explain so many random cells; default all.")] = None,
    reasons: Annotated[int | None, typer.Option(min=1, help="Write rationales of so many cells.")] = None,
    test: Annotated[bool, typer.Option("--test", help="Test the explanation, and print how it did.")] = False,  # noqa: FBT002
    key_added: Annotated[str, typer.Option(help="Where the explanation is stored.")] = "explain",
    layer: Layer = None,
    gene_symbols: GeneSymbols = None,
    species: Species = None,
    use_raw: UseRaw = False,  # noqa: FBT002
    mod: Mod = None,
    batch_size: BatchSize = None,
) -> None:
    """Say which genes of each cell an answer comes from, and test whether that is true."""
    import cellhermes as ch

    with _cells.kept(source, target) as blocks:
        lm = _cells.loaded(model, dtype, quantize)
        asked = ch.text.Question(task, answers=answer)
        data, seen = _cells.read_cells(source, target, mod)
        _cells.add_sentences(
            data, {"layer": layer, "gene_symbols": gene_symbols, "species": species, "use_raw": use_raw, "mod": mod}
        )
        explained = {"key": key_added, "batch_size": batch_size, "mod": mod}
        options = {"method": method, "cells": cells, "key_added": key_added, "batch_size": batch_size, "mod": mod}
        ch.tl.explain(data, lm, asked, **options, checkpoint=blocks)
        if reasons:
            ch.tl.reasons(data, lm, replace(asked, max_new_tokens=256), cells=reasons, **explained)
        if test:
            ch.tl.faithfulness(data, lm, asked, **explained)
            typer.echo(ch.get.faithfulness(seen, "quality", key=key_added).round(3).to_string(index=False))
        _cells.finish(_cells.writer(data), target, blocks)
    typer.echo(f"{int(seen.obs[f'{key_added}_answer'].notna().sum()):,} cells explained: {target}")


def _check_columns(columns: list[str], key: str, name: str) -> None:
    """Refuse a table that has columns of the result, and a name for the answers that another column has."""
    others = ("status", "confidence", "text")
    starts = ("probability:", "log_probability:")
    if key in others or key.startswith(starts):
        msg = f"--key-added {key} is the name of another column of the result; pass another."
        raise ValueError(msg)
    if twice := [column for column in columns if column in (key, *others) or column.startswith(starts)]:
        msg = f"{name} has the columns {twice} already; rename them, or pass --key-added."
        raise ValueError(msg)


def _write_table(table: "pd.DataFrame", path: Path) -> None:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep=TABLES[path.suffix], index=False, lineterminator="\n")


def tasks() -> None:
    """List the tasks that are known by name."""
    import cellhermes as ch

    for name in ch.text.Task.names():
        task = ch.text.Task.load(name)
        typer.secho(name, bold=True)
        typer.echo(f"  asks with: {', '.join(task.fields)}")
        typer.echo(f"  answers: {', '.join(task.answers) if task.answers else 'open, or --answer'}")
