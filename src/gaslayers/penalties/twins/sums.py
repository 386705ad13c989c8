"""Sums and differences: what does not depend on the input falls away."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from gaslayers.penalties.call import Call, Twin
from gaslayers.penalties.table import twin_of


def _signed(call: Call, first: float, second: float) -> Twin | None:
    """The twin of ``first * a + second * b``."""
    call.run()
    a, b = call.argument(0, "input"), call.argument(1, "other")
    result = call.result
    if not isinstance(result, Tensor) or not call.depends(a, b):
        return None
    if call.depends(a) and call.depends(b):
        twin = call.again(functools.partial(_both, first, second), (a, b), {})
    else:
        x, factor = (a, first) if call.depends(a) else (b, second)
        twin = call.of(functools.partial(_one, factor, result.shape, result.dtype), x)
    return twin


def _both(first: float, second: float, a: Tensor, b: Tensor) -> Tensor:
    if first == 1:
        return torch.add(a, b, alpha=second)
    return torch.add(b, a, alpha=first) if second == 1 else a * first + b * second


def _one(factor: float, shape: torch.Size, dtype: torch.dtype, tangent: Tensor) -> Tensor:
    tangent = tangent.to(dtype)
    if factor != 1:
        tangent = tangent * factor
    return tangent if tangent.shape == shape else tangent.expand(shape)


@twin_of(torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__)
def _sum(call: Call) -> Twin | None:
    alpha = call.argument(2, "alpha", 1)
    return _signed(call, 1, alpha)


@twin_of(
    torch.sub, torch.subtract, Tensor.sub, Tensor.subtract, Tensor.sub_, Tensor.subtract_,
    Tensor.__sub__, Tensor.__isub__,
)  # fmt: skip
def _difference(call: Call) -> Twin | None:
    return _signed(call, 1, -call.argument(2, "alpha", 1))


@twin_of(torch.rsub, Tensor.__rsub__)
def _reversed(call: Call) -> Twin | None:
    return _signed(call, -call.argument(2, "alpha", 1), 1)


@twin_of(torch.lerp, Tensor.lerp)
def _mixed(call: Call) -> Twin | None:
    share: Any = call.argument(2, "weight")
    if isinstance(share, Tensor):
        call.run()
        return None
    return _signed(call, 1 - share, share)
