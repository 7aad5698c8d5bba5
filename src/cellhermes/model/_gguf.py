"""Models in GGUF files (llama.cpp, LM Studio, Ollama): unpacked once, into a folder of plain weights in our cache."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .._disk import cache_folder, flush, sha256_of, size_text
from .._fetch import check_space, locked, writable

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger("cellhermes")

SMALL = 10**9  # parameters up to which weights are kept in float32, as the file has them; above in bfloat16
# Rules by which byte-level tokenizers cut texts into words (tokenizer.ggml.pre) and which transformers does not know:
# it cuts as GPT-2 does. The names are llama.cpp's.
AS_GPT2 = ("gpt-2", "jais", "mpt", "olmo", "phi-2", "roberta-bpe")
DIGITS_APART = ("codeshell", "command-r", "exaone", "refact", "smollm", "starcoder")


def unpacked(path: Path) -> Path:
    """Find the folder with config, tokenizer and plain weights of a GGUF file, made at first use.

    It is known by the content of the file and by the version of transformers, which reads it.

    Raises
    ------
    ImportError
        If a library is missing.
    ValueError
        If the file is no whole language model, or its tokenizer follows a rule that is not known.
    OSError
        If the cache has no room or cannot be written.
    """
    folder = cache_folder() / "gguf" / f"{sha256_of(path)}-transformers-{version('transformers')}"
    if folder.is_dir():
        return folder
    if missing := [name for name in ("gguf", "accelerate") if find_spec(name) is None]:
        msg = f"Reading {path.name} needs {' and '.join(missing)}: pip install 'cellhermes[gguf]'."
        raise ImportError(msg)
    with locked(str(folder)), writable(), _named(path, folder) as file:
        if not folder.is_dir():
            _unpack(file, folder, path.name)
    return folder


@contextmanager
def _named(path: Path, folder: Path) -> Iterator[Path]:
    """Link the file under a name that ends with .gguf, which transformers insists on."""
    if path.suffix == ".gguf":
        yield path
        return
    link = folder.with_name(f"{folder.name}.gguf")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)  # of a process that was killed
    os.link(path.resolve(), link) if os.name == "nt" else link.symlink_to(path.resolve())
    try:
        yield link
    finally:
        link.unlink()


def _unpack(file: Path, folder: Path, name: str) -> None:
    """Write the folder beside its place, and move it there when it is whole."""
    from ._load import config_of, without_weights

    skeleton = without_weights(config_of(str(file.parent), gguf_file=file.name))
    n = skeleton.num_parameters()
    size = n * (4 if n <= SMALL else 2)
    check_space(folder, size, f"{name}, unpacked,")
    logger.info("%s has %s parameters. Unpacking takes %s of memory, and %s keeps as much.", name, f"{n:,}",
                size_text(size), folder)  # fmt: skip
    tokenizer = _tokenizer(file, skeleton.config.vocab_size, name)
    lm = _plain(file, skeleton, name)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    try:
        tokenizer.save_pretrained(unfinished)
        lm.save_pretrained(unfinished)
        flush(*unfinished.iterdir())
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _plain(file: Path, skeleton: "PreTrainedModel", name: str) -> "PreTrainedModel":
    """Load the model without anything that remembers the blocks of bits, which transformers refuses to save."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    from ._load import unreported
    from ._tensors import check_tensors

    with unreported():
        lm, loading = AutoModelForCausalLM.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            dtype=torch.float32 if skeleton.num_parameters() <= SMALL else torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
            trust_remote_code=False,
            output_loading_info=True,
        )
    check_tensors(lm, name, loading)
    skeleton.load_state_dict(lm.state_dict(), assign=True)
    skeleton.tie_weights()
    return skeleton


def _tokenizer(file: Path, n_tokens: int, name: str) -> "PreTrainedTokenizerBase":
    """Load the tokenizer with the tokens of the file alone, cutting texts into words as the file says."""
    from tokenizers import Tokenizer, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    read = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name, trust_remote_code=False)
    parts = json.loads(read.backend_tokenizer.to_str())
    # transformers adds the special tokens of the class that it takes, which the model has no rows for
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["id"] < n_tokens]
    backend = Tokenizer.from_str(json.dumps(parts))
    if isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):  # transformers knows no rule, and cuts as GPT-2
        rule = _rule(file)
        if rule in DIGITS_APART:
            steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
        elif rule not in AS_GPT2:
            msg = (
                f"The tokenizer of {name} cuts texts into words by a rule that is not known here "
                f"(tokenizer.ggml.pre = {rule!r}), so other tokens would be read than the model was trained on. Pass "
                "the folder or hub id of the original model, which has a tokenizer.json."
            )
            raise ValueError(msg)
    roles = {
        role: token for role, token in read.special_tokens_map.items() if backend.token_to_id(str(token)) is not None
    }
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=read.chat_template, **roles)


def _rule(file: Path) -> str:
    from gguf import GGUFReader

    field = GGUFReader(file).get_field("tokenizer.ggml.pre")
    return "" if field is None else str(field.contents())
