"""``cellhermes models`` and ``cellhermes datasets``: what is known by name, and what of it is here."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ._run import friendly


def _group(title: str, space: str, show_all: Callable[[], None], *own: Callable[..., None]) -> typer.Typer:
    """Commands that both share, and those of one alone; ``space`` is the namespace with the functions."""
    what = title.lower().replace(" ", "")
    names = ", ".join(["list", *(command.__name__ for command in own)])
    group = typer.Typer(help=f"{title} by name: {names}, fetch, verify, remove, export, import.")
    named = typer.Argument(help=f"Names of {what}.")

    @group.callback(invoke_without_command=True)
    @friendly
    def top(context: typer.Context) -> None:
        if not context.invoked_subcommand:
            show_all()

    @group.command("list", help=f"List the {title.lower()} that are known by name.")
    @friendly
    def list_all() -> None:
        show_all()

    for command in own:
        group.command()(friendly(command))

    @group.command()
    @friendly
    def fetch(names: Annotated[list[str], named]) -> None:
        """Download what is missing, and check it."""
        import cellhermes as ch

        for name in names:
            found = getattr(ch, space).fetch(name)
            for path in found.values() if isinstance(found, dict) else found:
                typer.echo(path)

    @group.command()
    @friendly
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
    @friendly
    def remove(names: Annotated[list[str], named]) -> None:
        """Delete files from the cache; their recorded hashes stay."""
        import cellhermes as ch

        freed = sum(getattr(ch, space).remove(name) for name in names)
        typer.echo(f"{freed / 1e6:,.1f} MB freed.")

    @group.command("export")
    @friendly
    def export_bundle(
        target: Annotated[Path, typer.Argument(metavar="OUT.tar", help="File to write.")],
        names: Annotated[list[str], named],
    ) -> None:
        """Write them into one file, for a machine without a network."""
        import cellhermes as ch

        getattr(ch, space).export_bundle(target, names)
        typer.echo(f"Written: {target}. There: cellhermes {what} import {target.name}")

    @group.command("import")
    @friendly
    def import_bundle(
        source: Annotated[Path, typer.Argument(metavar="IN.tar", help="What `export` wrote elsewhere.")],
    ) -> None:
        """Put what another machine exported into the caches of this one."""
        import cellhermes as ch

        typer.echo(f"{len(ch.datasets.import_bundle(source))} files are there and checked.")

    return group


def show(name: Annotated[str, typer.Argument(help="Name or folder of a model.")]) -> None:
    """Show the card of a model: training data, recipe, results, limits."""
    import cellhermes as ch

    typer.echo(ch.model.card_text(name))


def _show_models() -> None:
    import cellhermes as ch

    for name, row in ch.model.list_models().iterrows():
        typer.secho(str(name), bold=True, nl=False)
        typer.echo("   (bundled, the default)" if row["bundled"] else "")
        typer.echo(f"  {row['description']}")
        typer.echo(f"  base: {row['base']}" + (f"; adapters: {row['adapters']}" if row["adapters"] else ""))
        typer.echo(f"  licence: {row['license']}")


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


models = _group("Models", "model", _show_models, show)
datasets = _group("Data sets", "datasets", _show_datasets)
