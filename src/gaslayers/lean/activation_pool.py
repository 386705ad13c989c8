"""Activation and pooling that keep a few bits a cell in place of two feature maps.

The plain pair keeps the activation's output (4 bytes a value), and max pooling its input and an
8-byte index a cell. What the backward pass needs of them is, a pooled cell, which value was the
largest and whether the activation let it through: 4 bits for a 2x2 window under ReLU.

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
from gaslayers.lean.packing import bits_for, pack, unpack

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


def activate_and_pool(x: Tensor, activation: nn.Module, pool: Any) -> Tensor:
    """Run both layers and keep bits; only where `reason_to_keep_maps` is None."""
    function = ActivationMaxPool if type(pool) is nn.MaxPool2d else ActivationAvgPool
    return function.apply(x, known_slope(activation), pool.kernel_size, pool.ceil_mode)


def _first_indices(cells: Tensor, width: int, kernel_size: int, dtype: torch.dtype) -> Tensor:
    """The index, within a plane, of each window's first value; (H / k, W / k)."""
    rows = torch.arange(cells.shape[-2], device=cells.device, dtype=dtype)
    columns = torch.arange(cells.shape[-1], device=cells.device, dtype=dtype)
    return rows[:, None] * (kernel_size * width) + columns * kernel_size


def _offset_dtype(width: int, kernel_size: int) -> torch.dtype:
    """What holds an offset within a window; a byte on all but wide images.

    Byte arithmetic is exact modulo 256, though the index that it starts from does not fit.
    """
    return torch.uint8 if (kernel_size - 1) * (width + 1) < 256 else torch.int32


def encode(indices: Tensor, width: int, kernel_size: int) -> Tensor:
    """Turn indices within a plane into the cell within the window, row by row.

    Shape:
        - indices: (N, C, H / k, W / k), int64, of values in planes of this width.
        - Output: the same shape, uint8, below k^2.
    """
    dtype = _offset_dtype(width, kernel_size)
    offsets = indices.to(dtype).sub_(_first_indices(indices, width, kernel_size, dtype))
    in_later_rows = [(offsets >= row * width).to(dtype) for row in range(1, kernel_size)]
    for is_later in in_later_rows:
        offsets.sub_(is_later, alpha=width - kernel_size)
    return offsets.to(torch.uint8)


def decode(cells: Tensor, width: int, kernel_size: int) -> Tensor:
    """Turn cells within windows back into int64 indices within a plane."""
    dtype = _offset_dtype(width, kernel_size)
    offsets = cells.to(dtype, copy=True)
    for row in range(1, kernel_size):
        offsets.add_(cells >= row * kernel_size, alpha=width - kernel_size)
    return _first_indices(cells, width, kernel_size, torch.int64) + offsets


def _has_room_for_sign(kernel_size: int) -> bool:
    """Whether a cell and a sign fit a byte; a 16x16 window's 256 cells fill it alone."""
    return 2 * kernel_size**2 <= 256


def pool_and_encode(
    x: Tensor, slope: float, kernel_size: int, ceil_mode: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Activate and pool; return the pooled map, and the codes and signs that `unpool` takes."""
    if slope not in (0.0, IDENTITY):
        x = activate(x, slope)
    pooled, indices = torch.ops.aten.max_pool2d_with_indices(
        x, [kernel_size, kernel_size], [kernel_size, kernel_size], [0, 0], [1, 1], ceil_mode
    )
    if slope == 0.0:
        pooled = activate(pooled, slope)
    cells = encode(indices, x.shape[3], kernel_size)
    if slope == IDENTITY:
        return pooled, (pack(cells, bits_for(kernel_size**2)),)
    passed = pooled > 0
    if _has_room_for_sign(kernel_size):
        cells.add_(passed, alpha=kernel_size**2)
        return pooled, (pack(cells, bits_for(2 * kernel_size**2)),)
    return pooled, (pack(cells, 8), pack(passed.to(torch.uint8), 1))


class ActivationMaxPool(torch.autograd.Function):
    """Activation, then max pooling whose stride is its kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, kernel_size: int, ceil_mode: bool) -> Tensor:
        """(N, C, H, W) -> (N, C, H / k, W / k), rounded up in ceil mode."""
        pooled, kept = pool_and_encode(x, slope, kernel_size, ceil_mode)
        ctx.save_for_backward(*kept)
        ctx.shape, ctx.layout = x.shape, layout_of(x)
        ctx.slope, ctx.kernel_size = slope, kernel_size
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, C, H / k, W / k) -> (N, C, H, W)."""
        grad = unpool(grad, ctx.saved_tensors, ctx.slope, ctx.kernel_size, ctx.shape, ctx.layout)
        return grad, *[None] * 3


def unpool(
    grad: Tensor,
    kept: tuple[Tensor, ...],
    slope: float,
    kernel_size: int,
    shape: torch.Size,
    layout: torch.memory_format,
) -> Tensor:
    """The gradient before activation and pooling, from the codes and signs that were kept.

    It comes in the memory format of the pooling's input, as from PyTorch's operator, whatever
    that of ``grad`` is; later kernels would else run in another one and round otherwise.
    """
    codes, *signs = kept
    count, _, _, width = shape
    window = kernel_size**2
    merged = slope != IDENTITY and not signs
    cells = unpack(codes, bits_for(2 * window if merged else window), count)
    if merged:
        passed = cells >= window
        cells = cells.sub(passed.to(torch.uint8), alpha=window)
        grad = _through_activation(grad, passed, slope)
    elif signs:
        grad = _through_activation(grad, unpack(signs[0], 1, count).bool(), slope)
    indices = decode(cells, width, kernel_size)
    # Before, where the map is small; after, where one of a single pixel does not tell its format.
    grad = grad.contiguous(memory_format=layout)
    unpooled = F.max_unpool2d(grad, indices, [kernel_size] * 2, output_size=list(shape[2:]))
    return unpooled.contiguous(memory_format=layout)


class ActivationAvgPool(torch.autograd.Function):
    """Activation or none, then average pooling whose stride is its kernel.

    PyTorch keeps the pooling's input, of which its backward pass reads the shape.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, kernel_size: int, ceil_mode: bool) -> Tensor:
        """(N, C, H, W) -> (N, C, H / k, W / k), rounded up in ceil mode."""
        signs = () if slope == IDENTITY else (pack((x > 0).to(torch.uint8), 1),)
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
            passed = unpack(signs, 1, ctx.shape[0]).bool()
            grad = _through_activation(grad, passed, ctx.slope)
        return grad.contiguous(memory_format=ctx.layout), *[None] * 3


def _through_activation(grad: Tensor, passed: Tensor, slope: float) -> Tensor:
    """Let the gradient through where the activation's output was positive, else scale it."""
    return torch.where(passed, grad, grad * slope if slope else grad.new_zeros(()))
