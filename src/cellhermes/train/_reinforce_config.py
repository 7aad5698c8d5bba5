"""A run of reinforcement as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from . import _checks
from ._config import Config, TrainConfig
from ._reward import FORMAT, check_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

PRESET = "reinforce"
UNUSED = (
    "method", "quantize", "embedding_lr_factor", "max_tokens", "loss_on", "sampled_softmax", "temperature", "packing",
    "group_by_length", "liger", "eval_every", "patience", "keep_best",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinforceConfig(Config):
    """How a model is reinforced: GRPO, what is rewarded, and how its adapter is trained.

    The paper names no values for its reasoning model. ``temperature``, ``max_new_tokens`` and the reward are those of
    its release, the adapter is the one of pretraining, the rest are usual values.

    Parameters
    ----------
    train
        Adapter, optimiser, steps and checkpoints; ``TrainConfig.preset("reinforce")`` and changes of it. Epochs pass
        over the questions; ``batch_size`` texts are in a forward pass of one process, and the ``batch_size *
        accumulation`` texts of a step are written at once and are whole groups. What reinforcement has no use for
        (``method``, ``quantize``, ``embedding_lr_factor``, ``max_tokens``, ``loss_on``, ``sampled_softmax``,
        ``temperature``, ``packing``, ``group_by_length``, ``liger``, ``eval_every``, ``patience``, ``keep_best``)
        keeps its default.
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

    Raises
    ------
    ValueError
        If a value is out of its range, ``train`` sets what reinforcement has no use for, or ``batch_size *
        accumulation`` texts are no whole groups.

    Examples
    --------
    >>> import cellhermes as ch
    >>> train = ch.train.TrainConfig.preset("reinforce", max_steps=500)
    >>> config = ch.train.ReinforceConfig(train=train, class_weights={"Reactive": 2.0})
    >>> config.group_size, config.train.learning_rate, config.class_weights["Reactive"]
    (8, 1e-05, 2.0)
    """

    train: TrainConfig = field(default_factory=lambda: TrainConfig.preset(PRESET))

    group_size: int = 8
    max_new_tokens: int = 512
    temperature: float = 0.95
    beta: float = 0.0

    format_reward: float = FORMAT
    class_weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    compat: Literal["", "release"] = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_weights", MappingProxyType(_checks.mapping(self, "class_weights")))
        _check_used(self.train)
        _checks.choices(self, {"compat": ("", "release")})
        _checks.whole(self, {"group_size": 2, "max_new_tokens": 1})
        _checks.above_zero(self, "temperature")
        _checks.numbers(self, {"beta": (0, inf)})
        check_rule(self.format_reward, self.class_weights, self.compat or None)
        if self.train.batch_size * self.train.accumulation % self.group_size:
            msg = (
                f"batch_size * accumulation is {self.train.batch_size} * {self.train.accumulation}; expected a "
                f"multiple of group_size, {self.group_size}, so that groups are whole."
            )
            raise ValueError(msg)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> ReinforceConfig:
        """Make a config of a mapping, such as a table of a TOML file.

        Parameters
        ----------
        values
            Fields that differ from the defaults; ``train`` is a mapping itself, of what differs from the preset
            ``"reinforce"``.

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
        >>> config = ch.train.ReinforceConfig.from_dict({"group_size": 4, "train": {"rank": 16}})
        >>> config.group_size, config.train.rank, config.train.n_epochs
        (4, 16, 1)
        """
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            msg = f"The config of reinforcement has unknown fields {unknown}. Known: {', '.join(known)}."
            if moved := sorted(set(unknown) & {one.name for one in fields(TrainConfig)}):
                msg += f" {', '.join(moved)} belong into its table `train`."
            raise ValueError(msg)
        train = values.get("train", {})
        if not isinstance(train, dict):
            msg = f"train is {train!r}; expected a table of fields of TrainConfig."
            raise ValueError(msg)
        return cls(**{**values, "train": TrainConfig.from_dict({"preset": PRESET, **train})})


def _check_used(train: object) -> None:
    """Raise where a field is set that reinforcement would not read."""
    if not isinstance(train, TrainConfig):
        msg = f"train is {train!r}; expected a TrainConfig, such as TrainConfig.preset('reinforce')."
        raise ValueError(msg)
    default = TrainConfig()
    changed = [name for name in UNUSED if getattr(train, name) != getattr(default, name)]
    if changed:
        values = ", ".join(f"{name}={getattr(train, name)!r}" for name in changed)
        msg = f"train has {values}, which reinforcement has no use for; expected the default of {', '.join(changed)}."
        raise ValueError(msg)
