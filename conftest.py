"""Settings of the whole test run, which have to stand before anything heavy is imported."""

import gc
import os

# Where tests run in several processes, each keeps to one core, so that libraries start no more threads than help.
worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if worker and hasattr(os, "sched_setaffinity"):  # before anything that counts the cores is imported
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_collection_finish() -> None:
    """Take what is imported and collected, which stays to the end, out of what the garbage collector visits."""
    gc.collect()
    gc.freeze()
