"""How a block's output channels are shared out among its branches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gaslayers._checks import bad_value, check_int_sequence


def split_channels(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    """Split ``total`` in proportion to ``weights``; what is left over goes to the first ones."""
    whole = sum(weights)
    # The tolerance keeps an exact share that floating point lowers by one ulp from losing one.
    shares = [math.floor(total * weight / whole + 1e-9) for weight in weights]
    left_over = total - sum(shares)
    return tuple(share + (i < left_over) for i, share in enumerate(shares))


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
    given = check_int_sequence(owner, "branch_channels", branch_channels)
    if len(given) != len(weights):
        rule = f"have one entry for each of the {len(weights)} kernel sizes"
        raise bad_value(owner, "branch_channels", rule, given)
    if sum(given) != out_channels:
        rule = f"sum to out_channels (={out_channels})"
        raise bad_value(owner, "branch_channels", rule, given)
    return given
