"""The gradient of an image that a convolution reads, by a kernel of our own.

An image has few channels, and a G step ends with its gradient. PyTorch's kernel holds channels in
its vectors, which those of an image hardly fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.native import availability, pool_reference
from gaslayers.lean.native.door import KINDS, Door, Misfit, Place
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.native.norm_call import LAYOUT, is_even
from gaslayers.lean.native.structures import IMAGE_CALL
from gaslayers.lean.native.windows import codes_size, is_pooled

_MAX_CHANNELS = 4
_MIN_CELLS, MAX_CELLS = 4, 1024
"""Of a convolution's kernel; with fewer, PyTorch's is as fast, and more are not held together."""


def suits(
    grad: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    geometry: ConvolutionGeometry,
) -> bool:
    """Whether the kernel runs, and faster than PyTorch's.

    Args:
        grad: Of the convolution's output.
        weight: The convolution's.
        shape: Of the image.
        geometry: The convolution's.
    """
    padding = geometry.padding
    height, width = weight.shape[2:]
    return (
        0 < shape[1] <= _MAX_CHANNELS
        and _MIN_CELLS <= height * width <= MAX_CELLS
        and geometry.stride == geometry.dilation == (1, 1)
        and geometry.groups == 1
        and padding[0] < height
        and padding[1] < width
        and grad.numel() > 0
        and grad.dtype == weight.dtype == torch.float32
        and type(weight) in KINDS
        and availability.takes(grad)
        and is_even(grad)
    )


class Pooled(NamedTuple):
    """What stands between a convolution and a gradient: an activation and 2x2 max pooling.

    Args:
        packed: The codes that `gaslayers.lean.native.pool` packed, for channels_last.
        slope: The activation's slope below zero.
        rows: Height of the convolution's output.
        columns: Width of it.
    """

    packed: Tensor
    slope: float
    rows: int
    columns: int


def run(
    grad: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    padding: tuple[int, int],
    pooled: Pooled | None = None,
) -> Tensor:
    """The gradient of an image; only where `suits` says so.

    Args:
        grad: (N, out_channels, H', W'), or of what this was pooled to.
        weight: (out_channels, C, k, l).
        shape: Of the image, (N, C, H, W).
        padding: Zeros at each end of height and width.
        pooled: What ``grad`` is behind, if anything.

    Shape: ``shape``, in channels_last.
    """
    try:
        door, call, image = _fill_in(grad, weight, shape, padding, pooled)
        if door.is_real:
            kernels().run("image_gradient", door.dtype, call)
    except Misfit:
        return by_operator(grad, weight, shape, padding, pooled)
    return image


def _fill_in(
    grad: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    padding: tuple[int, int],
    pooled: Pooled | None,
) -> tuple[Door, bytes, Tensor]:
    """The call, and the image that it writes."""
    door = Door(grad)
    count, channels, height, width = shape
    out_channels, _, *sides = weight.shape
    rows, columns = (
        size + 2 * zeros - cells + 1
        for size, zeros, cells in zip((height, width), padding, sides, strict=True)
    )
    if min(*shape, *weight.shape, rows, columns) < 1 or door.dtype != torch.float32:
        raise Misfit(f"there are no values, or not of 32 bits: {tuple(shape)}")
    if any(zeros >= cells for zeros, cells in zip(padding, sides, strict=True)):
        raise Misfit(f"zeros around the kernel's reach: {padding}")
    made = torch.Size((count, out_channels, rows, columns))
    place: Place
    packed, windows, slope = 0, (0, 0), 1.0
    if pooled is None:
        if grad.shape != made:
            raise Misfit(f"no gradient of shape {tuple(made)}: {tuple(grad.shape)}")
        place = door.map(grad)
    else:
        if not is_pooled(grad.shape, made):
            raise Misfit(f"{tuple(made)} is not pooled to {tuple(grad.shape)}")
        place = door.dense(grad, LAYOUT), out_channels
        packed = door.codes(pooled.packed, codes_size(grad.shape, pooled.slope))
        windows, slope = (grad.shape[2], grad.shape[3]), pooled.slope
    address, strides = door.kernel(weight, (out_channels, channels, *sides))
    image = torch.empty(tuple(shape), dtype=grad.dtype, device=grad.device, memory_format=LAYOUT)
    if not door.is_real:
        return door, b"", image
    call = IMAGE_CALL.pack(
        *(*place, packed, *windows, slope, address, *strides, *door.made(image)),
        *(*shape, out_channels, rows, columns, *sides, *padding),
        *(0, 0, 0, 0, 0),
    )
    return door, call, image


def by_operator(
    grad: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    padding: tuple[int, int],
    pooled: Pooled | None,
) -> Tensor:
    """The same by PyTorch's operators, which refuse what does not belong together."""
    if pooled is not None:
        made = (shape[0], weight.shape[0], pooled.rows, pooled.columns)
        grad = pool_reference.unpool(grad, pooled.packed, made, pooled.slope, LAYOUT)
    image = torch.empty(tuple(shape), dtype=grad.dtype, device=grad.device, memory_format=LAYOUT)
    found, _, _ = torch.ops.aten.convolution_backward(
        *(grad, image, weight, None, (1, 1), padding, (1, 1)),
        *(False, (0, 0), 1, (True, False, False)),
    )
    return found.contiguous(memory_format=LAYOUT)
