"""How many seeds a claim of equality needs."""

from __future__ import annotations

import math

from scipy import integrate, stats

from gaslayers._checks import bad_value, check_choice, check_float, check_int
from gaslayers.study.statistics.equivalence import SCALES, Scale, bounds_of

_MOST_SEEDS = 100_000


def equivalence_power(
    pairs: int,
    *,
    spread: float,
    margin: float,
    scale: Scale = "ratio",
    level: float = 0.05,
    truth: float | None = None,
) -> float:
    """The probability with which `gaslayers.study.statistics.tost` finds two settings equal.

    Args:
        pairs: Paired seeds.
        spread: Standard deviation over seeds of the paired changes: of the logarithm of the ratio,
            or of the difference. Of two settings whose seeds have nothing in common it is the root
            of 2 times that of one.
        margin: As for `tost`.
        scale: As for `tost`.
        level: As for `tost`.
        truth: The true ratio or difference; by default none.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A number is out of its bounds.

    Example:
        >>> 0.7 < equivalence_power(10, spread=0.1, margin=0.1) < 0.8
        True
    """
    owner = "equivalence_power"
    check_int(owner, "pairs", pairs, minimum=2)
    check_choice(owner, "scale", scale, SCALES)
    check_float(owner, "spread", spread, above=0.0)
    check_float(owner, "margin", margin, above=0.0, below=1.0 if scale == "ratio" else None)
    check_float(owner, "level", level, above=0.0, below=0.5)
    if truth is not None:
        check_float(owner, "truth", truth, above=0.0 if scale == "ratio" else None)
    lower, upper = bounds_of(margin, scale)
    centre = 0.0 if truth is None else math.log(truth) if scale == "ratio" else float(truth)
    error = spread / math.sqrt(pairs)
    quantile = float(stats.t(pairs - 1).ppf(1.0 - level))
    # The standard deviation that is observed, over the true one.
    observed = stats.chi(pairs - 1, scale=1.0 / math.sqrt(pairs - 1))
    widest = (upper - lower) / (2.0 * quantile * error)

    def both(ratio: float) -> float:
        reach = quantile * ratio * error
        above = stats.norm.cdf((upper - reach - centre) / error)
        below = stats.norm.cdf((lower + reach - centre) / error)
        return float((above - below) * observed.pdf(ratio))

    # Beyond its last quantile an observed spread has no weight, and would hide the rest.
    end = min(widest, float(observed.isf(1e-12)))
    power, _ = integrate.quad(both, 0.0, end, limit=200, points=[min(1.0, end)])
    return float(min(1.0, max(0.0, power)))


def seeds_needed(
    *,
    spread: float,
    margin: float,
    scale: Scale = "ratio",
    power: float = 0.8,
    level: float = 0.05,
) -> int:
    """The fewest paired seeds with which a true claim of equality is shown with this power.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A number is out of its bounds, or more than 100,000 seeds are needed.

    Example:
        >>> seeds_needed(spread=0.1, margin=0.1)
        11
    """
    check_float("seeds_needed", "power", power, above=0.0, below=1.0)

    def is_enough(pairs: int) -> bool:
        found = equivalence_power(pairs, spread=spread, margin=margin, scale=scale, level=level)
        return found >= power

    many = 2
    while not is_enough(many):
        many *= 2
        if many > _MOST_SEEDS:
            rule = f"be large enough for {_MOST_SEEDS} seeds"
            raise bad_value("seeds_needed", "margin", rule, margin)
    few = many // 2
    while few + 1 < many:
        middle = (few + many) // 2
        few, many = (few, middle) if is_enough(middle) else (middle, many)
    return many


def power_line(
    *,
    spread: float,
    margin: float,
    scale: Scale = "ratio",
    power: float = 0.8,
    level: float = 0.05,
) -> str:
    """One sentence that says how many seeds a claim of equality needs.

    Example:
        >>> print(power_line(spread=0.1, margin=0.1))
        "Equal within 10 %" needs 11 paired seeds (power 80 %, level 5 %, spread of ratios 10 %).
    """
    seeds = seeds_needed(spread=spread, margin=margin, scale=scale, power=power, level=level)
    within, over = (
        f"{100 * size:.3g} %" if scale == "ratio" else f"{size:.3g}" for size in (margin, spread)
    )
    return (
        f'"Equal within {within}" needs {seeds} paired seeds (power {100 * power:.3g} %, '
        f"level {100 * level:.3g} %, spread of {scale}s {over})."
    )
