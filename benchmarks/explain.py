"""Time and memory of explanations: ``python benchmarks/explain.py``.

Cells of ``--genes`` genes, made up of the symbols of the generated cells, and the bundled model on the CPU. Prints a
markdown table; times are the best of ``--repeats`` rounds, taken in turn.

explain     ``tl.explain`` with attention, from the object to its tables: answers and importances of all cells
attend      the last layer's attention alone, against ``embed`` of the same questions: what the look at the weights
            costs on top of the hidden states (to be at most 1.1)
occlusion   ``tl.explain`` with ``method="occlusion"``, of ``--occluded`` cells
memory      largest resident size of a fresh process that explains one block of cells (2,000), and one that explains
            ``--blocks`` of them; sentences, the object and the results grow, the computation must not
"""

import argparse
import resource
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from shared import in_turn

import cellhermes as ch

TASK = "t_cell_reactivity"


def cells(n: int, n_genes: int) -> ad.AnnData:
    """Cells with random sentences: what an explanation costs does not depend on which genes there are."""
    genes = [*ch.datasets.toy(n_obs=10).var_names]
    rng = np.random.default_rng(0)
    sentences = [" ".join(rng.choice(genes, n_genes, replace=False)) for _ in range(n)]
    adata = ad.AnnData(sparse.csr_matrix((n, len(genes)), dtype=np.float32), var=pd.DataFrame(index=genes))
    adata.obs["cell_sentence"] = sentences
    return adata


def memory(n: int, n_genes: int) -> float:
    """Megabytes of a fresh process that explains so many cells."""
    command = [sys.executable, __file__, "--explain", str(n), "--genes", str(n_genes)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000)
    parser.add_argument("--genes", type=int, default=100)
    parser.add_argument("--occluded", type=int, default=20)
    parser.add_argument("--block", type=int, default=2_000)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--explain", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    model = ch.CellHermes.from_pretrained("mini", device="cpu")
    if options.explain:
        ch.tl.explain(cells(options.explain, options.genes), model, TASK)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    adata = cells(options.cells, options.genes)
    prompts = ch.text.Task.load(TASK).prompts(adata.obs)
    few = adata[: options.occluded].copy()
    taken = in_turn(
        options.repeats,
        attend=lambda: model.attend(prompts),
        embed=lambda: model.embed(prompts),
        explain=lambda: ch.tl.explain(adata, model, TASK),
    )
    taken |= in_turn(1, occlusion=lambda: ch.tl.explain(few, model, TASK, method="occlusion"))
    one, several = (memory(n * options.block, options.genes) for n in (1, options.blocks))
    print("| what | measured |\n|---|---|")
    print(f"| explain, {options.cells:,} cells of {options.genes} genes | {taken['explain']:.1f} s |")
    print(f"| attend | {taken['attend']:.1f} s |\n| embed | {taken['embed']:.1f} s |")
    print(f"| attend / embed | {taken['attend'] / taken['embed']:.2f} |")
    print(f"| occlusion, {options.occluded:,} cells | {taken['occlusion']:.1f} s |")
    print(f"| memory, {options.block:,} cells | {one:,.0f} MB |")
    print(f"| memory, {options.blocks * options.block:,} cells | {several:,.0f} MB |")


if __name__ == "__main__":
    main()
