"""A run of reinforcement as one frozen record."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, fields
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from . import _checks
from ._config import Precision, Schedule, TrainConfig
from ._reward import FORMAT, check_rule

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinforceConfig:
    """How a model is reinforced: GRPO, and what is rewarded.

    The paper names no values for its reasoning model. ``temperature``, ``max_new_tokens`` and the reward are those of
    its release, the adapter is the one of pretraining, the rest are usual values.

    Parameters
    ----------
    rank
        Rank of the adapter (eq. 6: W + B A, scaled by ``alpha / rank``).
    alpha
        Scale of the adapter.
    dropout
        Of the adapter's input.
    group_size
        Texts that are written to each question. A text is better or worse than the mean of its group, in standard
        deviations of the group; where all earn the same, nothing is learned.
    max_new_tokens
        Longest text. One that is cut here is rewarded as it stands.
    temperature
        Of the draws; below 1 texts of a group are more alike.
    beta
        Weight of the divergence from the base (KL), 0 for none. It costs another forward pass.
    format_reward
        Reward of the format (:func:`~cellhermes.train.reason_reward`).
    class_weights
        Answer to the reward of giving it when it is true; 1 for those that are not named.
    compat
        ``"release"`` rewards as the release does; ``""`` rewards answers in formatted texts only.
    learning_rate
        Highest learning rate.
    schedule
        How it falls, over all steps: ``"cosine"``, ``"linear"``, or ``"constant"``.
    warmup_ratio
        Share of all steps in which it rises from 0.
    weight_decay
        Of AdamW.
    adam_betas
        Of AdamW.
    max_grad_norm
        Gradients are scaled down to this norm.
    n_epochs
        Passes over the questions.
    max_steps
        Steps in place of ``n_epochs``; 0 counts epochs.
    batch_size
        Texts in a forward pass of one process.
    accumulation
        Forward passes of each process before a step. ``batch_size * accumulation`` texts are written at once and are
        whole groups; with several processes each has its own.
    dtype
        Numbers of the frozen weights and of matrix products: ``"auto"`` takes bfloat16 on CUDA devices that have it,
        else float32. The adapter stays in float32.
    attention
        Kernel of the attention, as transformers names it; ``""`` takes that of this package, which is like ``"sdpa"``.
    gradient_checkpointing
        Compute activations again in the backward pass: less memory, more time.
    save_every
        Steps between checkpoints.
    keep
        Checkpoints that are kept, at least two.
    log_every
        Steps between lines of the log.
    report_to
        More loggers, such as ``("tensorboard", "wandb")``.
    seed
        Of the adapter's start values, the order of the questions and what is drawn.

    Raises
    ------
    ValueError
        If a value is out of its range, or ``batch_size * accumulation`` texts are no whole groups.

    Examples
    --------
    >>> import cellhermes as ch
    >>> config = ch.train.ReinforceConfig(class_weights={"Reactive": 2.0})
    >>> config.group_size, config.format_reward, config.class_weights["Reactive"]
    (8, 0.3, 2.0)
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0

    group_size: int = 8
    max_new_tokens: int = 512
    temperature: float = 0.95
    beta: float = 0.0

    format_reward: float = FORMAT
    class_weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    compat: Literal["", "release"] = ""

    learning_rate: float = 1e-5
    schedule: Schedule = "cosine"
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = 1.0

    n_epochs: int = 1
    max_steps: int = 0
    batch_size: int = 2
    accumulation: int = 4

    dtype: Precision = "auto"
    attention: str = ""
    gradient_checkpointing: bool = False

    save_every: int = 50
    keep: int = 2
    log_every: int = 1
    report_to: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_weights", MappingProxyType(_checks.mapping(self, "class_weights")))
        shared = self.shared()  # checks what TrainConfig has, too
        object.__setattr__(self, "adam_betas", shared.adam_betas)
        object.__setattr__(self, "report_to", shared.report_to)
        _checks.choices(self, {"compat": ("", "release")})
        _checks.whole(self, {"group_size": 2, "max_new_tokens": 1})
        _checks.above_zero(self, "temperature")
        _checks.numbers(self, {"beta": (0, inf)})
        check_rule(self.format_reward, self.class_weights, self.compat or None)
        if self.batch_size * self.accumulation % self.group_size:
            msg = (
                f"batch_size * accumulation is {self.batch_size} * {self.accumulation}; expected a multiple of "
                f"group_size, {self.group_size}, so that groups are whole."
            )
            raise ValueError(msg)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> ReinforceConfig:
        """Config from a mapping, such as a table of a TOML file.

        Parameters
        ----------
        values
            Fields that differ from the defaults.

        Returns
        -------
        The config.

        Raises
        ------
        ValueError
            If a field is not known or out of its range.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.train.ReinforceConfig.from_dict({"group_size": 4}).group_size
        4
        """
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            msg = f"The config of reinforcement has unknown fields {unknown}. Known: {', '.join(known)}."
            raise ValueError(msg)
        return cls(**values)

    def to_dict(self) -> dict[str, object]:
        """Every field, as JSON can hold it.

        Returns
        -------
        Field to value.
        """
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        return values | lists | {"class_weights": dict(self.class_weights)}

    def replace(self, **changes: object) -> ReinforceConfig:
        """A config that differs in some fields.

        Parameters
        ----------
        changes
            Fields and values.

        Returns
        -------
        The new config.
        """
        return dataclasses.replace(self, **changes)

    def shared(self) -> TrainConfig:
        """What a run has in common with other training, as its config."""
        names = {one.name for one in fields(TrainConfig)} - {"temperature"}  # there of something else
        return TrainConfig(**{one.name: getattr(self, one.name) for one in fields(self) if one.name in names})
