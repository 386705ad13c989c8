"""Activation and 2x2 max pooling by kernels of our own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.native import availability
from gaslayers.lean.native.kernels import kernels

WINDOW = 2


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


def pool(
    x: Tensor, slope: float, layout: torch.memory_format, *, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    """Activate and pool; return the pooled map and `CellCodes`, signs included.

    Shape:
        - x: (N, C, H, W), in this memory format.
        - Output: twice (N, C, H / 2, W / 2), rounded up in ceil mode, the second one uint8.
    """
    count, channels, height, width = x.shape
    rest = WINDOW - 1 if ceil_mode else 0
    size = (height + rest) // WINDOW, (width + rest) // WINDOW
    pooled = torch.empty((count, channels, *size), dtype=x.dtype, memory_format=layout)
    codes = torch.empty_like(pooled, dtype=torch.uint8)
    if type(pooled) is Tensor:  # and not a fake one, which has no memory
        kernels().run("pool", x, pooled, codes, slope)
    return pooled, codes


def unpool(
    grad: Tensor, codes: Tensor, shape: Sequence[int], slope: float, layout: torch.memory_format
) -> Tensor:
    """The gradient before activation and pooling.

    Shape:
        - grad, codes: (N, C, H / 2, W / 2), in any memory format.
        - Output: ``shape``, which is (N, C, H, W), in this one.
    """
    spread = torch.empty(shape, dtype=grad.dtype, memory_format=layout)
    if type(spread) is Tensor:
        # Hooks on saved tensors need not give them back in their memory format.
        grad, codes = (y.contiguous(memory_format=layout) for y in (grad, codes))
        kernels().run("unpool", spread, grad, codes, slope)
        # What no window covers.
        spread[:, :, WINDOW * grad.shape[2] :] = 0
        spread[..., WINDOW * grad.shape[3] :] = 0
    return spread
