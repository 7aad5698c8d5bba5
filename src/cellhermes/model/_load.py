"""From a name to weights on a device: card, tokenizer, base model, adapters merged in order."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as hf_logging

from . import _adapter, _card, _forward, _identity
from ._quantize import Quantize, check, quantize_layers
from ._store import located
from ._tensors import check_tensors
from ._tokens import warn_of_plain

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from ..text import Wrap
    from ._card import ModelCard
    from ._read_at import ReadAt

logger = logging.getLogger("cellhermes")


def load(
    name: str | Path,
    *,
    device: str | None,
    dtype: str | None,
    wrap: "str | Wrap | None",
    system: str | None,
    read_at: "ReadAt | Mapping[str, ReadAt] | None",
    quantize: Quantize,
    torch_compile: bool,
) -> "tuple[ModelCard, PreTrainedModel, PreTrainedTokenizerBase, str]":
    """Load all that ``CellHermes`` is made of, and hash the files that it is read from."""
    card = _card.resolve(name)
    card = replace(_card.with_wrap(card, wrap, system), read_at=read_at or card.read_at)
    device = device or _best_device()
    check(quantize, device)
    dtype = dtype or (card.dtype if device.startswith("cuda") else "float32")
    sha256 = _identity.sha256(card)  # before they are read: what replaces them meanwhile has another one
    tokenizer = load_tokenizer(card)
    warn_of_plain(tokenizer, wrap)
    lm = load_weights(card, dtype)
    if quantize:
        quantize_layers(lm, quantize, device)
    lm = lm.to(device=device)
    if torch_compile:
        _forward.compile_layers(lm)
    if card.name == "mini":
        logger.info(
            "mini is the small model that ships with cellhermes, for tests, tutorials and laptops. "
            "The 8B model reads the same prompts: see ch.cache.list()."
        )
    return card, lm, tokenizer, sha256


def load_tokenizer(card: "ModelCard") -> "PreTrainedTokenizerBase":
    """Find the tokenizer beside the topmost adapter that has one, as what it was trained with, else the base's."""
    card = located(card)
    own = (name for name in reversed(card.adapters) if (Path(name) / "tokenizer.json").is_file())
    place = next(own, base := _card.location(card))
    with _explained(place):
        try:
            return AutoTokenizer.from_pretrained(place, revision=card.revision or None, trust_remote_code=False)
        except ValueError as error:
            if "trust_remote_code" in str(error):
                raise
            of = f", the base of adapter {card.adapters[-1]!r}," if card.adapters and place == base else ""
            msg = f"{place!r}{of} has no tokenizer that can be read; expected tokenizer.json beside its config.json."
            raise ValueError(msg) from error


def context_of(card: "ModelCard") -> int:
    """Find the longest text of a card's base, in tokens, before its weights are read."""
    return _forward.context(_config(located(card)).get_text_config())


def width_of(card: "ModelCard") -> int:
    """Find the width of the vectors of a card's base before its weights are read."""
    return _config(located(card)).get_text_config().hidden_size


def _config(card: "ModelCard") -> "PretrainedConfig":
    return config_of(_card.location(card), revision=card.revision or None)


def config_of(base: str, **options: str | None) -> "PretrainedConfig":
    """Read the shape of a base, which transformers itself has to know: what comes with weights is never run."""
    with _explained(base):
        config = AutoConfig.from_pretrained(base, trust_remote_code=False, **options)
    if code := getattr(config, "auto_map", None):
        raise ValueError(_own_code(base, ", ".join(map(str, code.values()))))
    return config


