"""Blocks in the configurations whose lean paths differ, and networks built from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gaslayers import (
    ConvNormAct,
    DenseBlock,
    DepthwiseConvNormAct,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
    TransitionBlock,
)
from gaslayers.models import CASES, build_discriminator
from gaslayers.models.norms import FrozenNorm2d, OffsetBatchNorm2d
from gaslayers.models.switches import VARIANTS

NORM = nn.BatchNorm2d
LEAKY = partial(nn.LeakyReLU, 0.2)
IN_PLACE = partial(nn.ReLU, inplace=True)
SAME_POOL = partial(nn.MaxPool2d, ceil_mode=True)
BARE = partial(InceptionBlock, bottleneck=False)
SEPARABLE = partial(
    DepthwiseConvNormAct,
    bias=True,
    norm_layer=OffsetBatchNorm2d,
    activation_layer=nn.ReLU,
    inner_norm_layer=OffsetBatchNorm2d,
    inner_activation_layer=nn.ReLU,
    order="act_norm",
)
GAS2018 = partial(DepthwiseInceptionBlock, separable_layer=SEPARABLE)


class Subject(NamedTuple):
    """A block to draw: how it is built from its channels, and what its path promises."""

    build: Callable[..., nn.Module]
    """Takes ``in_channels`` and ``memory_efficient``."""
    exact: bool = True
    """Whether lean equals plain to the bit, as documented, where all is in one memory format."""
    min_side: int = 1
    image_size: int | None = None
    """Of a network that takes one size alone."""


def _conv(*, exact: bool = True, **options: Any) -> Subject:
    def build(in_channels: int, *, memory_efficient: Any) -> nn.Module:
        own = {"out_channels": 6, **options, "memory_efficient": bool(memory_efficient)}
        return ConvNormAct(in_channels, **own)

    return Subject(build, exact)


def _depthwise(**options: Any) -> Subject:
    return Subject(partial(DepthwiseConvNormAct, out_channels=6, **options), exact=False)


def _inception(block: Callable[..., nn.Module] = InceptionBlock, **options: Any) -> Subject:
    return Subject(partial(block, **{"out_channels": 6, **options}), exact=False)


def _dense(growth_rate: int = 4, *, exact: bool = True, **options: Any) -> Subject:
    return Subject(partial(DenseBlock, growth_rate=growth_rate, num_layers=2, **options), exact)


def _transition(*, exact: bool = True, min_side: int = 2, **options: Any) -> Subject:
    return Subject(partial(TransitionBlock, out_channels=4, **options), exact, min_side)


def _down(*, exact: bool = True, min_side: int = 2, **options: Any) -> Subject:
    return Subject(partial(DownBlock, out_channels=8, **options), exact, min_side)


SUBJECTS: dict[str, Subject] = {
    "conv": _conv(),
    # Zeros that are not read are not put there, and PyTorch adds smaller maps in another order.
    "conv even": _conv(
        kernel_size=4, stride=2, norm_layer=NORM, activation_layer=LEAKY, exact=False
    ),
    "conv even dilated": _conv(kernel_size=2, dilation=3),
    "conv act norm": _conv(
        kernel_size=1, norm_layer=NORM, activation_layer=nn.ReLU, order="act_norm"
    ),
    "depthwise": _depthwise(),
    "depthwise strided": _depthwise(kernel_size=4, stride=2, inner_activation_layer=nn.ReLU),
    "depthwise norms": _depthwise(
        norm_layer=NORM, inner_norm_layer=NORM, activation_layer=LEAKY, inner_activation_layer=LEAKY
    ),
    "depthwise act norm": Subject(partial(SEPARABLE, out_channels=6), exact=False),
    "inception": _inception(),
    "inception parallel": _inception(BARE),
    "inception uneven": _inception(
        kernel_sizes=(1, 2, 5), branch_channels=(1, 2, 3), bottleneck_channels=(1, 1, 2), stride=2
    ),
    "inception dilated": _inception(BARE, kernel_sizes=(3, 1), dilation=2, bias=False),
    "inception norm": _inception(norm_layer=NORM, activation_layer=nn.ReLU),
    "inception one branch": _inception(kernel_sizes=(3,)),
    "depthwise inception": _inception(DepthwiseInceptionBlock),
    "depthwise inception act": _inception(DepthwiseInceptionBlock, inner_activation_layer=LEAKY),
    "depthwise inception norms": _inception(
        DepthwiseInceptionBlock, norm_layer=NORM, inner_norm_layer=NORM, activation_layer=nn.ReLU
    ),
    "depthwise inception 2018": _inception(GAS2018, out_channels=10, width_multiplier=4.0),
    "depthwise inception strided": _inception(
        DepthwiseInceptionBlock, stride=2, bottleneck=False, inner_activation_layer=nn.ReLU
    ),
    "dense": _dense(),
    "dense wide": _dense(8, activation_layer=LEAKY),
    "dense single": _dense(1, exact=False),  # one channel is contiguous in both formats
    "dense without norm": _dense(norm_layer=None),
    "dense linear": _dense(norm_layer=None, activation_layer=None),
    "dense constant norm": _dense(norm_layer=FrozenNorm2d),
    "dense offset norm": _dense(norm_layer=OffsetBatchNorm2d),
    "dense cumulative": _dense(norm_layer=partial(NORM, momentum=None, eps=0.1)),
    "dense without statistics": _dense(
        norm_layer=partial(NORM, affine=False, track_running_stats=False)
    ),
    "dense in place": _dense(activation_layer=IN_PLACE),
    "dense bottleneck": _dense(bottleneck_factor=2),
    "dense 1x1": _dense(layer=partial(nn.Conv2d, kernel_size=1)),
    "dense even": _dense(layer=partial(ConvNormAct, kernel_size=2)),
    "dense inception": _dense(layer=InceptionBlock, exact=False),
    "dense inception parallel": _dense(layer=BARE, exact=False),
    "dense inception norm": _dense(
        layer=partial(InceptionBlock, norm_layer=NORM, activation_layer=nn.ReLU), exact=False
    ),
    "dense depthwise inception": _dense(layer=DepthwiseInceptionBlock, exact=False),
    "dense 2018": _dense(layer=GAS2018, exact=False),
    "transition": _transition(),
    "transition max": _transition(pool_layer=nn.MaxPool2d, activation_layer=LEAKY),
    "transition ceil": _transition(pool_layer=partial(nn.AvgPool2d, ceil_mode=True), min_side=1),
    "transition overlapping": _transition(pool_layer=partial(nn.AvgPool2d, stride=1)),
    "transition alone": _transition(pool_layer=None, norm_layer=None, min_side=1),
    "transition 3x3": _transition(layer=partial(nn.Conv2d, kernel_size=3, padding=1)),
    "transition inception": _transition(layer=InceptionBlock, exact=False),
    "transition 2018": _transition(layer=GAS2018, exact=False),
    "down": _down(),
    "down ceil": _down(pool_layer=SAME_POOL, min_side=1),
    "down leaky": _down(activation_layer=LEAKY, pool_layer=SAME_POOL, min_side=1),
    "down linear": _down(norm_layer=None, activation_layer=None),
    "down without norm": _down(norm_layer=None, pool_layer=SAME_POOL, min_side=1),
    "down average": _down(pool_layer=nn.AvgPool2d),
    "down average strided": _down(pool_layer=partial(nn.AvgPool2d, stride=1)),
    "down 3x3 pool": _down(pool_layer=lambda _: nn.MaxPool2d(3, ceil_mode=True), min_side=1),
    "down strided 3x3 pool": _down(
        pool_layer=lambda _: nn.MaxPool2d(3, stride=2, padding=1), min_side=1
    ),
    "down strided 2x2 pool": _down(pool_layer=partial(nn.MaxPool2d, stride=1)),
    "down offset norm": _down(norm_layer=OffsetBatchNorm2d),
    "down cumulative": _down(norm_layer=partial(NORM, momentum=None, eps=0.1)),
    "down instance norm": _down(norm_layer=nn.InstanceNorm2d, min_side=4),
    "down silu": _down(activation_layer=nn.SiLU),
    "down strided conv": _down(
        block=partial(ConvNormAct, kernel_size=4, stride=2), exact=False, min_side=4
    ),
    "down without pool": _down(pool_layer=None, min_side=1),
    "down inception": _down(block=InceptionBlock, exact=False),
    "down inception parallel": _down(block=BARE, pool_layer=SAME_POOL, exact=False, min_side=1),
    "down depthwise inception": _down(block=DepthwiseInceptionBlock, exact=False),
    "down 2018": _down(block=GAS2018, norm_layer=FrozenNorm2d, exact=False),
    "down dense": _down(block=lambda c, _: DenseBlock(c, 8 - c, num_layers=1), exact=False),
}
"""By name. The sizes are small, and still what vectors of the kernels fill and do not fill."""

NETWORKS: dict[str, Subject] = {
    f"{case}, {variant}": Subject(
        lambda in_channels, *, memory_efficient, case=case, variant=variant: build_discriminator(
            case,
            variant=variant,
            base_filters=4,
            in_channels=in_channels,
            image_size=16,
            memory_efficient=memory_efficient,
        ),
        exact=False,
        min_side=16,
        image_size=16,
    )
    for case in CASES
    for variant in VARIANTS
}
"""The six discriminators in their variants, narrow and for small images."""


def build(subject: Subject, in_channels: int, memory_efficient: Any) -> nn.Module:
    """A block of numbers that hide no fault: no weight is 1, no offset and no mean is 0."""
    block = subject.build(in_channels=in_channels, memory_efficient=memory_efficient)
    generator = torch.Generator().manual_seed(0)

    def draw(value: Tensor, low: float, high: float) -> None:
        value.data.copy_(torch.rand(value.shape, generator=generator) * (high - low) + low)

    for name, value in block.state_dict(keep_vars=True).items():
        if name.endswith("running_var") or (name.endswith("weight") and value.dim() == 1):
            draw(value, 0.5, 1.5)
        elif value.is_floating_point() and value.dim() == 1:
            draw(value, -0.5, 0.5)
        elif value.is_floating_point():
            bound = (3 / value[0].numel()) ** 0.5  # keeps a map's size from layer to layer
            draw(value, -bound, bound)
    return block
