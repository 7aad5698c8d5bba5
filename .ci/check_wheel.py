"""Fail when a wheel holds anything else than the package's own files and its metadata, or is larger than we promise.

Usage: python .ci/check_wheel.py dist/cellhermes-0.1.0-py3-none-any.whl
"""

import re
import sys
import zipfile
from pathlib import Path

LARGEST = 17_000_000  # bytes; the bundled weights may take 16 MB of them
SOURCE = Path(__file__).resolve().parents[1] / "src"
METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
CACHES = (".pyc", ".nbi", ".nbc")


def problems(wheel: Path) -> list[str]:
    """What is wrong with the wheel, one line each."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    metadata = {match[1] for name in names if (match := re.fullmatch(r"cellhermes-[^/]+\.dist-info/(.+)", name))}
    files = {name for name in names if ".dist-info/" not in name}
    own = {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "cellhermes").rglob("*") if path.is_file()}
    own = {name for name in own if not name.endswith(CACHES)}
    found = [f"{name} is missing" for name in sorted((own - files) | (METADATA - metadata))]
    found += [f"{name} does not belong here" for name in sorted((files - own) | (metadata - METADATA))]
    if (size := wheel.stat().st_size) > LARGEST:
        found.append(f"{size:,} bytes, more than {LARGEST:,}")
    return found


if __name__ == "__main__":
    wheels = [Path(argument) for argument in sys.argv[1:]]
    if not wheels:
        sys.exit("Name at least one wheel.")
    if found := [f"{wheel.name}: {problem}" for wheel in wheels for problem in problems(wheel)]:
        sys.exit("\n".join(found))
