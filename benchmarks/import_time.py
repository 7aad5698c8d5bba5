"""Time of ``import cellhermes`` beside ``import anndata``, each in a fresh interpreter, in turns.

``cellhermes.pp`` stands for the first use of a namespace, which loads anndata and what ranks genes. The limit holds for
both. Run: ``python benchmarks/import_time.py``. Exits with 1 when a difference of medians is above the limit.
"""

import argparse
import statistics
import subprocess
import sys

LIMIT = 0.3  # seconds
CODE = "import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"


def import_seconds(module: str) -> float:
    """Seconds that one fresh interpreter takes to import a module, without its own start."""
    answer = subprocess.run(
        [sys.executable, "-c", CODE.format(module=module)], capture_output=True, text=True, check=True
    )
    return float(answer.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="interpreters started for each module")
    rounds = parser.parse_args().rounds
    modules = ("anndata", "cellhermes", "cellhermes.pp")
    for module in modules:  # once unmeasured: byte code and the file cache
        import_seconds(module)
    seconds: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(rounds):
        for module in modules:
            seconds[module].append(import_seconds(module))
    median = {module: statistics.median(values) for module, values in seconds.items()}
    for module, values in seconds.items():
        print(f"{module:14s} median {median[module]:.3f} s  ({min(values):.3f} to {max(values):.3f}, n = {rounds})")
    beyond = {module: median[module] - median["anndata"] for module in modules[1:]}
    for module, difference in beyond.items():
        print(f"{module:14s} beyond anndata: {difference:+.3f} s, limit {LIMIT} s")
    return int(max(beyond.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
