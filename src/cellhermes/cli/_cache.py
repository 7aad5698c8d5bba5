"""``cellhermes cache``: which models and data sets are known by name, and what of them is on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from ._run import friendly

cache = typer.Typer(help="Models and data sets by name: list, show, fetch, verify, remove, export, import.")
Names = typer.Argument(help="Names of models and data sets.")


@cache.callback(invoke_without_command=True)
@friendly
def top(context: typer.Context) -> None:
    """List what is known, where no command is given."""
    if not context.invoked_subcommand:
        _list()


@cache.command("list")
@friendly
def list_all() -> None:
    """List the models and data sets that are known by name."""
    _list()


def _list() -> None:
    import cellhermes as ch

    table = ch.cache.list()
    width = max(map(len, table.index)) + 2
    typer.secho(f"{'name':<{width}}{'kind':<7}{'MB':>8}  here  what it is", bold=True)
    for name, row in table.iterrows():
        size = f"{row['size'] / 1e6:,.1f}" if row["size"] else "?"
        here = "yes" if row["cached"] else ""
        typer.echo(f"{name:<{width}}{row['kind']:<7}{size:>8}  {here:<4}  {row['description']}")
        typer.echo(f"{'':<{width + 23}}licence: {row['license']}; checksum: {row['checksum']}")
    typer.echo("'?': the host tells the size at the download. How to cite each: ch.cache.list().")


@cache.command()
@friendly
def show(name: Annotated[str, typer.Argument(help="Name or folder of a model.")]) -> None:
    """Show the card of a model: training data, recipe, results, limits."""
    import cellhermes as ch

    typer.echo(ch.model.ModelCard.load(name).text())


@cache.command()
@friendly
def fetch(names: Annotated[list[str], Names]) -> None:
    """Download what is missing, and check it."""
    import cellhermes as ch

    for name in names:
        typer.echo(ch.cache.fetch(name))


@cache.command()
@friendly
def verify(names: Annotated[list[str] | None, Names] = None) -> None:
    """Compare what is in the cache with its hashes; all of it, if no name is given."""
    import cellhermes as ch

    n_changed = 0
    for name in names or [None]:
        for row in ch.cache.verify(name).itertuples():
            typer.echo(f"{row.state}: {row.file}")
            n_changed += row.state.startswith("changed")
    if n_changed:
        msg = f"{n_changed} files are not what they were. Delete them to download them again."
        raise ValueError(msg)


@cache.command()
@friendly
def remove(names: Annotated[list[str], Names]) -> None:
    """Delete files from the cache; their recorded hashes stay."""
    import cellhermes as ch

    typer.echo(f"{sum(map(ch.cache.remove, names)) / 1e6:,.1f} MB freed.")


@cache.command("export")
@friendly
def export_bundle(
    target: Annotated[Path, typer.Argument(metavar="OUT.tar", help="File to write.")],
    names: Annotated[list[str], Names],
) -> None:
    """Write them into one file, for a machine without a network."""
    import cellhermes as ch

    ch.cache.export_bundle(target, names)
    typer.echo(f"Written: {target}. There: cellhermes cache import {target.name}")


@cache.command("import")
@friendly
def import_bundle(
    source: Annotated[Path, typer.Argument(metavar="IN.tar", help="What `export` wrote elsewhere.")],
) -> None:
    """Put what another machine exported into the caches of this one."""
    import cellhermes as ch

    typer.echo(f"{len(ch.cache.import_bundle(source))} files are there and checked.")
