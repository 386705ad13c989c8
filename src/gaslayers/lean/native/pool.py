"""Activation and 2x2 max pooling by kernels of our own."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.activations import IDENTITY
from gaslayers.lean.native import availability
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.pool.packing import packed_size

WINDOW = 2
PLACES = WINDOW**2


class _Call(ctypes.Structure):
    """``struct pool_call`` of pool.c."""

    _fields_ = (
        *[(name, ctypes.c_void_p) for name in ("whole", "small", "packed", "digits")],
        *[
            (name, ctypes.c_int64)
            for name in ("count", "channels", "height", "width", "rows", "columns")
        ],
        ("slope", ctypes.c_double),
    )


def suits(x: Tensor, kernel_size: int, layout: torch.memory_format) -> bool:
    """Whether the kernels pool ``x``, to maps in this memory format, by such windows.

    A map too small for them is left to PyTorch, which says so.
    """
    channels, height, width = x.shape[1:]
    return (
        kernel_size == WINDOW
        and channels > 0
        and min(height, width) >= WINDOW
        and x.is_contiguous(memory_format=layout)
        and availability.takes(x)
    )


def _run(kernel: str, whole: Tensor, small: Tensor, packed: Tensor, slope: float) -> None:
    """Run a kernel on two maps in one memory format, and codes; some of them it writes."""
    count, channels, height, width = whole.shape
    if not whole.is_contiguous(memory_format=torch.channels_last):
        count, channels = count * channels, 1
    addresses = whole.data_ptr(), small.data_ptr(), packed.data_ptr()
    call = _Call(*addresses, None, count, channels, height, width, *small.shape[2:], slope)
    kernels().run(kernel, whole.dtype, call)


def radix_of(slope: float) -> int:
    """How many digits there are: what pool_codes.h keeps of a window, by its activation's slope."""
    return {0.0: PLACES + 1, IDENTITY: PLACES}.get(slope, 2 * PLACES)


def pooled_shape(shape: Sequence[int], *, ceil_mode: bool) -> torch.Size:
    """(N, C, H, W) -> (N, C, H / 2, W / 2), rounded up in ceil mode."""
    count, channels, height, width = shape
    rest = WINDOW - 1 if ceil_mode else 0
    return torch.Size((count, channels, (height + rest) // WINDOW, (width + rest) // WINDOW))


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
    size = packed_size(pooled.numel(), radix_of(slope))
    return (
        torch.empty(pooled, dtype=like.dtype, device=like.device, memory_format=layout),
        torch.empty(size, dtype=torch.uint8, device=like.device),
    )


def pool(
    x: Tensor, slope: float, layout: torch.memory_format, *, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    """Activate and pool; return the pooled map and its packed codes.

    Shape:
        - x: (N, C, H, W), in this memory format.
        - Output: (N, C, H / 2, W / 2), rounded up in ceil mode; and a line of uint8.
    """
    pooled, packed = empty_pooled(x.shape, x, slope, layout, ceil_mode=ceil_mode)
    if type(pooled) is Tensor:  # and not a fake one, which has no memory
        _run("pool", x, pooled, packed, slope)
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
    spread = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=layout)
    if type(spread) is Tensor:
        grad = grad.contiguous(memory_format=layout)
        _run("unpool", spread, grad, packed, slope)
        # What no window covers.
        spread[:, :, WINDOW * grad.shape[2] :] = 0
        spread[..., WINDOW * grad.shape[3] :] = 0
    return spread
