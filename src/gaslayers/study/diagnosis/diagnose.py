"""From readings and samples to a verdict."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from gaslayers._checks import bad_type, bad_value
from gaslayers.study.diagnosis.readings import Levels, Reading
from gaslayers.study.diagnosis.rules import find_caution, find_in_training
from gaslayers.study.diagnosis.samples import find_in_samples
from gaslayers.study.diagnosis.thresholds import Thresholds
from gaslayers.study.diagnosis.verdict import CAUTION, REMEDIES, Verdict
from gaslayers.study.metrics import Evaluation

_OWNER = "diagnose"


def diagnose(
    readings: Sequence[Reading],
    *,
    evaluation: Evaluation | None = None,
    levels: Levels | None = None,
    thresholds: Thresholds | None = None,
) -> Verdict:
    """Say what is wrong with a run, if anything.

    Failures of training come first, for samples follow from them. A failure that ended before the
    last reading is none: the verdict is on what the run came to.

    Args:
        readings: In the order of their iterations.
        evaluation: Of the run's samples, where there is one.
        levels: The losses at which a sigmoid head sticks, for runs of which the losses alone are
            known.
        thresholds: Where verdicts begin.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: There is nothing to judge, or readings are out of order.

    Example:
        >>> readings = [
        ...     Reading(i, discriminator_loss=16.0, generator_loss=0.0) for i in range(0, 2000, 200)
        ... ]
        >>> levels = Levels.of(batch_size=32, reduction="sum")
        >>> print(diagnose(readings, levels=levels))
        saturated since iteration 0 (judged: losses)
        L_D stays at 16 and L_G at 0, as where every score is 0 or 1.
        Take the sigmoid off D's head, or let it learn more slowly.
    """
    readings = _check(readings)
    if evaluation is not None and not isinstance(evaluation, Evaluation):
        raise bad_type(_OWNER, "evaluation", "be an Evaluation or None", evaluation)
    limits = Thresholds() if thresholds is None else thresholds
    judged = _list_judged(readings, evaluation)
    if not judged:
        raise bad_value(_OWNER, "readings", "hold a reading where there is no evaluation", readings)
    found = find_in_training(readings, limits, levels) if readings else None
    if found is None and evaluation is not None:
        found = find_in_samples(evaluation, limits)
    if found is not None:
        return Verdict(found.name, (found.evidence,), REMEDIES[found.name], found.since, judged)
    evidence = _describe_health(readings, evaluation)
    caution = find_caution(readings, limits) if readings else None
    if caution is None:
        return Verdict("healthy", evidence, REMEDIES["healthy"], None, judged)
    return Verdict("healthy", (*evidence, caution), CAUTION, None, judged)


def _check(readings: Any) -> Sequence[Reading]:
    if not isinstance(readings, list | tuple) or not all(
        isinstance(reading, Reading) for reading in readings
    ):
        raise bad_type(_OWNER, "readings", "be a list of readings", readings)
    numbers = [reading.iteration for reading in readings]
    if numbers != sorted(set(numbers)):
        raise bad_value(_OWNER, "readings", "be in the order of their iterations", numbers)
    return readings


def _list_judged(readings: Sequence[Reading], evaluation: Evaluation | None) -> tuple[str, ...]:
    known = {name for reading in readings for name, _ in reading.values()}
    judged = []
    if known:
        judged.append("losses" if known <= {"discriminator_loss", "generator_loss"} else "signals")
    if evaluation is not None:
        judged.append("samples")
    return tuple(judged)


def _describe_health(readings: Sequence[Reading], evaluation: Evaluation | None) -> tuple[str, ...]:
    evidence = []
    if readings:
        iterations = readings[-1].iteration - readings[0].iteration + 1
        evidence.append(f"No failure in {len(readings)} readings over {iterations} iterations.")
        ratios = [r.balance_ratio for r in readings if r.balance_ratio is not None]
        if ratios:
            evidence.append(f"The balance ratio is {statistics.median(ratios):.2g} in the median.")
    if evaluation is not None:
        distance = evaluation.frechet_distance
        evidence.append(
            f"No failure in {evaluation.samples} samples, at a Frechet distance of "
            f"{distance.value:.3g} (real images: {distance.floor:.3g})."
        )
    else:
        evidence.append("No samples were judged.")
    return tuple(evidence)
