"""``cellhermes pairs`` and ``cellhermes train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _place
from .._paths import open_path
from ._arguments import GeneSymbols, Layer, Mod, Species, UseRaw
from ._cells import add_sentences, check_unused
from ._run import is_first

if TYPE_CHECKING:
    import networkx as nx

    from cellhermes.train.corpus import Pairs

PAPER_LINKS = 1_455_846  # masked links of the paper


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
    species: Species = None,
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
    if not inputs:
        msg = "Nothing to make pairs from; pass --cells, --graph or both."
        raise ValueError(msg)
    for path in inputs:
        if not path.is_file():
            msg = f"{path} is not a file."
            raise FileNotFoundError(msg)
    _place.check_new(target, (".jsonl", ".parquet"), inputs, overwrite=overwrite)
    expression = {"layer": layer, "gene_symbols": gene_symbols, "species": species, "use_raw": use_raw, "mod": mod}
    if cells is None:
        check_unused("--cells", {**expression, "metadata": metadata, "modality": modality})
    if graph is None:
        others = {"graph_format": graph_format, "graph_info": graph_info, "graph_member": graph_member}
        check_unused("--graph", {**others, "relation": relation != "interaction", "links": links})
    sets = []
    if cells is not None:
        data = open_path(cells)
        add_sentences(data, expression, modality=modality)
        options = {"metadata": metadata, "modality": modality, "seed": seed, "mod": mod}
        sets += [ch.train.corpus.mlm_pairs(data, **options), ch.train.corpus.ar_pairs(data, **options)]
    if graph is not None:
        ppi = _read_graph(graph, graph_format, graph_info, graph_member)
        n_links = min(PAPER_LINKS, 2 * ppi.number_of_edges()) if links is None else links
        sets += [
            ch.train.corpus.node_pairs(ppi, relation=relation, seed=seed),
            ch.train.corpus.link_pairs(ppi, n_pairs=n_links, relation=relation, seed=seed),
        ]
    counts = mixture or ("paper" if cells and graph else "all")
    drawn = ch.train.corpus.mixture(sets, None if counts == "all" else counts, seed=seed)
    card = drawn.write(target, n_workers=workers, inputs=inputs, overwrite=overwrite)
    _show_corpus(card, drawn, target)


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
    if is_first():
        typer.echo(f"Trained: {folder}\nWhat was done: {folder / 'README.md'}; every step: {folder / 'log.jsonl'}")
