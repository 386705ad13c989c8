"""The Frechet distance between two sets of features."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gaslayers.study.metrics.features import check_pair

_OWNER = "frechet_distance"


class Given(nn.Module):
    """Stand in for the network of torchmetrics: the features are there already.

    Args:
        num_features: Their number.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """(N, d) -> (N, d)."""
        return features


def frechet_distance(generated: Any, real: Any) -> float:
    """The squared Frechet distance of two normal distributions, fitted to two sets of features.

    By torchmetrics, in float64. It needs neither torch-fidelity nor a download, for it is given
    features in place of images.

    Args:
        generated: Features of generated images.
        real: Features of real images.

    Shape:
        - generated: (N, d), N > d: with fewer samples a covariance has no full rank.
        - real: (M, d), M > d.

    Raises:
        TypeError: An argument is no floating-point tensor.
        ValueError: A shape is another one, there are too few samples, or a feature is not finite.

    Note:
        Differs from the paper: the features are not Inception's. Values on different features
        cannot be compared. The estimate is biased upwards, the less the more samples there are, so
        that only values at one number of samples can be compared.

    Example:
        >>> import torch
        >>> features = torch.rand(100, 4, generator=torch.Generator().manual_seed(0))
        >>> round(frechet_distance(features + 3.0, features), 6)
        36.0

    References:
        Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
        Equilibrium", 2017, equation 6.
    """
    # Here, for it loads much that reading a record does not need.
    from torchmetrics.image.fid import FrechetInceptionDistance

    on_generated, on_real = check_pair(_OWNER, generated, real)
    # A distributed run would gather the features of all processes, or wait for those for ever.
    metric = FrechetInceptionDistance(feature=Given(on_real.shape[1]), sync_on_compute=False)
    metric.set_dtype(on_real.dtype)
    # It takes products of means from sums of products, which far from 0 leaves rounding alone.
    centre = on_real.mean(0)
    metric.update(on_real - centre, real=True)
    metric.update(on_generated - centre, real=False)
    # Rounding may leave a little less than zero.
    return max(0.0, metric.compute().item())
