"""Small numbers, several to a byte."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_BYTE = 256


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


@functools.cache
def digits_a_byte(radix: int) -> int:
    """How many digits share a byte: one that holds the digits 0 to ``radix`` - 1 as a number."""
    digits, numbers = 1, radix * radix
    while numbers <= _BYTE:
        digits, numbers = digits + 1, numbers * radix
    return digits


def packed_size(count: int, radix: int) -> int:
    """Bytes that so many digits take."""
    return -(-count // digits_a_byte(radix))


def pack_digits(digits: Tensor, radix: int) -> Tensor:
    """Pack digits as `unpack_digits` unpacks them.

    Shape:
        - digits: (count,), uint8, less than ``radix``.
        - Output: (`packed_size`,), uint8.
    """
    size = packed_size(digits.shape[0], radix)
    packed = digits.new_zeros(size)
    for part in reversed(range(digits_a_byte(radix))):
        packed *= radix
        own = digits[part * size : (part + 1) * size]
        packed[: own.shape[0]] += own
    return packed


def unpack_digits(packed: Tensor, radix: int, count: int) -> Tensor:
    """Unpack ``count`` digits; the first ones are the units of all bytes, in order.

    Shape:
        - packed: (`packed_size`,), uint8.
        - Output: (count,), uint8, less than ``radix``.
    """
    parts = []
    for _ in range(digits_a_byte(radix)):
        parts.append(packed % radix)
        packed = packed // radix
    return torch.cat(parts)[:count]
