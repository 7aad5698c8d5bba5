"""Fail when a wheel holds anything else than the package's own files and its metadata, or is larger than we promise.

A source distribution must hold the same files and may hold the other parts of the project, but nothing that was made
while it was worked on.

Usage: python .ci/check_wheel.py dist/cellhermes-0.1.0-py3-none-any.whl dist/cellhermes-0.1.0.tar.gz
"""

import re
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

LARGEST = 17_000_000  # bytes; the bundled weights may take 16 MB of them
SOURCE = Path(__file__).resolve().parents[1] / "src"
LARGEST_SOURCE = 20_000_000  # with tests, pictures and documentation
MADE = ("__pycache__", "_build", "jupyter_execute", ".ipynb_checkpoints", ".venv", ".git", ".pytest_cache", ".DS_Store")
METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
CACHES = (".pyc", ".nbi", ".nbc")


def problems(distribution: Path) -> list[str]:
    """List what is wrong with a distribution, one line each."""
    return _of_source(distribution) if distribution.name.endswith(".tar.gz") else _of_wheel(distribution)


def _own() -> set[str]:
    found = {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "cellhermes").rglob("*") if path.is_file()}
    return {name for name in found if not name.endswith(CACHES)}


def _of_source(source: Path) -> list[str]:
    with tarfile.open(source) as archive:
        names = [member.name.partition("/")[2] for member in archive if not member.isdir()]
        links = [member.name for member in archive if not (member.isdir() or member.isreg())]
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text("utf-8"))
    included = {
        *project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"],
        "pyproject.toml",
        "PKG-INFO",
        ".gitignore",
    }
    found = [f"src/{name} is missing" for name in sorted({*_own()} - {name.removeprefix("src/") for name in names})]
    found += [f"{name} is missing" for name in sorted(included - {name.partition("/")[0] for name in names})]
    found += [
        f"{name} does not belong here"
        for name in sorted(names)
        if name.partition("/")[0] not in included or {*MADE} & {*name.split("/")} or name.endswith(CACHES)
    ]
    found += [f"{name} is a link" for name in links]
    return found + _too_large(source, LARGEST_SOURCE)


def _too_large(distribution: Path, largest: int) -> list[str]:
    size = distribution.stat().st_size
    return [f"{size:,} bytes, more than {largest:,}"] if size > largest else []


def _of_wheel(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    metadata = {match[1] for name in names if (match := re.fullmatch(r"cellhermes-[^/]+\.dist-info/(.+)", name))}
    files = {name for name in names if ".dist-info/" not in name}
    own = _own()
    found = [f"{name} is missing" for name in sorted((own - files) | (METADATA - metadata))]
    found += [f"{name} does not belong here" for name in sorted((files - own) | (metadata - METADATA))]
    return found + _too_large(wheel, LARGEST)


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    if not given:
        sys.exit("Name at least one distribution.")
    if found := [f"{path.name}: {problem}" for path in given for problem in problems(path)]:
        sys.exit("\n".join(found))
