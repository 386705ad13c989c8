"""The common ends of the loss panels' axes."""

from __future__ import annotations

import math
import statistics

from gaslayers.study.report.convention import Convention
from gaslayers.study.report.original import Loss, OriginalCurve
from gaslayers.study.report.runs import Group, Run


def losses_of(run: Run, loss: Loss) -> tuple[list[int], list[float]]:
    """The iterations and losses of one run."""
    values = [
        point.generator_loss if loss == "generator" else point.discriminator_loss
        for point in run.curves
    ]
    return [point.iteration for point in run.curves], values


def finite_losses(run: Run, loss: Loss) -> list[float]:
    """The losses of one run that are numbers."""
    return [value for value in losses_of(run, loss)[1] if math.isfinite(value)]


def last_iteration(group: Group, originals: dict[str, OriginalCurve]) -> int:
    """Where the iterations end.

    The original was read every 200 iterations: a shorter run's panels reach to its next reading,
    so that there is something to compare with.
    """
    last = group.config.iterations - 1
    nexts = [
        next((there for there in curve.iterations if there >= last), last)
        for curve in originals.values()
    ]
    return max([last, 1, *nexts])


def highest_loss(
    group: Group,
    loss: Loss,
    convention: Convention,
    originals: dict[str, OriginalCurve],
) -> float:
    """Where the losses end.

    The few losses on a run's way out of the finite numbers would flatten all other curves: where
    the highest is far above what is usual, the axis ends nearer to that.
    """
    values = [finite_losses(run, loss) for run in group.runs]
    needed = [convention.undecided, *convention.saturated]
    for curve in originals.values():
        needed += curve.losses
    usual = max([*needed, *(statistics.median(losses) for losses in values if losses)])
    highest = max([*needed, *(max(losses) for losses in values if losses)])
    return highest if highest <= 10 * usual else 2 * usual
