"""The named ways to draw a network's weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gaslayers import DepthwiseConvNormAct
from gaslayers.models import LSGANGenerator, build_discriminator
from gaslayers.models.initialisation import gas2018_generator, he

# Of a normal cut at two standard deviations, in standard deviations.
TRUNCATED_STD = 0.8796


def weights_of(network: nn.Module, kind: type) -> dict[str, torch.Tensor]:
    return {name: m.weight for name, m in network.named_modules() if isinstance(m, kind)}


def is_truncated_normal(weight: torch.Tensor, std: float) -> bool:
    """Nothing beyond two standard deviations, and the spread within the error of its sample."""
    spread = weight.std().item() / (std * TRUNCATED_STD)
    return weight.abs().max() <= 2 * std and abs(spread - 1) < 4 / math.sqrt(weight.numel())


def xavier_bound(weight: torch.Tensor) -> float:
    area = weight[0, 0].numel() if weight.dim() == 4 else 1
    return math.sqrt(6 / ((weight.shape[0] + weight.shape[1]) * area))


def is_xavier_uniform(weight: torch.Tensor) -> bool:
    bound = xavier_bound(weight)
    spread = weight.std().item() / (bound / math.sqrt(3))
    return weight.abs().max() <= bound and abs(spread - 1) < 4 / math.sqrt(weight.numel())


def test_gas2018_discriminator_draws_each_kind_of_layer_by_its_rule() -> None:
    network = build_discriminator("depthwise_inception")
    separable = {
        f"{name}.{part}"
        for name, module in network.named_modules()
        if isinstance(module, DepthwiseConvNormAct)
        for part in ("depthwise.conv", "pointwise.conv")
    }
    convolutions = weights_of(network, nn.Conv2d)
    assert len(separable) == 8
    assert separable < convolutions.keys()
    for name, weight in convolutions.items():
        if name in separable:
            assert is_xavier_uniform(weight), name
        else:
            assert is_truncated_normal(weight, 0.02), name
    assert is_truncated_normal(network.classifier.weight, 0.1)


@pytest.mark.parametrize("variant", ["as_coded", "modern"])
@pytest.mark.parametrize("build", [build_discriminator, None])
def test_every_bias_of_a_convolution_and_linear_layer_starts_at_zero(build, variant) -> None:
    network = build("original", variant=variant) if build else LSGANGenerator(variant=variant)
    biases = [m.bias for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert biases
    assert all(bias is None or not bias.any() for bias in biases)


def test_gas2018_generator_draws_the_last_convolution_by_xavier() -> None:
    network = LSGANGenerator()
    gas2018_generator(network)
    assert is_truncated_normal(network.project.weight, 0.02)
    assert is_truncated_normal(network.conv_quarter.conv.weight, 0.02)
    assert is_truncated_normal(network.conv_half.conv.weight, 0.02)
    assert is_xavier_uniform(network.conv_full.conv.weight)
    assert not is_truncated_normal(network.conv_full.conv.weight, 0.02)


def test_he_keeps_the_second_moment_through_a_leaky_relu() -> None:
    network = nn.Sequential(nn.Conv2d(40, 60, 3), nn.Linear(30, 50))
    he(network)
    std = network[0].weight.std().item()
    assert std == pytest.approx(math.sqrt(2 / (1 + 0.2**2) / (40 * 9)), rel=0.03)
    assert is_xavier_uniform(network[1].weight)
    assert not network[0].bias.any()
