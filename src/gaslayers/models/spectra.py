"""Spectral norm of a whole discriminator, of depthwise convolutions kernel by kernel."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm


class _UnitKernels(nn.Module):
    """Divide each kernel of a depthwise convolution by its Euclidean norm.

    The convolution is a matrix of one row per channel, so that norm is the only singular value.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """(C, 1, k, k) -> the same shape."""
        return nn.functional.normalize(weight.flatten(1), dim=1).view_as(weight)


def normalise_spectra(network: nn.Module) -> None:
    """Divide the weight of every convolution and linear layer by its largest singular value.

    Each layer then changes distances by at most about a factor of 1, however large its weights
    grow. A depthwise weight divided by one number would keep its smaller kernels small, so each of
    its kernels is divided by its own.

    Note:
        Differs from the paper: it treats no depthwise convolutions.

    References:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks, arXiv:1802.05957.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels:
            parametrize.register_parametrization(module, "weight", _UnitKernels())
        elif isinstance(module, nn.Conv2d | nn.Linear):
            spectral_norm(module)
