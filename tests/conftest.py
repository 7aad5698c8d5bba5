"""Fixtures of all tests: data sets made by public functions, as the documentation makes them, the bundled model, and
tiny models of real architectures with random weights and a stock byte-level tokenizer that splits gene symbols."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import cellhermes as ch
from cellhermes._vectors import write_groups_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import networkx as nx
    from anndata import AnnData

# The same examples in every run, so that a change is what fails; `--hypothesis-profile default` looks for new ones.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


@pytest.fixture
def all_cores() -> Iterator[None]:
    """All cores for a test that launches processes, where each process of tests keeps to one."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    yield
    os.sched_setaffinity(0, own)


@pytest.fixture(scope="session")
def blood() -> AnnData:
    """Generated blood cells, made once; tests take copies."""
    return ch.datasets.toy()


@pytest.fixture
def adata(blood: AnnData) -> AnnData:
    """Generated blood cells; a new copy for each test."""
    return blood.copy()


@pytest.fixture(scope="session")
def interactions() -> nx.Graph:
    """Generated interactions, made once; tests take copies."""
    return ch.datasets.ppi("toy")


@pytest.fixture
def ppi(interactions: nx.Graph) -> nx.Graph:
    """Generated interactions of the genes of ``adata``."""
    return interactions.copy()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with real data: ``$CELLHERMES_TEST_DATA``, or ``../shared/data`` beside the repository."""
    folder = Path(os.environ.get("CELLHERMES_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set CELLHERMES_TEST_DATA to a folder that has them")
    return folder


@pytest.fixture(scope="session")
def model() -> ch.CellHermes:
    """The bundled model on the CPU."""
    return ch.CellHermes.from_pretrained("mini", device="cpu")


@pytest.fixture(scope="session")
def store_vectors() -> Callable[..., None]:
    """Store vectors of groups as ``tl.embed_genes`` does, without a model."""

    def store(adata: AnnData, groups: dict[str, np.ndarray], groupby: str = "cell_type", **made: object) -> None:
        """``groups`` has an array (genes, dim) along the genes of the object, with NaN for those without a vector."""
        for label, values in groups.items():
            has, rows = ~np.isnan(values).any(axis=1), (adata.obs[groupby] == label).to_numpy()
            n_expressing = np.asarray((adata.X[rows] > 0).sum(axis=0)).ravel()[has]
            array = {"values": values[has][None], "n_expressing": n_expressing[None]}
            array |= {"genes": adata.var_names[has].to_numpy(object), "groups": np.array([label], object)}
            table = pd.DataFrame({"label": [label], "groupby": groupby, "n_in_group": int(rows.sum())})
            contexts = pd.DataFrame({"label": [label], "cell": "", "sentence": ""})
            made = {"model": "drawn", "gene_symbols": "", **made}
            write_groups_of(adata, "X_cellhermes", array, table, contexts, made, {})

    return store


# Tiny models ------------------------------------------------------------------------------------------------------

CHAT = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
SHAPE = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 256,
}
FAMILIES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 40},
    "gemma2": {"sliding_window": 24, "query_pre_attn_scalar": 12, "attn_logit_softcapping": 2.0},
    "gemma3_text": {"sliding_window": 512, "query_pre_attn_scalar": 12},
}


@pytest.fixture(scope="session")
def tokenizer():
    """Byte-level BPE with few merges: `CD40LG` is several tokens."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    words = (
        "Gene A cell with genes ranked by expression In this cell Is CD CD4 MALAT1 a T-cell gene? Yes No user assistant"
    )
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=CHAT,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([words] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=CHAT[0], eos_token=CHAT[4])


def write_model(folder, tokenizer, family, **changes):
    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer) + 4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        **SHAPE | FAMILIES.get(family, {}) | changes,
    )
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        lm = AutoModelForCausalLM.from_config(config)
        for weight in lm.parameters():  # the default initialisation is so small that every attention is flat
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.15)
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def write_tiny():
    return write_model


