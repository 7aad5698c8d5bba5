"""Speed and memory of the measures of gene embeddings, on real gene sets.

    OMP_NUM_THREADS=2 python benchmarks/metrics.py --data ../shared/data

Vectors are random (10,000 and 18,000 genes, 224 wide as of mini; 4,096 with --wide): the measures do not depend on what
they hold, except k-means, which takes longest on vectors without clusters. The peak is that of the process, measured in
one of its own for each row.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

import cellhermes as ch
from cellhermes.io import read_gmt

SETS = "go_bp_enrichr2021.gmt.gz"
GENES = "human_genes_grch38.tsv.gz"


def rows(*, wide: bool) -> list[tuple[str, int, int]]:
    """Measure, genes, dimensions."""
    sizes = [(10_000, 224), (18_000, 224)] + ([(10_000, 4096)] if wide else [])
    return [(measure, *size) for measure in ("semantic_correlation", "cluster_enrichment") for size in sizes]


def one(measure: str, n_genes: int, dim: int, data: Path) -> dict:
    """Annotated genes first, then others, to the number asked for; what it took."""
    sets = read_gmt(data / SETS)
    annotated = dict.fromkeys(gene for genes in sets.values() for gene in genes)
    table = pd.read_csv(data / GENES, sep="\t", usecols=["symbol", "biotype"]).dropna()
    coding = table.loc[table["biotype"] == "protein_coding", "symbol"]
    genes = list(dict.fromkeys([*annotated, *coding]))[:n_genes]
    if measure == "semantic_correlation" and n_genes > len(annotated):  # only annotated genes take part
        sets = sets | {"the rest": genes[len(annotated) :]}
    vectors = ch.baselines.embed_genes(genes, "random", n_components=dim)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu = time.perf_counter(), time.process_time()
    found = getattr(ch.metrics, measure)(vectors, sets)
    return {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "before_gb": before / 1e6,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "n_genes": int(found["n_genes"][0]),
        "n_sets": int(found["n_sets"][0]),
        "check": float(np.mean(found.iloc[:, 1])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("CELLHERMES_TEST_DATA", "../shared/data"))
    parser.add_argument("--wide", action="store_true", help="also vectors of 4,096 dimensions, as of an 8B model")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one[0], int(args.one[1]), int(args.one[2]), args.data)))
        return
    print(f"threads: {os.environ.get('OMP_NUM_THREADS', 'all')} of {os.cpu_count()}")
    print(f"{'measure':<22}{'genes':>8}{'width':>7}{'sets':>7}{'wall s':>9}{'cpu s':>8}{'before GB':>11}{'peak GB':>9}")
    for measure, n_genes, dim in rows(wide=args.wide):
        command = [sys.executable, __file__, "--data", str(args.data), "--one", measure, str(n_genes), str(dim)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        got = json.loads(out.splitlines()[-1])
        print(
            f"{measure:<22}{got['n_genes']:>8,}{dim:>7,}{got['n_sets']:>7,}{got['seconds']:>9.1f}{got['cpu']:>8.1f}"
            f"{got['before_gb']:>11.2f}{got['peak_gb']:>9.2f}"
        )


if __name__ == "__main__":
    main()
