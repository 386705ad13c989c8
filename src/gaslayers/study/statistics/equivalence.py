"""Whether two settings are about equal, by two one-sided tests on paired seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from gaslayers._checks import bad_value, check_choice, check_float
from gaslayers.study.statistics.scores import Interval, read_scores

Scale = Literal["ratio", "difference"]
SCALES = ("ratio", "difference")


@dataclass(frozen=True)
class Equivalence:
    """The outcome of two one-sided tests on paired seeds.

    Args:
        scale: ``"ratio"``: of geometric means; ``"difference"``: of means.
        margin: How far from equal still counts as about equal.
        estimate: The ratio or the difference, first over or minus second; infinite or NaN where a
            run failed.
        interval: Of the estimate, at the confidence that the tests together stand for.
        p_value: The larger of those of the two tests; 1 where a run failed.
        verdict: ``"equal"`` where it is below the level, ``"different"`` where the whole interval
            lies beyond the margin, else ``"undecided"``.
        pairs: The seeds that both have.
        failures: Pairs in which a run failed.
    """

    scale: Scale
    margin: float
    estimate: float
    interval: Interval
    p_value: float
    verdict: Literal["equal", "different", "undecided"]
    pairs: tuple[int, ...]
    failures: int


def tost(
    first: Mapping[int, float],
    second: Mapping[int, float],
    *,
    margin: float,
    scale: Scale = "ratio",
    level: float = 0.05,
) -> Equivalence:
    """Test whether two settings are about equal, seed by seed (TOST).

    Two one-sided paired t tests ask whether the ratio of the first to the second lies above
    1 - margin and below 1 + margin, or their difference above -margin and below margin. Only where
    both say yes are they about equal: a wide interval never shows equality.

    Args:
        first: The score of each seed.
        second: That of the same seeds.
        margin: How far from equal still counts as about equal; 0.1 of a ratio is 10 %.
        scale: Whether the margin is one of the ratio, for which scores are above 0, or of the
            difference.
        level: Of each of the two tests.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: The seeds are not the same, there are fewer than two, a score of a ratio is not
            above 0, or a number is out of its bounds.

    Note:
        A failed run is not left out: with one, nothing is shown to be equal.

    Example:
        >>> first = {0: 5.0, 1: 5.2, 2: 4.9, 3: 5.1}
        >>> second = {0: 5.1, 1: 5.1, 2: 5.0, 3: 5.0}
        >>> tost(first, second, margin=0.1).verdict
        'equal'

    References:
        Schuirmann, "A comparison of the two one-sided tests procedure and the power approach",
        1987.
    """
    owner = "tost"
    check_choice(owner, "scale", scale, SCALES)
    check_float(owner, "margin", margin, above=0.0, below=1.0 if scale == "ratio" else None)
    check_float(owner, "level", level, above=0.0, below=0.5)
    seeds, changes, failures = _pair(owner, first, second, scale)
    lower, upper = bounds_of(margin, scale)
    confidence = 1.0 - 2.0 * level
    back = math.exp if scale == "ratio" else float
    if failures:
        nowhere = Interval(0.0 if scale == "ratio" else -math.inf, math.inf, confidence)
        return Equivalence(scale, margin, math.nan, nowhere, 1.0, "undecided", seeds, failures)
    mean, error = float(changes.mean()), float(changes.std(ddof=1)) / math.sqrt(len(seeds))
    student = stats.t(len(seeds) - 1)
    if error == 0.0:
        p_value = 0.0 if lower < mean < upper else 1.0
    else:
        p_value = float(
            max(student.sf((mean - lower) / error), student.cdf((mean - upper) / error))
        )
    reach = float(student.ppf(1.0 - level)) * error
    interval = Interval(back(mean - reach), back(mean + reach), confidence)
    verdict: Literal["equal", "different", "undecided"] = "undecided"
    if p_value < level:
        verdict = "equal"
    elif mean - reach >= upper or mean + reach <= lower:
        verdict = "different"
    return Equivalence(scale, margin, back(mean), interval, p_value, verdict, seeds, failures)


def bounds_of(margin: float, scale: Scale) -> tuple[float, float]:
    """The margin's two ends; those of a ratio as logarithms."""
    if scale == "ratio":
        return math.log1p(-margin), math.log1p(margin)
    return -margin, margin


def _pair(
    owner: str, first: Any, second: Any, scale: Scale
) -> tuple[tuple[int, ...], np.ndarray[Any, np.dtype[np.float64]], int]:
    """The seeds, the change of each from second to first, and the pairs with a failed run."""
    a, _ = read_scores(owner, "first", first, worst=1)
    b, _ = read_scores(owner, "second", second, worst=1)
    if a.keys() != b.keys():
        alone = sorted(a.keys() ^ b.keys())
        rule = f"have the seeds of `first`, of which {alone} are in one of them alone"
        raise bad_value(owner, "second", rule, sorted(b), "A failed run is scored by NaN.")
    seeds = tuple(sorted(a))
    if len(seeds) < 2:
        raise bad_value(owner, "first", "hold at least two seeds", len(seeds))
    pairs = np.array([[a[seed], b[seed]] for seed in seeds])
    failures = int((~np.isfinite(pairs)).any(axis=1).sum())
    if failures:
        return seeds, np.full(len(seeds), math.nan), failures
    if scale == "ratio":
        if (pairs <= 0.0).any():
            remedy = "Use scale='difference' for scores that may be 0 or less."
            raise bad_value(owner, "scale", "be one of scores above 0", scale, remedy)
        pairs = np.log(pairs)
    return seeds, pairs[:, 0] - pairs[:, 1], 0