@pytest.fixture(scope="session")
def benchmarks() -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of ``benchmarks``."""
    root = str(Path(__file__).parents[1])
    sys.path.insert(0, root)
    try:
        yield lambda name: importlib.import_module(f"benchmarks.{name}")
    finally:
        sys.path.remove(root)


@pytest.fixture(scope="session")
def folders(tmp_path_factory, tokenizer):
    """Folder of a tiny model by family."""
    made = {}

    def folder(family):
        if family not in made:
            made[family] = write_model(tmp_path_factory.mktemp(family), tokenizer, family)
        return made[family]

    return folder


@pytest.fixture(scope="session")
def tiny(folders):
    """As if it had been tuned on all tasks, so that the log-probability of an answer counts as it is."""
    model = ch.CellHermes.from_pretrained(folders("llama"), device="cpu")
    model.card = dataclasses.replace(model.card, tasks=(*ch.text.Task.names(),))
    return model


@pytest.fixture(params=list(FAMILIES))
def family(request, folders):
    return ch.CellHermes.from_pretrained(folders(request.param), device="cpu")


def write_adapter(base, folder, seed, *, parent=None, **options):
    """A LoRA adapter with random weights, trained by nobody; ``parent`` is what it names as its base."""
    from peft import LoraConfig, get_peft_model

    lm = AutoModelForCausalLM.from_pretrained(base)
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        settings = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear", "init_lora_weights": False} | options
        tuned = get_peft_model(lm, LoraConfig(**settings))
    tuned.peft_config["default"].base_model_name_or_path = str(base if parent is None else parent)
    tuned.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture(scope="session")
def add_adapter():
    return write_adapter


# A host of files ----------------------------------------------------------------------------------------------------


class Site:
    """Files on a server of this machine, which stands for the internet; ``faults`` says what goes wrong.

    ``faults[path]`` lists what happens to the next requests, in their order: ``("status", 503)`` with optional headers,
    ``("redirect", url)``, ``("cut", n)`` (the connection ends after n bytes), ``("stall", seconds)`` (before the last
    byte), ``("trickle", n)`` (pieces of n bytes), ``("length", n)`` (a wrong Content-Length), ``("corrupt",)``,
    ``("whole",)`` (ranges are not known), ``("shifted",)`` (not the range that was asked for), ``("blind",)``
    (``If-Range`` is not looked at), ``("endless", n)`` (n bytes more than there are, and no length is told). ``"*"``
    holds for all. ``tags`` can be ``"weak"``: one tag for all versions of a file, which promises nothing.
    """

    def __init__(self):
        self.files, self.faults, self.seen = {}, {}, []
        self.tags = True
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # one request a connection, so that closing the server leaves none open

            def log_message(self, *args):
                pass

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, body):
                path = self.path.partition("?")[0]
                site.seen.append((path, dict(self.headers)))
                waiting = site.faults.get(path, [])
                fault = waiting.pop(0) if waiting else site.faults.get("*", (None,))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has seen enough
                    site.give(self, path, fault, body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def asked(self, path):
        """What was asked for in each request for a file: its range, or ``""``."""
        return [headers.get("Range", "") for seen, headers in self.seen if seen == path]

    def give(self, handler, path, fault, body):
        kind, *details = fault
        if kind in ("status", "redirect") or path not in self.files:
            code = details[0] if kind == "status" else 302 if kind == "redirect" else 404
            handler.send_response(code)
            for name, value in (details[1] if len(details) > 1 else {}).items():
                handler.send_header(name, value)
            if kind == "redirect":
                handler.send_header("Location", details[0])
            handler.end_headers()
            return
        content = self.files[path]
        tag = f'"{hashlib.md5(content[:1000] + content[-1000:]).hexdigest()}"'
        tag = 'W/"about the same"' if self.tags == "weak" else tag
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if match and kind != "whole" and (kind == "blind" or handler.headers.get("If-Range", tag) == tag):
            start = int(match[1])
            if start >= len(content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(content)}")
                handler.end_headers()
                return
            start += kind == "shifted"
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        rest = content[start:]
        if kind == "endless":
            rest += bytes(details[0])
        else:
            handler.send_header("Content-Length", str(details[0] if kind == "length" else len(rest)))
        if self.tags:
            handler.send_header("ETag", tag)
        handler.end_headers()
        if not body:
            return
        if kind == "corrupt":
            rest = bytes(byte ^ 1 for byte in rest)
        if kind == "cut":
            rest = rest[: details[0]]
        if kind == "stall":
            handler.wfile.write(rest[:-1])
            time.sleep(details[0])
            rest = rest[-1:]
        step = details[0] if kind == "trickle" else len(rest) or 1
        for place in range(0, len(rest), step):
            handler.wfile.write(rest[place : place + step])
            if kind == "trickle":
                time.sleep(0.02)


@pytest.fixture
def site(monkeypatch):
    """An empty :class:`Site`; downloads are impatient."""
    from cellhermes._fetch import _download

    monkeypatch.setattr(_download, "WAIT", 0.01)
    monkeypatch.setattr(_download, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(_download, "TIMEOUT", 0.5)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Site()
    yield made
    made.close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a network that may be used."""
    from cellhermes._fetch._cache import OFFLINE

    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CELLHERMES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


RECORD = "/records/21060572/files/"  # of the authors' on Zenodo


@pytest.fixture
def serve(site, monkeypatch):
    """Put the files of an entry on the server, under addresses like the true ones; ``changes`` is for its fields."""

    from cellhermes import _fetch

    def put(name, contents, **changes):
        entry = _fetch.find("data", name)
        files = []
        for file in entry.files:
            content = contents[file.name]
            place = (RECORD if file.hash == "zenodo" else "/") + file.name
            site.files[place] = content
            known = f"md5:{hashlib.md5(content).hexdigest()}" if file.known else file.hash
            size = len(content) if file.known else 0
            files.append(dataclasses.replace(file, urls=(site.url + place,), hash=known, size=size))
        listed = [
            {"key": path.removeprefix(RECORD), "size": len(c), "checksum": f"md5:{hashlib.md5(c).hexdigest()}"}
            for path, c in site.files.items()
            if path.startswith(RECORD)
        ]
        site.files["/api/records/21060572"] = json.dumps({"files": listed}).encode()
        monkeypatch.setitem(_fetch.registry()["data"], name, dataclasses.replace(entry, files=tuple(files), **changes))

    return put
