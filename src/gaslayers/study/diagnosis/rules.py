"""What each verdict on training looks for in the readings."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gaslayers.study.diagnosis.readings import Levels, Reading
from gaslayers.study.diagnosis.thresholds import Thresholds
from gaslayers.study.diagnosis.verdict import Name

_START = 10
"""Readings whose mean is where a run starts."""
_FEWEST = 3
"""Readings that have to agree, for one or two far apart say little of what lies between."""
_APART = 4.0
"""Spreads between the means of real and generated scores beyond which none is mistaken."""


class Finding(NamedTuple):
    """A verdict that a rule came to."""

    name: Name
    evidence: str
    since: int | None


def find_in_training(
    readings: Sequence[Reading], thresholds: Thresholds, levels: Levels | None
) -> Finding | None:
    """The first failure that the readings show, the gravest first."""
    rules = (_diverged, _saturated, _dead, _overpowering)
    for rule in rules:
        found = rule(readings, thresholds)
        if found is not None:
            return found
    return None if levels is None else _stuck(readings, thresholds, levels)


def _diverged(readings: Sequence[Reading], _: Thresholds) -> Finding | None:
    """A number that is not finite at the last reading of it, and since when it is not.

    One that is finite again is none: a loss scaler skips such a step. For the same reason a
    gradient alone has to stay for some readings.
    """
    found = []
    for name in {name: None for reading in readings for name, _ in reading.values()}:
        least = _START if name == "gradient_norm" else 1
        run: list[tuple[int, float]] = []
        for reading in reversed(readings):
            value = getattr(reading, name)
            if value is None:
                continue
            if math.isfinite(value):
                break
            run.append((reading.iteration, value))
        if len(run) >= least:
            since, value = run[-1]
            found.append(Finding("diverged", f"The {name.replace('_', ' ')} is {value}.", since))
    return min(found, key=lambda finding: finding.since or 0, default=None)


def _saturated(readings: Sequence[Reading], thresholds: Thresholds) -> Finding | None:
    limit = thresholds.saturated_slope

    def holds(reading: Reading) -> bool:
        return _below(reading.real_slope, limit) and _below(reading.fake_slope, limit)

    since = _lasting(readings, holds, thresholds.saturated_steps)
    if since is None or _still_learns(readings, since, thresholds):
        return None
    last = readings[-1]
    evidence = (
        f"Mean s(1 - s) is {last.real_slope:.2g} on real and {last.fake_slope:.2g} on generated "
        f"images, below {limit:g}: no gradient passes the sigmoid"
    )
    if any(_is_number(reading.gradient_norm) and reading.iteration < since for reading in readings):
        evidence += "."
    else:
        evidence += ". Of a loss of the logits, such as BCE with logits, this says nothing."
    return Finding("saturated", evidence, since)


def _still_learns(readings: Sequence[Reading], since: int, thresholds: Thresholds) -> bool:
    """Whether G's gradient is about as large as before the sigmoid was flat.

    That of a loss of the logits, such as BCE with logits, is 1 - s and not s(1 - s).
    """
    before, flat = (
        [
            reading.gradient_norm
            for reading in readings
            if (reading.iteration >= since) is is_flat and _is_number(reading.gradient_norm)
        ]
        for is_flat in (False, True)
    )
    if not before or not flat:
        return False
    return _middle(flat) > thresholds.saturated_gradient * _middle(before)


def _dead(readings: Sequence[Reading], thresholds: Thresholds) -> Finding | None:
    limit = thresholds.dead_logit

    def holds(reading: Reading) -> bool:
        spreads = _below(reading.real_logit_std, limit) and _below(reading.fake_logit_std, limit)
        means = (reading.real_logit_mean, reading.fake_logit_mean)
        if not spreads or means[0] is None or means[1] is None:
            return False
        return abs(means[0] - means[1]) < limit

    since = _lasting(readings, holds, thresholds.dead_steps)
    if since is None:
        return None
    evidence = f"D scores all images the same to {limit:g}, real and generated."
    return Finding("dead", evidence, since)


def _overpowering(readings: Sequence[Reading], thresholds: Thresholds) -> Finding | None:
    loss = _start([reading.discriminator_loss for reading in readings])
    gradient = _start([reading.gradient_norm for reading in readings])
    if loss is None or gradient is None:
        return None
    loss_limit = thresholds.overpowering_loss * loss
    gradient_limit = thresholds.overpowering_gradient * gradient

    def holds(reading: Reading) -> bool:
        low = _below(reading.discriminator_loss, loss_limit)
        return low and _below(reading.gradient_norm, gradient_limit)

    judged = [reading for reading in readings if reading.gradient_norm is not None]
    since = _lasting(judged, holds, thresholds.overpowering_steps)
    if since is None:
        return None
    last = judged[-1]
    evidence = (
        f"L_D is {last.discriminator_loss:.2g} after {loss:.2g} at the start, and the gradient at "
        f"G's output {last.gradient_norm:.2g} after {gradient:.2g}."
    )
    return Finding("overpowering D", evidence, since)


def find_caution(readings: Sequence[Reading], thresholds: Thresholds) -> str | None:
    """A sentence on a D that separates perfectly while G still gets a gradient.

    It is no failure by itself: hinge and WGAN losses hand on a gradient then, as does BCE with
    logits.
    """
    start = _start([reading.discriminator_loss for reading in readings])
    limit = thresholds.overpowering_loss * (start or 0.0)

    def wins(reading: Reading) -> bool:
        loss = reading.discriminator_loss
        return loss is not None and abs(loss) <= limit

    def apart(reading: Reading) -> bool:
        numbers = (
            reading.real_logit_mean,
            reading.real_logit_std,
            reading.fake_logit_mean,
            reading.fake_logit_std,
        )
        if any(number is None for number in numbers):
            return False
        real, real_std, fake, fake_std = (number or 0.0 for number in numbers)
        return real - fake > _APART * (real_std + fake_std) > 0.0

    for holds, what in (
        (wins, "its loss is next to nothing"),
        (apart, f"scores lie {_APART:g} spreads apart"),
    ):
        since = _lasting(readings, holds, thresholds.overpowering_steps)
        if since is not None:
            return (
                f"D separates real from generated images perfectly since iteration {since}: {what}."
            )
    return None


def _stuck(readings: Sequence[Reading], thresholds: Thresholds, levels: Levels) -> Finding | None:
    """Judge by losses alone, where they stick to what a sigmoid head sticks to."""

    def at(level: tuple[float, float]) -> Callable[[Reading], bool]:
        def holds(reading: Reading) -> bool:
            losses = (reading.discriminator_loss, reading.generator_loss)
            return all(
                loss is not None and abs(loss - wanted) <= levels.tolerance
                for loss, wanted in zip(losses, level, strict=True)
            )

        return holds

    kinds: list[tuple[Name, tuple[float, float], int]] = [
        ("saturated", corner, thresholds.saturated_steps) for corner in levels.saturated
    ]
    kinds.append(("dead", levels.undecided, thresholds.dead_steps))
    for name, level, steps in kinds:
        since = _lasting(readings, at(level), steps)
        if since is not None:
            scores = "0 or 1" if name == "saturated" else "1/2"
            evidence = (
                f"L_D stays at {level[0]:g} and L_G at {level[1]:g}, as where every score is "
                f"{scores}."
            )
            return Finding(name, evidence, since)
    return None


def _below(value: float | None, limit: float) -> bool:
    return value is not None and value < limit


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _middle(values: Sequence[float | None]) -> float:
    return statistics.median(value for value in values if value is not None)


def _start(values: Sequence[float | None]) -> float | None:
    """Where a quantity starts; None where it is unknown, or not above 0, as a WGAN's loss."""
    first = [value for value in values if value is not None and math.isfinite(value)][:_START]
    mean = sum(first) / len(first) if first else 0.0
    return mean if mean > 0.0 else None


def _lasting(
    readings: Sequence[Reading], holds: Callable[[Reading], bool], steps: int
) -> int | None:
    """The iteration since which something holds up to the last one, for at least ``steps``."""
    run = []
    for reading in reversed(readings):
        if not holds(reading):
            break
        run.append(reading.iteration)
    if len(run) < _FEWEST:
        return None
    return run[-1] if run[0] - run[-1] + 1 >= steps else None
