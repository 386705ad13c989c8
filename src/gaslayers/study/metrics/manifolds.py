"""How two sets of features cover each other: precision and recall, density and coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from gaslayers._checks import check_int
from gaslayers.study.metrics.distances import SAME, Points, squared_radii
from gaslayers.study.metrics.features import check_pair

_OWNER = "compare_manifolds"


@dataclass(frozen=True)
class Manifolds:
    """How generated and real samples lie among each other.

    Args:
        precision: Share of generated samples within the ball of some real one.
        recall: Share of real samples within the ball of some generated one.
        density: Real balls around a generated sample, over the number to expect, on average.
        coverage: Share of real samples with a generated one in their ball.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def compare_manifolds(generated: Any, real: Any, *, nearest_k: int = 5) -> Manifolds:
    """Compare two sets of features by balls that reach to the ``nearest_k``-th neighbour.

    Distances are computed in float64, some rows at a time, and never all at once.

    Args:
        generated: Features of generated images.
        real: Features of real images.
        nearest_k: Up to which neighbour within its own set a sample's ball reaches.

    Shape:
        - generated: (N, d), N > nearest_k.
        - real: (M, d), M > nearest_k.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A shape is another one, there are too few samples, or a feature is not finite.

    Note:
        Differs from the first paper: balls are open, as in the second paper's code, so that a
        sample on the edge is not within. Nothing differs from the second.

    Example:
        >>> features = torch.rand(100, 4, generator=torch.Generator().manual_seed(0))
        >>> compare_manifolds(features + 3.0, features)
        Manifolds(precision=0.0, recall=0.0, density=0.0, coverage=0.0)

    References:
        Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models",
        2019. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020.
    """
    check_int(_OWNER, "nearest_k", nearest_k)
    on_generated, on_real = check_pair(_OWNER, generated, real, least=nearest_k + 1)
    real_radii = squared_radii(on_real, nearest_k)
    generated_radii = squared_radii(on_generated, nearest_k)
    around = torch.zeros(len(on_generated), dtype=torch.int32)  # real balls around each sample
    recalled = covered = 0
    pairs = Points(on_real, on_generated)
    # A sample on the edge of a ball, as a copy of the neighbour that it reaches to, is not within
    # it, whatever rounding makes of the two distances.
    real_radii -= pairs.same + SAME * real_radii
    generated_radii -= pairs.other_same + SAME * generated_radii
    for rows, distances in pairs.rows():
        radii = real_radii[rows, None]
        recalled += int((distances < generated_radii).any(1).sum())
        covered += int((distances.amin(1, keepdim=True) < radii).sum())
        around += (distances < radii).sum(0, dtype=torch.int32)
    return Manifolds(
        precision=(around > 0).double().mean().item(),
        recall=recalled / len(on_real),
        density=around.double().mean().item() / nearest_k,
        coverage=covered / len(on_real),
    )
