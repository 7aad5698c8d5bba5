"""Scripts that make the figures of the paper, one a figure: ``python -m benchmarks.paper.NAME``."""
