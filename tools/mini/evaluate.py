"""Measures ``mini`` and its baselines on data that training never sees.

Genes: pairs, classes and held-out edges; cells: two labelled PBMC sets. Every number stands beside random vectors, an
untrained model of the same shape, the spectral start table, and what the expression or the graph gives by itself.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.preprocessing import normalize
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

import cellhermes as ch

from . import inputs, model, stream
from .train import WRAP

log = logging.getLogger("cellhermes.mini")
LABELS = ("gene_labels/gene_classification_labels.tsv", "gene_labels/notch1_labels.tsv")
TEST_CELLS = {"pbmc3k": ("pbmc3k_labelled.h5ad", "cell_type"), "pbmc68k": ("pbmc68k_reduced.h5ad", "bulk_labels")}
N_PAIRS = 20_000  # of the 263,016 training pairs, for time
Embed = Callable[[list[str]], np.ndarray]


def reader(net: LlamaForCausalLM, tokenizer: Tokenizer, batch: int = 64) -> Embed:
    """A function from prompts to vectors at the end of the prompt, in float32."""

    @torch.inference_mode()
    def embed(prompts: list[str]) -> np.ndarray:
        out = np.zeros((len(prompts), net.config.hidden_size), dtype=np.float32)
        ids = [e.ids for e in tokenizer.encode_batch([WRAP.render(p) for p in prompts], add_special_tokens=False)]
        order = np.argsort([len(i) for i in ids], kind="stable")
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            length = max(len(ids[r]) for r in rows)
            padded = torch.tensor([ids[r] + [0] * (length - len(ids[r])) for r in rows])
            hidden = net.model(padded, use_cache=False).last_hidden_state
            out[rows] = hidden[range(len(rows)), [len(ids[r]) - 1 for r in rows]].numpy()
        return out

    return embed


def evaluate(folder: Path, data: Path, seed: int) -> dict:
    """All numbers, by measure and then by embedding."""
    symbols, all_edges = inputs.read_symbols(data)
    edges, held_out = inputs.split_edges(all_edges, symbols, seed)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    net = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    untrained = model.make_model(net.config, None, seed).eval()
    embed = {"mini": reader(net, tokenizer), "untrained model": reader(untrained, tokenizer)}
    cells = [inputs.read_cells(data / name, symbols) for name in inputs.CELLS]
    graph = model.graph_factors(edges, len(symbols), model.GRAPH_DIM, seed)
    cell = model.cell_factors([c.ranked for c in cells], len(symbols), model.CELL_DIM, seed)
    token = np.array([tokenizer.token_to_id(f"Ġ{s}") for s in symbols])
    genes = {name: f([ch.text.template("gene").fill(gene=s).text for s in symbols]) for name, f in embed.items()}
    genes |= {
        "token table": net.model.embed_tokens.weight.detach().numpy()[token],
        "start factors": np.hstack([graph * np.sqrt(0.7), cell * np.sqrt(0.3)]),
        "graph SVD": model.graph_factors(edges, len(symbols), net.config.hidden_size, seed),
        "expression PCA": expression_pca(cells[0], len(symbols), seed),
        "random": np.random.default_rng(seed).normal(size=(len(symbols), net.config.hidden_size)).astype(np.float32),
    }
    start = model.make_model(net.config, model.start_table(graph, cell, token, net.config, seed), seed).eval()
    embed["start values"] = reader(start, tokenizer)
    results = {"gene_pairs": gene_pairs(genes, symbols, data, seed)}
    results |= gene_classes(genes, symbols, data)
    results["held_out_edges"] = held_out_edges(genes, edges, held_out, seed)
    table = net.model.embed_tokens.weight.detach().numpy()
    for name, (file, label) in TEST_CELLS.items():
        results |= cell_types(name, data / file, label, embed, table, tokenizer, seed)
    results |= questions(net, tokenizer, symbols, edges, held_out, seed)
    return results


def expression_pca(cells: inputs.Cells, n_genes: int, seed: int, dim: int = 50) -> np.ndarray:
    """Genes in the principal components of the largest training data set (standardised genes x cells)."""
    x = cells.expression.toarray().T
    x = (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6)
    out = np.zeros((n_genes, dim), dtype=np.float32)
    out[cells.gene] = PCA(dim, random_state=seed).fit_transform(x)
    return out


def gene_pairs(genes: dict[str, np.ndarray], symbols: list[str], data: Path, seed: int) -> dict:
    """ROC-AUC of a random forest on summed vectors of two genes, training part to validation part."""
    index = {s: i for i, s in enumerate(symbols)}
    parts = []
    for file, n in (("ggi_train.tsv.gz", N_PAIRS), ("ggi_valid.tsv.gz", None)):
        frame = pd.read_csv(data / file, sep="\t")
        frame = frame[frame["gene_a"].isin(index) & frame["gene_b"].isin(index)]
        parts.append(frame if n is None else frame.sample(n, random_state=seed))
    train, valid = (p[["gene_a", "gene_b"]].map(index.get).to_numpy() for p in parts)
    y_train, y_valid = (p["label"].to_numpy() for p in parts)
    log.info(
        "Gene pairs: %d to train, %d to test, %d genes in both.",
        len(train),
        len(valid),
        len(np.intersect1d(train, valid)),
    )
    scores = {}
    for name, x in genes.items():
        forest = RandomForestClassifier(100, min_samples_leaf=2, n_jobs=2, random_state=seed)
        forest.fit(x[train].sum(1), y_train)
        scores[name] = roc_auc_score(y_valid, forest.predict_proba(x[valid].sum(1))[:, 1])
        log.info("gene pairs %s %.3f", name, scores[name])
    return scores


def gene_classes(genes: dict[str, np.ndarray], symbols: list[str], data: Path) -> dict:
    """ROC-AUC of a random forest in stratified five-fold cross-validation, mean of seeds 0-4."""
    index = {s: i for i, s in enumerate(symbols)}
    labels = pd.concat(pd.read_csv(data / file, sep="\t") for file in LABELS).drop_duplicates(
        ["task", "symbol", "label"]
    )
    labels = labels[labels["symbol"].isin(index)]
    results: dict[str, dict] = {}
    for task, frame in labels.groupby("task"):
        rows, y = frame["symbol"].map(index).to_numpy(), frame["label"].to_numpy()
        results[task] = {name: class_auc(x[rows], y) for name, x in genes.items()}
        log.info("%s %s", task, {k: round(v, 3) for k, v in results[task].items()})
    return results


def class_auc(x: np.ndarray, y: np.ndarray) -> float:
    """Mean area over five seeds, each with its own folds."""
    areas = []
    for seed in range(5):
        forest = RandomForestClassifier(100, random_state=seed)
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        areas.append(roc_auc_score(y, cross_val_predict(forest, x, y, cv=folds, method="predict_proba")[:, 1]))
    return float(np.mean(areas))


def held_out_edges(genes: dict[str, np.ndarray], edges: np.ndarray, held_out: np.ndarray, seed: int) -> dict:
    """ROC-AUC of the cosine: held-out edges against non-edges whose ends have the same degrees."""
    a, b = degree_matched(edges, held_out, seed)
    scores = {}
    for name, x in genes.items():
        unit = normalize(x)
        cosine = [np.einsum("ij,ij->i", unit[pairs[:, 0]], unit[pairs[:, 1]]) for pairs in (a, b)]
        y = np.r_[np.ones(len(a)), np.zeros(len(b))]
        scores[name] = roc_auc_score(y, np.concatenate(cosine))
    degree = np.bincount(edges.ravel(), minlength=len(unit)).astype(float)
    scores["degree product"] = roc_auc_score(y, np.concatenate([degree[a].prod(1), degree[b].prod(1)]))
    log.info("held-out edges %s", {k: round(v, 3) for k, v in scores.items()})
    return scores


def degree_matched(edges: np.ndarray, held_out: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Held-out edges, and non-edges made by exchanging their second ends."""
    n = int(max(edges.max(), held_out.max())) + 1
    known = set((np.sort(np.concatenate([edges, held_out]), axis=1) @ np.array([n, 1])).tolist())
    other = np.column_stack([held_out[:, 0], np.random.default_rng(seed).permutation(held_out[:, 1])])
    code = np.sort(other, axis=1) @ np.array([n, 1])
    free = np.array([c not in known for c in code.tolist()]) & (other[:, 0] != other[:, 1])
    return held_out, other[free]


