"""Named ways to draw the weights of a whole network."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from gaslayers.blocks import DepthwiseConvNormAct


def _truncated_normal(layer: nn.Conv2d | nn.Linear, std: float) -> None:
    """TensorFlow's truncated normal: cut at two standard deviations, and offset 0."""
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _xavier(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def gas2018_discriminator(network: nn.Module) -> None:
    """Convolutions from a truncated normal of std 0.02, separable ones Xavier, linear std 0.1.

    Without a live norm the signal of a discriminator drawn like this shrinks with its width: the
    spread of the logits starts at 4e-4 for 32 filters and at 1e-5 for 8.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            _truncated_normal(module, std=0.02)
        elif isinstance(module, nn.Linear):
            _truncated_normal(module, std=0.1)
    for module in network.modules():
        if isinstance(module, DepthwiseConvNormAct):
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d):
                    _xavier(layer)


def gas2018_generator(network: nn.Module) -> None:
    """Everything from a truncated normal of std 0.02, but the last convolution Xavier."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _truncated_normal(module, std=0.02)
    _xavier(convolutions[-1])


def he(network: nn.Module) -> None:
    """Convolutions from He's normal for a leaky ReLU of slope 0.2, linear layers Xavier.

    References:
        He et al., Delving Deep into Rectifiers, arXiv:1502.01852, equation 14.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.2)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            _xavier(module)


SCHEMES: dict[str, Callable[[nn.Module], None]] = {
    "gas2018": gas2018_discriminator,
    "he": he,
}
"""The discriminators' schemes by the name that a switch gives them."""
