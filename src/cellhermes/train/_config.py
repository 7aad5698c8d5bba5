"""A training run as one frozen record: the paper's values, presets, and how they are read from TOML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import inf
from typing import Literal, Self, get_args

from .._disk import packaged
from . import _checks

Method = Literal["lora", "full"]
LossOn = Literal["answer", "all"]
Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
CHOICES = {
    "method": get_args(Method), "loss_on": get_args(LossOn), "schedule": get_args(Schedule),
    "dtype": get_args(Precision), "quantize": ("", "4bit"),
}  # fmt: skip


class Config:
    """What all configs can do."""

    __slots__ = ()

    def to_dict(self) -> dict[str, object]:
        """Return every field, as JSON can hold it.

        Returns
        -------
        Field to value.
        """
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    def replace(self, **changes: object) -> Self:
        """Return a config that differs in some fields.

        Parameters
        ----------
        changes
            Fields and values.

        Returns
        -------
        The new config.
        """
        return dataclasses.replace(self, **changes)


def _plain(value: object) -> object:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(Config):
    """How a model is trained.

    The defaults are those of the paper's pretraining (Methods, and the settings of its release). A config says how to
    learn; what to learn from, and where results go, are arguments of :func:`~cellhermes.train.fit`.

    Parameters
    ----------
    method
        ``"lora"`` tunes a low-rank adapter, ``"full"`` all weights.
    rank
        Rank of the adapter (eq. 6: W + B A, scaled by ``alpha / rank``).
    alpha
        Scale of the adapter.
    dropout
        Of the adapter's input.
    quantize
        ``"4bit"`` keeps the frozen base in four bits (needs CUDA and bitsandbytes); ``""`` does not.
    learning_rate
        Highest learning rate.
    schedule
        How it falls, over all steps: ``"cosine"``, ``"linear"``, or ``"constant"``.
    warmup_ratio
        Share of all steps in which it rises from 0.
    embedding_lr_factor
        The token table learns at ``learning_rate`` times this, with ``method="full"``: below 1 where it starts from
        something that is worth keeping.
    weight_decay
        Of AdamW.
    adam_betas
        Of AdamW.
    max_grad_norm
        Gradients are scaled down to this norm.
    n_epochs
        Passes over the pairs.
    max_steps
        Steps in place of ``n_epochs``; needed for a stream of unknown length. 0 counts epochs.
    batch_size
        Examples (rows, with ``packing``) in a forward pass of one process.
    accumulation
        Forward passes of each process before a step. Examples in a step: ``batch_size * accumulation * processes``.
    max_tokens
        Longer examples are cut: the cut is shared between question and answer in proportion to their lengths.
    loss_on
        ``"answer"`` (eq. 5, with the end token), or ``"all"`` tokens.
    sampled_softmax
        Compare each target with the targets of the same forward pass and so many other words, drawn anew each time, in
        place of all words (0). What is drawn is weighted by one over its chance, so that the sum over all words is met
        on average. Saves most of the time of a small model with a large vocabulary on a CPU. Evaluation reads all.
    temperature
        Of the groups of :func:`~cellhermes.train.fit`: cosines of vectors are divided by it before they become shares
        of nearness.
    packing
        Fill rows of ``max_tokens`` with several examples, which do not see each other. Refused where a model reads an
        example behind another one otherwise than alone, as those with convolutions or recurrent layers do.
    group_by_length
        Examples of a forward pass have similar lengths. Which examples form a step stays random.
    dtype
        Numbers of the frozen weights and of matrix products: ``"auto"`` takes bfloat16 on CUDA devices that have it,
        else float32. Weights that are tuned stay in float32.
    attention
        Kernel of the attention, as transformers names it: ``"eager"``, ``"sdpa"``, ``"flash_attention_2"``; ``""``
        takes that of this package, which is like ``"sdpa"``. For short texts on a CPU, ``"eager"`` is the fastest.
    gradient_checkpointing
        Compute activations again in the backward pass: less memory, about a third more time.
    liger
        Fused kernels of liger-kernel (GPU).
    eval_every
        Steps between evaluations on held-out pairs.
    save_every
        Steps between checkpoints.
    keep
        Checkpoints that are kept, at least two.
    log_every
        Steps between lines of the log. A resumed run writes the same lines where this divides ``save_every``.
    patience
        Stop after so many evaluations without a lower held-out loss; 0 does not stop early.
    keep_best
        Take the weights of the checkpoint with the lowest held-out loss, not the last ones.
    report_to
        More loggers, such as ``("tensorboard", "wandb")``.
    seed
        Of the adapter's start values, the order of the pairs and dropout.

    Raises
    ------
    ValueError
        If a value is out of its range.

    Examples
    --------
    >>> import cellhermes as ch
    >>> config = ch.train.TrainConfig(learning_rate=1e-4)
    >>> config.rank, config.n_epochs, config.learning_rate
    (8, 3, 0.0001)
    >>> ch.train.TrainConfig.preset("multitask").n_epochs
    2
    """

    method: Method = "lora"
    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    quantize: Literal["", "4bit"] = ""

    learning_rate: float = 5e-5
    schedule: Schedule = "cosine"
    warmup_ratio: float = 0.0
    embedding_lr_factor: float = 1.0
    weight_decay: float = 0.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = 1.0

    n_epochs: int = 3
    max_steps: int = 0
    batch_size: int = 2
    accumulation: int = 4
    max_tokens: int = 1024
    loss_on: LossOn = "answer"
    sampled_softmax: int = 0
    temperature: float = 0.1
    packing: bool = False
    group_by_length: bool = True

    dtype: Precision = "auto"
    attention: str = ""
    gradient_checkpointing: bool = False
    liger: bool = False

    eval_every: int = 500
    save_every: int = 500
    keep: int = 2
    log_every: int = 1
    patience: int = 0
    keep_best: bool = False
    report_to: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        _checks.betas(self)
        _checks.loggers(self)
        _checks.texts(self, "attention")
        flags = ("packing", "group_by_length", "gradient_checkpointing", "liger", "keep_best")
        _checks.choices(self, {**CHOICES, **dict.fromkeys(flags, _checks.FLAG)})
        _checks.whole(self, {
            "rank": 1, "n_epochs": 1, "batch_size": 1, "accumulation": 1, "max_tokens": 8, "eval_every": 1,
            "save_every": 1, "keep": 2, "log_every": 1, "max_steps": 0, "sampled_softmax": 0, "patience": 0,
        })  # fmt: skip
        _checks.above_zero(self, "temperature")
        _checks.numbers(self, {
            "alpha": (0, inf), "learning_rate": (0, inf), "dropout": (0, 1), "warmup_ratio": (0, 1),
            "embedding_lr_factor": (0, inf), "weight_decay": (0, inf), "max_grad_norm": (0, inf),
        })  # fmt: skip
        _checks.seed(self)
        if (self.keep_best or self.patience) and self.save_every % self.eval_every:
            msg = (
                f"save_every is {self.save_every} and eval_every {self.eval_every}; keep_best and patience need "
                "checkpoints of evaluated steps, so expected a save_every that eval_every divides."
            )
            raise ValueError(msg)
        if self.method == "lora" and self.embedding_lr_factor != 1:
            msg = f"embedding_lr_factor is {self.embedding_lr_factor}; an adapter leaves the token table as it is."
            raise ValueError(msg)
        if self.method == "full" and self.quantize:
            msg = "quantize='4bit' freezes the base, so it needs method='lora'."
            raise ValueError(msg)

    @classmethod
    def preset(cls, name: str = "pretrain", **changes: object) -> TrainConfig:
        """Take the values of a preset, with changes.

        Parameters
        ----------
        name
            ``"pretrain"`` (the paper's, which are the defaults), ``"multitask"`` (two epochs, for a base with the first
            adapter merged), ``"instruct"`` (one task), ``"from_scratch"`` (all weights, loss on all tokens), or
            ``"reinforce"`` (for :class:`ReinforceConfig`).
        changes
            Fields that differ from the preset.

        Returns
        -------
        The config.

        Raises
        ------
        KeyError
            If there is no such preset.
        ValueError
            If a field is not known or out of its range.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.train.TrainConfig.preset("from_scratch", max_steps=100).loss_on
        'all'
        """
        presets = packaged("train/presets.toml")
        if name not in presets:
            msg = f"No preset {name!r}. Known: {', '.join(presets)}."
            raise KeyError(msg)
        return cls.from_dict({**presets[name], **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> TrainConfig:
        """Make a config of a mapping, such as a table of a TOML file.

        Parameters
        ----------
        values
            Fields that differ from the defaults, and optionally ``preset``.

        Returns
        -------
        The config.

        Raises
        ------
        KeyError, ValueError
            As for :meth:`preset`.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.train.TrainConfig.from_dict({"preset": "multitask", "rank": 16}).rank
        16
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - {*known, "preset"}):
            msg = f"The training config has unknown fields {unknown}. Known: {', '.join(['preset', *known])}."
            raise ValueError(msg)
        if "preset" in values:
            rest = {name: value for name, value in values.items() if name != "preset"}
            return cls.preset(str(values["preset"]), **rest)
        return cls(**values)
