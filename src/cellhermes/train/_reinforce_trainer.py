"""TRL's GRPO with the token ids, log and checkpoints of this package; the loop itself is theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset
from torch.utils.data import Sampler
from trl import GRPOConfig, GRPOTrainer

from ..text import Prompt
from . import _arguments, _folder
from ._recorded import Recorded
from ._reward import reason_reward
from ._tunable import lora_of, name_base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl.trainer.utils import RepeatSampler

    from ..model import ModelCard
    from ..model._tokens import Encoder
    from ..text import QAPair, Question
    from ._reinforce_config import ReinforceConfig

# Their names of numbers to ours.
LOGGED = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "reward": "reward",
    "reward_std": "reward_std",
    "rewards/format/mean": "reward/format",
    "rewards/correctness/mean": "reward/correctness",
    "frac_reward_zero_std": "equal_groups",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "cut",
    "entropy": "entropy",
    "kl": "kl",
}


class ReasonTrainer(Recorded, GRPOTrainer):
    """Runs one reinforcement.

    Parameters
    ----------
    lm
        The base. It gets the adapter here, because only then its own answers without the adapter are what the
        divergence is counted from.
    args
        Of TRL.
    config
        Ours.
    questions
        With their true answers.
    question
        How an answer is read.
    encoder, tokenizer, card
        Of the base.
    log_file
        JSON lines are added to it.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        args: GRPOConfig,
        config: ReinforceConfig,
        questions: Sequence[QAPair],
        question: Question,
        *,
        encoder: Encoder,
        tokenizer: PreTrainedTokenizerBase,
        card: ModelCard,
        log_file: Path,
    ) -> None:
        self.config, self._rule, self._question, self._encoder = config.train, config, question, encoder
        lm.generation_config.eos_token_id = sorted(encoder.stop)
        rows = {
            "prompt": [pair.prompt.text for pair in questions],
            "truth": [pair.answer for pair in questions],
        }
        super().__init__(
            model=lm,
            reward_funcs=[self._reward("format"), self._reward("correctness")],
            args=args,
            train_dataset=Dataset.from_dict(rows),
            processing_class=tokenizer,
            peft_config=lora_of(config.train),
        )
        name_base(self.model, card)
        self.record(log_file)

    def _reward(self, part: str) -> object:
        """Make one part of the reward, as TRL calls it."""

        def reward(*, completion_ids: list[list[int]], truth: list[str], **_: object) -> list[float]:
            return self._rewards(completion_ids, truth)[part].tolist()

        reward.__name__ = part
        return reward

    def _rewards(self, completion_ids: list[list[int]], truth: list[str]) -> pd.DataFrame:
        rule = self._rule
        return reason_reward(
            [self._encoder.decode(ids) for ids in completion_ids],
            truth,
            self._question,
            format_reward=rule.format_reward,
            class_weights=rule.class_weights,
            compat=rule.compat or None,
        )

    # Where TRL would go ways of its own -----------------------------------------------------------------------

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict]:
        """Make ids as everywhere in this package, not those of a chat template."""
        return [one.ids for one in self._encoder.prompts([Prompt(text) for text in prompts])], None, {}

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        """Give the same order of questions in the same epoch, also in a run that goes on after an interruption."""
        return _ByEpoch(super()._get_train_sampler(dataset), lambda: int(self.state.epoch or 0))

    def _send_telemetry(self) -> None:
        """Send nothing to anybody."""

    def create_model_card(self, *_: object, **__: object) -> None:
        """Write none: the card is written when the run has ended."""

    # The log -------------------------------------------------------------------------------------------------

    def tokens_seen(self) -> int:
        """Count the tokens of questions and texts, of all processes."""
        return int(self.state.num_input_tokens_seen)

    def numbers(self, logs: Mapping[str, float]) -> dict[str, float]:
        """Choose those of their many numbers that tell how it goes."""
        return {ours: logs[theirs] for theirs, ours in LOGGED.items() if logs.get(theirs) is not None}


class _ByEpoch(Sampler):
    """TRL's sampler, whose order follows from the epoch. Theirs follows from how often this process has asked."""

    def __init__(self, sampler: RepeatSampler, epoch: Callable[[], int]) -> None:
        self.sampler, self.epoch = sampler, epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        self.sampler.generator.manual_seed(self.sampler.seed + self.epoch())
        return iter(self.sampler)


def arguments(config: ReinforceConfig, out: Path, device: str | None) -> GRPOConfig:
    """Make the arguments of TRL's trainer."""
    # transformers renames it in the course of version 5
    renamed = "activation_checkpointing" in GRPOConfig.__dataclass_fields__
    extra = {
        "num_generations": config.group_size,
        "max_completion_length": config.max_new_tokens,
        "temperature": config.temperature,
        "beta": config.beta,
        "loss_type": "grpo",  # the published objective: mean over the tokens of a text, then over texts
        "activation_checkpointing" if renamed else "gradient_checkpointing": config.train.gradient_checkpointing,
    }
    folder = out / _folder.CHECKPOINTS
    return _arguments.arguments(config.train, folder, device=device, evaluates=False, kind=GRPOConfig, extra=extra)


def results(trainer: ReasonTrainer, log: Sequence[Mapping[str, float]]) -> dict[str, object]:
    """Sum up a run; rewards at start and end are means of a tenth of the lines, as single steps see few questions."""
    lines = [line for line in log if "reward" in line]
    n = max(1, len(lines) // 10)
    names = [name for name in ("reward", "reward/format", "reward/correctness") if lines and name in lines[0]]
    return {
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "processes": trainer.args.world_size,
        "device": trainer.args.device.type,
        "tokens": trainer.tokens_seen(),
        "seconds": log[-1]["seconds"] if log else 0.0,
        "start": {name: float(np.mean([line[name] for line in lines[:n]])) for name in names},
        "end": {name: float(np.mean([line[name] for line in lines[-n:]])) for name in names},
    }
