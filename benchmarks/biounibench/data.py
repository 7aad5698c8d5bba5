"""Questions of all test settings, from the extracts of real data in a folder; generated stand-ins where there is none.

``settings(folder)`` gives a frame for each task and setting, with the columns of the task, its answers and ``split``.
``frame.attrs`` says what it is: ``task``, ``setting``, ``source`` (file names), ``synthetic``, and for pairs of genes
how many of those with the answer Yes are edges of the BioGRID extract (``known_edges``), which mixes kinds of evidence
and may have been in a model's pretraining. A stand-in only shows that code runs: its answers follow a rule that we made
up, so it makes no claim.

    python benchmarks/biounibench/data.py ../shared/data
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scanpy as sc

import cellhermes as ch

if TYPE_CHECKING:
    from collections.abc import Callable

PAIR = ("gene_a", "gene_b")
PERTURBED = ("perturbation_deg", "perturbation_direction")  # tasks of the settings of perturbations
APART: dict[str, tuple[str, ...]] = {  # settings, and the columns whose values no training question shares with a test
    "perturbation/unseen_gene": ("perturbation",),
    "perturbation/unseen_combination": ("perturbation",),
    "perturbation/unseen_cell_line": ("cell_line",),
    "cell_fitness/unseen_gene": ("gene",),
    "cell_fitness/unseen_cell_line": ("cell_line",),
    **{f"genetic_interaction_{kind}": PAIR for kind in ("synthetic", "phenotypic", "general", "dosage")},
    **{f"gene_set_{kind}": ("gene", "category") for kind in ("cell_type", "disease", "phenotype", "rare_disease")},
    "t_cell_reactivity/cell": (),  # what the task shows
    "t_cell_reactivity/clonotype": ("clonotype",),
}
MIN_GENES = 30  # of a category: enough for questions in each part
MAX_QUESTIONS = {"train": 20, "valid": 3, "test": 5}  # of a category
MANY = 4000  # rows of a stand-in
STIMULUS = "interferon beta"  # of Kang et al. 2018


def settings(folder: str | Path, *, max_answers: int = 0, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Frames by ``task/what is unseen``, or by task alone where there is one setting.

    Parameters
    ----------
    folder
        Where the extracts lie; what is missing there is replaced by a stand-in.
    max_answers
        Categories of gene sets, at most: those with most genes. 0 takes all with 30 genes.
    seed
        Seed of splits, negatives and stand-ins.
    """
    folder = Path(folder)
    made: dict[str, pd.DataFrame] = {}
    for setting in APART:
        frame, files = _frame(folder, setting, max_answers, seed)
        for task in PERTURBED if setting.startswith("perturbation") else [setting.partition("/")[0]]:
            one = _of_task(frame, task, setting, seed)
            _, _, suffix = setting.partition("/")
            name = f"{task}/{suffix}" if suffix else task
            one.attrs = {"task": task, "setting": setting, "source": files, "synthetic": not files}
            if PAIR[0] in one and files:
                one.attrs["known_edges"] = _known_edges(folder, one)
            made[name] = one
    return made


def _frame(folder: Path, setting: str, max_answers: int, seed: int) -> tuple[pd.DataFrame, list[str]]:
    """The split frame of a setting, and the files that it is from (none for a stand-in)."""
    categories = partial(_categories, max_answers=max_answers)
    makers: dict[str, tuple[Callable[[list[Path]], pd.DataFrame], list[str]]] = {
        "perturbation/unseen_cell_line": (_stimulation, ["kang_labelled_1267genes.h5ad"]),
        "cell_fitness/unseen_gene": (_essential, ["essential_genes_cegv2.tsv", "nonessential_genes_negv1.tsv"]),
        "genetic_interaction_general": (_norman_scores, ["norman2019_k562_crispra_gi_scores.csv.gz"]),
        "genetic_interaction_synthetic": (
            _norman_fitness,
            [f"norman2019_k562_crispra_{kind}" for kind in ("pair_fitness.csv.gz", "single_fitness.csv")],
        ),
        "gene_set_cell_type": (categories, ["cell_markers_cellmatch_human.tsv.gz"]),
        "gene_set_disease": (categories, ["disgenet_gene_disease.tsv.gz"]),
        "gene_set_phenotype": (categories, ["hpo_gene_phenotype.tsv.gz"]),
    }
    maker, names = makers.get(setting, (None, []))
    paths = [folder / name for name in names]
    is_real = maker is not None and all(path.is_file() for path in paths)
    frame = maker(paths) if is_real else _stand_in(setting, np.random.default_rng([seed, len(setting)]))
    fractions = (
        (0.6, 0.2, 0.2)
        if setting in {"perturbation/unseen_cell_line", "perturbation/unseen_combination"}
        else (0.8, 0.1, 0.1)
    )
    return ch.train.questions.split(frame, setting, fractions=fractions, seed=seed), names if is_real else []


