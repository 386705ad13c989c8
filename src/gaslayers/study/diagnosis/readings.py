"""What is read off a GAN while it trains, and the losses at which a sigmoid head sticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch

from gaslayers._checks import bad_value
from gaslayers.losses import LSGANDiscriminatorLoss, LSGANGeneratorLoss
from gaslayers.study.records import CurvePoint


@dataclass(frozen=True)
class Reading:
    """One iteration; None where something was not read.

    Args:
        iteration: Its number.
        discriminator_loss: D's loss.
        generator_loss: G's loss.
        real_logit_mean: Mean of D's scores of real images, before any sigmoid.
        real_logit_std: Their spread.
        fake_logit_mean: Mean of D's scores of generated images.
        fake_logit_std: Their spread.
        real_slope: Mean of s(1 - s) over real images, s being the sigmoid of the score: the factor
            that a sigmoid puts on every gradient. None where D ends without one.
        fake_slope: The same over generated images.
        gradient_norm: Norm of G's loss's gradient by the generated images.
        balance_ratio: By how much a G step moves D's score of the same noise towards the score of
            real images, over the distance between the two (Wang et al., "Balanced Training for
            Sparse GANs", 2023). Near 0 D is too strong for G, near 1 too weak.
    """

    iteration: int
    discriminator_loss: float | None = None
    generator_loss: float | None = None
    real_logit_mean: float | None = None
    real_logit_std: float | None = None
    fake_logit_mean: float | None = None
    fake_logit_std: float | None = None
    real_slope: float | None = None
    fake_slope: float | None = None
    gradient_norm: float | None = None
    balance_ratio: float | None = None

    def values(self) -> Iterator[tuple[str, float]]:
        """What was read, by name."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "iteration" and value is not None:
                yield field.name, value


def readings_of_losses(
    iterations: Sequence[int],
    *,
    discriminator: Sequence[float],
    generator: Sequence[float],
) -> list[Reading]:
    """Readings of two loss curves, for runs of which nothing else is known.

    Raises:
        ValueError: The three differ in length.
    """
    if not len(iterations) == len(discriminator) == len(generator):
        lengths = (len(iterations), len(discriminator), len(generator))
        rule = "be as long as `discriminator` and `generator`"
        raise bad_value("readings_of_losses", "iterations", rule, lengths)
    return [
        Reading(iteration, discriminator_loss=of_d, generator_loss=of_g)
        for iteration, of_d, of_g in zip(iterations, discriminator, generator, strict=True)
    ]


def readings_of_curves(
    points: Iterable[CurvePoint], *, head: Literal["sigmoid", "linear"]
) -> list[Reading]:
    """Readings of a run of the study.

    The curves of older records have no s(1 - s). It is estimated for a sigmoid head, by a normal
    distribution of logits with the mean and the spread that were read.
    """
    readings = []
    for point in points:
        reading = Reading(**point.model_dump())
        if head == "sigmoid" and point.real_slope is None:
            reading = replace(
                reading,
                real_slope=_expected_slope(point.real_logit_mean, point.real_logit_std),
                fake_slope=_expected_slope(point.fake_logit_mean, point.fake_logit_std),
            )
        readings.append(reading)
    return readings


def _expected_slope(mean: float, std: float) -> float:
    if not (math.isfinite(mean) and math.isfinite(std)):
        return math.nan
    # Two scales: that of the distribution, and that of the logistic, which is about 1 around 0. A
    # grid on one of them alone would step over what lies on the other.
    normal = mean + std * torch.linspace(-10.0, 10.0, 801, dtype=torch.float64)
    logistic = torch.linspace(-40.0, 40.0, 1601, dtype=torch.float64)
    if std <= 1e-6 * (1.0 + abs(mean)):
        return slope_of_sigmoid(torch.tensor(mean, dtype=torch.float64)).item()
    places = torch.cat([normal, logistic]).sort().values
    weights = torch.exp(-0.5 * ((places - mean) / std).square())
    whole = torch.trapezoid(weights, places)
    return torch.trapezoid(weights * slope_of_sigmoid(places), places).div(whole).item()


def slope_of_sigmoid(logits: torch.Tensor) -> torch.Tensor:
    """s(1 - s). By the sigmoid of -x, since 1 - s rounds to 0 much sooner."""
    return torch.sigmoid(logits) * torch.sigmoid(-logits)


@dataclass(frozen=True)
class Levels:
    """The losses at which a least-squares GAN with a sigmoid head sticks.

    Args:
        undecided: L_D and L_G while D scores everything 1/2.
        saturated: L_D and L_G while every score is 0 or 1.
        tolerance: How near a loss has to be.
    """

    undecided: tuple[float, float]
    saturated: tuple[tuple[float, float], ...]
    tolerance: float

    @classmethod
    def of(
        cls, *, batch_size: int, reduction: Literal["sum", "mean"], tolerance: float = 0.0125
    ) -> Levels:
        """The levels of a reduction over a batch.

        Args:
            batch_size: Images in a batch.
            reduction: Of the losses.
            tolerance: As a part of the undecided L_D.

        Example:
            >>> Levels.of(batch_size=32, reduction="sum").undecided
            (8.0, 4.0)
        """

        def losses(real: float, fake: float) -> tuple[float, float]:
            on_real, on_fake = (torch.full((batch_size, 1), score) for score in (real, fake))
            return (
                LSGANDiscriminatorLoss(reduction=reduction)(on_real, on_fake).item(),
                LSGANGeneratorLoss(reduction=reduction)(on_fake).item(),
            )

        undecided = losses(0.5, 0.5)
        corners = tuple(losses(real, fake) for real in (0.0, 1.0) for fake in (0.0, 1.0))
        return cls(undecided, corners, tolerance * undecided[0])
