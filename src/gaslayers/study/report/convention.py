"""What a loss means under a run's convention: its unit, and the levels that it can stick to."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gaslayers.losses import LSGANDiscriminatorLoss, LSGANGeneratorLoss
from gaslayers.models import VARIANTS
from gaslayers.study.config import RunConfig
from gaslayers.study.report import original
from gaslayers.study.report.original import Loss


@dataclass(frozen=True)
class Convention:
    """How a run's losses are to be read.

    Args:
        unit: What a value is of.
        is_original: Whether the values are on the scale of the 2018 plots.
        undecided: The loss while D scores everything 1/2.
        saturated: The losses while D scores everything 1 or everything 0; empty where D ends
            without a sigmoid and has no such state.
    """

    unit: str
    is_original: bool
    undecided: float
    saturated: tuple[float, ...]


def convention_of(config: RunConfig, loss: Loss) -> Convention:
    """Read the convention off a configuration.

    Example:
        >>> config = RunConfig(case="original", data_sha256="")
        >>> convention_of(config, "generator").undecided
        4.0
        >>> convention_of(config, "discriminator").saturated
        (16.0,)
    """
    size, reduction = config.batch_size, config.loss_reduction

    def level(score: float) -> float:
        scores = torch.full((size, 1), score)
        if loss == "generator":
            return LSGANGeneratorLoss(reduction=reduction)(scores).item()
        return LSGANDiscriminatorLoss(reduction=reduction)(scores, scores).item()

    saturates = VARIANTS[config.variant].head == "sigmoid"
    return Convention(
        unit=f"{reduction} over {size} images",
        is_original=reduction == "sum" and size == original.BATCH_SIZE,
        undecided=level(0.5),
        saturated=tuple(sorted({level(1.0), level(0.0)})) if saturates else (),
    )
