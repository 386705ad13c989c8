"""Scores by seed, in which a failed run counts as the worst of all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaslayers._checks import bad_type, bad_value, check_int


@dataclass(frozen=True)
class Interval:
    """A range that holds a quantity with some confidence."""

    low: float
    high: float
    confidence: float


def read_scores(
    owner: str, argument: str, scores: Any, *, worst: int
) -> tuple[dict[int, float], np.ndarray[Any, np.dtype[np.float64]]]:
    """Check scores by seed; what is not finite becomes infinite at the worst end."""
    if not isinstance(scores, Mapping):
        raise bad_type(owner, argument, "be a mapping from seeds to scores", scores)
    if not scores:
        raise bad_value(owner, argument, "hold at least one score", scores)
    points: dict[int, float] = {}
    for seed, score in scores.items():
        check_int(owner, argument, seed, minimum=0)
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise bad_type(owner, argument, "map to numbers", score)
        points[seed] = float(score) if math.isfinite(score) else worst * math.inf
    return points, np.array(list(points.values()))
