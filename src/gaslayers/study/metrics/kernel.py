"""The kernel distance between two sets of features."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torchmetrics.image.kid import KernelInceptionDistance

from gaslayers._checks import check_int
from gaslayers.study.metrics.features import check_pair
from gaslayers.study.metrics.frechet import Given

_OWNER = "kernel_distance"
_SUBSET_SIZE = 1000


def kernel_distance(generated: Any, real: Any, *, subsets: int = 50, seed: int = 0) -> float:
    """The squared maximum mean discrepancy of two sets of features under a cubic kernel (KID).

    By torchmetrics, in float64: the mean over random subsets of 1000 samples, or of all where there
    are fewer. It has no bias, so it is negative now and then where the two are alike.

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
    check_int(_OWNER, "subsets", subsets)
    check_int(_OWNER, "seed", seed, minimum=0)
    on_generated, on_real = check_pair(_OWNER, generated, real, least=2)
    size = min(_SUBSET_SIZE, len(on_generated), len(on_real))
    with warnings.catch_warnings():
        # It warns of the memory that it takes to store features, which are here anyway.
        warnings.simplefilter("ignore", UserWarning)
        metric = KernelInceptionDistance(
            feature=Given(on_real.shape[1]), subsets=subsets, subset_size=size
        )
    metric.update(on_real, real=True)
    metric.update(on_generated, real=False)
    with torch.random.fork_rng(devices=[]):  # it draws from PyTorch's global generator
        torch.manual_seed(seed)
        mean, _ = metric.compute()
    return mean.item()
