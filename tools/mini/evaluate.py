"""Measures ``mini`` and its baselines on data that training never sees.

Every number stands beside random vectors, an untrained model of the same shape, the start values, character n-grams of
the symbols, and what expression or the training graphs give by themselves. What depends on a seed is measured with
seeds 0 to 4: a result is the list of its values.
"""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score
from sklearn.preprocessing import normalize
from transformers import LlamaConfig

import cellhermes as ch

from . import inputs, model, recipe, tokenizer

log = logging.getLogger("cellhermes.mini")
SEEDS = range(5)
LABELS = ("gene_labels/gene_classification_labels.tsv", "gene_labels/notch1_labels.tsv")
TEST_CELLS = {"pbmc3k": ("pbmc3k_labelled.h5ad", "cell_type"), "pbmc68k": ("pbmc68k_reduced.h5ad", "bulk_labels")}
TEST_BATCHES = {
    "two_batches": ("pbmc_two_batches.h5ad", "batch"),
    "three_technologies": ("pbmc_three_technologies.h5ad", "batch"),
}
N_PAIRS = 20_000  # of the 263,016 training pairs, for time
N_LINKS = 1000  # held-out edges that are asked for, each with a negative
Values = dict[str, list[float]]  # embedding to its values, one for each seed


def evaluate(folder: Path, data: Path, seed: int) -> dict[str, Values]:
    """All numbers, by measure and then by embedding."""
    symbols, all_edges = inputs.read_symbols(data)
    edges, held_out = inputs.split_edges(all_edges, symbols, seed)
    string = inputs.read_string(data, symbols, held_out)
    cells = [inputs.read_cells(data / name) for name in inputs.CELLS]
    factors = model.joined(
        model.start_factors(edges, string, [inputs.ranked(c, symbols) for c in cells], len(symbols), seed)
    )
    with tempfile.TemporaryDirectory() as work:
        models = dict(_models(folder, Path(work), factors, symbols, seed))
    table = model.load(folder).model.embed_tokens.weight.detach().numpy()
    token = _tokens(folder, symbols)
    prompts = [ch.text.Template.load("gene").fill(gene=symbol) for symbol in symbols]
    half = table.shape[1] // 2
    both = [model.graph_factors(graph, len(symbols), half, seed) for graph in (edges, string)]
    genes = {name: one.embed(prompts) for name, one in models.items()} | {
        "token table": table[token],
        "start factors": factors,
        "SVD of both graphs": np.hstack(both),
        "SVD of BioGRID": model.graph_factors(edges, len(symbols), table.shape[1], seed),
        "expression PCA": expression_pca(cells[0], symbols, seed),
        "character n-grams": ch.baselines.embed_genes(symbols, "ngrams", rng=seed).to_numpy(),
        "random": np.random.default_rng(seed).normal(size=(len(symbols), table.shape[1])).astype(np.float32),
    }
    results = {"gene_pairs": gene_pairs(genes, symbols, data)}
    results |= gene_classes(genes, symbols, data)
    results["held_out_edges"] = held_out_edges(genes, edges, held_out, seed)
    words = dict(zip(symbols, table[token], strict=True))
    for name, (file, label) in TEST_CELLS.items():
        results |= cell_types(name, data / file, label, models, words)
    for name, (file, batch) in TEST_BATCHES.items():
        results |= integration(name, data / file, batch, models, words)
    name = np.array(symbols, object)
    for suffix, sizes in (("", (30, 20, 10)), ("_short", recipe.N_NEIGHBORS)):
        found = masked_link(models["mini"], name[edges], name[held_out], genes, symbols, sizes)
        results |= {key.replace("masked_link", f"masked_link{suffix}"): part for key, part in found.items()}
    results |= masked_node(models["mini"], table, token, name, edges, held_out)
    return results


def _models(
    folder: Path, work: Path, factors: np.ndarray, symbols: list[str], seed: int
) -> Iterator[tuple[str, ch.CellHermes]]:
    """The model, the same shape without training, and the start values."""
    config, token = LlamaConfig.from_pretrained(folder), _tokens(folder, symbols)
    start = model.start_table(factors, token, config, seed)
    yield "mini", _load(folder)
    for name, values in (("untrained model", None), ("start values", start)):
        model.save_model(model.make_model(config, values, seed), work / name, torch.float32)
        for file in tokenizer.FILES:
            (work / name / file).write_bytes((folder / file).read_bytes())
        yield name, _load(work / name)