def _of_task(frame: pd.DataFrame, task: str, setting: str, seed: int) -> pd.DataFrame:
    """What a task asks of the frame: as many rows of each answer; or lists of genes."""
    if task.startswith("gene_set"):
        questions = ch.train.questions.gene_set_questions(frame, max_questions=max(MAX_QUESTIONS.values()), seed=seed)
        place = questions.groupby(["answer", "split"]).cumcount()
        return questions[place < questions["split"].map(MAX_QUESTIONS)].reset_index(drop=True)
    if task == "perturbation_direction":
        frame, label, within = frame[frame["answer"] == "Yes"], "direction", []
    else:
        label = "answer"
        within = ["perturbation", "cell_line"] if setting.startswith("perturbation") else []
    return ch.train.questions.balance(frame, within=within, label=label, seed=seed).reset_index(drop=True)


# ------------------------------------------------------------------------------------------------------- real data


def _stimulation(paths: list[Path]) -> pd.DataFrame:
    adata = sc.read_h5ad(paths[0])
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.obs["stimulus"] = adata.obs["condition"].astype(str).replace("stim", STIMULUS)
    return ch.pp.perturbation_effects(adata, "stimulus", "ctrl", cell_line="cell_type")


def _essential(paths: list[Path]) -> pd.DataFrame:
    parts = [
        pd.read_csv(path, sep="\t").assign(answer=answer) for path, answer in zip(paths, ("Yes", "No"), strict=True)
    ]
    frame = pd.concat(parts, ignore_index=True).rename(columns={"GENE": "gene"})
    frame = frame[~frame["gene"].duplicated(keep=False)]
    return frame[["gene", "answer"]].assign(cell_line="most human cell lines")


def _norman_scores(paths: list[Path]) -> pd.DataFrame:
    """Interaction by score: the strongest tenth, either sign, against the weaker half."""
    score = _upper(pd.read_csv(paths[0], index_col=0)).abs()
    return _ends(score, high="Yes", low="No")


def _norman_fitness(paths: list[Path]) -> pd.DataFrame:
    """Synthetic sickness: fitness of the pair far below that of either gene, against the half that is least so."""
    pair = _upper(pd.read_csv(paths[0], index_col=0))
    single = pd.read_csv(paths[1], index_col=0)["average_fitness"]
    a, b = (pair.index.get_level_values(level) for level in PAIR)
    known = a.isin(single.index) & b.isin(single.index)
    pair = pair[known]
    sicker = np.minimum(single[a[known]].to_numpy(), single[b[known]].to_numpy()) - pair
    return _ends(sicker, high="Yes", low="No")


def _upper(square: pd.DataFrame) -> pd.Series:
    """Values of the pairs of a symmetric table, each pair once."""
    genes = [gene for gene in square.index if gene in square.columns]
    values = square.loc[genes, genes].to_numpy(float)
    i, j = np.triu_indices(len(genes), 1)
    index = pd.MultiIndex.from_arrays([np.array(genes)[i], np.array(genes)[j]], names=PAIR)
    return pd.Series(values[i, j], index).dropna()


def _ends(values: pd.Series, *, high: str, low: str) -> pd.DataFrame:
    frame = values.rename("value").reset_index()
    answer = np.where(frame["value"] >= frame["value"].quantile(0.9), high, low)
    kept = (frame["value"] >= frame["value"].quantile(0.9)) | (frame["value"] <= frame["value"].median())
    return frame.assign(answer=answer)[kept].reset_index(drop=True)


def _categories(paths: list[Path], *, max_answers: int) -> pd.DataFrame:
    frame = ch.io.read_gene_categories(paths[0])
    frame = frame[~frame["category"].str.contains("inheritance|^All$", regex=True)]  # of HPO: how it is inherited
    counts = frame["category"].value_counts()
    counts = counts[counts >= MIN_GENES].sort_index().sort_values(ascending=False, kind="stable")
    frame = frame[frame["category"].isin(counts.index[: max_answers or None])]
    return frame[["gene", "category"]].drop_duplicates().reset_index(drop=True)


