"""Errors name what the command line calls an option, for every option of every command."""

import inspect
import re

import click
import pytest
from typer.main import get_command

from cellhermes._options import OTHERS, as_options
from cellhermes.cli import app


def commands(group=None, above=()):
    group = group or get_command(app)
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield " ".join((*above, name)), command


COMMANDS = dict(commands())


@pytest.mark.parametrize("command", [*COMMANDS])
def test_every_argument_is_told_as_the_option_that_there_is(command):
    parameters = {one.name: one for one in COMMANDS[command].params}
    for name, parameter in parameters.items():
        is_option = parameter.param_type_name == "option"
        for text in (
            f"pass {name}= of another",
            f"{name}='x' is not known",
            f"with {name}=True",
            f"{name}=3; expected",
        ):
            said = as_options(text, parameters)
            expected = (
                parameter.opts[0]
                if is_option
                else {"source": "IN", "target": "OUT", "config": "CONFIG"}.get(name, name)
            )
            assert expected in said, f"{text} -> {said}"
            assert not is_option or f"{name}=" not in said, said
    for argument, name in OTHERS.items():
        if name in parameters:
            assert f"{argument}=" not in as_options(f"pass {argument}=", parameters)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Pass gene_symbols='symbol', whose values", "Pass --gene-symbols symbol, whose values"),
        ("pass layer= or use_raw=True.", "pass --layer or --use-raw."),
        ("Pass layer=None for X, use_raw=False", "Pass no --layer for X, no --use-raw"),
        ("mod='rna' is none; gene_mask= stays", "--mod rna is none; gene_mask= stays"),
        ("n_genes=0; expected", "--n-genes 0; expected"),
        ("out='x.h5ad'; expected a name", "OUT x.h5ad; expected a name"),
        (
            "call `ch.pp.cell_sentences(data, mod='rna')` or mod=",
            "call `ch.pp.cell_sentences(data, mod='rna')` or --mod",
        ),
        ("a == b, x>=3, other_layer=2", "a == b, x>=3, other_layer=2"),
    ],
)
def test_values_and_what_is_no_option_stay(text, said):
    options = inspect.signature(lambda source, target, layer, gene_symbols, use_raw, mod, n_genes: 0).parameters
    assert as_options(text, options) == said


def test_no_help_names_a_python_argument():
    for name, command in COMMANDS.items():
        for parameter in command.params:
            assert not re.search(r"\b[a-z]+_[a-z_]+=", getattr(parameter, "help", "") or ""), (name, parameter.name)
