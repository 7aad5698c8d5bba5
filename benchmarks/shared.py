"""What several benchmarks need: turns, memory, genes, and a model's own files read by transformers alone.

Libraries load where they are used, as some scripts measure how much memory a process takes.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

import cellhermes as ch

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PACKAGE = Path(ch.__file__).parent
MINI = PACKAGE / "model" / "mini"


def in_turn(repeats: int, **calls: Callable[[], object]) -> dict[str, float]:
    """Seconds of each call: the best of some rounds, taken in turn after one warm-up, as others may use the machine."""
    times = {name: [] for name in calls}
    for i in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if i:
                times[name].append(time.perf_counter() - start)
    return {name: min(taken) for name, taken in times.items()}


def timed(function: Callable[..., object], *args: object, **options: object) -> tuple[object, float]:
    """What a function returns, and the seconds that it took."""
    start = time.perf_counter()
    return function(*args, **options), time.perf_counter() - start


def peak() -> float:
    """Largest resident size of this process so far, in MiB."""
    import resource  # which Windows lacks

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 2 ** (20 if sys.platform == "darwin" else 10)


def memory(field: str) -> float:
    """MB of this process (Linux): VmRSS now, VmHWM at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def human_symbols() -> pd.DataFrame:
    """The list that ships with the package: ``symbol`` and ``protein_coding`` (0 or 1)."""
    table = pd.read_csv(PACKAGE / "human_symbols.tsv.gz", sep="\t", comment="#", keep_default_na=False)
    return table.sort_values("symbol", ignore_index=True)


class Tokens:
    """Ids that a tokenizer gives for whole texts, with what stands around them.

    Parameters
    ----------
    tokenizer
        Of transformers.
    around
        Text around prompts and answers.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, around: ch.text.Wrap) -> None:
        self.tokenizer = tokenizer
        self.head = around.head.replace("{bos}", tokenizer.bos_token or "")
        self.tail, self.lead = around.tail, around.lead
        self.end = around.end.replace("{eos}", tokenizer.eos_token or "")

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def prompt(self, prompt: ch.text.Prompt) -> list[int]:
        return self._ids(self.head + prompt.text + self.tail)

    def answer(self, text: str) -> list[int]:
        """Ids behind a prompt, closed by the end token."""
        before = self.head + "Gene" + self.tail
        return self._ids(before + self.lead + text + self.end)[len(self._ids(before)) :]


def variable_genes(adata: AnnData, n: int) -> list[str]:
    """The most variable of the genes that may stand in the sentences of log-normalised cells."""
    import scanpy as sc

    allowed = adata[:, adata.var["sentence_gene"].to_numpy()].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few cells, fewer genes have a dispersion: then all of them are taken
        sc.pp.highly_variable_genes(allowed, n_top_genes=min(n, allowed.n_vars - 1))
    return allowed.var_names[allowed.var["highly_variable"]].tolist()


def files_of(model: ch.CellHermes) -> Path | str:
    """Folder or hub id of the base."""
    base = model.card.base
    return MINI if base.startswith("bundled:") else base


def write_like(model: ch.CellHermes, lm: PreTrainedModel, folder: Path) -> Path:
    """Write other weights with the tokenizer of a model, to be read at the same token."""
    from transformers import AutoTokenizer

    lm.save_pretrained(folder)
    AutoTokenizer.from_pretrained(files_of(model)).save_pretrained(folder)
    about = {"wrap": model.card.wrap, "read_at": model.card.read_at}
    (folder / "cellhermes.json").write_text(json.dumps(about), "utf-8")
    return folder


def untrained(model: ch.CellHermes, seed: int, folder: Path) -> Path:
    """A model of the same shape with random weights and the same tokenizer, read at the same token, in a folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        lm = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(files_of(model))).float()
    return write_like(model, lm, folder)
