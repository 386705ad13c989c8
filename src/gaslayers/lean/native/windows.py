"""Windows of 2x2 pixels, and how many digits there are of what a kernel keeps of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gaslayers.lean.activations import IDENTITY
from gaslayers.lean.fused.pool.packing import packed_size

WINDOW = 2
PLACES = WINDOW**2


def radix_of(slope: float) -> int:
    """How many digits there are: what pool_codes.h keeps of a window, by its activation's slope."""
    return {0.0: PLACES + 1, IDENTITY: PLACES}.get(slope, 2 * PLACES)


def pooled_shape(shape: Sequence[int], *, ceil_mode: bool) -> torch.Size:
    """(N, C, H, W) -> (N, C, H / 2, W / 2), rounded up in ceil mode."""
    count, channels, height, width = shape
    rest = WINDOW - 1 if ceil_mode else 0
    return torch.Size((count, channels, (height + rest) // WINDOW, (width + rest) // WINDOW))


def is_pooled(pooled: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a map of ``shape`` is pooled to this one, each side rounded up or down."""
    if len(pooled) != len(shape):
        return False
    count, channels, rows, columns = pooled
    height, width = shape[2:]
    return (
        (count, channels) == (shape[0], shape[1])
        and rows in (height // WINDOW, -(-height // WINDOW))
        and columns in (width // WINDOW, -(-width // WINDOW))
    )


def codes_size(pooled: torch.Size, slope: float) -> int:
    """Bytes that the packed codes of so many windows take."""
    return packed_size(pooled.numel(), radix_of(slope))