def cell_types(
    name: str, path: Path, label: str, embed: dict[str, Embed], table: np.ndarray, tokenizer: Tokenizer, seed: int
) -> dict:
    """Accuracy of kNN (15 neighbours, five folds) and k-means NMI of cell vectors against cell-type labels."""
    adata = ad.read_h5ad(path)
    use_raw = adata.raw is not None
    ch.pp.cell_sentences(adata, use_raw=use_raw)
    y = adata.obs[label].astype(str).to_numpy()
    sentences = [s.split() for s in adata.obs["cell_sentence"]]
    prompts = [ch.text.template("cell").fill(genes=genes).text for genes in sentences]
    cells = {key: f(prompts) for key, f in embed.items()}
    cells["random"] = np.random.default_rng(seed).normal(size=(adata.n_obs, table.shape[1]))
    cells["mean of token table"] = np.stack(
        [table[[tokenizer.token_to_id(f"Ġ{g}") for g in s]].mean(0) for s in sentences]
    )
    cells["PCA of expression"] = cell_pca(adata)
    knn = {key: ch.metrics.knn_accuracy(x, y) for key, x in cells.items()}
    nmi = {key: kmeans_nmi(x, y) for key, x in cells.items()}
    log.info("%s kNN %s", name, {k: round(v, 3) for k, v in knn.items()})
    log.info("%s NMI %s", name, {k: round(v, 3) for k, v in nmi.items()})
    return {f"{name}_knn": knn, f"{name}_nmi": nmi}


