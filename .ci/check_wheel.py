"""Fail when a wheel lacks a file that the package reads at run time, or is larger than we promise.

Usage: python .ci/check_wheel.py dist/cellhermes-0.1.0-py3-none-any.whl
"""

import re
import sys
import zipfile
from pathlib import Path

LARGEST = 17_000_000  # bytes; the bundled weights may take 16 MB of them
REQUIRED = [
    r"cellhermes/__init__\.py",
    r"cellhermes/py\.typed",
    r"cellhermes/text/templates/[^/]+\.toml",
    r"cellhermes/model/models\.toml",
    r"cellhermes/model/mini/config\.json",
    r"cellhermes/model/mini/tokenizer\.json",
    r"cellhermes/model/mini/[^/]+\.safetensors",
    r"cellhermes-[^/]+\.dist-info/licenses/LICENSE",
    r"cellhermes-[^/]+\.dist-info/entry_points\.txt",
]
FORBIDDEN = [r"tests?/.*", r".*\.(pkl|pickle|pt|pth|bin|pyc|nbi|nbc)"]


def problems(wheel: Path) -> list[str]:
    """What is wrong with the wheel, one line each."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    found = [f"nothing matches {pattern}" for pattern in REQUIRED if not any(re.fullmatch(pattern, n) for n in names)]
    found += [f"{name} does not belong here" for name in names if any(re.fullmatch(p, name) for p in FORBIDDEN)]
    if (size := wheel.stat().st_size) > LARGEST:
        found.append(f"{size:,} bytes, more than {LARGEST:,}")
    return found


if __name__ == "__main__":
    wheels = [Path(argument) for argument in sys.argv[1:]]
    if not wheels:
        sys.exit("Name at least one wheel.")
    wrong = [f"{wheel.name}: {problem}" for wheel in wheels for problem in problems(wheel)]
    sys.exit("\n".join(wrong) or None)
