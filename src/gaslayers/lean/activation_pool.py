"""Activation and pooling that keep a byte or less a cell in place of two feature maps.

The plain pair keeps the activation's output (4 bytes a value), and max pooling its input and an
8-byte index a cell. What the backward pass needs of them is, a pooled cell, which value was the
largest and whether the activation let it through.

ReLU commutes with max pooling, since it keeps order, and is applied to the pooled map. A leaky
ReLU does too, but for its rounding: two neighbouring floats may become equal, and then the plain
pair finds the first of them. It is therefore applied before.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaslayers.lean.activations import IDENTITY, activate, known_slope, negative_slope
from gaslayers.lean.layout import layout_of
from gaslayers.lean.packing import pack, unpack
from gaslayers.lean.pool_codes import PoolCodes

MAX_CELLS = 256


def reason_to_keep_maps(activation: nn.Module, pool: nn.Module) -> str | None:
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


def activate_and_pool(
    x: Tensor, activation: nn.Module, pool: Any, *, packed: bool = False
) -> Tensor:
    """Run both layers and keep codes; only where `reason_to_keep_maps` is None.

    Args:
        x: What comes in.
        activation: The activation.
        pool: The pooling.
        packed: Whether codes share bytes.
    """
    slope = known_slope(activation)
    if type(pool) is nn.MaxPool2d:
        return ActivationMaxPool.apply(x, slope, pool.kernel_size, pool.ceil_mode, packed)
    return ActivationAvgPool.apply(x, slope, pool.kernel_size, pool.ceil_mode)


def pool_and_encode(
    x: Tensor, slope: float, kernel_size: int, *, ceil_mode: bool, packed: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Activate and pool; return the pooled map, and what `unpool` takes."""
    if slope not in (0.0, IDENTITY):
        x = activate(x, slope)
    pooled, indices = F.max_pool2d(x, kernel_size, ceil_mode=ceil_mode, return_indices=True)
    if slope == 0.0:
        pooled = activate(pooled, slope)
    codes = PoolCodes(x.shape[3], kernel_size, slope != IDENTITY, packed)
    return pooled, codes.encode(indices, _positive(pooled, slope))


def _positive(activated: Tensor, slope: float) -> Tensor | None:
    """Where the activation lets a gradient through unchanged; None: everywhere."""
    if slope == IDENTITY:
        return None
    # The same on what a ReLU makes, by a faster kernel.
    return activated.bool() if slope == 0.0 else activated > 0


class ActivationMaxPool(torch.autograd.Function):
    """Activation, then max pooling whose stride is its kernel."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, slope: float, kernel_size: int, ceil_mode: bool, packed: bool
    ) -> Tensor:
        """(N, C, H, W) -> (N, C, H / k, W / k), rounded up in ceil mode."""
        pooled, kept = pool_and_encode(x, slope, kernel_size, ceil_mode=ceil_mode, packed=packed)
        ctx.save_for_backward(*kept)
        ctx.layout, ctx.slope = layout_of(x), slope
        ctx.shape, ctx.pooling = x.shape, (kernel_size, ceil_mode, packed)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, C, H / k, W / k) -> (N, C, H, W)."""
        kernel_size, ceil_mode, packed = ctx.pooling
        grad = unpool(
            grad,
            ctx.saved_tensors,
            ctx.slope,
            kernel_size,
            ctx.shape,
            ctx.layout,
            ceil_mode=ceil_mode,
            packed=packed,
        )
        return grad, *[None] * 4


def unpool(
    grad: Tensor,
    kept: tuple[Tensor, ...],
    slope: float,
    kernel_size: int,
    shape: torch.Size,
    layout: torch.memory_format,
    *,
    ceil_mode: bool,
    packed: bool,
) -> Tensor:
    """The gradient before activation and pooling, from what `pool_and_encode` kept.

    It comes in the memory format of the pooling's input, as from PyTorch's operator, whatever
    that of ``grad`` is; later kernels would else run in another one and round otherwise.
    """
    codes = PoolCodes(shape[3], kernel_size, slope != IDENTITY, packed)
    indices, positive = codes.decode(kept, shape[0])
    if positive is not None:
        grad = _through_activation(grad, positive, slope)
    # Before, where the map is small; after, where one of a single pixel does not tell its format.
    grad = grad.contiguous(memory_format=layout)
    window = [kernel_size] * 2
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        grad = F.max_unpool2d(grad, indices, window, output_size=list(shape[2:]))
        return grad.contiguous(memory_format=layout)
    # The faster of the two. Of the pooling's input it reads the shape and the memory format alone.
    whole = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=layout)
    return torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
        grad, whole, window, window, [0, 0], [1, 1], ceil_mode, indices, grad_input=whole
    )


class ActivationAvgPool(torch.autograd.Function):
    """Activation or none, then average pooling whose stride is its kernel.

    PyTorch keeps the pooling's input, of which its backward pass reads the shape.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, kernel_size: int, ceil_mode: bool) -> Tensor:
        """(N, C, H, W) -> (N, C, H / k, W / k), rounded up in ceil mode."""
        signs = () if slope == IDENTITY else (pack((x > 0).view(torch.uint8), 1),)
        ctx.save_for_backward(*signs)
        ctx.slope, ctx.shape, ctx.layout = slope, x.shape, layout_of(x)
        ctx.pooling = (kernel_size, ceil_mode)
        return F.avg_pool2d(activate(x, slope), kernel_size, ceil_mode=ceil_mode)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, C, H / k, W / k) -> (N, C, H, W)."""
        kernel_size, ceil_mode = ctx.pooling
        # The operator reads the shape of its input alone; a broadcast scalar takes no memory.
        like = grad.new_empty(()).expand(ctx.shape)
        grad = torch.ops.aten.avg_pool2d_backward(
            grad, like, [kernel_size] * 2, [kernel_size] * 2, [0, 0], ceil_mode, True, None
        )
        if ctx.slope != IDENTITY:
            (signs,) = ctx.saved_tensors
            grad = _through_activation(grad, unpack(signs, 1, ctx.shape[0]), ctx.slope)
        return grad.contiguous(memory_format=ctx.layout), *[None] * 3


def _through_activation(grad: Tensor, positive: Tensor, slope: float) -> Tensor:
    """Let the gradient through where ``positive`` is not zero, else scale it."""
    # By the activations' own kernels, which are faster than selecting by a mask.
    positive = positive.to(grad.dtype)
    if slope == 0.0:
        return torch.ops.aten.threshold_backward.default(grad, positive, 0)
    return torch.ops.aten.leaky_relu_backward(grad, positive, slope, False)
