"""The kernel distance between two sets of features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gaslayers._checks import check_int
from gaslayers.study.metrics.features import check_pair

_OWNER = "kernel_distance"
_SUBSET_SIZE = 1000


def kernel_distance(generated: Any, real: Any, *, subsets: int = 50, seed: int = 0) -> float:
    """The squared maximum mean discrepancy of two sets of features under a cubic kernel (KID).

    By torchmetrics, in float64: the mean over random subsets of 1000 samples, or of all where there
    are fewer. It has no bias, so it is negative now and then where the two are alike. The features
    are not centred, for the kernel is another one then.

    Args:
        generated: Features of generated images.
        real: Features of real images.
        subsets: The number of subsets.
        seed: What the subsets are drawn from.

    Shape:
        - generated: (N, d), N >= 2.
        - real: (M, d), M >= 2.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A shape is another one, there are too few samples, or a feature is not finite.

    Note:
        Differs from the paper: the features are not Inception's.

    Example:
        >>> features = torch.rand(100, 4, generator=torch.Generator().manual_seed(0))
        >>> kernel_distance(features + 3.0, features) > 1.0
        True

    References:
        Binkowski et al., "Demystifying MMD GANs", 2018, section 4.
    """
    # Here, for it loads much that reading a record does not need.
    from torchmetrics.image.kid import poly_mmd

    check_int(_OWNER, "subsets", subsets)
    check_int(_OWNER, "seed", seed, minimum=0)
    on_generated, on_real = check_pair(_OWNER, generated, real, least=2)
    size = min(_SUBSET_SIZE, len(on_generated), len(on_real))
    draw = torch.Generator().manual_seed(seed)  # and no global one

    def subset(features: Tensor) -> Tensor:
        rows = torch.randperm(len(features), generator=draw, device="cpu")[:size]
        return features[rows]

    # Not by torchmetrics' class, which gathers the features of all processes of a distributed run.
    values = [poly_mmd(subset(on_real), subset(on_generated)) for _ in range(subsets)]
    return torch.stack(values).mean().item()