def cell_pca(adata: ad.AnnData) -> np.ndarray:
    """50 components of 2,000 variable genes, as scanpy's tutorials do; of the given scaled matrix if there is one."""
    if adata.raw is not None:
        return PCA(50, random_state=0).fit_transform(adata.X)
    adata = ad.AnnData(sp.csr_matrix(adata.X, dtype=np.float32))
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=2000)
    adata = adata[:, adata.var["highly_variable"]].copy()
    sc.pp.scale(adata, max_value=10)
    return PCA(50, random_state=0).fit_transform(adata.X)


def kmeans_nmi(x: np.ndarray, y: np.ndarray) -> float:
    """Mean over five seeds of the NMI of k-means with as many clusters as there are labels."""
    k = len(set(y))
    runs = (KMeans(k, n_init=10, random_state=seed).fit_predict(x) for seed in range(5))
    return float(np.mean([normalized_mutual_info_score(y, run) for run in runs]))


@torch.inference_mode()
def answers(net: LlamaForCausalLM, tokenizer: Tokenizer, prompts: list[str], batch: int = 64) -> np.ndarray:
    """Logits of the next token behind each prompt."""
    vectors = reader(net, tokenizer, batch)(prompts)
    return vectors @ net.model.embed_tokens.weight.numpy().T


def questions(
    net: LlamaForCausalLM,
    tokenizer: Tokenizer,
    symbols: list[str],
    edges: np.ndarray,
    held_out: np.ndarray,
    seed: int,
    n: int = 1000,
) -> dict:
    """Masked link (yes or no, degree-matched) and masked node (gene in the first ten) on held-out edges."""
    yes_pairs, no_pairs = (p[:n] for p in degree_matched(edges, held_out, seed))
    name = np.array(symbols)
    token = np.array([tokenizer.token_to_id(f"Ġ{s}") for s in [*symbols, "Yes", "No"]])
    fill = stream.QUESTIONS["masked_link"].fill
    asked = [fill(gene_a=name[a], gene_b=name[b]).text for a, b in (*yes_pairs, *no_pairs)]
    logits = answers(net, tokenizer, asked)[:, token]
    margin = logits[:, -2] - logits[:, -1]
    y = np.r_[np.ones(len(yes_pairs)), np.zeros(len(no_pairs))]
    link = {"mini": float(np.mean((margin > 0) == y)), "mini, AUC": roc_auc_score(y, margin), "chance": 0.5}
    node = masked_node(net, tokenizer, name, token[:-2], held_out, np.bincount(edges.ravel(), minlength=len(name)))
    log.info("masked link %s, masked node %s", link, node)
    return {"masked_link": link, "masked_node_top10": node}


def masked_node(
    net: LlamaForCausalLM,
    tokenizer: Tokenizer,
    name: np.ndarray,
    token: np.ndarray,
    held_out: np.ndarray,
    degree: np.ndarray,
) -> dict:
    """Genes with five or more held-out edges, asked for by those neighbours alone."""
    ends = np.concatenate([held_out, held_out[:, ::-1]])
    near = {g: frame[1].to_numpy()[:20] for g, frame in pd.DataFrame(ends).groupby(0)}
    near = {g: n for g, n in near.items() if len(n) >= 5}
    fill = stream.QUESTIONS["masked_node"].fill
    logits = answers(net, tokenizer, [fill(genes=list(name[n])).text for n in near.values()])[:, token]
    for row, asked in zip(logits, near.values(), strict=True):
        row[asked] = -np.inf
    top = np.argsort(-logits, axis=1)[:, :10]
    hubs = np.argsort(-degree)[:10]
    truth = np.array(list(near))
    found = (top == truth[:, None]).any(1)
    return {"mini": float(found.mean()), "most frequent genes": float(np.isin(truth, hubs).mean())}