def _known_edges(folder: Path, frame: pd.DataFrame) -> str:
    path = folder / "biogrid_4.4.232_human_edges.tsv.gz"
    if not path.is_file():
        return "BioGRID extract not there"
    edges = pd.read_csv(path, sep="\t", usecols=["symbol_a", "symbol_b"], dtype=str, keep_default_na=False)
    known = {frozenset(pair) for pair in zip(edges["symbol_a"], edges["symbol_b"], strict=True)}
    asked = frame[(frame["split"] == "test") & (frame["answer"] == "Yes")]
    n_known = sum(frozenset(pair) in known for pair in zip(asked["gene_a"], asked["gene_b"], strict=True))
    return f"{n_known} of {len(asked)} test pairs with the answer Yes"


# ------------------------------------------------------------------------------------------------------ stand-ins


def _stand_in(setting: str, rng: np.random.Generator) -> pd.DataFrame:
    """Questions with answers by a rule of hidden numbers of genes and cells, which has no meaning."""
    genes = np.array(sorted(ch.datasets.toy(n_obs=1).var_names))
    hidden = dict(zip(genes, rng.normal(size=(len(genes), 4)), strict=True))
    if setting.startswith("perturbation"):
        return _shown(_effects(genes, hidden, rng), rng)
    if setting.startswith("cell_fitness"):
        lines = {f"line {i}": rng.normal(size=4) for i in range(30)}
        rows = [(line, gene, "Yes" if hidden[gene] @ of > 0 else "No") for line, of in lines.items() for gene in genes]
        return _shown(pd.DataFrame(rows, columns=["cell_line", "gene", "answer"]), rng)
    if setting.startswith("genetic_interaction"):
        pairs = {tuple(sorted(rng.choice(genes, 2, replace=False))) for _ in range(MANY)}
        rows = [(a, b, "Yes" if hidden[a] @ hidden[b] > 0 else "No") for a, b in sorted(pairs)]
        return pd.DataFrame(rows, columns=[*PAIR, "answer"])
    if setting.startswith("gene_set"):
        names = [f"category {i}" for i in range(8)]
        of = rng.normal(size=(len(names), 4))
        rows = [(gene, names[k]) for gene in genes for k in np.argsort(-(of @ hidden[gene]))[:3]]
        return pd.DataFrame(rows, columns=["gene", "category"])
    adata = ch.datasets.toy(n_obs=600, rng=rng)
    adata = adata[adata.obs["cell_type"].astype(str).str.contains("T")].copy()
    ch.pp.cell_sentences(adata)
    strength = adata.to_df() @ np.array([hidden[gene][0] for gene in adata.var_names])
    frame = pd.DataFrame({"cell_sentence": adata.obs["cell_sentence"]}).reset_index(names="cell")
    frame["clonotype"] = [f"clonotype {i}" for i in rng.integers(60, size=len(frame))]
    frame["answer"] = np.where(strength > np.median(strength), "Reactive", "Non-Reactive")
    return frame


def _shown(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """With the genes of a generated cell for each line; they say nothing of the answers."""
    lines = frame["cell_line"].unique()
    adata = ch.datasets.toy(n_obs=len(lines), rng=rng)
    ch.pp.cell_sentences(adata, n_genes=30)
    return frame.assign(cell_sentence=frame["cell_line"].map(dict(zip(lines, adata.obs["cell_sentence"], strict=True))))


def _effects(genes: np.ndarray, hidden: dict[str, np.ndarray], rng: np.random.Generator) -> pd.DataFrame:
    lines = {f"line {i}": rng.normal(size=4) for i in range(8)}
    single = rng.choice(genes, 40, replace=False).tolist()
    both = ["+".join(sorted(rng.choice(single, 2, replace=False))) for _ in range(120)]
    rows = []
    for perturbation in dict.fromkeys(single + both):
        push = sum(hidden[gene] for gene in perturbation.split("+"))
        for line, of in lines.items():
            for gene in rng.choice(genes, 20, replace=False):
                effect = float(np.tanh(push * of) @ hidden[gene])
                rows.append((perturbation, line, gene, effect, "Yes" if abs(effect) > 1 else "No"))
    frame = pd.DataFrame(rows, columns=["perturbation", "cell_line", "gene", "log2fc", "answer"])
    frame["direction"] = pd.Series(np.where(frame["log2fc"] > 0, "Up", "Down"), dtype=object).where(
        frame["answer"] == "Yes"
    )
    return frame


if __name__ == "__main__":
    for name, frame in settings(sys.argv[1] if len(sys.argv) > 1 else "../shared/data").items():
        label = ch.text.Task.load(frame.attrs["task"]).label
        parts = frame["split"].value_counts().to_dict()
        kind = "synthetic" if frame.attrs["synthetic"] else ", ".join(frame.attrs["source"])
        print(f"{name:42} {parts}, {frame[label].nunique()} answers; {kind} {frame.attrs.get('known_edges', '')}")
