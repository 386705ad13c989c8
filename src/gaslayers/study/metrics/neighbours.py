"""Whether generated images are copies of those that the generator was trained on."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gaslayers._checks import bad_value
from gaslayers.study.metrics.distances import squared_nearest, squared_radii
from gaslayers.study.metrics.features import check_pair

_OWNER = "nearest_ratio"


def nearest_ratio(generated: Any, training: Any, *, member: Tensor | None = None) -> float:
    """How near samples are to the training images, over how near those are to each other.

    It is the mean distance of a sample to the nearest training image, over the mean distance of a
    training image to the nearest other one. Unseen images of the same kind have about 1, copies
    have 0, and a mixture has its share of copies less.

    Args:
        generated: Features of generated images.
        training: Features of the images that the generator was trained on.
        member: Which of the first are training images themselves, as those of a floor may be. Such
            a one is no copy of itself: it is compared with the other training images.

    Shape:
        - generated: (N, d), N >= 2.
        - training: (M, d), M >= 2.
        - member: (N,), bool.

    Raises:
        TypeError: An argument is no floating-point tensor.
        ValueError: A shape is another one, there are too few samples, a feature is not finite, or
            all training images have a copy among themselves.

    Note:
        Differs from the literature: our own, in the spirit of Meehan et al., "A Non-Parametric
        Test to Detect Data-Copying in Generative Models", 2020, which compares such distances with
        those of images that were kept back. `evaluate` gives that as the floor.

    Example:
        >>> features = torch.rand(100, 4, generator=torch.Generator().manual_seed(0))
        >>> nearest_ratio(features[:50], features)
        0.0
    """
    on_generated, on_training = check_pair(
        _OWNER, generated, training, least=2, names=("generated", "training")
    )
    if member is not None and (
        member.dtype != torch.bool or member.shape != on_generated.shape[:1]
    ):
        rule = f"be a bool for each of the {len(on_generated)} samples"
        raise bad_value(_OWNER, "member", rule, member)
    among = squared_radii(on_training, 1).sqrt().mean().item()
    if among == 0.0:
        raise bad_value(_OWNER, "training", "hold an image without a copy", training)
    nearest = squared_nearest(on_generated, on_training, member=member)
    ratio = nearest.sqrt().mean().item() / among
    return ratio if math.isfinite(ratio) else math.inf
