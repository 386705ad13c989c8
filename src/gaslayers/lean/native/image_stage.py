"""A convolution of an image, activation and 2x2 max pooling by one kernel of our own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gaslayers.lean.native import availability, pool, pool_choice
from gaslayers.lean.native.door import KINDS, Door, Misfit
from gaslayers.lean.native.image_gradient import MAX_CELLS
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.native.norm_call import LAYOUT
from gaslayers.lean.native.structures import STAGE_CALL
from gaslayers.lean.native.windows import WINDOW

MAX_CHANNELS = 4
_MIN_CELLS = 4
"""Of the convolution's kernel.

PyTorch's own kernel for a 1x1 depends on the batch, of which a smaller trial does not tell.
"""


def map_shape(x: Tensor, weight: Tensor, padding: tuple[int, int]) -> torch.Size:
    """Of what the convolution makes: (N, out_channels, H', W')."""
    sides = (
        size + 2 * zeros - cells + 1
        for size, zeros, cells in zip(x.shape[2:], padding, weight.shape[2:], strict=True)
    )
    return torch.Size((x.shape[0], weight.shape[0], *sides))


def suits(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> bool:
    """Whether the kernel runs on this image, (N, C, H, W), and these parameters."""
    own = (weight,) if bias is None else (weight, bias)
    shape = map_shape(x, weight, padding)
    return (
        0 < x.shape[1] == weight.shape[1] <= MAX_CHANNELS
        and _MIN_CELLS <= weight.shape[2] * weight.shape[3] <= MAX_CELLS
        and x.shape[0] > 0
        and min(shape[2:]) >= WINDOW
        and padding[0] < weight.shape[2]
        and padding[1] < weight.shape[3]
        and all(type(tensor) in KINDS and tensor.dtype == torch.float32 for tensor in own)
        and (bias is None or (bias.is_contiguous() and bias.numel() == weight.shape[0]))
        and x.dtype == torch.float32
        and availability.takes(x)
        and x.is_contiguous(memory_format=LAYOUT)
        and pool_choice.are_exact()
    )


def run(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: tuple[int, int],
    slope: float,
    *,
    ceil_mode: bool,
    columns_first: bool,
) -> tuple[Tensor, Tensor]:
    """The pooled map and its packed codes; only where `suits` says so.

    Args:
        x: (N, C, H, W), in channels_last.
        weight: (out_channels, C, k, l).
        bias: (out_channels,), or None.
        padding: Zeros at each end of height and width.
        slope: Of the activation.
        ceil_mode: Whether a last window may reach over the edge.
        columns_first: Whether sums run over the kernel's columns, and within one over its rows.

    Shape: (N, out_channels, H' / 2, W' / 2), rounded up in ceil mode; and a line of uint8.
    """
    try:
        door = Door(x)
        shape = map_shape(x, weight, padding)
        sides = weight.shape[2:]
        if min(*x.shape, *weight.shape) < 1 or min(shape[2:]) < WINDOW:
            raise Misfit(f"there are no windows: {tuple(shape)}")
        if door.dtype != torch.float32 or any(map(int.__ge__, padding, sides)):
            raise Misfit(f"not of 32 bits, or zeros around the kernel's reach: {padding}")
        image = door.dense(x, LAYOUT)
        address, strides = door.kernel(weight, (weight.shape[0], x.shape[1], *sides))
        offsets = door.lines(bias, size=weight.shape[0])
        pooled, packed = pool.empty_pooled(shape, x, slope, LAYOUT, ceil_mode=ceil_mode)
        made = door.made(pooled, packed)
        if door.is_real:
            call = STAGE_CALL.pack(
                *(image, address, *strides, *offsets, *made, *x.shape, weight.shape[0]),
                *(*pooled.shape[2:], *sides, *padding, columns_first, slope),
                *(0, 0, 0, 0, 0, 0, 0, 0, 0),
            )
            kernels().run("image_stage", door.dtype, call)
    except Misfit:
        convolved = F.conv2d(x, weight, bias, padding=padding)
        return pool.pool(
            convolved.contiguous(memory_format=LAYOUT), slope, LAYOUT, ceil_mode=ceil_mode
        )
    return pooled, packed
