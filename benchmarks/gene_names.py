"""Names of genes to human symbols, and how fast: ``python benchmarks/gene_names.py --data ../shared/data``.

30,000 names of each species are mapped, after the table of the species has been read and with that. Where Ensembl has
pairs of orthologues that are one-to-one and code for a protein, the table says how many of them get a symbol, and how
many of these the one that Ensembl has. Mouse has HGNC's orthologues; those of the others are Ensembl's own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import cycle, islice
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import cellhermes as ch

N_NAMES, N_ROUNDS = 30_000, 5


def pairs_of(path: Path, coding: set[str]) -> pd.DataFrame:
    """Pairs of one human gene that codes for a protein and one gene of the other species."""
    pairs = pd.read_csv(path, header=None, names=["human", "other"], dtype=str, keep_default_na=False)
    pairs = pairs[(pairs != "").all(axis=1)].drop_duplicates()
    once = ~pairs["human"].duplicated(keep=False) & ~pairs["other"].duplicated(keep=False)
    return pairs[once & pairs["human"].isin(coding)]


def seconds(names: list[str], species: str) -> float:
    """Time of one call on an object with these names."""
    var = pd.DataFrame({"name": names}, index=[str(i) for i in range(len(names))])
    adata = ad.AnnData(np.ones((1, len(names)), np.float32), var=var)
    start = time.perf_counter()
    ch.pp.map_genes(adata, species, gene_symbols="name")
    return time.perf_counter() - start


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the extracts")
    given = parser.parse_args()
    genes = pd.read_csv(given.data / "human_genes_grch38.tsv.gz", sep="\t", dtype=str, keep_default_na=False)
    coding = {*genes.loc[genes["biotype"] == "protein_coding", "symbol"]}
    print(f"| species | first call, s | later calls, s ({N_NAMES:,} names) | one-to-one pairs | mapped | as Ensembl |")
    print("|---|---|---|---|---|---|")
    for species in ("human", "mouse", "rhesus", "cynomolgus", "pig"):
        if species == "human":
            of = genes[genes["biotype"].eq("protein_coding") & genes["symbol"].ne("")].drop_duplicates("ensgene")
            of = of[of["chr"].str.fullmatch(r"\d+|[XY]|MT")]  # without alternative copies, which have ids of their own
            pairs = pd.DataFrame({"human": of["symbol"], "other": of["ensgene"]})
        else:
            pairs = pairs_of(given.data / "orthologues" / f"human_{species}.csv.gz", coding)
        names = [*islice(cycle(pairs["other"]), N_NAMES)]
        first, *later = [seconds(names, species) for _ in range(N_ROUNDS)]
        adata = ad.AnnData(np.ones((1, len(pairs)), np.float32), var=pd.DataFrame(index=pairs["other"].to_numpy()))
        ch.pp.map_genes(adata, species)
        symbols = adata.var["human_symbol"].to_numpy()
        alike = (symbols == pairs["human"].to_numpy())[symbols != ""].mean()
        print(
            f"| {species} | {first:.2f} | {statistics.median(later):.2f} | {len(pairs):,} | "
            f"{(symbols != '').mean():.1%} | {alike:.1%} |"
        )


if __name__ == "__main__":
    main()
