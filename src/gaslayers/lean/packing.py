"""Yes or no, eight to a byte."""

from __future__ import annotations

import torch
from torch import Tensor


def pack_bits(values: Tensor) -> Tensor:
    """Pack booleans of several samples into each byte.

    Samples share bytes, not pixels: slices along the batch axis are contiguous in every memory
    format.

    Shape:
        - values: (N, ...), bool.
        - Output: (ceil(N / 8), ...), uint8.
    """
    values = values.view(torch.uint8)
    rows = -(-values.shape[0] // 8)
    packed = values[:rows].clone()
    for index in range(1, 8):
        part = values[index * rows : (index + 1) * rows]
        packed[: part.shape[0]] |= part << index
    return packed


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """Unpack what `pack_bits` packed of ``count`` samples.

    Shape:
        - packed: (ceil(count / 8), ...), uint8.
        - Output: (count, ...), uint8, 0 or 1.
    """
    return torch.cat([(packed >> index) & 1 for index in range(8)])[:count]
