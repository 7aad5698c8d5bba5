"""A config holds values that can be trained with, or says which field cannot."""

from dataclasses import fields
from math import inf, nan

import pytest

from cellhermes.train import ReinforceConfig, TrainConfig

NUMBERS = ("alpha", "dropout", "learning_rate", "warmup_ratio", "weight_decay", "max_grad_norm", "temperature")
WHOLE = ("rank", "n_epochs", "max_steps", "batch_size", "accumulation", "save_every", "keep", "log_every", "seed")
OF_TRAINING = ("embedding_lr_factor", "max_tokens", "sampled_softmax", "eval_every", "patience")
OF_REINFORCEMENT = ("beta", "format_reward", "group_size", "max_new_tokens")


@pytest.mark.parametrize("value", [nan, inf, -inf, -1, True, None, "1", [1], {"a": 1}])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((TrainConfig, name) for name in (*NUMBERS, *WHOLE, *OF_TRAINING)),
        *((ReinforceConfig, name) for name in ("temperature", *OF_REINFORCEMENT)),
    ],
)
def test_what_is_no_number_in_range_names_its_field(kind, name, value):
    with pytest.raises(ValueError, match=rf"^{name} is .*; expected a (whole )?number"):
        kind(**{name: value})


@pytest.mark.parametrize("name", ["batch_size", "accumulation", "rank", "n_epochs", "log_every", "save_every"])
def test_counts_begin_at_one(name):
    with pytest.raises(ValueError, match=f"^{name} is 0; expected a whole number of at least 1"):
        TrainConfig(**{name: 0})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("adam_betas", [nan, 0.9, "0.9", (0.9,), (0.9, nan), (0.9, 1), (-0.1, 0.9), (0.9, 0.9, 0.9), {"a": 1}, None]),
        ("report_to", ["wandb", 1, None, (1,), {"wandb": 1}]),
        ("attention", [None, 1, ["eager"]]),
        ("dtype", ["int8", None, 1]),
        ("schedule", ["step", None]),
        ("gradient_checkpointing", [0, 1, "true", None]),
        ("dropout", [1, 1.5]),
        ("warmup_ratio", [1.0]),
        ("seed", [2**32]),
    ],
)
def test_other_values_name_their_field(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} is .*; expected"):
            TrainConfig(**{name: value})


@pytest.mark.parametrize("value", [nan, "Yes", None, 1, ["Yes"], {"Yes": nan}, {"Yes": -1}, {"Yes": True}])
def test_weights_of_classes_are_numbers(value):
    with pytest.raises(ValueError, match="^class.weight"):
        ReinforceConfig(class_weights=value)


@pytest.mark.parametrize("kind", [TrainConfig, ReinforceConfig])
def test_how_an_adapter_begins_is_no_field(kind):
    """PiSSA and OLoRA change the base, so that the adapter alone would not be the model."""
    assert not {one.name for one in fields(kind)} & {"init_lora_weights", "init"}
    with pytest.raises(ValueError, match=r"unknown fields \['init_lora_weights'\]"):
        kind.from_dict({"init_lora_weights": "pissa_niter_4"})