def _load(folder: Path) -> ch.CellHermes:
    return ch.CellHermes.from_pretrained(folder, device="cpu", wrap="llama3-chat-blank")


def _tokens(folder: Path, symbols: list[str]) -> np.ndarray:
    tok = tokenizer.load(folder)
    return np.array([tok.token_to_id(f"Ġ{symbol}") for symbol in symbols])


# Genes ---------------------------------------------------------------------------------------------------------------


def expression_pca(adata: ad.AnnData, symbols: list[str], seed: int) -> np.ndarray:
    """Genes in the principal components of the largest training data set; zeros where it has them not."""
    adata = adata[:, adata.var_names.isin(symbols)]
    found = ch.baselines.embed_genes(adata.var_names, "pca", expression=adata.X, n_components=50, rng=seed)
    return found.reindex(symbols, fill_value=0).to_numpy()


def gene_pairs(genes: dict[str, np.ndarray], symbols: list[str], data: Path) -> Values:
    """ROC-AUC of a random forest on summed vectors of two genes, training part to validation part."""
    tables = _tables(genes, symbols)
    train, test = (pd.read_csv(data / f"ggi_{part}.tsv.gz", sep="\t") for part in ("train", "valid"))
    forest = RandomForestClassifier(min_samples_leaf=2, n_jobs=2)
    found = [
        ch.metrics.gene_pairs(tables, train, test, classifier=forest, label="label", max_pairs=N_PAIRS, rng=seed)
        for seed in SEEDS
    ]
    log.info("gene pairs: %.3f of the tested genes in training pairs", found[0]["gene_overlap"].max())
    scores = _by_embedding(found)
    log.info("gene pairs %s", _means(scores))
    return scores


def gene_classes(genes: dict[str, np.ndarray], symbols: list[str], data: Path) -> dict[str, Values]:
    """ROC-AUC of a random forest in stratified five-fold cross-validation, each seed with its own folds."""
    tables = _tables(genes, symbols)
    labels = pd.concat([ch.io.read_gene_labels(data / file) for file in LABELS])
    forest = RandomForestClassifier(n_jobs=2)
    found = [ch.metrics.gene_property(tables, labels, classifier=forest, pooled=True, rng=seed) for seed in SEEDS]
    results = {
        task: _by_embedding([part[part["task"] == task] for part in found]) for task in found[0]["task"].unique()
    }
    for task, scores in results.items():
        log.info("%s %s", task, _means(scores))
    return results


def _tables(genes: dict[str, np.ndarray], symbols: list[str]) -> dict[str, pd.DataFrame]:
    return {name: pd.DataFrame(x, index=symbols) for name, x in genes.items()}


def _by_embedding(found: list[pd.DataFrame]) -> Values:
    """Values of each embedding, one for each seed."""
    table = pd.concat(found)
    return {name: part["roc_auc"].tolist() for name, part in table.groupby("embedding", sort=False)}


def held_out_edges(genes: dict[str, np.ndarray], edges: np.ndarray, held_out: np.ndarray, seed: int) -> Values:
    """ROC-AUC of the cosine: held-out edges against non-edges whose ends have the same degrees."""
    a, b = degree_matched(edges, held_out, seed)
    y = np.r_[np.ones(len(a)), np.zeros(len(b))]
    scores = {}
    for name, x in genes.items():
        unit = normalize(x)
        cosine = [np.einsum("ij,ij->i", unit[pairs[:, 0]], unit[pairs[:, 1]]) for pairs in (a, b)]
        scores[name] = [roc_auc_score(y, np.concatenate(cosine))]
    degree = np.bincount(edges.ravel(), minlength=len(unit)).astype(float)
    scores["degree product"] = [roc_auc_score(y, np.concatenate([degree[a].prod(1), degree[b].prod(1)]))]
    log.info("held-out edges %s", _means(scores))
    return scores


