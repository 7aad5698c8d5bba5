"""The model that is trained: a base, what of it is tuned, and the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model._card import reference
from ..model._load import load_weights
from ..model._tokens import check_vocabulary
from ._loss import attach
from ._packing import check_packing

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..model import ModelCard
    from ._config import TrainConfig


def tunable(config: TrainConfig, card: ModelCard, tokenizer: PreTrainedTokenizerBase, *, half: bool) -> PreTrainedModel:
    """Load the base with what is to be tuned, and with the loss of this package."""
    lm = base_of(config, card, tokenizer, half=half)
    if config.packing:
        check_packing(lm)
    attach(lm, config.sampled_softmax, config.temperature)
    if config.gradient_checkpointing:
        # transformers renames it in the course of version 5
        enable = getattr(lm, "activation_checkpointing_enable", None) or lm.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return add_adapter(lm, config, card) if config.method == "lora" else lm


def base_of(config: TrainConfig, card: ModelCard, tokenizer: PreTrainedTokenizerBase, *, half: bool) -> PreTrainedModel:
    """Load the weights of a card in the numbers and with the attention that a config asks for."""
    dtype, options = "float32", {}
    if config.method == "lora" and half:
        dtype = "bfloat16" if config.dtype in ("auto", "bfloat16") else "float16"
    if config.quantize:
        options["quantization_config"] = _four_bits(dtype)
    if config.attention:
        options["attn_implementation"] = config.attention
    lm = load_weights(card, dtype, **options)
    check_vocabulary(lm, tokenizer, card.name)
    return lm


def add_adapter(lm: PreTrainedModel, config: TrainConfig, card: ModelCard) -> PreTrainedModel:
    """Add a new LoRA adapter to all linear layers but the output; everything else is frozen."""
    try:
        from peft import get_peft_model, prepare_model_for_kbit_training
    except ImportError as error:
        msg = "Training an adapter needs peft and accelerate: pip install 'cellhermes[train]'."
        raise ImportError(msg) from error
    if config.quantize:
        lm = prepare_model_for_kbit_training(lm, use_gradient_checkpointing=config.gradient_checkpointing)
    elif config.gradient_checkpointing:
        lm.enable_input_require_grads()  # else the first layer's activations need no gradient and nothing is recomputed
    tuned = get_peft_model(lm, lora_of(config))
    name_base(tuned, card)
    return tuned


def lora_of(config: TrainConfig) -> LoraConfig:
    """Describe the adapter to peft."""
    from peft import LoraConfig

    return LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip


def name_base(tuned: PeftModel, card: ModelCard) -> None:
    """Name the base, where peft writes its folder: a name finds it on other machines too."""
    tuned.peft_config["default"].base_model_name_or_path = reference(card)
    tuned.peft_config["default"].revision = card.revision or None


def _four_bits(dtype: str) -> object:
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )  # fmt: skip
