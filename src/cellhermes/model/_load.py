"""From a name to weights on a device: card, tokenizer, base model, adapters merged in order."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as hf_logging

from . import _card, _forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ._card import ModelCard, ReadAt

logger = logging.getLogger("cellhermes")


def load(
    name: str | Path,
    *,
    device: str | None,
    dtype: str | None,
    wrap: str | None,
    read_at: "ReadAt | Mapping[str, ReadAt] | None",
) -> "tuple[ModelCard, PreTrainedModel, PreTrainedTokenizerBase]":
    """Everything that ``CellHermes`` is made of."""
    card = _card.resolve(name)
    card = replace(card, wrap=card.wrap if wrap is None else wrap, read_at=read_at or card.read_at)
    device = device or _best_device()
    kind = getattr(torch, dtype or (card.dtype if device.startswith("cuda") else "float32"), None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        msg = f"dtype={dtype!r} is not a floating-point type of torch; use 'float32', 'bfloat16' or 'float16'."
        raise ValueError(msg)
    _forward.register()
    base = _card.location(card)
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, revision=card.revision or None)
        with _quiet() if card.base.startswith("bundled:") else nullcontext():
            lm = AutoModelForCausalLM.from_pretrained(
                base,
                revision=card.revision or None,
                # Adapters are merged in float32: a sum rounded to half precision after each one drifts.
                dtype=torch.float32 if card.adapters else kind,
                attn_implementation=_forward.NAME,
                use_safetensors=True,
            )
    except SafetensorError as error:
        msg = f"The weights of {base!r} are damaged ({error}). Delete the file and fetch it again."
        raise ValueError(msg) from error
    except OSError as error:
        raise OSError(_advice(base, error)) from error
    for adapter in card.adapters:
        lm = _merge(lm, adapter)
    if card.name == "mini":
        logger.info(
            "mini is the small model that ships with cellhermes, for tests, tutorials and laptops. "
            "The 8B model reads the same prompts: see ch.model.list_models()."
        )
    return card, lm.to(device=device, dtype=kind), tokenizer


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar of transformers for a file of a few megabytes."""
    enabled = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            hf_logging.enable_progress_bar()


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _merge(lm: "PreTrainedModel", adapter: str) -> "PreTrainedModel":
    try:
        from peft import PeftModel
    except ImportError as error:
        msg = "LoRA adapters need peft: pip install 'cellhermes[train]'."
        raise ImportError(msg) from error
    if not (Path(adapter) / "adapter_model.safetensors").is_file():
        msg = f"{adapter} has no adapter_model.safetensors; other formats can run code on loading and are not read."
        raise ValueError(msg)
    return PeftModel.from_pretrained(lm, adapter).merge_and_unload()


def _advice(base: str, error: OSError) -> str:
    if Path(base).is_dir():
        return f"Could not load {base!r}: {error}"
    if "gated" in str(error).lower():
        return (
            f"{base!r} is gated: accept its licence on its page of the model hub, then log in (`hf auth login`) or "
            "set HF_TOKEN. Or pass the folder of a copy that you have."
        )
    return (
        f"Could not get {base!r} from the model hub: absent, misspelt, or no network. Known names: "
        f"{', '.join(_card.named())}. Without a network pass the folder of a copy. ({str(error).splitlines()[0]})"
    )