def degree_matched(edges: np.ndarray, held_out: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Held-out edges, and non-edges made by exchanging their second ends."""
    n = int(max(edges.max(), held_out.max())) + 1
    known = set((np.sort(np.concatenate([edges, held_out]), axis=1) @ np.array([n, 1])).tolist())
    other = np.column_stack([held_out[:, 0], np.random.default_rng(seed).permutation(held_out[:, 1])])
    code = np.sort(other, axis=1) @ np.array([n, 1])
    free = np.array([c not in known for c in code.tolist()]) & (other[:, 0] != other[:, 1])
    return held_out, other[free]


# Cells ---------------------------------------------------------------------------------------------------------------


def _cells(path: Path) -> ad.AnnData:
    adata = ad.read_h5ad(path)
    ch.pp.cell_sentences(adata, use_raw=adata.raw is not None)
    return adata


def representations(
    adata: ad.AnnData, models: dict[str, ch.CellHermes], words: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Vectors of the cells: the models' defaults, and what is had without a language model."""
    sentences = [sentence.split() for sentence in adata.obs["cell_sentence"]]
    found = {}
    for name, one in models.items():
        ch.tl.embed_cells(adata, one, key_added="X")
        found[name] = adata.obsm.pop("X")
    tfidf = TfidfVectorizer(analyzer=str.split).fit_transform(adata.obs["cell_sentence"])
    return found | {
        "mean of token table": np.stack([np.mean([words[g] for g in s if g in words], axis=0) for s in sentences]),
        "TF-IDF of the same genes": TruncatedSVD(50, random_state=0).fit_transform(tfidf),
        "PCA of expression": cell_pca(adata),
        "random": np.random.default_rng(0).normal(size=(adata.n_obs, 50)),
    }


def cell_types(
    name: str, path: Path, label: str, models: dict[str, ch.CellHermes], words: dict[str, np.ndarray]
) -> dict[str, Values]:
    """Accuracy of kNN (15 neighbours, five folds) and k-means NMI of cell vectors against cell-type labels."""
    adata = _cells(path)
    y = adata.obs[label].astype(str).to_numpy()
    cells = representations(adata, models, words)
    knn = {key: [ch.metrics.knn_accuracy(x, y, rng=seed) for seed in SEEDS] for key, x in cells.items()}
    nmi = {key: [kmeans_nmi(x, y, seed) for seed in SEEDS] for key, x in cells.items()}
    log.info("%s kNN %s", name, _means(knn))
    log.info("%s NMI %s", name, _means(nmi))
    return {f"{name}_knn": knn, f"{name}_nmi": nmi}


def cell_pca(adata: ad.AnnData) -> np.ndarray:
    """50 components of 2,000 variable genes, as scanpy's tutorials do; of the given scaled matrix if there is one."""
    if adata.raw is not None:
        return PCA(50, random_state=0).fit_transform(adata.X)
    counts = sp.csr_matrix(adata.X, dtype=np.float32)
    whole = not np.any(counts.data % 1)
    adata = ad.AnnData(counts)
    if whole:
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
    return ch.baselines.embed_cells(adata.X, methods=["PCA"])["PCA"]


def kmeans_nmi(x: np.ndarray, y: np.ndarray, seed: int) -> float:
    """NMI of k-means with as many clusters as there are labels."""
    return normalized_mutual_info_score(y, KMeans(len(set(y)), n_init=10, random_state=seed).fit_predict(x))


def integration(
    name: str, path: Path, batch: str, models: dict[str, ch.CellHermes], words: dict[str, np.ndarray]
) -> dict[str, Values]:
    """Scores of scib-metrics over batches and cell types; nothing if it is not installed."""
    adata = _cells(path)
    cells = representations(adata, models, words)
    try:
        table = ch.metrics.integration(
            cells, adata.obs[batch], adata.obs["cell_type"], unintegrated="PCA of expression", n_jobs=2
        )
    except ImportError as error:
        log.warning("%s is not measured: %s", name, error)
        return {}
    table = table.pivot(index="embedding", columns="metric", values="value").loc[list(cells)]
    log.info("%s\n%s", name, table.to_string())
    parts = {"total": "Total", "bio": "Bio conservation", "batch": "Batch correction"}
    return {
        f"{name}_{short}": {key: [float(table.loc[key, column])] for key in cells} for short, column in parts.items()
    }


# Questions -----------------------------------------------------------------------------------------------------------


def masked_link(
    hermes: ch.CellHermes,
    edges: np.ndarray,
    held_out: np.ndarray,
    genes: dict[str, np.ndarray],
    symbols: list[str],
    n_neighbors: tuple[int, ...],
) -> dict[str, Values]:
    """Yes or no to held-out edges and as many negatives of like degrees, in the corpus's wordings and contexts."""
    graph = pd.DataFrame(np.concatenate([edges, held_out]), columns=["a", "b"])
    pairs = ch.train.corpus.link_pairs(graph, n_neighbors=n_neighbors, seed=1)
    wanted = {frozenset(edge) for edge in held_out.tolist()}
    # pairs 2 p and 2 p + 1 are an edge and its negative, in random order
    yes = [i - i % 2 for i, one in enumerate(pairs) if one.answer == "Yes" and frozenset(one.source.split()) in wanted]
    chosen = np.random.default_rng(0).choice(yes, min(N_LINKS, len(yes)), replace=False)
    asked = [pairs[int(i) + turn] for i in np.sort(chosen) for turn in (0, 1)]
    y = np.array([pair.answer == "Yes" for pair in asked])
    has_context = np.array(["/none" not in pair.prompt.kind for pair in asked])
    log_p = hermes.score([pair.prompt for pair in asked], ["Yes", "No"])
    margin = log_p[:, 0] - log_p[:, 1]
    place = {symbol: i for i, symbol in enumerate(symbols)}
    ends = np.array([[place[symbol] for symbol in pair.source.split()] for pair in asked])
    results = {}
    for name, keep in (("masked_link", has_context), ("masked_link_bare", ~has_context)):
        results[name] = {"mini": [float(np.mean((margin > 0)[keep] == y[keep]))], "chance": [0.5]}
        auc = {"mini": [roc_auc_score(y[keep], margin[keep])]}
        for key in ("mini", "SVD of BioGRID"):
            unit = normalize(genes[key])
            cosine = np.einsum("ij,ij->i", unit[ends[:, 0]], unit[ends[:, 1]])
            auc[f"cosine of {key}"] = [roc_auc_score(y[keep], cosine[keep])]
        results[f"{name}_auc"] = auc
        log.info("%s (%d questions) %s %s", name, keep.sum(), _means(results[name]), _means(auc))
    return results


def masked_node(
    hermes: ch.CellHermes,
    table: np.ndarray,
    token: np.ndarray,
    name: np.ndarray,
    edges: np.ndarray,
    held_out: np.ndarray,
) -> dict[str, Values]:
    """Genes with five or more held-out edges, asked for by those neighbours alone."""
    ends = np.concatenate([held_out, held_out[:, ::-1]])
    near = {gene: frame[1].to_numpy()[:20] for gene, frame in pd.DataFrame(ends).groupby(0)}
    near = {gene: others for gene, others in near.items() if len(others) >= 5}
    template = ch.text.Template.load("masked_node/hop1")
    prompts = [
        template.fill(variant=i % len(template.variants), hop1=" ".join(name[others]))
        for i, others in enumerate(near.values())
    ]
    logits = hermes.embed(prompts) @ table[token].T  # the output table is the token table
    for row, asked in zip(logits, near.values(), strict=True):
        row[asked] = -np.inf
    top = np.argsort(-logits, axis=1)[:, :10]
    hubs = np.argsort(-np.bincount(edges.ravel(), minlength=len(name)))[:10]
    truth = np.array(list(near))
    found = {
        "mini": [float((top == truth[:, None]).any(1).mean())],
        "most frequent genes": [float(np.isin(truth, hubs).mean())],
    }
    log.info("masked node (%d genes) %s", len(truth), _means(found))
    return {"masked_node_top10": found}


def _means(values: Values) -> dict[str, float]:
    return {name: round(float(np.mean(part)), 3) for name, part in values.items()}
