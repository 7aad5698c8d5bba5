"""Fixtures of all tests: data sets made by public functions, as the documentation makes them, the bundled model, and
tiny models of real architectures with random weights and a stock byte-level tokenizer that splits gene symbols."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import cellhermes as ch

if TYPE_CHECKING:
    import networkx as nx
    from anndata import AnnData


@pytest.fixture
def adata() -> AnnData:
    """Generated blood cells; a new copy for each test."""
    return ch.datasets.toy()


@pytest.fixture
def ppi() -> nx.Graph:
    """Generated interactions of the genes of ``adata``."""
    return ch.datasets.toy_ppi()


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
        **SHAPE | FAMILIES[family] | changes,
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
    return ch.CellHermes.from_pretrained(folders("llama"), device="cpu")


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
