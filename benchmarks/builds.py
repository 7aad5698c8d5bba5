"""Two builds of cellhermes side by side: ``python benchmarks/builds.py ../before``.

``../before`` is a checkout of the build to compare with (``git worktree add ../before COMMIT``). Each task runs in one
process for each build, both alive at the same time; rounds are taken in turns after one that is not counted, and the
medians are compared. Each build runs its own copy of this script, as names of functions may differ; tasks have to be
the same. Prints a markdown table and exits with 1 where this build is slower than ``--limit`` allows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parents[1]


def counts(n_cells: int, n_genes: int = 5_000) -> object:
    """Generated counts under real symbols, of which a tenth are expressed."""
    import anndata as ad
    import pandas as pd
    from scipy import sparse

    import cellhermes as ch

    symbols = ch.datasets.toy(n_obs=10).var_names
    names = [*symbols, *(f"GENE{i}" for i in range(n_genes - len(symbols)))]
    values = sparse.random(n_cells, n_genes, 0.1, "csr", np.float32, np.random.default_rng(0))
    values.data = np.ceil(values.data * 20)
    var = pd.DataFrame({"sentence_gene": np.ones(n_genes, bool)}, index=names)
    return ad.AnnData(values, obs=pd.DataFrame(index=[f"cell{i}" for i in range(n_cells)]), var=var)


def read_cells(n_obs: int) -> object:
    """Generated cells with sentences, and log-normalised values."""
    import scanpy as sc

    import cellhermes as ch

    adata = ch.datasets.toy(n_obs=n_obs)
    ch.pp.cell_sentences(adata)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


def sentences() -> Callable[[], object]:
    import cellhermes as ch

    adata = counts(20_000)
    return lambda: ch.pp.cell_sentences(adata)


def sentences_out() -> Callable[[], object]:
    import cellhermes as ch

    adata, out = counts(20_000), Path("sentences.zarr")

    def run() -> None:
        shutil.rmtree(out, ignore_errors=True)
        ch.pp.cell_sentences(adata, out=out)

    return run


def load() -> Callable[[], object]:
    import cellhermes as ch

    return lambda: ch.CellHermes.from_pretrained("mini", device="cpu")


def embed_cells() -> Callable[[], object]:
    import cellhermes as ch

    adata, model = read_cells(600), ch.CellHermes.from_pretrained("mini", device="cpu")
    return lambda: ch.tl.embed_cells(adata, model)


def embed_cells_out() -> Callable[[], object]:
    import cellhermes as ch

    adata, model, out = read_cells(600), ch.CellHermes.from_pretrained("mini", device="cpu"), Path("vectors.zarr")

    def run() -> None:
        shutil.rmtree(out, ignore_errors=True)
        ch.tl.embed_cells(adata, model, out=out)

    return run


def embed_genes() -> Callable[[], object]:
    import cellhermes as ch

    adata, model = read_cells(600), ch.CellHermes.from_pretrained("mini", device="cpu")
    return lambda: ch.tl.embed_genes(adata, model, groupby="cell_type")


def genes_in_a_cell() -> Callable[[], object]:
    import cellhermes as ch

    model = ch.CellHermes.from_pretrained("mini", device="cpu")
    adata, wording = read_cells(10), ch.text.Template.load("gene_in_cell")
    sentence = adata.obs["cell_sentence"].iloc[0]
    prompts = [wording.fill(gene=gene, genes=sentence) for gene in adata.var_names[:256]]
    return lambda: model.embed(prompts)


def control() -> Callable[[], object]:
    import scanpy as sc

    import cellhermes as ch

    adata = counts(3_000, 2_000)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return lambda: ch.tl.gene_network(adata, use_rep="expression")


def modules() -> Callable[[], object]:
    import cellhermes as ch

    adata = read_cells(600)
    ch.tl.embed_genes(adata, groupby="cell_type", groups=["B", "NK"])

    def run() -> None:
        ch.tl.gene_network(adata, groupby="cell_type", groups=["B", "NK"])
        ch.tl.modules(adata, "B", "NK")

    return run


def answers() -> Callable[[], object]:
    import cellhermes as ch

    model = ch.CellHermes.from_pretrained("mini", device="cpu")
    prompts = [f"Is {gene} a T-cell gene?" for gene in ch.datasets.toy(n_obs=10).var_names]
    return lambda: model.score(prompts, ["Yes", "No", "Not known"])


def explain() -> Callable[[], object]:
    import cellhermes as ch

    adata, model = read_cells(150), ch.CellHermes.from_pretrained("mini", device="cpu")
    return lambda: ch.tl.explain(adata, model, "t_cell_reactivity")


def occlusion() -> Callable[[], object]:
    import cellhermes as ch

    adata, model = read_cells(2), ch.CellHermes.from_pretrained("mini", device="cpu")
    return lambda: ch.tl.explain(adata, model, "t_cell_reactivity", method="occlusion")


def annotations() -> Callable[[], object]:
    import cellhermes as ch

    rng, genes = np.random.default_rng(0), [f"GENE{i}" for i in range(3_000)]
    sets = {f"set {i}": rng.choice(genes, 60, replace=False).tolist() for i in range(400)}
    vectors = ch.baselines.embed_genes(genes, "random", n_components=256)

    def run() -> None:
        ch.metrics.semantic_correlation(vectors, sets)
        ch.metrics.cluster_enrichment(vectors, sets)

    return run


def edges() -> Callable[[], object]:
    import cellhermes as ch

    ends = np.random.default_rng(0).integers(15_000, size=(300_000, 2))
    Path("edges.tsv").write_text("".join(f"GENE{a}\tGENE{b}\n" for a, b in ends if a != b), "utf-8")
    return lambda: ch.io.read_edges("edges.tsv", header=False)


def corpus() -> Callable[[], object]:
    import cellhermes as ch

    adata, graph, path = read_cells(2_000), ch.datasets.ppi("toy"), Path("corpus.jsonl")

    def run() -> None:
        for file in Path().glob("corpus*"):
            file.unlink()
        pairs = [ch.train.corpus.mlm_pairs(adata), ch.train.corpus.node_pairs(graph), ch.train.corpus.link_pairs(graph)]
        ch.train.corpus.mixture(pairs, None).write(path)

    return run


def training() -> Callable[[], object]:
    import cellhermes as ch

    prompts = [ch.text.Prompt(f"Is {gene} a gene?") for gene in ch.datasets.toy(n_obs=10).var_names]
    pairs = [ch.text.QAPair(prompt, "Yes", "demo") for prompt in prompts]
    config, out = ch.train.TrainConfig(max_steps=6), Path("adapter")

    def run() -> None:
        shutil.rmtree(out, ignore_errors=True)
        ch.train.fit(pairs, config, out=out, device="cpu")

    return run


TASKS = {
    "sentences of 20,000 cells x 5,000 genes": sentences,
    "sentences of 20,000 cells, to a store": sentences_out,
    "loading mini": load,
    "600 cells by mini": embed_cells,
    "600 cells by mini, to a store": embed_cells_out,
    "genes in every type": embed_genes,
    "256 genes in a cell": genes_in_a_cell,
    "two networks and their modules": modules,
    "co-expression of 2,000 genes in 3,000 cells": control,
    "three answers to 326 questions": answers,
    "explaining 150 cells": explain,
    "explaining 2 cells by occlusion": occlusion,
    "annotations and clusters of 3,000 genes": annotations,
    "reading 300,000 edges": edges,
    "a corpus of 2,000 cells and a graph": corpus,
    "six steps of training, with loading and saving": training,
}


def work(task: str) -> None:
    """Run a task whenever a line comes in, and write how long it took."""
    import cellhermes as ch

    out = os.fdopen(os.dup(1), "w")  # progress and reports of libraries go elsewhere
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run = TASKS[task]()
        print(ch.__file__, file=out, flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            run()
            print(time.perf_counter() - start, file=out, flush=True)


@contextmanager
def worker(task: str, checkout: Path) -> Iterator[Callable[[], float]]:
    """Start the process of a build; what it gives runs the task once and returns the seconds that this took."""
    env = os.environ | {"PYTHONPATH": str(checkout / "src"), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-W", "ignore", str(checkout / "benchmarks" / "builds.py"), "--work", task]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        found = process.stdout.readline()
        if not found.startswith(str(checkout)):
            msg = f"{task}: expected the build in {checkout}, found {found.strip() or 'an error'}."
            raise SystemExit(msg)

        def run() -> float:
            process.stdin.write("\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                raise SystemExit(1)  # its error has been printed
            return float(answer)

        yield run


def compare(task: str, before: Path, rounds: int) -> tuple[float, float]:
    """Median seconds of this build and of the one before."""
    with worker(task, HERE) as ours, worker(task, before) as theirs:
        taken = [(ours(), theirs()) for _ in range(rounds + 1)][1:]
    return tuple(statistics.median(seconds) for seconds in zip(*taken, strict=True))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, nargs="?", help="a checkout of the build to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="tasks whose name holds this")
    parser.add_argument("--limit", type=float, default=1.03, help="how many times the seconds are allowed")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work)
        return 0
    print("| task | before, s | now, s | now / before |\n|---|---|---|---|")
    slower = False
    for task in TASKS:
        if given.only in task:
            now, before = compare(task, given.before.resolve(), given.rounds)
            slower |= now > given.limit * before
            print(f"| {task} | {before:.3f} | {now:.3f} | {now / before:.2f} |", flush=True)
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