def load_weights(card: "ModelCard", dtype: str, **options: object) -> "PreTrainedModel":
    """Load a card's base with its adapters merged, on the CPU unless ``options`` of transformers say otherwise.

    Adapters are merged in float32, in their order, and the sum is cast.
    """
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        msg = f"dtype={dtype!r} is not a floating-point type of torch; use 'float32', 'bfloat16' or 'float16'."
        raise ValueError(msg)
    if card.adapters and options.get("quantization_config") is not None:
        msg = (
            f"{card.name!r} has adapters, which cannot be added to weights of four bits. Merge them first with "
            "ch.train.merge, and pass the folder of the merged model."
        )
        raise ValueError(msg)
    _forward.register()
    card = located(card)
    base = _card.location(card)
    config = _config(card)
    if card.adapters:
        _check_adapters(card, config)
    with _explained(base), _quiet() if card.base.startswith("bundled:") else nullcontext(), unreported():
        lm, loading = _read(
            base,
            revision=card.revision or None,
            dtype=_dtype_before(card.adapters, kind),
            **{"attn_implementation": _forward.NAME, **options},
        )
    check_tensors(lm, base, loading)
    _keep_freed_memory()
    return _adapter.merge(lm, card.adapters, kind) if card.adapters else lm


def _read(base: str, *, attn_implementation: str, **options: object) -> "tuple[PreTrainedModel, dict[str, set]]":
    """Load the weights, and note which tensors were found."""
    try:
        return AutoModelForCausalLM.from_pretrained(
            base,
            attn_implementation=attn_implementation,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # told of with all others
            output_loading_info=True,
            **options,
        )
    except KeyError as error:
        if error.args != (_forward.NAME,):
            raise
        return _read(base, attn_implementation="eager", **options)  # a family with a table of attentions of its own


def _keep_freed_memory() -> None:
    """Have the C library keep what a forward pass frees on a CPU, for the next layer.

    Where no large block was freed before, glibc gives each one back to the system, and every layer takes its pages
    anew: 1.3 to 1.5 times the time. A freed block raises that limit to its size, up to 32 MB.
    """
    torch.empty(31 << 20, dtype=torch.uint8, device="cpu")


def _dtype_before(adapters: Sequence[str], dtype: torch.dtype) -> torch.dtype | str:
    """Choose the numbers in which weights are read: under adapters those of the file, where the sum stays exact."""
    if not adapters:
        return dtype
    return "auto" if all(map(_adapter.is_sum, adapters)) else torch.float32


def skeleton(card: "ModelCard") -> "PreTrainedModel":
    """Build a card's base without weights, to count and to compare."""
    return without_weights(_config(located(card)))


def without_weights(config: "PretrainedConfig") -> "PreTrainedModel":
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def _check_adapters(card: "ModelCard", config: "PretrainedConfig") -> None:
    """Check that all adapters fit, before the weights are read or even downloaded."""
    lm = without_weights(config)
    for adapter in card.adapters:
        _adapter.check(lm, adapter)


@contextmanager
def _explained(base: str) -> Iterator[None]:
    """Have errors of loading say what to do."""
    try:
        yield
    except SafetensorError as error:
        msg = f"The weights of {base!r} are damaged ({error}). Delete the file and fetch it again."
        raise ValueError(msg) from error
    except OSError as error:
        msg = f"Could not load {base!r}: {error}"
        raise OSError(msg) from error
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(_own_code(base, "its files")) from error


def _own_code(base: str, where: str) -> str:
    return (
        f"{base!r} comes with Python code of its own ({where}, named by auto_map), which is never run. If transformers "
        "has the same model, pass a folder with a copy whose config.json and tokenizer_config.json have no auto_map; "
        "else take another model."
    )


@contextmanager
def unreported() -> Iterator[None]:
    """Keep the table of tensors off the screen: what matters of it becomes an error."""
    level = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress bar of transformers for a file of a few megabytes."""
    enabled = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            hf_logging.enable_progress_bar()


def _best_device() -> str:
    if torch.cuda.is_available():
        rank = os.environ.get("LOCAL_RANK")  # a launcher starts one process for each GPU
        return "cuda" if rank is None else f"cuda:{int(rank) % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"
