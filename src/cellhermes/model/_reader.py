"""A loaded model and what its verbs share: ids of prompts, beginnings, memory."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..text import Prompt
from . import _forward
from ._tokens import Batch, Encoded, Encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ._card import ModelCard
    from ._selfcheck import Abilities


class PromptLengthError(ValueError):
    """A prompt is longer than the model's context.

    Parameters
    ----------
    index
        Which prompt of the call.
    n_tokens
        Its length.
    limit
        Of the model.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.model.PromptLengthError(3, 1200, 1024).index
    3
    """

    def __init__(self, index: int, n_tokens: int, limit: int) -> None:
        self.index, self.n_tokens, self.limit = index, n_tokens, limit
        super().__init__(
            f"Prompt {index} has {n_tokens} tokens, more than the {limit} of the model's context. "
            "Shorten it (for cells: a smaller n_genes=) or take a model with a longer context."
        )


class Reader:
    """A loaded model with its encoder, and what it is able to (:func:`_selfcheck.check`)."""

    def __init__(self, lm: "PreTrainedModel", encoder: Encoder, card: "ModelCard", able: "Abilities") -> None:
        self.lm, self.encoder, self.card, self.able = lm, encoder, card, able
        self.decoder = lm.get_decoder()
        self.config = lm.config.get_text_config()
        self.dim: int = self.config.hidden_size
        self.n_heads = _forward.size(self.config, "num_attention_heads", 1)
        self.max_tokens = _forward.context(self.config)

    @property
    def device(self) -> torch.device:
        return self.lm.device

    @property
    def dtype(self) -> str:
        return str(self.lm.dtype).removeprefix("torch.")

    def prefix(self, ids: list[int]) -> _forward.Prefix:
        """Compute the beginning of prompts once."""
        return _forward.read_prefix(self.decoder, Batch.pad([ids], device=self.device))

    def encode(
        self, prompts: Sequence[str | Prompt], *, extra: int = 0, positions: bool = False
    ) -> tuple[list[Prompt], list[Encoded]]:
        """Encode prompts, all of which fit into the context together with ``extra`` tokens."""
        if isinstance(prompts, str | Prompt):
            msg = f"Pass a list of prompts, got a single {type(prompts).__name__}."
            raise TypeError(msg)
        prompts = [p if isinstance(p, Prompt) else Prompt(p.strip()) for p in prompts]
        positions = positions or any(self.card.read(p.kind) != "prompt_end" for p in prompts)
        encoded = self.encoder.prompts(prompts, positions=positions)
        for i, prompt in enumerate(encoded):
            if (n_tokens := len(prompt.ids) + extra) > self.max_tokens:
                raise PromptLengthError(i, n_tokens, self.max_tokens)
        return prompts, encoded

    def check_finite(self, values: np.ndarray, rows: Sequence[int], prompts: Sequence[Prompt]) -> None:
        """Raise if a row that was computed holds what is no number."""
        for i in rows:
            if not np.isfinite(values[i]).all():
                msg = (
                    f"{self.card.name!r} makes numbers that are not finite (NaN or infinity) of the prompt "
                    f"{prompts[i].text[:60]!r}. Its weights are damaged, or too large for {self.dtype}: fetch or write "
                    "them again, or load them with dtype='float32'."
                )
                raise ValueError(msg)

    def may_share(self, encoded: Sequence[Encoded]) -> bool:
        """Tell whether keys of a prefix are all visible: no layer forgets what is further away than its window."""
        longest = max((len(one.ids) for one in encoded), default=0)
        return self.able.shares and longest <= _forward.window(self.config)

    def budget(self, n_shared: int) -> int:
        """Choose the tokens per forward pass, from the memory that is free."""
        config, size = self.config, torch.empty((), dtype=self.lm.dtype).element_size()
        width = _forward.size(config, "intermediate_size", 4 * config.hidden_size)
        per_token = size * (12 * config.hidden_size + 3 * width) + 12 * n_shared * self.n_heads
        most = 2_048 if self.device.type == "cpu" else 131_072  # larger ones leave the caches of a CPU and are slower
        return int(max(1, min(most, _free_bytes(self.device) // 4 // per_token)))

    def n_held(self, n_tokens: int) -> int:
        """Choose of how many prompts keys and values of all layers are held at once, from the memory that is free."""
        config, size = self.config, torch.empty((), dtype=self.lm.dtype).element_size()
        width = _forward.size(config, "head_dim", config.hidden_size // self.n_heads)
        heads = _forward.size(config, "num_key_value_heads", self.n_heads)
        per_token = 2 * size * config.num_hidden_layers * heads * width
        return max(1, _free_bytes(self.device) // 4 // (per_token * n_tokens))


def _free_bytes(device: torch.device) -> int:
    """Measure the memory that is free now; where the system does not say, 4 GB."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 << 30
