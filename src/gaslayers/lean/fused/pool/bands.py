"""A row of pooling windows as a plane of its own, without a copy.

Pooling does the same to it, and names places within it: of a 28x28 image 784, too many for a byte,
of its 14 bands of 2x28 each 56.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def are_free(x: Tensor, rows: int, layout: torch.memory_format) -> bool:
    """Whether ``x``, in this memory format, splits into bands of so many rows without a copy."""
    # A single channel's bands would not tell their memory format.
    return x.shape[2] % rows == 0 and x.shape[1] > 1 and x.is_contiguous(memory_format=layout)


def split(x: Tensor, rows: int, layout: torch.memory_format) -> Tensor:
    """Split an image into bands.

    Shape:
        - x: (N, C, H, W).
        - Output: (N * H / rows, C, rows, W) in channels last, else (N, C * H / rows, rows, W).
    """
    count, channels, height, width = x.shape
    bands = height // rows
    if layout == torch.channels_last:
        size = (count * bands, channels, rows, width)
        return x.as_strided(size, (rows * width * channels, 1, width * channels, channels))
    return x.view(count, channels * bands, rows, width)


def join(bands: Tensor, shape: Sequence[int], layout: torch.memory_format) -> Tensor:
    """Put bands together again to the (N, C, H, W) of ``shape``."""
    if layout == torch.channels_last:
        count, channels, height, width = shape
        last = bands.permute(0, 2, 3, 1).view(count, height, width, channels)
        return last.permute(0, 3, 1, 2)
    return bands.view(shape)
