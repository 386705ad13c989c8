"""Convolutions, matrix products and attention: run again where that is asked for.

One that reads an image runs again anyway: with few channels it takes no longer than a norm does,
and what it makes is the largest map of most networks. A frozen convolution needs no input.

The gradient of the input reads the weight alone; the input's values are read for the gradient of
the weight alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.forms import ShapeOnly
from gaslayers.lean.engine.operation import Keep, Operation, is_known, is_small
from gaslayers.lean.engine.table import rule
from gaslayers.lean.precision import has_autocast
from gaslayers.lean.rules.pure import run_pure

_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)

_NOT_TRANSPOSED = (F.conv1d, F.conv2d, F.conv3d)

_CONVOLUTIONS = (*_NOT_TRANSPOSED, *_TRANSPOSED)

MOST_CHEAP_READS = 48
"""A convolution that multiplies and adds at most so often for each value that it makes is as cheap
as a norm: up to 4x4 cells of three channels. That is about as much as reading and writing the map
once, by `gaslayers.lean.roofline.FLOPS_PER_BYTE`."""


@rule(*_CONVOLUTIONS)
def _convolution(op: Operation) -> Any:
    x, weight = op.argument(0, "input"), op.argument(1, "weight")
    if not isinstance(x, Tensor) or not isinstance(weight, Tensor):
        return op.run()
    if torch._C._is_any_autocast_enabled():
        x = _cast_as_autocast_does(op, x)
    if weight.requires_grad or x.shape == weight.shape:  # then nothing tells one from the other
        return _run(op)
    storage = weight.untyped_storage()._cdata

    def keep(saved: Tensor) -> Form | None:
        is_map = saved.dim() == weight.dim() and saved.shape == _batched(x, weight)
        if not is_map or is_small(saved) or saved.untyped_storage()._cdata == storage:
            return None
        return ShapeOnly(saved)

    return _run(op, keep)


def _run(op: Operation, keep: Keep | None = None) -> Any:
    """Run it, and write down that it can run again where it may."""
    if _is_cheap(op):
        return _run_cheap(op, keep)
    selection = op.pass_.selection
    if not selection.next_may_run_again():
        return op.run(keep)
    result = run_pure(op, keep, is_dear=True)
    made = op.pass_.book.find(result) if isinstance(result, Tensor) and is_known(result) else None
    if made is not None:
        selection.note(made, _work(op, result))
    return result


def _work(op: Operation, result: Tensor) -> int:
    """About how many multiply-adds it takes: what it reads for each value that it makes."""
    first, second = op.argument(0, "input"), op.argument(1, "weight")
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return result.numel()
    if op.func not in _CONVOLUTIONS:  # a product, along the last axis
        return result.numel() * first.shape[-1]
    return (first if op.func in _TRANSPOSED else result).numel() * _reads(second)


def _run_cheap(op: Operation, keep: Keep | None) -> Any:
    """Run it, and write down how it runs again: by copies of its few numbers.

    PyTorch reads none of them in the backward pass of a convolution of an image, so that they may
    be changed before it.
    """
    x, weight, bias = (op.argument(i, name) for i, name in enumerate(("input", "weight", "bias")))
    options = [
        op.argument(place, name, default)
        for place, name, default in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))
    ]
    numbers = weight.detach().clone(), None if bias is None else bias.detach().clone()
    origin = op.origin(x)
    result = op.run(keep)
    is_onednn = torch._C._get_mkldnn_enabled()  # another kernel rounds otherwise
    again = functools.partial(_convolve_again, op.func, numbers, options, is_onednn)
    # Of two in a row one runs again.
    op.record(result, again, [origin], is_dear=True, is_fresh=True)
    return result


def _convolve_again(
    func: Callable[..., Tensor],
    numbers: Sequence[Any],
    options: Sequence[Any],
    is_onednn: bool,
    x: Tensor,
) -> Tensor:
    is_enabled = torch._C._get_mkldnn_enabled()
    if is_enabled == is_onednn:
        return func(x, *numbers, *options)
    torch._C._set_mkldnn_enabled(is_onednn)
    try:
        return func(x, *numbers, *options)
    finally:
        torch._C._set_mkldnn_enabled(is_enabled)


def _is_cheap(op: Operation) -> bool:
    """Whether it takes no longer than a norm of what it makes.

    Grouped convolutions take longer than their products say. Where cuDNN tries algorithms, it may
    choose another one for another thread, which rounds otherwise.
    """
    weight = op.argument(1, "weight")
    if op.func not in _NOT_TRANSPOSED or not 0 < weight.numel() <= _most_numbers(weight):
        return False
    x, bias = op.argument(0, "input"), op.argument(2, "bias")
    return (
        op.argument(6, "groups", 1) == 1
        and is_known(weight)
        and (bias is None or is_known(bias))
        and (x.requires_grad or weight.requires_grad)
        and not (weight.is_cuda and torch.backends.cudnn.benchmark)
    )


def _most_numbers(weight: Tensor) -> int:
    """As many as a cheap convolution has that makes so many channels."""
    return MOST_CHEAP_READS * weight.shape[0]


def _reads(weight: Tensor) -> int:
    """How often a convolution multiplies and adds for each value that it makes."""
    return weight.numel() // weight.shape[0]


def _batched(x: Tensor, weight: Tensor) -> torch.Size:
    """The shape in which the operator reads a map, which may come without a batch."""
    return x.shape if x.dim() == weight.dim() else torch.Size((1, *x.shape))


@rule(F.linear)
def _linear(op: Operation) -> Any:
    x = op.argument(0, "input")
    if isinstance(x, Tensor):
        _cast_as_autocast_does(op, x)
    return _run(op)


def _cast_as_autocast_does(op: Operation, x: Tensor) -> Tensor:
    """Cast the map before autocast does, so that the copy's origin is known.

    The weight is left to autocast, whose cache adds up its gradients in the low precision.
    """
    # Of a leaf autocast holds one copy for all who read it, and adds up gradients there.
    if not has_autocast(x.device) or x.dtype != torch.float32 or (x.is_leaf and x.requires_grad):
        return x
    dtype = torch.get_autocast_dtype(x.device.type)
    origin = op.origin(x)
    low = x.to(dtype)
    op.record(low, _To(dtype), [origin])
    if op.args:
        op.args = (low, *op.args[1:])
    else:
        op.kwargs["input"] = low
    return low


rule(
    torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm,
    torch.addmm, torch.baddbmm, torch.einsum, F.bilinear,
)(_run)  # fmt: skip


@rule(F.scaled_dot_product_attention)
def _attention(op: Operation) -> Any:
    # What dropout draws is drawn once.
    return op.run() if op.argument(4, "dropout_p", 0.0) else _run(op)


class _To:
    """Casts to a dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        return x.to(self._dtype)
