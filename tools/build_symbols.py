"""Write the list of human gene symbols that ships in the package.

Input: a table of the Ensembl genes of GRCh38 with the columns ``symbol`` and ``biotype`` (for example the
``grch38`` table of annotables). Only facts are carried over: the symbol, and whether a gene of that symbol is
protein coding. Ensembl imposes no restriction on the use of its data.

    python tools/build_symbols.py human_genes_grch38.tsv.gz
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import pandas as pd

OUT = Path(__file__).parents[1] / "src/cellhermes/human_symbols.tsv.gz"
HEADER = (
    "# Human gene symbols of Ensembl (GRCh38, all biotypes) and whether a gene of that symbol is protein coding.\n"
    "# Facts from Ensembl, whose data may be used without restriction. Made by tools/build_symbols.py.\n"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()

    genes = pd.read_csv(args.table, sep="\t", usecols=["symbol", "biotype"], dtype=str, keep_default_na=False)
    coding = genes[genes["symbol"] != ""].groupby("symbol")["biotype"].agg(lambda b: int("protein_coding" in set(b)))
    text = HEADER + coding.sort_index().rename("protein_coding").to_csv(sep="\t", lineterminator="\n")
    args.out.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))  # mtime 0: same input, same bytes
    print(f"{len(coding)} symbols, {coding.sum()} protein coding -> {args.out} ({args.out.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
