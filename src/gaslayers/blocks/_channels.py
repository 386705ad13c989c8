"""How a block's output channels are shared out among its branches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gaslayers._checks import bad_value, check_int_sequence


def split_channels(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    """Split ``total`` in proportion to ``weights``; what is left over goes to the first ones."""
    whole = sum(weights)
    # The tolerance keeps an exact share that floating point lifts by one ulp from rounding up.
    shares = [sum(weights[: i + 1]) / whole for i in range(len(weights))]
    ends = [math.ceil(total * share - 1e-9) for share in shares]
    return tuple(end - start for start, end in zip([0, *ends[:-1]], ends, strict=True))


def resolve_branch_channels(
    owner: str,
    out_channels: int,
    branch_channels: Sequence[int] | None,
    weights: Sequence[float],
) -> tuple[int, ...]:
    """Return the channels of each branch, checked: given ones, or shares of ``out_channels``."""
    if branch_channels is None:
        widths = split_channels(out_channels, weights)
        if min(widths) < 1:
            rule = f"give each of the {len(weights)} branches at least one channel"
            raise bad_value(owner, "out_channels", rule, out_channels)
        return widths
    check_int_sequence(owner, "branch_channels", branch_channels)
    if len(branch_channels) != len(weights):
        rule = f"have one entry for each of the {len(weights)} kernel sizes"
        raise bad_value(owner, "branch_channels", rule, tuple(branch_channels))
    if sum(branch_channels) != out_channels:
        rule = f"sum to out_channels (={out_channels})"
        raise bad_value(owner, "branch_channels", rule, tuple(branch_channels))
    return tuple(branch_channels)
