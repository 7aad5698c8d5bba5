"""Run the tutorials: store what they print and draw, or compare a fresh run with what is stored.

Usage, from the root of the repository, with the extra ``tutorials`` installed::

    python tools/tutorials.py --check              # numbers of a fresh run against the stored ones
    python tools/tutorials.py --check immune       # one of them
    python tools/tutorials.py --write immune       # run, and store the outputs
    python tools/tutorials.py --subsample 300      # only run, on few cells, as the tests and CI do

Real data are read from ``$CELLHERMES_TEST_DATA``, or from ``shared/data`` beside the repository; where a file is not
there, a subsample takes generated cells, and ``--check`` and ``--write`` refuse. Stored outputs hold nothing of the
machine: no times, no paths, no name of a kernel.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tutorials"
DATA = Path(os.environ.get("CELLHERMES_TEST_DATA") or ROOT.parent / "shared" / "data")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
TIMEOUT = 900  # seconds of one cell
RELATIVE, ABSOLUTE = 0.01, 0.02
TOLERANCES = {  # of cells that are tagged so
    "trained": 0.1,  # what depends on a trained model, whose last digits differ between machines
    "example": math.inf,  # what such a model says of single cells, which may turn: only how many numbers there are
}
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")
OF_THIS_MACHINE = re.compile(r"/(?:home|root|tmp|work|Users|mnt|opt|private|var)/[\w.-]+|[A-Z]:\\\\")


def run(path: Path, *, n_cells: int = 0) -> NotebookNode:
    """Execute a notebook in its folder, on ``n_cells`` cells (0 for all), and return it without traces of the machine.

    Raises
    ------
    ~nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    environment = os.environ | {
        "CELLHERMES_TUTORIAL_CELLS": str(n_cells or ""),
        "CELLHERMES_TEST_DATA": str(DATA),
        "CELLHERMES_OFFLINE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore:IProgress",  # tqdm asks for widgets, which no stored output needs
        "PYTHONDONTWRITEBYTECODE": "1",
        "TQDM_DISABLE": "1",
    }
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env=environment)
    return cleaned(notebook)


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """The notebook with neutral metadata and one stream output in place of several."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items() if key == "tags"})
        if cell.cell_type != "code":
            continue
        outputs: list[NotebookNode] = []
        for output in cell.outputs:
            if output.output_type == "stream" and outputs and outputs[-1].get("name") == output.name:
                outputs[-1].text += output.text
                continue
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            outputs.append(output)
        cell.outputs = outputs
    return notebook


def text_of(cell: NotebookNode) -> str:
    """What a cell printed and returned, as text; figures are not compared."""
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]
    return "\n".join(part for part in parts if not part.startswith("<Figure"))


def differences(stored: NotebookNode, fresh: NotebookNode) -> list[str]:
    """Cells whose text differs by more than the tolerance, one line each."""
    found = []
    for place, (old, new) in enumerate(zip(stored.cells, fresh.cells, strict=True)):
        tolerance = max((TOLERANCES.get(tag, 0) for tag in old.metadata.get("tags", [])), default=0)
        found += [f"cell {place}: {problem}" for problem in _unequal(text_of(old), text_of(new), tolerance)]
    return found


def _unequal(old: str, new: str, tolerance: float) -> list[str]:
    numbers = [[float(number.replace(",", "")) for number in NUMBER.findall(text)] for text in (old, new)]
    if len(numbers[0]) != len(numbers[1]):
        return [f"{len(numbers[0])} numbers are stored, and {len(numbers[1])} were found"]
    relative, absolute = (tolerance, tolerance) if tolerance else (RELATIVE, ABSOLUTE)
    far = [(a, b) for a, b in zip(*numbers, strict=True) if abs(a - b) > absolute + relative * abs(a)]
    if far:
        return [f"{len(far)} of {len(numbers[0])} numbers differ, such as {far[0][0]:g}, now {far[0][1]:g}"]
    words = [NUMBER.sub("", text).split() for text in (old, new)]
    return [] if words[0] == words[1] or tolerance else ["the words differ"]


def problems(notebook: NotebookNode) -> list[str]:
    """What must not be stored: warnings, and paths of this machine."""
    found = []
    for place, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                found.append(f"cell {place} writes to stderr: {output.text.strip()[:300]}")
            shown = [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
            shown = "\n".join([*shown, output.get("text", "")])
            found += [f"cell {place} shows the path {path}" for path in OF_THIS_MACHINE.findall(shown)]
    return found


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser.add_argument("names", nargs="*", metavar="name", help=f"which, of {', '.join(known)}; default: all")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="store the outputs")
    what.add_argument("--check", action="store_true", help="compare with the stored outputs")
    what.add_argument("--subsample", type=int, metavar="N", help="only run, on N cells")
    options = parser.parse_args(arguments)
    if unknown := sorted({*options.names} - {*known}):
        parser.error(f"there is no tutorial {', '.join(unknown)}; there are {', '.join(known)}")
    options.names = options.names or known
    return options


def main() -> None:
    options = parsed()
    if not options.subsample and not DATA.is_dir():
        sys.exit(
            f"There is no folder {DATA}. Set CELLHERMES_TEST_DATA to one with the files that the first cells name, or "
            "run on generated cells with --subsample 300."
        )
    failed = []
    for name in options.names:
        path, start = FOLDER / f"{name}.ipynb", time.monotonic()
        try:
            fresh = run(path, n_cells=options.subsample or 0)
        except CellExecutionError as error:
            failed.append(name)
            print(f"{name}: failed\n{error}", flush=True)
            continue
        found = problems(fresh)
        if options.check:
            found += differences(nbformat.read(path, as_version=4), fresh)
        if options.write:
            nbformat.write(fresh, path)
        minutes = (time.monotonic() - start) / 60
        print(f"{name}: {minutes:.1f} min, {len(found)} problems", *found, sep="\n  ", flush=True)
        failed += [name] if found else []
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
