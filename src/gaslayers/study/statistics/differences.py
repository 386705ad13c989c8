"""How much more often one setting fails than another."""

from __future__ import annotations

import math

from gaslayers.study.statistics.scores import Interval
from gaslayers.study.statistics.summary import wilson


def newcombe(
    first: tuple[int, int], second: tuple[int, int], *, confidence: float = 0.95
) -> Interval:
    """Newcombe's interval of the difference of two failure rates, first minus second.

    Args:
        first: Failures and runs.
        second: The same of runs that are independent of the first.
        confidence: Of the interval.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: There are more failures than runs, or no run.

    Example:
        >>> interval = newcombe((56, 70), (48, 80))
        >>> round(interval.low, 4), round(interval.high, 4)
        (0.0524, 0.3339)

    References:
        Newcombe, "Interval estimation for the difference between independent proportions", 1998,
        method 10.
    """
    rates = [failures / runs if runs else 0.0 for failures, runs in (first, second)]
    one, other = (wilson(*counts, confidence=confidence) for counts in (first, second))
    difference = rates[0] - rates[1]
    return Interval(
        difference - math.hypot(rates[0] - one.low, other.high - rates[1]),
        difference + math.hypot(one.high - rates[0], rates[1] - other.low),
        confidence,
    )
