"""The command line: thin, on the public functions (and the folder of finished blocks).

Errors end with a message and an exit code.
"""

import functools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import _blocks, _place
from ._disk import check_space, flush
from ._options import as_options
from ._paths import open_path, read_path

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from cellhermes.model import CellHermes
    from cellhermes.train import Pairs

app = typer.Typer(
    help="Language models on AnnData: embed genes and cells.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip


def _friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Log to the terminal, and turn what a user can mend into one line and an exit code."""

    @functools.wraps(command)
    def run(**options: object) -> None:
        logger = logging.getLogger("cellhermes")
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if _is_first() else logging.ERROR)
        try:
            command(**options)
        except (FloatingPointError, ImportError, KeyError, MemoryError, OSError, TypeError, ValueError) as error:
            text = error.args[0] if isinstance(error, KeyError) and error.args else error
            message = "\n".join(["Error: " + str(text), *getattr(error, "__notes__", [])])
            typer.secho(as_options(message, options), fg="red", err=True)
            raise typer.Exit(1) from None
        finally:
            logger.removeHandler(handler)

    return run


def _is_first() -> bool:
    """Whether this is the process that talks, where a launcher starts several."""
    return os.environ.get("RANK", "0") == "0"


@app.command()
@_friendly
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the annotated data.")] = Path("cellhermes-demo"),
) -> None:
    """Embed 700 blood cells and their genes with the bundled model, without a network."""
    import matplotlib.pyplot as plt
    import scanpy as sc

    import cellhermes as ch

    if there := [str(path) for name in ("umap.png", "pbmc.h5ad") if os.path.lexists(path := out / name)]:
        msg = f"{' and '.join(there)} would be overwritten; pass another --out, or move them away."
        raise FileExistsError(msg)
    out.mkdir(parents=True, exist_ok=True)
    adata = sc.datasets.pbmc68k_reduced()
    labels = adata.obs["bulk_labels"]
    ch.pp.cell_sentences(adata, use_raw=True)
    model = ch.CellHermes.from_pretrained("mini")
    ch.tl.embed_cells(adata, model)
    ch.tl.embed_genes(adata, model)
    sc.pp.neighbors(adata, use_rep="X_cellhermes", metric="cosine")
    sc.tl.umap(adata)
    axes = sc.pl.umap(adata, color="bulk_labels", title="cells embedded by mini", frameon=False, show=False)
    axes.figure.savefig(out / "umap.png", dpi=150, bbox_inches="tight")
    plt.close(axes.figure)
    adata.write_h5ad(out / "pbmc.h5ad")
    accuracy = {key: ch.metrics.knn_accuracy(adata.obsm[key], labels) for key in ("X_cellhermes", "X_pca")}
    example = ch.get.prompts(adata, names=[adata.obs_names[0]])["prompt"].iloc[0]
    typer.echo(f"\nWhat the model reads for cell {adata.obs_names[0]}:\n{example[:200]}...\n")
    typer.echo(
        f"{adata.n_obs} cells and {int(adata.var['sentence_gene'].sum())} genes embedded, {model.dim} dimensions each."
    )
    typer.echo("Cell-type accuracy of 15 nearest neighbours, five folds, 10 types:")
    typer.echo(f"  mini, cell sentences       {accuracy['X_cellhermes']:.3f}   (never trained on these cells)")
    typer.echo(f"  PCA of expression          {accuracy['X_pca']:.3f}   (computed on these cells)")
    typer.echo(f"Picture: {out / 'umap.png'}\nData:    {out / 'pbmc.h5ad'}")


Shard = Annotated[
    str | None, typer.Option(help="k/n, such as 0/4: do every n-th block, where n processes write one OUT.zarr.")
]

Layer = Annotated[str | None, typer.Option(help="Layer with the expression; default X.")]
GeneSymbols = Annotated[str | None, typer.Option(help="Column of var with gene symbols; default its index.")]
UseRaw = Annotated[bool, typer.Option("--use-raw", help="Expression and genes of raw.")]
Mod = Annotated[str | None, typer.Option(help="Modality of an h5mu file.")]
Dtype = Annotated[
    str | None, typer.Option(help="'float32', 'bfloat16' or 'float16'; default float32 on a CPU, else the model's.")
]
Quantize = Annotated[str, typer.Option(help="'8bit' or '4bit': hold the model's layers in so many bits.")]
Resume = Annotated[bool, typer.Option("--resume", help="For older scripts: an interrupted run goes on without it.")]


@app.command()
@_friendly
def sentences(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Cells to read in blocks: .h5ad, .h5mu or .zarr.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.zarr", help="Store to write.")],
    n_genes: Annotated[int, typer.Option(min=1, help="Genes of a sentence, at most.")] = 100,
    layer: Layer = None,
    gene_symbols: GeneSymbols = None,
    use_raw: UseRaw = False,  # noqa: FBT002
    mod: Mod = None,
    shard: Shard = None,
) -> None:
    """Write the sentences of all cells of a file that need not fit into memory; goes on after an interruption."""
    import cellhermes as ch

    with _sharded(shard):
        expression = {"layer": layer, "gene_symbols": gene_symbols, "use_raw": use_raw, "mod": mod}
        ch.pp.cell_sentences(source, n_genes=n_genes, **expression, out=target)
    _say_state(target)


@app.command()
@_friendly
def embed(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Annotated data to read: .h5ad or .h5mu; or .zarr, where OUT is one.")
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help=".h5ad, .h5mu: the same with obsm['X_cellhermes']; .zarr: vectors in blocks."
        ),
    ],
    model: Annotated[str, typer.Option(help="Name, folder or hub id; see `cellhermes models`.")] = "mini",
    dtype: Dtype = None,
    quantize: Quantize = "",
    layer: Layer = None,
    gene_symbols: GeneSymbols = None,
    use_raw: UseRaw = False,  # noqa: FBT002
    mod: Mod = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Prompts per forward pass; default from free memory.")
    ] = None,
    resume: Resume = False,  # noqa: FBT002
    shard: Shard = None,
) -> None:
    """Write language-model vectors of all cells, and their sentences where they are missing.

    With OUT.zarr, nothing is read at once, and an interrupted call goes on: sentences stand in IN, or are written to
    OUT.sentences.zarr beside it.
    """
    import cellhermes as ch

    expression = {"layer": layer, "gene_symbols": gene_symbols, "use_raw": use_raw, "mod": mod}
    lm = _loaded(model, dtype, quantize)
    if target.suffix == ".zarr":
        with _sharded(shard):
            source, mod = _with_sentences(source, target, expression)
            ch.tl.embed_cells(source, lm, batch_size=batch_size, mod=mod, out=target)
        _say_state(target)
        return
    _check_no_shard(shard)
    with _kept(source, target) as blocks:
        data, adata = _read_cells(source, target, mod)
        _add_sentences(data, expression)
        ch.tl.embed_cells(data, lm, batch_size=batch_size, mod=mod, checkpoint=blocks)
        _finish(_writer(data), target, blocks)
    typer.echo(f"{adata.n_obs} cells embedded: {target}")


def _loaded(model: str, dtype: str | None, quantize: str) -> "str | CellHermes":
    """The model in the numbers that are asked for, or its name, with which functions look at their input first."""
    import cellhermes as ch

    return ch.CellHermes.from_pretrained(model, dtype=dtype, quantize=quantize) if dtype or quantize else model


@contextmanager
def _sharded(shard: str | None) -> Iterator[None]:
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


def _check_no_shard(shard: str | None) -> None:
    if shard is not None:
        msg = f"--shard {shard} needs a target that several processes can write; expected OUT.zarr."
        raise ValueError(msg)


def _has_sentences(data: "AnnData | MuData", expression: dict[str, object]) -> bool:
    """Whether cells have sentences; options that say how to make them are refused then."""
    from ._adata import resolve

    if "cell_sentence" not in resolve(data, expression["mod"]).obs:
        return False
    if given := [f"{name}=" for name in ("layer", "gene_symbols", "use_raw") if expression[name]]:
        msg = f"IN has sentences already (obs['cell_sentence']), and {', '.join(given)} would change nothing. "
        msg += "Leave it out, or delete that column to make them anew."
        raise ValueError(msg)
    return True


def _add_sentences(data: "AnnData | MuData", expression: dict[str, object], **options: object) -> None:
    import cellhermes as ch

    if not _has_sentences(data, expression):
        ch.pp.cell_sentences(data, **expression, **options)


def _with_sentences(source: Path, target: Path, expression: dict[str, object]) -> tuple[Path, str | None]:
    """A file with the sentences, and the modality in it: the source, or a store of them beside the target."""
    import cellhermes as ch

    if _has_sentences(open_path(source), expression):
        return source, expression["mod"]
    beside = target.with_name(f"{target.stem}.sentences.zarr")
    ch.pp.cell_sentences(source, **expression, out=beside)
    if not beside.exists():
        msg = f"{beside} lacks the other shares. Call again when they are finished, or write it first with "
        msg += "`cellhermes sentences`."
        raise ValueError(msg)
    return beside, None


def _read_cells(source: Path, target: Path, mod: str | None) -> "tuple[AnnData | MuData, AnnData]":
    """What IN holds, and the cells in it that are meant; OUT has to be a name for the same."""
    from ._adata import resolve

    data = read_path(source)
    ending = ".h5ad" if hasattr(data, "write_h5ad") else ".h5mu"
    if target.suffix != ending:
        msg = f"IN is {source.name} and OUT {target.name}; expected OUT to end with {ending}, as IN."
        raise ValueError(msg)
    return data, resolve(data, mod)


def _writer(data: "AnnData | MuData") -> Callable[[Path], None]:
    return data.write_h5ad if hasattr(data, "write_h5ad") else data.write


def _say_state(target: Path) -> None:
    if not _is_first():
        return
    unfinished = f"This share is finished; {target} is there once the others are."
    typer.echo(f"Written: {target}" if target.exists() else unfinished)


@contextmanager
def _kept(source: Path, target: Path) -> Iterator[Path]:
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
        msg = f"{target} is there already and is left as it is; pass another path, or move it away."
        raise FileExistsError(msg)
    check_space(target.parent, source.stat().st_size)  # OUT is IN and more
    with work:
        work.claim({"file": target.name})
        blocks = work.folder / "blocks"
        try:
            yield blocks
        finally:
            is_needed = blocks.exists() and not target.exists()
    if not is_needed:
        work.remove()


def _finish(write: Callable[[Path], None], target: Path, blocks: Path) -> None:
    """Write the target, which has its name only once it is whole and on the disk."""
    whole = blocks.with_name("whole" + target.suffix)
    write(whole)
    flush(whole)
    if os.path.lexists(target):
        msg = f"{target} was written by another program meanwhile and is left as it is; the result is {whole}."
        raise FileExistsError(msg)
    whole.replace(target)


@app.command()
@_friendly
def predict(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Cells (.h5ad, .h5mu, .zarr) or questions (.csv, .tsv, .parquet).")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="The same with answers: .h5ad, or a table; .zarr: answers, in blocks.")
    ],
    task: Annotated[str, typer.Option(help="Name of a task (see `cellhermes tasks`), or a TOML file.")],
    model: Annotated[str, typer.Option(help="Name, folder or hub id; see `cellhermes models`.")] = "mini",
    dtype: Dtype = None,
    quantize: Quantize = "",
    answer: Annotated[
        list[str] | None, typer.Option(help="An answer to choose from, in place of the task's; repeat for each.")
    ] = None,
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
    use_raw: UseRaw = False,  # noqa: FBT002
    mod: Mod = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Questions per forward pass; default from free memory.")
    ] = None,
    resume: Resume = False,  # noqa: FBT002
    shard: Shard = None,
) -> None:
    """Answer one question of a task for each cell, or for each row of a table."""
    import pandas as pd

    import cellhermes as ch

    options = {"answers": answer, "expression": expression, "decode": decode, "normalize": normalize, "prior": prior}
    options |= {"calibration": calibration, "abstain_below": abstain_below, "batch_size": batch_size}
    read_as = {"layer": layer, "gene_symbols": gene_symbols, "use_raw": use_raw, "mod": mod}
    lm = _loaded(model, dtype, quantize)
    if target.suffix == ".zarr":
        with _sharded(shard):
            asked, data = ch.text.task(task), source
            if expression or "cell_sentence" in asked.fields:
                data, mod = _with_sentences(source, target, read_as)
            ch.tl.predict(data, lm, asked, key_added=key_added, mod=mod, out=target, **options)
        _say_state(target)
        return
    _check_no_shard(shard)
    if target.suffix not in (*TABLES, *CELLS):
        msg = f"IN is {source.name} and OUT {target.name}; expected {', '.join(CELLS)}, or {', '.join(TABLES)}."
        raise ValueError(msg)
    if (source.suffix in TABLES) != (target.suffix in TABLES):
        msg = f"IN is {source.name} and OUT {target.name}; cells are written as they were, questions as a table."
        raise ValueError(msg)
    if target.suffix == ".parquet" and find_spec("pyarrow") is None:  # pandas would say so after the work
        msg = f"{target.name} needs pyarrow: pip install 'cellhermes[train]'. Or write .csv."
        raise ImportError(msg)
    asked = ch.text.task(task)
    with _kept(source, target) as blocks:
        options["checkpoint"] = blocks
        if source.suffix not in TABLES:
            data, _ = _read_cells(source, target, mod)
            if expression or "cell_sentence" in asked.fields:
                _add_sentences(data, read_as)
            ch.tl.predict(data, lm, asked, key_added=key_added, mod=mod, **options)
            write = _writer(data)
        else:
            data, key = ch.io.read_table(source), key_added or "predicted"
            if twice := [name for name in data if name in (key, "status", "confidence", "text")]:
                msg = f"{source.name} has the columns {twice} already; rename them, or pass --key-added."
                raise ValueError(msg)
            found = ch.tl.answer(data, lm, asked, **options).rename(columns={"answer": key})
            write = lambda path: _write_table(pd.concat([data, found], axis=1), path)
        _finish(write, target, blocks)
    typer.echo(f"{len(data):,} questions of {asked.name}: {target}")


@app.command()
@_friendly
def explain(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Annotated data to read: .h5ad or .h5mu.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The same with explanations.")],
    task: Annotated[str, typer.Option(help="Name of a task (see `cellhermes tasks`), or a TOML file.")],
    model: Annotated[str, typer.Option(help="Name, folder or hub id; see `cellhermes models`.")] = "mini",
    dtype: Dtype = None,
    quantize: Quantize = "",
    answer: Annotated[
        list[str] | None, typer.Option(help="An answer to choose from, in place of the task's; repeat for each.")
    ] = None,
    method: Annotated[str, typer.Option(help="'attention' or 'occlusion'.")] = "attention",
    cells: Annotated[int | None, typer.Option(min=1, help="Explain so many random cells; default all.")] = None,
    reasons: Annotated[int | None, typer.Option(min=1, help="Write rationales of so many cells.")] = None,
    test: Annotated[bool, typer.Option("--test", help="Test the explanation, and print how it did.")] = False,  # noqa: FBT002
    key_added: Annotated[str, typer.Option(help="Where the explanation is stored.")] = "explain",
    layer: Layer = None,
    gene_symbols: GeneSymbols = None,
    use_raw: UseRaw = False,  # noqa: FBT002
    mod: Mod = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Questions per forward pass; default from free memory.")
    ] = None,
    resume: Resume = False,  # noqa: FBT002
) -> None:
    """Say which genes of each cell an answer comes from, and test whether that is true."""
    import cellhermes as ch

    asked = ch.text.task(task)
    with _kept(source, target) as blocks:
        lm = _loaded(model, dtype, quantize)
        data, seen = _read_cells(source, target, mod)
        _add_sentences(data, {"layer": layer, "gene_symbols": gene_symbols, "use_raw": use_raw, "mod": mod})
        options = {"method": method, "answers": answer, "cells": cells, "reasons": reasons, "key_added": key_added}
        options["mod"] = mod
        ch.tl.explain(data, lm, asked, **options, batch_size=batch_size, checkpoint=blocks)
        if test:
            ch.tl.faithfulness(data, lm, asked, key=key_added, batch_size=batch_size, mod=mod)
            typer.echo(ch.get.explanation_quality(seen, key=key_added).round(3).to_string(index=False))
        _finish(_writer(data), target, blocks)
    typer.echo(f"{int(seen.obs[f'{key_added}_answer'].notna().sum()):,} cells explained: {target}")


CELLS = (".h5ad", ".h5mu")
TABLES = {".csv": ",", ".tsv": "\t", ".parquet": None}  # and what stands between columns


def _write_table(table: "pd.DataFrame", path: Path) -> None:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep=TABLES[path.suffix], index=False, lineterminator="\n")


@app.command()
@_friendly
def tasks() -> None:
    """List the tasks that are known by name."""
    import cellhermes as ch

    for name, task in ch.text.tasks().items():
        typer.secho(name, bold=True)
        typer.echo(f"  asks with: {', '.join(task.fields)}")
        typer.echo(f"  answers: {', '.join(task.answers) if task.answers else 'open, or --answer'}")


@app.command()
@_friendly
def pairs(
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Corpus to write: .jsonl or .parquet.")],
    cells: Annotated[
        Path | None, typer.Option(help="An h5ad or h5mu file: masked genes and next genes of its cells.")
    ] = None,
    graph: Annotated[Path | None, typer.Option(help="An interaction file: masked nodes and masked links.")] = None,
    mixture: Annotated[
        str | None,
        typer.Option(help="'paper', 'release' or 'all' pairs; default: paper with cells and a graph, all with one."),
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(help="A column of obs to show in every second question; may be repeated.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="What the cells' sentences are of: rna, protein, ...; default: as they say.")
    ] = None,
    layer: Layer = None,
    gene_symbols: GeneSymbols = None,
    use_raw: UseRaw = False,  # noqa: FBT002
    mod: Mod = None,
    graph_format: Annotated[
        str | None, typer.Option(help="'biogrid' (TAB3), 'string' or 'edges'; default: from the name of the file.")
    ] = None,
    graph_info: Annotated[Path | None, typer.Option(help="STRING's protein.info file, for gene symbols.")] = None,
    graph_member: Annotated[str | None, typer.Option(help="File inside a zip archive with several.")] = None,
    relation: Annotated[str, typer.Option(help="What an edge means: interaction, regulation, ...")] = "interaction",
    links: Annotated[
        int | None, typer.Option(min=2, help="Number of masked links; default the paper's, or two for each edge.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that make pairs.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,  # noqa: FBT002
) -> None:
    """Write the pretraining corpus of cells, of a graph, or of both; goes on after an interruption."""
    import cellhermes as ch

    inputs = [path for path in (cells, graph, graph_info) if path is not None]
    _check_pairs(target, inputs, overwrite=overwrite)
    sets = []
    if cells is not None:
        data = open_path(cells)
        expression = {"layer": layer, "gene_symbols": gene_symbols, "use_raw": use_raw, "mod": mod}
        _add_sentences(data, expression, modality=modality)
        options = {"metadata": metadata, "modality": modality, "seed": seed, "mod": mod}
        sets += [ch.train.mlm_pairs(data, **options), ch.train.ar_pairs(data, **options)]
    if graph is not None:
        ppi = _read_graph(graph, graph_format, graph_info, graph_member)
        n_links = min(PAPER_LINKS, 2 * ppi.number_of_edges()) if links is None else links
        sets += [
            ch.train.node_pairs(ppi, relation=relation, seed=seed),
            ch.train.link_pairs(ppi, n_pairs=n_links, relation=relation, seed=seed),
        ]
    counts = mixture or ("paper" if cells and graph else "all")
    drawn = ch.train.mixture(sets, None if counts == "all" else counts, seed=seed)
    card = ch.train.write_pairs(drawn, target, n_workers=workers, inputs=inputs, overwrite=overwrite)
    _show_corpus(card, drawn, target)


PAPER_LINKS = 1_455_846  # masked links of the paper


def _check_pairs(target: Path, inputs: list[Path], *, overwrite: bool) -> None:
    if not inputs:
        msg = "Nothing to make pairs from; pass --cells, --graph or both."
        raise ValueError(msg)
    for path in inputs:
        if not path.is_file():
            msg = f"{path} is not a file."
            raise FileNotFoundError(msg)
    if target.suffix not in (".jsonl", ".parquet"):
        msg = f"OUT is {target.name}; expected a name that ends with .jsonl or .parquet."
        raise ValueError(msg)
    if not target.parent.is_dir():
        msg = f"The folder {target.parent} of OUT does not exist."
        raise FileNotFoundError(msg)
    if target.is_symlink() or target.is_dir() or any(target.exists() and target.samefile(path) for path in inputs):
        msg = f"{target} is a link, a folder or an input, and stays as it is; pass another path."
        raise FileExistsError(msg)
    if target.exists() and not overwrite:
        msg = f"{target} is there already; pass --overwrite to replace it, or another path."
        raise FileExistsError(msg)


def _read_graph(path: Path, form: str | None, info: Path | None, member: str | None) -> "nx.Graph":
    import cellhermes as ch

    name = path.name.lower()
    guess = "biogrid" if "tab3" in name else "string" if "protein.links" in name else "edges"
    match form or guess:
        case "biogrid":
            return ch.io.read_biogrid(path, member=member)
        case "string":
            return ch.io.read_string(path, info=info, member=member)
        case "edges":
            return ch.io.read_edges(path, member=member)
    msg = f"--graph-format is {form!r}; expected biogrid, string or edges."
    raise ValueError(msg)


def _show_corpus(card: dict, drawn: "Pairs", target: Path) -> None:
    """Show how many pairs of which kind there are, how long they are, what was dropped, and an example of each task."""
    rows = [("template", "pairs", "tokens, mean", "longest")]
    rows += [
        (name, f"{seen['pairs']:,}", f"{seen['tokens_mean']:.0f}", f"{seen['tokens_longest']:,}")
        for name, seen in card["templates"].items()
    ]
    rows.append(("all", f"{card['pairs']:,}", "", ""))
    for name, *numbers in rows:
        typer.echo(f"{name:<32}" + "".join(f"{number:>14}" for number in numbers))
    typer.echo(f"Tokens of the bundled model {card['tokenizer']!r}: of a sample, and of the longest text.")
    for reason, n in card["dropped"].items():
        typer.echo(f"dropped: {n:,} {reason}")
    tasks = {name.split("/")[0]: seen["longest_pair"] for name, seen in card["templates"].items()}
    for task, number in tasks.items():
        pair = drawn[number]
        typer.secho(f"\n{task}, pair {number:,} ({pair.source})", bold=True)
        typer.echo("\n".join(_short(line) for line in pair.prompt.text.split("\n")) + f"\n-> {_short(pair.answer)}")
    typer.echo(f"\n{card['pairs']:,} pairs: {target}\nCard: {target}.card.json")


def _short(text: str, width: int = 160) -> str:
    return text if len(text) <= width else text[: width - 4] + " ..."


@app.command()
@_friendly
def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="base, out, [train] and [[pairs]]; or [reinforce].")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of the result, in place of the file's.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left there.")] = False,  # noqa: FBT002
) -> None:
    """Train a model as a TOML file says; goes on after an interruption."""
    import cellhermes as ch

    folder = ch.train.run(config, out=out, overwrite=overwrite)
    if _is_first():
        typer.echo(f"Trained: {folder}\nWhat was done: {folder / 'README.md'}; every step: {folder / 'log.jsonl'}")


models_app = typer.Typer(help="Models by name: list, show, fetch, verify, remove, export, import.")
app.add_typer(models_app, name="models")


@models_app.callback(invoke_without_command=True)
@_friendly
def models(context: typer.Context) -> None:
    """List the models that are known by name."""
    if not context.invoked_subcommand:
        _show_models()


@models_app.command("list")
@_friendly
def list_models() -> None:
    """List the models that are known by name."""
    _show_models()


def _show_models() -> None:
    import cellhermes as ch

    for name, row in ch.model.list_models().iterrows():
        typer.secho(str(name), bold=True, nl=False)
        typer.echo("   (bundled, the default)" if row["bundled"] else "")
        typer.echo(f"  {row['description']}")
        typer.echo(f"  base: {row['base']}" + (f"; adapters: {row['adapters']}" if row["adapters"] else ""))
        typer.echo(f"  licence: {row['license']}")


@models_app.command()
@_friendly
def show(name: Annotated[str, typer.Argument(help="Name or folder of a model.")]) -> None:
    """Show the card of a model: training data, recipe, results, limits."""
    import cellhermes as ch

    typer.echo(ch.model.card_text(name))


datasets_app = typer.Typer(help="Data sets by name: list, fetch, verify, remove, export, import.")
app.add_typer(datasets_app, name="datasets")


@datasets_app.callback(invoke_without_command=True)
@_friendly
def datasets(context: typer.Context) -> None:
    """List the data sets that are known by name."""
    if not context.invoked_subcommand:
        _show_datasets()


@datasets_app.command("list")
@_friendly
def list_datasets() -> None:
    """List the data sets that are known by name."""
    _show_datasets()


def _show_datasets() -> None:
    import cellhermes as ch

    table = ch.datasets.list_datasets()
    width = max(map(len, table.index)) + 2
    typer.secho(f"{'name':<{width}}{'MB':>8}  here  what it is", bold=True)
    for name, row in table.iterrows():
        size = f"{row['size'] / 1e6:,.1f}" if row["size"] else "?"
        here = "yes" if row["cached"] else ""
        typer.echo(f"{name:<{width}}{size:>8}  {here:<4}  {row['description']}")
        typer.echo(f"{'':<{width + 16}}licence: {row['license']}; checksum: {row['checksum']}")
    typer.echo("'?': the host tells the size at the download. How to cite each: ch.datasets.list_datasets().")


def _cache_commands(group: typer.Typer, space: str, what: str) -> None:
    """Commands that models and data sets share; ``space`` is the namespace with the functions."""
    named = typer.Argument(help=f"Names of {what}.")

    @group.command()
    @_friendly
    def fetch(names: Annotated[list[str], named]) -> None:
        """Download what is missing, and check it."""
        import cellhermes as ch

        for name in names:
            found = getattr(ch, space).fetch(name)
            for path in found.values() if isinstance(found, dict) else found:
                typer.echo(path)

    @group.command()
    @_friendly
    def verify(names: Annotated[list[str] | None, named] = None) -> None:
        """Compare what is in the cache with its hashes; all of it, if no name is given."""
        import cellhermes as ch

        bad = 0
        for name in names or [None]:
            for row in getattr(ch, space).verify(name).itertuples():
                typer.echo(f"{row.state}: {row.file}")
                bad += row.state.startswith("changed")
        if bad:
            msg = f"{bad} files are not what they were. Delete them to download them again."
            raise ValueError(msg)

    @group.command()
    @_friendly
    def remove(names: Annotated[list[str], named]) -> None:
        """Delete files from the cache; their recorded hashes stay."""
        import cellhermes as ch

        freed = sum(getattr(ch, space).remove(name) for name in names)
        typer.echo(f"{freed / 1e6:,.1f} MB freed.")

    @group.command("export")
    @_friendly
    def export_bundle(
        target: Annotated[Path, typer.Argument(metavar="OUT.tar", help="File to write.")],
        names: Annotated[list[str], named],
    ) -> None:
        """Write them into one file, for a machine without a network."""
        import cellhermes as ch

        getattr(ch, space).export_bundle(target, names)
        typer.echo(f"Written: {target}. There: cellhermes {what} import {target.name}")

    @group.command("import")
    @_friendly
    def import_bundle(
        source: Annotated[Path, typer.Argument(metavar="IN.tar", help="What `export` wrote elsewhere.")],
    ) -> None:
        """Put what another machine exported into the caches of this one."""
        import cellhermes as ch

        typer.echo(f"{len(ch.datasets.import_bundle(source))} files are there and checked.")


_cache_commands(models_app, "model", "models")
_cache_commands(datasets_app, "datasets", "datasets")


if __name__ == "__main__":
    app()
