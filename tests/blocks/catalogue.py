"""One of each block, in the forms that differ, for the tests that hold for all of them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from torch import nn

from gaslayers import (
    ConvNormAct,
    DenseBlock,
    DepthwiseConvNormAct,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
    TransitionBlock,
)

# Oracles are compared in float64, where another order of summation moves the last digits alone.
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}

NORM = nn.BatchNorm2d
LEAKY = partial(nn.LeakyReLU, 0.2)


class Entry(NamedTuple):
    factory: partial[nn.Module]  # without `in_channels`, so that a block can follow any other
    state: str  # the names of its state dict


CONV = "weight bias"
BATCH_NORM = "weight bias running_mean running_var num_batches_tracked"


def keys(**parts: str) -> str:
    """``keys(a__b="weight")`` -> ``"a.b.weight"``, for every name of every part, in order."""
    return " ".join(
        f"{module.replace('__', '.')}.{name}"
        for module, names in parts.items()
        for name in names.split()
    )


CATALOGUE = {
    "conv": Entry(
        partial(ConvNormAct, out_channels=4),
        "conv.weight conv.bias",
    ),
    "conv_even_strided_norm_act": Entry(
        partial(
            ConvNormAct,
            out_channels=4,
            kernel_size=4,
            stride=2,
            dilation=2,
            norm_layer=NORM,
            activation_layer=LEAKY,
        ),
        keys(conv="weight", norm=BATCH_NORM),
    ),
    "conv_act_norm": Entry(
        partial(
            ConvNormAct,
            out_channels=4,
            kernel_size=1,
            norm_layer=partial(nn.GroupNorm, 2),
            activation_layer=nn.ReLU,
            order="act_norm",
        ),
        keys(conv=CONV, norm="weight bias"),
    ),
    "depthwise": Entry(
        partial(DepthwiseConvNormAct, out_channels=4, stride=2),
        keys(depthwise__conv=CONV, pointwise__conv=CONV),
    ),
    "depthwise_gas2018": Entry(
        partial(
            DepthwiseConvNormAct,
            out_channels=4,
            norm_layer=NORM,
            activation_layer=nn.ReLU,
            inner_norm_layer=NORM,
            inner_activation_layer=nn.ReLU,
            order="act_norm",
        ),
        keys(
            depthwise__conv=CONV,
            depthwise__norm=BATCH_NORM,
            pointwise__conv=CONV,
            pointwise__norm=BATCH_NORM,
        ),
    ),
    "inception": Entry(
        partial(InceptionBlock, out_channels=5),
        keys(
            branches__0__conv__conv=CONV,
            branches__1__reduce__conv=CONV,
            branches__1__conv__conv=CONV,
        ),
    ),
    "inception_parallel": Entry(
        partial(InceptionBlock, out_channels=5, bottleneck=False),
        keys(branches__0__conv__conv=CONV, branches__1__conv__conv=CONV),
    ),
    "inception_norm_act": Entry(
        partial(
            InceptionBlock,
            out_channels=6,
            kernel_sizes=(1, 2, 5),
            branch_channels=(1, 2, 3),
            bottleneck_channels=(1, 1, 2),
            stride=2,
            norm_layer=NORM,
            activation_layer=nn.ReLU,
        ),
        keys(
            branches__0__conv__conv="weight",
            branches__0__conv__norm=BATCH_NORM,
            branches__1__reduce__conv="weight",
            branches__1__reduce__norm=BATCH_NORM,
            branches__1__conv__conv="weight",
            branches__1__conv__norm=BATCH_NORM,
            branches__2__reduce__conv="weight",
            branches__2__reduce__norm=BATCH_NORM,
            branches__2__conv__conv="weight",
            branches__2__conv__norm=BATCH_NORM,
        ),
    ),
    "depthwise_inception": Entry(
        partial(DepthwiseInceptionBlock, out_channels=5, inner_activation_layer=nn.ReLU),
        keys(
            branches__0__conv__conv=CONV,
            branches__1__reduce__conv=CONV,
            branches__1__conv__depthwise__conv=CONV,
            branches__1__conv__pointwise__conv=CONV,
        ),
    ),
    "depthwise_inception_gas2018": Entry(
        partial(
            DepthwiseInceptionBlock,
            out_channels=5,
            width_multiplier=4.0,
            separable_layer=partial(
                DepthwiseConvNormAct,
                norm_layer=NORM,
                activation_layer=nn.ReLU,
                inner_norm_layer=NORM,
                inner_activation_layer=nn.ReLU,
                order="act_norm",
            ),
        ),
        keys(
            branches__0__conv__conv=CONV,
            branches__1__reduce__conv=CONV,
            branches__1__conv__depthwise__conv=CONV,
            branches__1__conv__depthwise__norm=BATCH_NORM,
            branches__1__conv__pointwise__conv=CONV,
            branches__1__conv__pointwise__norm=BATCH_NORM,
        ),
    ),
    "dense": Entry(
        partial(DenseBlock, growth_rate=2, num_layers=2),
        keys(
            layers__0__norm=BATCH_NORM,
            layers__0__conv="weight",
            layers__1__norm=BATCH_NORM,
            layers__1__conv="weight",
        ),
    ),
    "dense_plain": Entry(
        partial(DenseBlock, growth_rate=2, num_layers=2, norm_layer=None, activation_layer=None),
        keys(layers__0__conv=CONV, layers__1__conv=CONV),
    ),
    "dense_bottleneck_dropout": Entry(
        partial(DenseBlock, growth_rate=2, num_layers=1, bottleneck_factor=2, drop_rate=0.25),
        keys(
            layers__0__norm=BATCH_NORM,
            layers__0__conv__reduce="weight",
            layers__0__conv__norm=BATCH_NORM,
            layers__0__conv__conv="weight",
        ),
    ),
    "dense_inception": Entry(
        partial(DenseBlock, growth_rate=2, num_layers=1, layer=InceptionBlock),
        keys(
            layers__0__norm=BATCH_NORM,
            layers__0__conv__branches__0__conv__conv=CONV,
            layers__0__conv__branches__1__reduce__conv=CONV,
            layers__0__conv__branches__1__conv__conv=CONV,
        ),
    ),
    "dense_depthwise_inception": Entry(
        partial(DenseBlock, growth_rate=2, num_layers=1, layer=DepthwiseInceptionBlock),
        keys(
            layers__0__norm=BATCH_NORM,
            layers__0__conv__branches__0__conv__conv=CONV,
            layers__0__conv__branches__1__reduce__conv=CONV,
            layers__0__conv__branches__1__conv__depthwise__conv=CONV,
            layers__0__conv__branches__1__conv__pointwise__conv=CONV,
        ),
    ),
    "transition": Entry(
        partial(TransitionBlock),
        keys(norm=BATCH_NORM, conv="weight"),
    ),
    "transition_inception": Entry(
        partial(
            TransitionBlock,
            out_channels=4,
            pool_layer=None,
            layer=InceptionBlock,
            norm_layer=None,
            activation_layer=LEAKY,
        ),
        keys(
            conv__branches__0__conv__conv=CONV,
            conv__branches__1__reduce__conv=CONV,
            conv__branches__1__conv__conv=CONV,
        ),
    ),
    "down": Entry(
        partial(DownBlock, out_channels=4),
        keys(body__conv=CONV, norm=BATCH_NORM),
    ),
    "down_gas2018": Entry(
        partial(
            DownBlock,
            out_channels=4,
            block=partial(InceptionBlock, bottleneck=False),
            norm_layer=None,
            pool_layer=partial(nn.MaxPool2d, ceil_mode=True),
        ),
        keys(body__branches__0__conv__conv=CONV, body__branches__1__conv__conv=CONV),
    ),
    "down_plain": Entry(
        partial(
            DownBlock,
            out_channels=4,
            norm_layer=None,
            activation_layer=None,
            pool_layer=nn.AvgPool2d,
            memory_efficient=False,
        ),
        keys(body__conv=CONV),
    ),
}
"""By name: a factory that waits for ``in_channels``, and the state dict's names.

The names are public: a checkpoint of an older version must load.
"""
