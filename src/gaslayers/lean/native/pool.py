"""Activation and 2x2 max pooling by kernels of our own.

Tensors that do not fit a kernel, as hooks on saved ones may hand back, are left to PyTorch's
operators.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.native import pool_reference
from gaslayers.lean.native.door import Door, Misfit
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.native.structures import POOL_CALL
from gaslayers.lean.native.windows import WINDOW, codes_size, is_pooled, pooled_shape


def _run(
    kernel: str,
    door: Door,
    addresses: Sequence[int],
    shape: Sequence[int],
    pooled: Sequence[int],
    slope: float,
    layout: torch.memory_format,
) -> None:
    """Run a kernel on the addresses of two maps in one memory format, and codes."""
    if not door.is_real:
        return
    count, channels, height, width = shape
    if layout != torch.channels_last:
        count, channels = count * channels, 1
    sizes = count, channels, height, width, *pooled[2:]
    kernels().run(kernel, door.dtype, POOL_CALL.pack(*addresses, 0, *sizes, slope))


def empty_pooled(
    shape: Sequence[int],
    like: Tensor,
    slope: float,
    layout: torch.memory_format,
    *,
    ceil_mode: bool,
) -> tuple[Tensor, Tensor]:
    """Memory for what a map of this shape is pooled to, and for its packed codes."""
    pooled = pooled_shape(shape, ceil_mode=ceil_mode)
    return (
        torch.empty(pooled, dtype=like.dtype, device=like.device, memory_format=layout),
        torch.empty(codes_size(pooled, slope), dtype=torch.uint8, device=like.device),
    )


def pool(
    x: Tensor, slope: float, layout: torch.memory_format, *, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    """Activate and pool; return the pooled map and its packed codes.

    Shape:
        - x: (N, C, H, W), in this memory format.
        - Output: (N, C, H / 2, W / 2), rounded up in ceil mode; and a line of uint8.
    """
    try:
        door = Door(x)
        whole = door.dense(x, layout)
        if min(x.shape[2:]) < WINDOW:
            raise Misfit(f"there are no windows: {tuple(x.shape)}")
        pooled, packed = empty_pooled(x.shape, x, slope, layout, ceil_mode=ceil_mode)
        addresses = whole, *door.made(pooled, packed)
    except Misfit:
        return pool_reference.pool(x, slope, layout, ceil_mode=ceil_mode)
    _run("pool", door, addresses, x.shape, pooled.shape, slope, layout)
    return pooled, packed


def unpool(
    grad: Tensor, packed: Tensor, shape: Sequence[int], slope: float, layout: torch.memory_format
) -> Tensor:
    """The gradient before activation and pooling.

    Shape:
        - grad: (N, C, H / 2, W / 2), in any memory format.
        - packed: As from `pool`, in this memory format.
        - Output: ``shape``, which is (N, C, H, W), in this one.
    """
    try:
        door = Door(grad)
        if not is_pooled(grad.shape, shape):
            raise Misfit(f"{tuple(shape)} is not pooled to {tuple(grad.shape)}")
        grad = grad.contiguous(memory_format=layout)
        small = door.dense(grad, layout)
        codes = door.codes(packed, codes_size(grad.shape, slope))
        spread = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=layout)
        addresses = *door.made(spread), small, codes
    except Misfit:
        return pool_reference.unpool(grad, packed, shape, slope, layout)
    _run("unpool", door, addresses, shape, grad.shape, slope, layout)
    # What no window covers.
    for axis in (2, 3):
        covered = WINDOW * grad.shape[axis]
        if covered < shape[axis]:
            spread.narrow(axis, covered, shape[axis] - covered).zero_()
    return spread
