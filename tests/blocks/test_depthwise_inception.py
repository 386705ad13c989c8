"""DepthwiseInceptionBlock against loops, and in the form of GAS (2018)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gaslayers import DepthwiseConvNormAct, DepthwiseInceptionBlock
from tests.blocks.catalogue import CATALOGUE, TOLERANCE
from tests.blocks.oracles import slow_batch_norm, slow_same_convolution


@pytest.mark.parametrize("bottleneck", [True, False])
def test_branches_equal_slow_loops(bottleneck: bool) -> None:
    block = DepthwiseInceptionBlock(3, 5, bottleneck=bottleneck).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    first, second = block.branches
    y = x
    if bottleneck:
        y = slow_same_convolution(x, second.reduce.conv.weight, second.reduce.conv.bias)
    for step in (second.conv.depthwise, second.conv.pointwise):
        y = slow_same_convolution(y, step.conv.weight, step.conv.bias, groups=step.groups)
    expected = [slow_same_convolution(x, first.conv.conv.weight, first.conv.conv.bias), y]
    torch.testing.assert_close(block(x), torch.cat(expected, dim=1), **TOLERANCE)


def test_gas2018_form_is_a_wide_separable_branch_with_relu_norm_twice() -> None:
    block = CATALOGUE["depthwise_inception_gas2018"].factory(in_channels=3).double()
    assert block.branch_widths == (1, 4)
    branch = block.branches[1]
    assert [type(layer).__name__ for layer in branch.children()] == [
        "ConvNormAct",
        "DepthwiseConvNormAct",
    ]
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    y = slow_same_convolution(x, branch.reduce.conv.weight, branch.reduce.conv.bias)
    assert y.shape[1] == 1  # the bottleneck is as wide as the 1x1 branch, a quarter of its own
    for step in (branch.conv.depthwise, branch.conv.pointwise):
        y = slow_same_convolution(y, step.conv.weight, step.conv.bias, groups=step.groups)
        y = slow_batch_norm(y.relu(), step.norm.weight, step.norm.bias, step.norm.eps)
    one = block.branches[0].conv.conv
    expected = torch.cat([slow_same_convolution(x, one.weight, one.bias), y], dim=1)
    torch.testing.assert_close(block(x), expected, **TOLERANCE)


def test_default_separable_unit_takes_the_blocks_own_options() -> None:
    block = DepthwiseInceptionBlock(
        3,
        4,
        stride=2,
        dilation=2,
        bias=True,
        norm_layer=nn.BatchNorm2d,
        activation_layer=nn.ReLU,
        inner_norm_layer=nn.InstanceNorm2d,
        inner_activation_layer=nn.SiLU,
    )
    unit = block.branches[1].conv
    assert unit.extra_repr() == (
        "2, 2, stride=2, dilation=2, bias=True, norm_layer=nn.BatchNorm2d, "
        "activation_layer=nn.ReLU, inner_norm_layer=nn.InstanceNorm2d, "
        "inner_activation_layer=nn.SiLU"
    )


def test_separable_factory_is_given_sizes_and_geometry() -> None:
    calls = []

    def factory(*args, **kwargs):
        calls.append((args, kwargs))
        return DepthwiseConvNormAct(*args, **kwargs)

    DepthwiseInceptionBlock(3, 6, kernel_sizes=(1, 3, 4), stride=2, separable_layer=factory)
    assert calls == [
        ((2, 2), {"kernel_size": 3, "stride": 2, "dilation": 1}),
        ((2, 2), {"kernel_size": 4, "stride": 2, "dilation": 1}),
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_channels": "3"}, TypeError, r"`in_channels` must be an int, got '3'"),
        ({"out_channels": 1}, ValueError, r"`out_channels` must give each of the 2 branches"),
        ({"kernel_sizes": "13"}, TypeError, r"`kernel_sizes` must be a sequence of ints, got '13'"),
        ({"bottleneck": 1}, TypeError, r"`bottleneck` must be a bool, got 1"),
        ({"branch_channels": (1, 1)}, ValueError, r"`branch_channels` must sum to out_channels"),
        ({"width_multiplier": 0}, ValueError, r"`width_multiplier` must be > 0\.0, got 0"),
        ({"width_multiplier": "4"}, TypeError, r"`width_multiplier` must be a number, got '4'"),
        ({"stride": 0}, ValueError, r"`stride` must be >= 1, got 0"),
        ({"dilation": 0}, ValueError, r"`dilation` must be >= 1, got 0"),
        ({"bias": 0}, TypeError, r"`bias` must be a bool or None, got 0"),
        ({"conv_layer": None}, TypeError, r"`conv_layer` must be a callable that builds a layer"),
        ({"norm_layer": 3}, TypeError, r"`norm_layer` must be a callable .* or None, got 3"),
        ({"activation_layer": 3}, TypeError, r"`activation_layer` must be a callable .* or None"),
        ({"inner_norm_layer": 3}, TypeError, r"`inner_norm_layer` must be a callable .* or None"),
        ({"inner_activation_layer": 3}, TypeError, r"`inner_activation_layer` must be a callable"),
        ({"separable_layer": nn.ReLU()}, TypeError, r"`separable_layer` must .*Pass the class"),
        (
            {"memory_efficient": 0},
            TypeError,
            r'`memory_efficient` must be a bool or "recompute", got 0',
        ),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="DepthwiseInceptionBlock: " + message):
        DepthwiseInceptionBlock(**{"in_channels": 3, "out_channels": 4, **arguments})


def test_wrong_input_is_refused() -> None:
    message = r"DepthwiseInceptionBlock: expected input of shape \(N, 3, H, W\), got \(3, 5, 5\)\."
    with pytest.raises(ValueError, match=message):
        DepthwiseInceptionBlock(3, 4)(torch.zeros(3, 5, 5))
