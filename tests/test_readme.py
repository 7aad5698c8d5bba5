"""README's blocks, run as a new user runs them: one after another, in an installation without extras."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import cellhermes as ch

ROOT = Path(__file__).parents[1]
HIDE = """
import sys
from importlib.machinery import PathFinder

class Others(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Others
"""


def installed_with(name: str, extras: frozenset[str] = frozenset(), seen: set[str] | None = None) -> set[str]:
    """Distributions that ``pip install NAME`` brings, of those that are here."""
    seen = set() if seen is None else seen
    key = re.sub(r"[-_.]+", "-", name).lower()
    if (key, extras) in seen:
        return seen
    seen.add((key, extras))
    try:
        requires = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return seen
    for requirement in map(Requirement, requires):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            installed_with(requirement.name, frozenset(requirement.extras), seen)
    return seen


def modules_of_extras() -> set[str]:
    """Top-level modules of what only an extra of ours brings."""
    base = {name for name, _ in installed_with("cellhermes")}
    all_of = {name for name, _ in installed_with("cellhermes", frozenset({"test", "doc", "metrics"}))}
    extra = all_of - base
    owners = metadata.packages_distributions()
    return {
        module for module, names in owners.items() if {re.sub(r"[-_.]+", "-", name).lower() for name in names} <= extra
    }


@pytest.fixture(scope="module")
def base_install(tmp_path_factory):
    """Run code or the command line in a process that has none of the extras, in a folder with a user's files."""
    folder = tmp_path_factory.mktemp("user")
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(f"HIDDEN = {sorted(modules_of_extras())!r}\n{HIDE}", encoding="utf-8")
    source = str(Path(ch.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), source]), "MPLBACKEND": "agg", "TQDM_DISABLE": "1"}
    env |= {"CELLHERMES_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-W", "ignore", *arguments],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    adata = ch.datasets.toy(n_obs=60)
    for name in ("cells.h5ad", "big.h5ad"):
        adata.write_h5ad(folder / name)
    genes = list(adata.var_names)
    sets = [f"SET{i}\t\t" + "\t".join(genes[i : i + 40]) for i in range(0, 200, 40)]
    (folder / "go_bp.gmt").write_text("\n".join(sets), encoding="utf-8")
    (folder / "pairs.csv").write_text("gene_a,gene_b,answer\nTP53,MDM2,Yes\nCD3E,LYZ,No\n", encoding="utf-8")
    edges = [f"{a}\t{b}" for a, b in ch.datasets.ppi("toy").edges]
    ch.pp.cell_sentences(adata)
    ch.train.corpus.mlm_pairs(adata).write(folder / "corpus.jsonl")
    (folder / "edges.tsv").write_text("\n".join(["a\tb", *edges]), encoding="utf-8")
    run.folder = folder
    return run


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)


def test_hidden_modules_are_those_of_the_extras(base_install):
    hidden = modules_of_extras()
    assert {"peft", "accelerate", "trl", "dask", "xarray", "bitsandbytes", "pytest"} <= hidden
    assert not {"torch", "transformers", "scanpy", "anndata", "zarr", "numba"} & hidden
    assert "No module named 'peft'" in base_install("-c", "import peft").stderr


def test_shell_blocks_run_or_name_the_extra(base_install):
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("cellhermes ")]
    assert len(commands) > 1
    for command in commands:
        words = command.replace("corpus.jsonl", "made.jsonl").split()[1:]
        if "--graph" in words:  # a file of BioGRID's, which is not ours to ship
            words[words.index("--graph") + 1] = "edges.tsv"
        done = base_install("-m", "cellhermes", *words)
        assert done.returncode == 0 or "pip install 'cellhermes[" in done.stderr, (command, done.stderr)


@pytest.mark.slow
def test_python_blocks_run_or_name_the_extra(base_install):
    first, *others = blocks("python")
    first = first.replace("ch.datasets.toy()", "ch.datasets.toy(n_obs=80)")  # fewer cells, as they are explained, too
    code = f"import pandas as pd\n{first}\nprint('the first block ran')\n"
    for block in others:
        code += f"try:\n    exec({block!r})\nexcept ImportError as error:\n    print('extra:', error)\n"
    done = base_install("-c", code)
    assert done.returncode == 0, done.stderr
    assert "the first block ran" in done.stdout
    extras = [line for line in done.stdout.splitlines() if line.startswith("extra:")]
    assert [re.search(r"pip install 'cellhermes\[(\w+)\]'", line)[1] for line in extras] == ["train", "lazy"]


