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
