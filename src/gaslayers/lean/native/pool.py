"""Activation and 2x2 max pooling by kernels of our own."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.native import availability
from gaslayers.lean.native.kernels import kernels

WINDOW = 2


class _Call(ctypes.Structure):
    """``struct pool_call`` of pool.c."""

    _fields_ = (
        *[(name, ctypes.c_void_p) for name in ("whole", "small", "codes")],
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


def _run(kernel: str, whole: Tensor, small: Tensor, codes: Tensor, slope: float) -> None:
    """Run a kernel on three maps in one memory format, of which it writes some."""
    count, channels, height, width = whole.shape
    if not whole.is_contiguous(memory_format=torch.channels_last):
        count, channels = count * channels, 1
    addresses = whole.data_ptr(), small.data_ptr(), codes.data_ptr()
    call = _Call(*addresses, count, channels, height, width, *small.shape[2:], slope)
    kernels().run(kernel, whole.dtype, call)


def empty_pooled(
    x: Tensor, layout: torch.memory_format, *, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    """Memory for a pooled map and its codes."""
    count, channels, height, width = x.shape
    rest = WINDOW - 1 if ceil_mode else 0
    shape = count, channels, (height + rest) // WINDOW, (width + rest) // WINDOW
    pooled = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
    return pooled, torch.empty_like(pooled, dtype=torch.uint8)


def pool(
    x: Tensor, slope: float, layout: torch.memory_format, *, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    """Activate and pool; return the pooled map and `CellCodes`, signs included.

    Shape:
        - x: (N, C, H, W), in this memory format.
        - Output: twice (N, C, H / 2, W / 2), rounded up in ceil mode, the second one uint8.
    """
    pooled, codes = empty_pooled(x, layout, ceil_mode=ceil_mode)
    if type(pooled) is Tensor:  # and not a fake one, which has no memory
        _run("pool", x, pooled, codes, slope)
    return pooled, codes


def unpool(
    grad: Tensor, codes: Tensor, shape: Sequence[int], slope: float, layout: torch.memory_format
) -> Tensor:
    """The gradient before activation and pooling.

    Shape:
        - grad, codes: (N, C, H / 2, W / 2), in any memory format.
        - Output: ``shape``, which is (N, C, H, W), in this one.
    """
    spread = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=layout)
    if type(spread) is Tensor:
        # Hooks on saved tensors need not give them back in their memory format.
        grad, codes = (y.contiguous(memory_format=layout) for y in (grad, codes))
        _run("unpool", spread, grad, codes, slope)
        # What no window covers.
        spread[:, :, WINDOW * grad.shape[2] :] = 0
        spread[..., WINDOW * grad.shape[3] :] = 0
    return spread
