"""Small whole numbers, several to a byte."""

from __future__ import annotations

import torch
from torch import Tensor


def bits_for(symbols: int) -> int:
    """Bits that hold numbers below ``symbols`` and divide a byte: 1, 2, 4 or 8.

    Raises:
        ValueError: There are more than 256.
    """
    for bits in (1, 2, 4, 8):
        if symbols <= 2**bits:
            return bits
    raise ValueError(f"bits_for: `symbols` must be <= 256, got {symbols}.")


def pack(values: Tensor, bits: int) -> Tensor:
    """Pack uint8 numbers below ``2^bits`` of several samples into each byte.

    Samples share bytes, not pixels: slices along the batch axis are contiguous in every memory
    format.

    Shape:
        - values: (N, ...), uint8.
        - Output: (ceil(N * bits / 8), ...), uint8.
    """
    if bits == 8:
        return values
    rows = -(-values.shape[0] * bits // 8)
    packed = values[:rows].clone()
    for index in range(1, 8 // bits):
        part = values[index * rows : (index + 1) * rows]
        packed[: part.shape[0]] |= part << (bits * index)
    return packed


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Unpack what `pack` packed of ``count`` samples.

    Shape:
        - packed: (ceil(count * bits / 8), ...), uint8.
        - Output: (count, ...), uint8.
    """
    if bits == 8:
        return packed
    parts = [(packed >> (bits * index)) & (2**bits - 1) for index in range(8 // bits)]
    return torch.cat(parts)[:count]
