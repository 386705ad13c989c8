"""2x2 max pooling of contiguous maps on a CPU, by elementwise operators.

PyTorch's kernel for this memory format looks at one value after the other. A handful of passes over
every second row and column, which are vectorised, are faster.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

WINDOW = 2


def suits(x: Tensor, kernel_size: int, layout: torch.memory_format) -> bool:
    """Whether these windows cover ``x`` exactly, and its kernel is the slow one."""
    return (
        kernel_size == WINDOW
        and layout == torch.contiguous_format
        and x.device.type == "cpu"
        and x.is_contiguous()
        and x.shape[2] % WINDOW == x.shape[3] % WINDOW == 0
        and not torch.compiler.is_compiling()
    )


def pool(x: Tensor, row_step: int) -> tuple[Tensor, Tensor] | None:
    """The pooled map, and where in its window each value was: ``row * row_step + column``.

    Of several that are the largest it names the first, as PyTorch's kernel does. None where a
    window is a NaN or a zero: which NaN that is, and of which sign the zero, only its kernel tells.

    Shape:
        - x: (N, C, H, W), even H and W.
        - Output: twice (N, C, H / 2, W / 2), the second one uint8.
    """
    rows = torch.maximum(x[:, :, 0::2], x[:, :, 1::2])
    pooled = torch.maximum(rows[..., 0::2], rows[..., 1::2])
    del rows
    if type(pooled) is not FakeTensor and pooled.numel() > 0 and not pooled.abs().min() > 0:
        return None
    # Whether the largest value comes later than each of the first three.
    beyond = [
        (x[:, :, row::2, column::2] != pooled).view(torch.uint8)
        for row, column in ((0, 0), (0, 1), (1, 0))
    ]
    places = beyond[2].add_(row_step - 1).mul_(beyond[1]).add_(1).mul_(beyond[0])
    return pooled, places
