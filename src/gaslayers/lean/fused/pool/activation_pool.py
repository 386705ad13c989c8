"""Activation and pooling that keep a byte a cell in place of two feature maps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaslayers.lean.activations import (
    IDENTITY,
    activate,
    activation_backward,
    known_slope,
    negative_slope,
)
from gaslayers.lean.execution import is_batch
from gaslayers.lean.fused.pool.choice import code_pool
from gaslayers.lean.fused.pool.packing import pack_bits, unpack_bits
from gaslayers.lean.layout import layout_of
from gaslayers.lean.rerun import save, saved

MAX_CELLS = 256


def reason_against_codes(activation: nn.Module, pool: nn.Module) -> str | None:
    """What speaks against `activate_and_pool` for these two layers; None: nothing."""
    slope = negative_slope(activation)
    if slope is None:
        return f"{type(activation).__name__} cannot be undone from its output's sign"
    if type(pool) is nn.MaxPool2d:
        return _reason_against_max_pool(pool)
    if type(pool) is nn.AvgPool2d:
        return _reason_against_average_pool(pool)
    return f"{type(pool).__name__} is no MaxPool2d or AvgPool2d"


def _reason_against_max_pool(pool: nn.MaxPool2d) -> str | None:
    plain = (pool.stride, pool.padding, pool.dilation) == (pool.kernel_size, 0, 1)
    if not (isinstance(pool.kernel_size, int) and plain) or pool.return_indices:
        return "the pooling's windows overlap, are padded or dilated, or its indices are returned"
    if pool.kernel_size**2 > MAX_CELLS:
        return f"the pooling's window has more than {MAX_CELLS} cells"
    return None


def _reason_against_average_pool(pool: nn.AvgPool2d) -> str | None:
    plain = (pool.stride, pool.padding, pool.divisor_override) == (pool.kernel_size, 0, None)
    if not (isinstance(pool.kernel_size, int) and plain):
        return "the pooling's windows overlap or are padded, or its divisor is overridden"
    return None


def activate_and_pool(x: Tensor, activation: nn.Module, pool: Any) -> Tensor:
    """Run both layers and keep codes; only where `reason_against_codes` is None."""
    slope = known_slope(activation)
    if type(pool) is nn.MaxPool2d:
        return ActivationMaxPool.apply(x, slope, pool.kernel_size, pool.ceil_mode)
    return ActivationAvgPool.apply(x, slope, pool.kernel_size, pool.ceil_mode)


class ActivationMaxPool(torch.autograd.Function):
    """Activation, then max pooling whose stride is its kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, kernel_size: int, ceil_mode: bool) -> Tensor:
        """(N, C, H, W) -> (N, C, H / k, W / k), rounded up in ceil mode."""
        ctx.pool = code_pool(x, slope, kernel_size, ceil_mode=ceil_mode)
        pooled, kept = ctx.pool.forward(x)
        save(ctx, *kept)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, C, H / k, W / k) -> (N, C, H, W)."""
        return ctx.pool.backward(grad, tuple(saved(ctx))), *[None] * 3


class ActivationAvgPool(torch.autograd.Function):
    """Activation or none, then average pooling whose stride is its kernel.

    PyTorch keeps the pooling's input, of which its backward pass reads the shape.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, kernel_size: int, ceil_mode: bool) -> Tensor:
        """(N, C, H, W) -> (N, C, H / k, W / k), rounded up in ceil mode."""
        # A ReLU lets the gradient of a NaN through, and a leaky one scales it.
        signs = () if slope == IDENTITY else (pack_bits(~(x <= 0) if slope == 0.0 else x > 0),)
        save(ctx, *signs)
        ctx.slope, ctx.shape, ctx.layout = slope, x.shape, layout_of(x)
        ctx.pooling = (kernel_size, ceil_mode)
        return F.avg_pool2d(activate(x, slope), kernel_size, ceil_mode=ceil_mode)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, C, H / k, W / k) -> (N, C, H, W)."""
        window = [ctx.pooling[0]] * 2
        arguments = (window, window, [0, 0], ctx.pooling[1], True, None)
        # Of the pooling's input the operator reads the shape and the memory format alone.
        if is_batch(grad) or torch.is_grad_enabled() or torch.compiler.is_compiling():
            like = grad.new_empty(()).expand(ctx.shape)  # a broadcast scalar takes no memory
            grad = torch.ops.aten.avg_pool2d_backward(grad, like, *arguments)
        else:
            made = torch.empty(
                ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=ctx.layout
            )
            torch.ops.aten.avg_pool2d_backward.grad_input(grad, made, *arguments, grad_input=made)
            grad = made
        if ctx.slope != IDENTITY:
            (signs,) = saved(ctx)
            grad = activation_backward(grad, unpack_bits(signs, ctx.shape[0]), ctx.slope)
        grad = grad if is_batch(grad) else grad.contiguous(memory_format=ctx.layout)
        return grad, *[None] * 3
