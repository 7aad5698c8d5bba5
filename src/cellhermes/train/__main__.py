"""``python -m cellhermes.train CONFIG.toml``: what ``cellhermes train`` does, for launchers that start a module."""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from ._run_file import run


def main(words: Sequence[str] | None = None) -> None:
    """Train as a file says; only the first of several processes tells how it goes."""
    parser = argparse.ArgumentParser("python -m cellhermes.train", description="Train a model as a TOML file says.")
    parser.add_argument(
        "path", type=Path, metavar="CONFIG.toml", help="base, out, [train] and [[pairs]]; or [reinforce]"
    )
    parser.add_argument("--out", type=Path, help="folder of the result, in place of the file's")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier run left there")
    options = vars(parser.parse_args(words))
    logger = logging.getLogger("cellhermes")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    run(**options)


if __name__ == "__main__":
    main()
