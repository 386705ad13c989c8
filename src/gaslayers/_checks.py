"""The one place where arguments are checked, so that every error of the library reads the same.

The sentence is always ``{owner}: `{argument}` must {rule}, got {value!r}. {remedy}``; tensors and
modules, whose representations take pages, are named by their kind.
"""

from __future__ import annotations

import numbers
import operator
import sys
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

MOST = 2**63 - 1
"""The largest size that PyTorch can be told."""

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
    shape = None if isinstance(value, Tensor) else getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:  # an array of NumPy's, say
        return f"a {type(value).__name__} of shape {shape}"
    return repr(value)


def bad_type(owner: str, argument: str, rule: str, value: object, remedy: str = "") -> TypeError:
    """The error for an argument of the wrong kind, to be raised by the caller."""
    return TypeError(_sentence(owner, argument, rule, value, remedy))


def bad_value(owner: str, argument: str, rule: str, value: object, remedy: str = "") -> ValueError:
    """The error for an argument of the right kind but a wrong value, to be raised by the caller."""
    return ValueError(_sentence(owner, argument, rule, value, remedy))


def check_int(
    owner: str,
    argument: str,
    value: Any,
    *,
    minimum: int = 1,
    maximum: int = MOST,
    remedy: str = "",
) -> int:
    """Return ``value`` as an int, or raise unless it is an integer within the bounds.

    An integer of NumPy's is one. A bool is none, nor is a tensor.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise bad_type(owner, argument, "be an int", value, remedy)
    number = operator.index(value)
    if number < minimum:
        raise bad_value(owner, argument, f"be >= {minimum}", number, remedy)
    if number > maximum:
        raise bad_value(owner, argument, f"be <= {maximum}", number, remedy)
    return number


def check_float(
    owner: str,
    argument: str,
    value: Any,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
) -> float:
    """Return ``value`` as an int or a float, or raise unless it is finite and within the bounds."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise bad_type(owner, argument, "be a number", value)
    if not isinstance(value, int | float):
        value = float(value)
    bounds = (
        ("be finite", not abs(value) <= sys.float_info.max),  # which an int may exceed
        ("be a float to be so large", isinstance(value, int) and abs(value) > MOST),
        (f"be > {above}", above is not None and value <= above),
        (f"be >= {minimum}", minimum is not None and value < minimum),
        (f"be < {below}", below is not None and value >= below),
        (f"be <= {maximum}", maximum is not None and value > maximum),
    )
    for rule, broken in bounds:
        if broken:
            raise bad_value(owner, argument, rule, value)
    return value


def check_bool(owner: str, argument: str, value: Any, *, optional: bool = False) -> None:
    """Raise unless ``value`` is True or False (or None where that leaves the choice open)."""
    if not isinstance(value, bool) and not (value is None and optional):
        raise bad_type(owner, argument, "be a bool or None" if optional else "be a bool", value)


def check_module(owner: str, module: object) -> None:
    """Raise unless it is a module."""
    if not isinstance(module, nn.Module):
        raise bad_type(owner, "module", "be a torch.nn.Module", module)


def check_memory_efficient(owner: str, value: Any) -> None:
    """Raise unless ``value`` is True, False or ``"recompute"``."""
    if not isinstance(value, bool) and not (isinstance(value, str) and value == "recompute"):
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


def check_int_sequence(
    owner: str, argument: str, value: Any, *, minimum: int = 1
) -> tuple[int, ...]:
    """Return ``value`` as a tuple of ints, or raise unless it is a sequence of at least one."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise bad_type(owner, argument, "be a sequence of ints", value)
    if not value:
        raise bad_value(owner, argument, "hold at least one int", value)
    return tuple(check_int(owner, argument, item, minimum=minimum) for item in value)


def check_pair(owner: str, argument: str, value: Any, *, minimum: int = 1) -> tuple[int, int]:
    """Return an int twice, or the two ints of a pair; raise for anything else."""
    if isinstance(value, bool | str) or not isinstance(value, numbers.Integral | Sequence):
        raise bad_type(owner, argument, "be an int or a pair of ints", value)
    if isinstance(value, numbers.Integral):
        number = check_int(owner, argument, value, minimum=minimum)
        return number, number
    numbers_given = check_int_sequence(owner, argument, value, minimum=minimum)
    if len(numbers_given) != 2:
        raise bad_value(owner, argument, "be an int or a pair of ints", value)
    return numbers_given[0], numbers_given[1]


def is_tracing() -> bool:
    """Whether `torch.jit.trace` records, as the older ONNX exporter does.

    It does not look into autograd functions, and what a size decides is decided for good.
    """
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]  # untyped


def is_traced(x: Any) -> bool:
    """Whether `torch.fx` runs the module on a stand-in for a tensor, which knows no numbers."""
    return not isinstance(x, Tensor) and isinstance(x, torch.fx.Proxy)


def check_input(owner: str, argument: str, x: Any, axes: str) -> None:
    """Raise unless ``x`` is a tensor of numbers that a layer computes with.

    Args:
        owner: The class that is given it.
        argument: Its name for it.
        x: What it is given.
        axes: The shape that it expects, in words.
    """
    if not isinstance(x, Tensor):
        raise bad_type(owner, argument, f"be a tensor of shape {axes}", x)
    # Quantised layers take quantised maps.
    if not (x.is_floating_point() or x.is_complex() or x.is_quantized):
        rule = "be a floating-point tensor"
        raise bad_type(owner, argument, rule, x, "Convert it, by x.float() for example.")


def check_matrix(owner: str, argument: str, x: Any, features: int) -> None:
    """Raise unless ``x`` has shape (N, features)."""
    if is_traced(x):
        return
    axes = f"(N, {features})"
    check_input(owner, argument, x, axes)
    if is_tracing():
        return
    if x.dim() != 2 or x.shape[1] != features:
        raise ValueError(f"{owner}: expected input of shape {axes}, got {tuple(x.shape)}.")


def check_feature_map(
    owner: str, x: Any, in_channels: int, *, least: tuple[int, int] = (1, 1)
) -> None:
    """Raise unless ``x`` has shape (N, in_channels, H, W).

    Args:
        owner: The class that is given it.
        x: What it is given.
        in_channels: The channels that it expects.
        least: The smallest height and width.
    """
    if is_traced(x):
        return
    axes = f"(N, {in_channels}, H, W)"
    check_input(owner, "x", x, axes)
    if is_tracing():
        return  # sizes are tensors then, and what is decided by them would not be recorded
    expected = f"{owner}: expected input of shape {axes}"
    if x.dim() != 4 or x.shape[1] != in_channels:
        unbatched = x.dim() == 3 and x.shape[0] == in_channels
        remedy = " Add the axis of the batch: x.unsqueeze(0)." if unbatched else ""
        raise ValueError(f"{expected}, got {tuple(x.shape)}.{remedy}")
    if x.shape[2] < least[0] or x.shape[3] < least[1]:
        sizes = f"H >= {least[0]} and W >= {least[1]}"
        raise ValueError(f"{expected} with {sizes}, got {tuple(x.shape)}.")
