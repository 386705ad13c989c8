"""What a layer costs by formula, and a refusal for the layers that no formula covers.

A closed form counts the multiply-adds of convolutions for one sample, and trainable parameters.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from gaslayers._checks import bad_value, check_int

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm)
_REMEDY = "No closed form covers it: use gaslayers.count."


def output_size(owner: str, height: int, width: int, stride: int = 1) -> int:
    """Pixels of an output of the input's size, divided by the stride and rounded up."""
    check_int(owner, "height", height)
    check_int(owner, "width", width)
    return -(-height // stride) * -(-width // stride)


def is_plain(conv: Any) -> bool:
    """Whether it is the convolution that formulas speak of: no parametrization, no hook."""
    return (
        type(conv) is nn.Conv2d
        and conv._parameters.keys() == {"weight", "bias"}
        and not conv._forward_pre_hooks
    )


def check_convolution(owner: str, conv: nn.Module, **asked: int | tuple[int, int]) -> None:
    """Raise unless the factory built the plain convolution that it was asked for.

    Args:
        owner: The block's class.
        conv: What the factory built.
        asked: The convolution's own arguments, one number for both sides or a pair.
    """
    built = is_plain(conv) and all(
        getattr(conv, name) in (value, (value, value)) for name, value in asked.items()
    )
    if not built:
        options = ", ".join(f"{name}={value}" for name, value in asked.items())
        rule = f"build a plain nn.Conv2d({options})"
        raise bad_value(owner, "conv_layer", rule, type(conv).__name__, _REMEDY)


def layer_macs(owner: str, argument: str, layer: Any, height: int, width: int) -> int:
    """Multiply-adds of one sample through a layer with a closed form, or a plain convolution."""
    if hasattr(layer, "expected_macs"):
        return layer.expected_macs(height, width)
    if not is_plain(layer) or isinstance(layer.padding, str):
        rule = "build a layer with `expected_macs` or a plain nn.Conv2d"
        raise bad_value(owner, argument, rule, type(layer).__name__, _REMEDY)
    pixels = 1
    for i, size in enumerate((height, width)):
        reach = layer.dilation[i] * (layer.kernel_size[i] - 1)
        pixels *= (size + 2 * layer.padding[i] - reach - 1) // layer.stride[i] + 1
    return pixels * layer.weight.numel()


def layer_params(owner: str, argument: str, layer: Any) -> int:
    """Trainable parameters of a layer with a closed form, a convolution, norm or activation."""
    if hasattr(layer, "expected_params"):
        return layer.expected_params()
    if is_plain(layer):
        area = layer.kernel_size[0] * layer.kernel_size[1]
        weights = layer.out_channels * layer.in_channels // layer.groups * area
        return weights + (0 if layer.bias is None else layer.out_channels)
    if isinstance(layer, _NORMS):
        channels = layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.num_features
        return channels * sum(isinstance(p, nn.Parameter) for p in (layer.weight, layer.bias))
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters
    if next(layer.parameters(), None) is not None:
        rule = "build a layer of known parameters"
        raise bad_value(owner, argument, rule, type(layer).__name__, _REMEDY)
    return 0
