"""Activation and 2x2 max pooling in channels last, by kernels of our own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gaslayers.lean.native import availability

WINDOW = 2


def suits(x: Tensor, kernel_size: int, layout: torch.memory_format) -> bool:
    """Whether the kernels pool ``x``, which is in this memory format, by such windows."""
    return kernel_size == WINDOW and layout == torch.channels_last and availability.takes(x)


def pool(x: Tensor, slope: float, *, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    """Activate and pool; return the pooled map and `CellCodes`, signs included.

    Shape:
        - x: (N, C, H, W), in channels last.
        - Output: twice (N, C, H / 2, W / 2), rounded up in ceil mode, the second one uint8.
    """
    count, channels, height, width = x.shape
    rest = WINDOW - 1 if ceil_mode else 0
    rows, columns = (height + rest) // WINDOW, (width + rest) // WINDOW
    pooled = torch.empty(
        (count, channels, rows, columns), dtype=x.dtype, memory_format=torch.channels_last
    )
    codes = torch.empty_like(pooled, dtype=torch.uint8)
    if type(pooled) is Tensor:  # and not a fake one, which has no memory
        kernels, run = _kernels()
        addresses = x.data_ptr(), pooled.data_ptr(), codes.data_ptr()
        run(kernels.pool_address(x.dtype), kernels.Call(*addresses, *x.shape, rows, columns, slope))
    return pooled, codes


def unpool(grad: Tensor, codes: Tensor, shape: Sequence[int], slope: float) -> Tensor:
    """The gradient before activation and pooling.

    Shape:
        - grad, codes: (N, C, H / 2, W / 2), in channels last.
        - Output: ``shape``, which is (N, C, H, W).
    """
    spread = torch.empty(shape, dtype=grad.dtype, memory_format=torch.channels_last)
    if type(spread) is Tensor:
        # Hooks on saved tensors need not give them back in their memory format.
        codes = codes.contiguous(memory_format=torch.channels_last)
        kernels, run = _kernels()
        addresses = spread.data_ptr(), grad.data_ptr(), codes.data_ptr()
        call = kernels.Call(*addresses, *shape, *grad.shape[2:], slope)
        run(kernels.unpool_address(grad.dtype), call)
    return spread


@functools.cache
def _kernels() -> tuple[Any, Any]:
    """What imports numba: when a map is pooled, and not before."""
    from gaslayers.lean.native import _pool_kernels, _threads

    return _pool_kernels, _threads.run
