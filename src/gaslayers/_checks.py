"""The one place where arguments are checked, so that every error of the library reads the same.

The sentence is always ``{owner}: `{argument}` must {rule}, got {value!r}. {remedy}``; tensors and
modules, whose representations take pages, are named by their kind.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_LONGEST = 200
"""Characters of a collection that an error prints."""


def _sentence(owner: str, argument: str, rule: str, value: object, remedy: str = "") -> str:
    got = _short(value)
    return f"{owner}: `{argument}` must {rule}, got {got}.{' ' + remedy if remedy else ''}"


def _short(value: object) -> str:
    if isinstance(value, Tensor) and value.is_nested:
        return f"a nested {type(value).__name__} of {value.dtype}"
    if isinstance(value, list | tuple | dict | set) and len(repr(value)) > _LONGEST:
        return f"a {type(value).__name__} of {len(value)}"  # of tensors, say
    if isinstance(value, Tensor) and value.dim() > 0:
        return f"a {type(value).__name__} of shape {tuple(value.shape)} and {value.dtype}"
    if isinstance(value, nn.Module):
        return f"a {type(value).__name__}"
    return repr(value)


def bad_type(owner: str, argument: str, rule: str, value: object, remedy: str = "") -> TypeError:
    """The error for an argument of the wrong kind, to be raised by the caller."""
    return TypeError(_sentence(owner, argument, rule, value, remedy))


def bad_value(owner: str, argument: str, rule: str, value: object, remedy: str = "") -> ValueError:
    """The error for an argument of the right kind but a wrong value, to be raised by the caller."""
    return ValueError(_sentence(owner, argument, rule, value, remedy))


def check_int(owner: str, argument: str, value: Any, *, minimum: int = 1, remedy: str = "") -> None:
    """Raise unless ``value`` is an integer of at least ``minimum``; a bool is not an integer."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_type(owner, argument, "be an int", value, remedy)
    if value < minimum:
        raise bad_value(owner, argument, f"be >= {minimum}", value, remedy)


def check_float(
    owner: str,
    argument: str,
    value: Any,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
) -> None:
    """Raise unless ``value`` is a finite real number within the bounds that are given."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_type(owner, argument, "be a number", value)
    bounds = (
        ("be finite", not math.isfinite(value)),
        (f"be > {above}", above is not None and value <= above),
        (f"be >= {minimum}", minimum is not None and value < minimum),
        (f"be < {below}", below is not None and value >= below),
        (f"be <= {maximum}", maximum is not None and value > maximum),
    )
    for rule, broken in bounds:
        if broken:
            raise bad_value(owner, argument, rule, value)


def check_bool(owner: str, argument: str, value: Any, *, optional: bool = False) -> None:
    """Raise unless ``value`` is True or False (or None where that leaves the choice open)."""
    if not isinstance(value, bool) and not (value is None and optional):
        raise bad_type(owner, argument, "be a bool or None" if optional else "be a bool", value)


def check_memory_efficient(owner: str, value: Any) -> None:
    """Raise unless ``value`` is True, False or ``"recompute"``."""
    if not isinstance(value, bool) and value != "recompute":
        raise bad_type(owner, "memory_efficient", 'be a bool or "recompute"', value)


def check_choice(owner: str, argument: str, value: Any, choices: Collection[str]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise bad_value(owner, argument, f"be one of {listed}", value)


def check_factory(owner: str, argument: str, value: Any, *, optional: bool = True) -> None:
    """Raise unless ``value`` is a callable that makes a layer (or None where that means absent)."""
    if value is None and optional:
        return
    if isinstance(value, torch.nn.Module) or not callable(value):
        allowed = "a callable that builds a layer" + (" or None" if optional else "")
        remedy = "Pass the class or a partial, not a built module: it is called per layer."
        raise bad_type(owner, argument, f"be {allowed}", value, remedy)


def check_int_sequence(owner: str, argument: str, value: Any, *, minimum: int = 1) -> None:
    """Raise unless ``value`` is a non-empty sequence of integers of at least ``minimum``."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise bad_type(owner, argument, "be a sequence of ints", value)
    if not value:
        raise bad_value(owner, argument, "hold at least one int", value)
    for item in value:
        check_int(owner, argument, item, minimum=minimum)


def check_feature_map(owner: str, x: Tensor, in_channels: int) -> None:
    """Raise unless ``x`` has shape (N, in_channels, H, W)."""
    if x.dim() != 4 or x.shape[1] != in_channels:
        raise ValueError(
            f"{owner}: expected input of shape (N, {in_channels}, H, W), got {tuple(x.shape)}."
        )
