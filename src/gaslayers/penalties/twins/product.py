"""Convolutions, matrix products and scalings: linear in one factor, the others stay."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from gaslayers.penalties.call import Call, Twin
from gaslayers.penalties.table import twin_of


@twin_of(
    F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
    F.linear,
)  # fmt: skip
def _weighted(call: Call) -> Twin | None:
    """Without the bias, which gets no tangent."""
    call.run()
    if call.depends(call.argument(1, "weight"), call.argument(2, "bias")):
        return None
    args = [*call.args[:2], *([None] if len(call.args) > 2 else []), *call.args[3:]]
    kwargs = {name: value for name, value in call.kwargs.items() if name != "bias"}
    return call.again(args=args, kwargs=kwargs)


def _product(call: Call, twin: Callable[..., Any] | None = None) -> Twin | None:
    call.run()
    leaves = pytree.tree_leaves((call.args, call.kwargs))
    return call.again(twin) if sum(map(call.depends, leaves)) == 1 else None


twin_of(
    torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, torch.mm, Tensor.mm,
    torch.bmm, Tensor.bmm, torch.mv, Tensor.mv, torch.einsum, torch.mul, torch.multiply,
    Tensor.mul, Tensor.multiply, Tensor.__mul__, Tensor.__rmul__,
)(_product)  # fmt: skip


@twin_of(Tensor.mul_, Tensor.multiply_, Tensor.__imul__)
def _product_in_place(call: Call) -> Twin | None:
    if call.depends(call.args[0]):
        return _product(call, Tensor.mul)
    call.run()  # the other factor, a constant, is overwritten
    return None


def _quotient(call: Call, twin: Callable[..., Any] | None = None) -> Twin | None:
    if call.depends(call.argument(1, "other")):
        call.run()
        return None
    if call.argument(2, "rounding_mode") is not None:  # it is flat, and autograd gives zeros
        call.run()
        return None
    return _product(call, twin)


twin_of(
    torch.div, torch.divide, torch.true_divide, Tensor.div, Tensor.divide, Tensor.true_divide,
    Tensor.__truediv__,
)(_quotient)  # fmt: skip
twin_of(Tensor.div_, Tensor.divide_, Tensor.true_divide_, Tensor.__itruediv__)(
    functools.partial(_quotient, twin=Tensor.div)
)


@twin_of(torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm)
def _added(call: Call) -> Twin | None:
    """Of a sum with a product."""
    call.run()
    shift, first, second = call.args[:3] if len(call.args) > 2 else (None, None, None)
    if call.depends(shift) or call.depends(first) == call.depends(second):
        return None
    alpha = call.kwargs.get("alpha", 1)
    return call.again(functools.partial(_scaled_product, alpha), (first, second), {})


def _scaled_product(alpha: float, first: Tensor, second: Tensor) -> Tensor:
    made = first @ second
    return made if alpha == 1 else made * alpha
