"""Time and memory of the graph side of the pretraining corpus: ``python benchmarks/graph_corpus.py EDGES.tsv.gz``.

Reads a table of edges (made for BioGRID 4.4.232, 908,467 human interactions), builds the masked-node and masked-link
pairs of all genes and edges, and writes their text, in one process on one core. Memory is the largest resident size
above that of the interpreter with its imports. Exits with 1 when reading takes longer than the limit.

read         ``ch.io.read_edges`` of the table: limit 15 s
node, link   checking the graph and drawing edges and negatives, then pairs per second
all          the time of all pairs at that rate; ``--pairs`` of each are really made
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from shared import peak, timed

import cellhermes as ch

LIMIT = 15.0  # seconds for reading
PAPER_LINKS = 1_455_846


def characters(pairs) -> int:
    return sum(len(pair.prompt.text) + len(pair.answer) for pair in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("edges", type=Path, help="table with two columns of symbols")
    parser.add_argument("--pairs", type=int, default=100_000, help="pairs of each objective that are made")
    parser.add_argument("--repeats", type=int, default=3, help="times the table is read; the slowest counts")
    options = parser.parse_args()
    ch.train.corpus.node_pairs(ch.datasets.ppi("toy"))[0]  # imports and compiled kernels
    ch.train.corpus.link_pairs(ch.datasets.ppi("toy"))[0]

    start = peak()
    reads = [timed(ch.io.read_edges, options.edges)[1] for _ in range(options.repeats - 1)]
    graph, seconds = timed(ch.io.read_edges, options.edges)
    reads.append(seconds)
    print(f"{len(graph):,} genes, {graph.number_of_edges():,} edges")
    print(f"read         {min(reads):.2f} to {max(reads):.2f} s (limit {LIMIT:.0f} s); +{peak() - start:.0f} MiB")

    n_links = min(PAPER_LINKS, 2 * graph.number_of_edges())
    for build, arguments in ((ch.train.corpus.node_pairs, {}), (ch.train.corpus.link_pairs, {"n_pairs": n_links})):
        pairs, build_seconds = timed(build, graph, **arguments)
        some = pairs[:: max(1, len(pairs) // options.pairs)]
        length, seconds = timed(characters, some)
        rate = len(some) / seconds
        print(
            f"{pairs.task:12s} {len(pairs):,} pairs; built in {build_seconds:.2f} s; {rate:,.0f} pairs a second; "
            f"{length / len(some):.0f} characters a pair; all in {len(pairs) / rate:.0f} s; +{peak() - start:.0f} MiB"
        )
    return int(max(reads) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
