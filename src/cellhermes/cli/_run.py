"""How a command runs: it logs to the terminal, and errors end with a message and an exit code."""

import functools
import logging
import os
from collections.abc import Callable

import typer

from .._options import as_options


def friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Log to the terminal, and turn what a user can mend into one line and an exit code."""

    @functools.wraps(command)
    def run(**options: object) -> None:
        logger = logging.getLogger("cellhermes")
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if is_first() else logging.ERROR)
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


def is_first() -> bool:
    """Whether this is the process that talks, where a launcher starts several."""
    return os.environ.get("RANK", "0") == "0"
