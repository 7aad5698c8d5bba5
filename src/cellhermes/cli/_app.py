"""All commands, in the order of the help."""

import typer

from ._answers import explain, predict, tasks
from ._cache import cache
from ._demo import demo
from ._run import friendly
from ._training import pairs, train
from ._vectors import embed, sentences

app = typer.Typer(
    help="Language models on AnnData: embed genes and cells.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip
for command in (demo, sentences, embed, predict, explain, tasks, pairs, train):
    app.command()(friendly(command))
app.add_typer(cache, name="cache")
