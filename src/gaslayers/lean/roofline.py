"""How long an operation takes, to first order: its arithmetic plus its traffic with memory.

The unit is one floating-point operation. Only ratios of times are used, and for those two numbers
describe a machine: how many operations it does while a byte travels, and while an operator is
called. The first is about 10 for a core of a current CPU and 10 to 20 for a GPU without tensor
cores.
"""

from __future__ import annotations

FLOPS_PER_BYTE = 10.0
BYTES_PER_VALUE = 4
OPERATOR = 2e6
"""Time to call an operator, whatever its size: 20 microseconds at 100 GFLOP/s."""


def traffic(values: float) -> float:
    """Time to read or write this many float32 values once."""
    return FLOPS_PER_BYTE * BYTES_PER_VALUE * values


def convolution(
    in_channels: int,
    out_channels: int,
    area: int,
    *,
    groups: int = 1,
    in_pixels: float = 1.0,
) -> float:
    """Time of a convolution for each pixel of its output.

    Args:
        in_channels: Channels that it reads.
        out_channels: Channels that it writes.
        area: Cells of its kernel.
        groups: Its groups.
        in_pixels: Pixels that it reads for each one that it writes: the square of its stride.
    """
    arithmetic = 2.0 * in_channels * out_channels * area / groups
    return arithmetic + traffic(in_channels * in_pixels + out_channels)