# What needs an extra, by the extra and the module that it brings.
CALLS = {
    ("train", "accelerate"): "ch.train.fit('corpus.jsonl', out='tuned')",
    ("train", "peft"): "ch.CellHermes.from_pretrained('adapter')",
    ("train", "peft "): "ch.train.merge(base, 'adapter', 'merged')",
    ("train", "pyarrow"): "ch.train.corpus.list_pairs(ch.datasets.ppi('toy'), 'walk', n_pairs=1).write('c.parquet')",
    ("train", "pyarrow "): "ch.io.read_embeddings('a.parquet')",
    ("gguf", "gguf"): "ch.CellHermes.from_pretrained('model.gguf')",
    ("rl", "trl"): "ch.train.reinforce(pairs, 'genetic_interaction_synthetic', out='reasons')",
    ("quantize", "bitsandbytes"): "ch.CellHermes.from_pretrained('mini', quantize='4bit')",
    ("lazy", "dask"): "ch.tl.embed_cells('store.zarr', out='vectors')",
    ("metrics", "xgboost"): "ch.metrics.gene_property(vectors, labels, classifier='xgb')",
    ("metrics", "scib_metrics"): "ch.metrics.integration({'a': x}, batch, batch)",
    ("metrics", "harmonypy"): "ch.baselines.embed_cells(x, batch, methods=['Harmony'])",
    ("scvi", "scvi"): "ch.baselines.embed_cells(x, batch, methods=['scVI'], counts=x)",
}
BEFORE = """
import numpy as np, pandas as pd, cellhermes as ch
x, batch = np.random.default_rng(0).poisson(2, (40, 30)).astype("float32"), ["a", "b"] * 20
genes = [f"GENE{i}" for i in range(40)]
labels, vectors = pd.DataFrame({"gene": genes, "answer": batch}), pd.DataFrame(x, index=genes)
pairs = {"gene_a": ["A", "B"], "gene_b": ["C", "D"], "answer": ["Yes", "No"]}
"""


def test_every_call_that_needs_an_extra_names_it(base_install, add_adapter, folders):
    add_adapter(folders("llama"), base_install.folder / "adapter", 0)
    ch.datasets.toy(n_obs=5).write_zarr(base_install.folder / "store.zarr")
    (base_install.folder / "a.parquet").write_bytes(b"PAR1")
    (base_install.folder / "model.gguf").write_bytes(b"GGUF")
    code = f"base = {str(folders('llama'))!r}{BEFORE}"
    for call in CALLS.values():
        code += f"try:\n    {call}\n    print('nothing')\nexcept Exception as error:\n    print(repr(str(error)))\n"
    told = base_install("-c", code)
    assert told.returncode == 0, told.stderr
    named = [re.findall(r"pip install 'cellhermes\[(\w+)\]'", line) for line in told.stdout.splitlines()]
    assert dict(zip(CALLS, named, strict=True)) == {key: [key[0]] for key in CALLS}, told.stdout


def test_the_command_line_names_the_extra_before_the_work(base_install):
    done = base_install(
        "-m", "cellhermes", "predict", "pairs.csv", "out.parquet", "--task", "genetic_interaction_general"
    )
    assert done.returncode != 0
    assert "out.parquet needs pyarrow: pip install 'cellhermes[train]'" in done.stderr


def test_no_module_of_an_extra_is_imported_that_the_calls_above_leave_out():
    texts = [path.read_text("utf-8") for path in Path(ch.__file__).parent.rglob("*.py")]
    tops = {name for text in texts for name in re.findall(r"^ *(?:from|import) (\w+)", text, re.M)}
    asked = {module.strip() for _, module in CALLS} | {"datasets"}  # which comes with trl
    assert tops & (modules_of_extras() | {"scvi"}) <= asked


@pytest.mark.slow
def test_the_first_block_runs_on_as_many_cells_as_scanpy_searches_with_its_index(base_install):
    first = blocks("python")[0].replace("ch.datasets.toy()", "ch.datasets.toy(n_obs=9000)")
    assert "9000" in first
    done = base_install("-c", first)
    assert done.returncode == 0, done.stderr
