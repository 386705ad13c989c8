"""What each block costs, in closed form: trainable parameters, multiply-adds of one image."""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class Cost(NamedTuple):
    parameters: int
    macs: int

    def __add__(self, other: tuple) -> Cost:
        return Cost(self.parameters + other[0], self.macs + other[1])


NOTHING = Cost(0, 0)


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    pixels: int,
    bias: bool,
    groups: int = 1,
) -> Cost:
    weights = out_channels * (in_channels // groups) * kernel_size**2
    return Cost(weights + (out_channels if bias else 0), weights * pixels)


def norm(layer: Any, channels: int) -> Cost:
    """A weight and an offset a channel; no multiply-adds are counted for norms."""
    return NOTHING if layer is None else Cost(2 * channels, 0)


def halved(height: int, width: int, stride: int) -> int:
    return -(-height // stride) * -(-width // stride)


def unit(
    arguments: dict,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    pixels: int,
    groups: int = 1,
    prefix: str = "",
) -> Cost:
    """Convolution, norm and activation; the bias is there unless a norm follows directly."""
    norm_layer = arguments.get(f"{prefix}norm_layer")
    activation_layer = arguments.get(f"{prefix}activation_layer")
    acts_first = arguments.get("order") == "act_norm" and activation_layer is not None
    bias = arguments.get("bias")
    if bias is None:
        bias = norm_layer is None or acts_first
    return convolution(
        in_channels, out_channels, kernel_size, pixels=pixels, bias=bias, groups=groups
    ) + norm(norm_layer, out_channels)


def unit_sides(a: dict, height: int, width: int) -> tuple[int, int]:
    """How often a dilated kernel, moved by the stride, fits a map padded at both ends."""
    stride, reach = a["stride"], a["dilation"] * (a["kernel_size"] - 1)
    padding = a["padding"]
    if padding is None:
        return -(-height // stride), -(-width // stride)
    rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
    starts = (height + 2 * rows - reach, width + 2 * columns - reach)
    return len(range(0, starts[0], stride)), len(range(0, starts[1], stride))


def conv_norm_act(a: dict, height: int, width: int) -> Cost:
    pixels = math.prod(unit_sides(a, height, width))
    size = a["kernel_size"]
    return unit(a, a["in_channels"], a["out_channels"], size, pixels=pixels, groups=a["groups"])


def separable(
    a: dict, in_channels: int, out_channels: int, kernel_size: int, *, pixels: int
) -> Cost:
    depthwise = unit(
        a, in_channels, in_channels, kernel_size, pixels=pixels, groups=in_channels, prefix="inner_"
    )
    return depthwise + unit(a, in_channels, out_channels, 1, pixels=pixels)


def depthwise_conv_norm_act(a: dict, height: int, width: int) -> Cost:
    pixels = math.prod(unit_sides(a, height, width))
    return separable(a, a["in_channels"], a["out_channels"], a["kernel_size"], pixels=pixels)


def even_split(total: int, weights: list[float]) -> list[int]:
    """Shares in proportion, rounded down; what is left over goes to the first branches."""
    shares = [int(total * weight / sum(weights) + 1e-9) for weight in weights]
    return [share + (i < total - sum(shares)) for i, share in enumerate(shares)]


def inception(a: dict, height: int, width: int) -> Cost:
    sizes = a["kernel_sizes"]
    widths = a["branch_channels"] or even_split(a["out_channels"], [1] * len(sizes))
    inner_widths = a["bottleneck_channels"] or widths
    after = halved(height, width, a["stride"])
    cost = NOTHING
    for size, branch, inner in zip(sizes, widths, inner_widths, strict=True):
        channels = a["in_channels"]
        if a["bottleneck"] and size > 1:
            cost += unit(a, channels, inner, 1, pixels=height * width)
            channels = inner
        cost += unit(a, channels, branch, size, pixels=after)
    return cost


def depthwise_inception(a: dict, height: int, width: int) -> Cost:
    sizes, multiplier = a["kernel_sizes"], a["width_multiplier"]
    weights = [1 if size == 1 else multiplier for size in sizes]
    widths = a["branch_channels"] or even_split(a["out_channels"], weights)
    after = halved(height, width, a["stride"])
    cost = NOTHING
    for size, branch in zip(sizes, widths, strict=True):
        channels = a["in_channels"]
        if size == 1:
            cost += unit(a, channels, branch, 1, pixels=after)
            continue
        if a["bottleneck"]:
            inner = max(1, round(branch / multiplier))
            cost += unit(a, channels, inner, 1, pixels=height * width)
            channels = inner
        cost += separable(a, channels, branch, size, pixels=after)
    return cost


def dense(a: dict, height: int, width: int) -> Cost:
    growth, factor, pixels = a["growth_rate"], a["bottleneck_factor"], height * width
    bias = a["norm_layer"] is None
    cost = NOTHING
    for i in range(a["num_layers"]):
        channels = a["in_channels"] + i * growth
        cost += norm(a["norm_layer"], channels)
        if factor is not None:
            inner = factor * growth
            cost += convolution(channels, inner, 1, pixels=pixels, bias=bias)
            cost += norm(a["norm_layer"], inner)
            channels = inner
        cost += convolution(channels, growth, 3, pixels=pixels, bias=bias)
    return cost


def transition(a: dict, height: int, width: int) -> Cost:
    bias = a["norm_layer"] is None
    sizes = (a["in_channels"], a["out_channels"])
    before = norm(a["norm_layer"], a["in_channels"])
    return before + convolution(*sizes, 1, pixels=height * width, bias=bias)


def down(a: dict, height: int, width: int) -> Cost:
    sizes = (a["in_channels"], a["out_channels"])
    body = convolution(*sizes, 3, pixels=height * width, bias=True)
    return body + norm(a["norm_layer"], a["out_channels"])


COSTS = {
    "ConvNormAct": conv_norm_act,
    "DepthwiseConvNormAct": depthwise_conv_norm_act,
    "InceptionBlock": inception,
    "DepthwiseInceptionBlock": depthwise_inception,
    "DenseBlock": dense,
    "TransitionBlock": transition,
    "DownBlock": down,
}
