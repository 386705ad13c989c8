"""Whether the pooling kernels run."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from gaslayers.lean.activations import IDENTITY, activate
from gaslayers.lean.native import availability
from gaslayers.lean.native.door import DTYPES
from gaslayers.lean.native.pool import pool, unpool
from gaslayers.lean.native.windows import WINDOW

_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
_SLOPES = (0.0, 0.25, IDENTITY)
_LAYOUTS = (torch.contiguous_format, torch.channels_last)


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
        and are_exact()
    )


@functools.cache
def are_exact() -> bool:
    """Whether PyTorch has the kernels' bits here for zeros of both signs, infinities and NaNs.

    Which of them a window takes, and what an activation makes of them, depends on the processor and
    how PyTorch was compiled for it.
    """
    if not availability.are_compiled():
        return False
    with _disable_current_modes(), torch.no_grad():
        return all(
            same_bits(*pair)
            for dtype in DTYPES
            for slope in _SLOPES
            for layout in _LAYOUTS
            for pair in _pairs(dtype, slope, layout)
        )


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same, of which zeros have signs and NaNs bits of their own."""
    integers = _INTEGERS[a.dtype]
    return torch.equal(a.contiguous().view(integers), b.contiguous().view(integers))


def special_map(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A map full of such values, the same at each call."""
    inf = float("inf")
    values = torch.tensor(
        [-0.0, 0.0, -inf, inf, float("nan"), -1.0, 1.0, -5e-324], dtype=dtype, device="cpu"
    )
    generator = torch.Generator().manual_seed(0)
    # Zeros and negatives most of all: what windows without a positive value hold.
    weights = torch.tensor([6.0, 6.0, 2.0, 1.0, 1.0, 4.0, 1.0, 1.0], device="cpu")
    count = torch.Size(shape).numel()
    drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
    return values[drawn].view(shape)


def _pairs(
    dtype: torch.dtype, slope: float, layout: torch.memory_format
) -> Iterator[tuple[Tensor, Tensor]]:
    """What the kernels make, and PyTorch's operators, with vectors filled and a rest."""
    for channels in (3, 83):
        x = special_map((2, channels, 5, 38), dtype).contiguous(memory_format=layout)
        # As the layers of the plain composition run, forward and backward.
        activated = activate(x, slope)
        expected, indices = F.max_pool2d(activated, WINDOW, ceil_mode=True, return_indices=True)
        grad = special_map(tuple(expected.shape), dtype).contiguous(memory_format=layout)
        window = [WINDOW] * 2
        through = torch.ops.aten.max_pool2d_with_indices_backward(
            grad, activated, window, window, [0, 0], [1, 1], True, indices
        )
        if slope == 0.0:
            through = torch.ops.aten.threshold_backward(through, activated, 0)
        elif slope != IDENTITY:
            through = torch.ops.aten.leaky_relu_backward(through, x, slope, False)
        pooled, packed = pool(x, slope, layout, ceil_mode=True)
        yield pooled, expected
        yield unpool(grad, packed, x.shape, slope, layout), through
