"""Checks of the fields of a config: an error names the field, what it is, and what is expected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NoReturn


def whole(config: object, at_least: Mapping[str, int]) -> None:
    """Check whole numbers, each with its lowest value."""
    for name, low in at_least.items():
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            _refuse(name, value, f"a whole number of at least {low}")


def numbers(config: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check numbers, each with its lowest value and the one that it is below."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not _is_number(value) or not low <= value < high:
            expected = f"from {low} to below {high}" if math.isfinite(high) else f"of at least {low}"
            _refuse(name, value, f"a number {expected}")


def above_zero(config: object, *names: str) -> None:
    """Check numbers that something is divided by."""
    for name in names:
        value = getattr(config, name)
        if not _is_number(value) or not 0 < value < math.inf:
            _refuse(name, value, "a number above 0")


def choices(config: object, known: Mapping[str, Sequence[object]]) -> None:
    """Check values of which there are a few."""
    for name, values in known.items():
        if (value := getattr(config, name)) not in values or isinstance(value, bool) != isinstance(values[0], bool):
            _refuse(name, value, "true or false" if values == FLAG else f"one of {list(values)}")


FLAG = (False, True)


def texts(config: object, *names: str) -> None:
    """Check that these are strings."""
    for name in names:
        if not isinstance(value := getattr(config, name), str):
            _refuse(name, value, "text")


def betas(config: object) -> None:
    """Check both decay rates of AdamW."""
    value = config.adam_betas
    if not _is_list(value) or len(value) != 2 or not all(_is_number(one) and 0 <= one < 1 for one in value):
        _refuse("adam_betas", value, "two numbers from 0 to below 1")
    object.__setattr__(config, "adam_betas", tuple(value))  # TOML and JSON have lists only


def loggers(config: object) -> None:
    """Check names of more loggers."""
    value = config.report_to
    if not _is_list(value) or not all(isinstance(one, str) for one in value):
        _refuse("report_to", value, "a list of names")
    object.__setattr__(config, "report_to", tuple(value))


def mapping(config: object, name: str) -> dict[str, object]:
    """Check that it is a table, and copy it."""
    if not isinstance(value := getattr(config, name), Mapping):
        _refuse(name, value, "a mapping")
    return dict(value)


def seed(config: object) -> None:
    """Check that the generators of numpy and torch take it."""
    whole(config, {"seed": 0})
    if config.seed >= 2**32:
        _refuse("seed", config.seed, "a whole number below 2**32")


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(name: str, value: object, expected: str) -> NoReturn:
    msg = f"{name} is {value!r}; expected {expected}."
    raise ValueError(msg)
