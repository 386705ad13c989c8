"""DepthwiseConvNormAct against loops, and against GAS's (2018) separable layer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gaslayers import DepthwiseConvNormAct
from gaslayers.testing import block_arguments, feature_maps
from tests.blocks.catalogue import CATALOGUE, TOLERANCE
from tests.blocks.oracles import slow_batch_norm, slow_same_convolution

BARE = {
    name: st.none()
    for name in (
        "norm_layer",
        "activation_layer",
        "inner_norm_layer",
        "inner_activation_layer",
    )
}


@settings(max_examples=20)
@given(data=st.data())
def test_unit_equals_two_slow_loops(data) -> None:
    arguments = data.draw(block_arguments(DepthwiseConvNormAct, strategies=BARE))
    x = data.draw(
        feature_maps(arguments["in_channels"], max_side=5, max_batch_size=2, dtypes=[torch.float64])
    )
    unit = DepthwiseConvNormAct(**arguments).double()
    first, second = unit.depthwise.conv, unit.pointwise.conv
    between = slow_same_convolution(
        x,
        first.weight,
        first.bias,
        stride=arguments["stride"],
        dilation=arguments["dilation"],
        padding=arguments["padding"],
        groups=arguments["in_channels"],
    )
    expected = slow_same_convolution(between, second.weight, second.bias)
    torch.testing.assert_close(unit(x), expected, **TOLERANCE)


def test_gas2018_form_is_convolution_relu_norm_twice() -> None:
    unit = CATALOGUE["depthwise_gas2018"].factory(in_channels=3).double()
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    y = x
    for step in (unit.depthwise, unit.pointwise):
        nn.init.uniform_(step.norm.weight)
        nn.init.uniform_(step.norm.bias, -0.5, 0.5)
        y = slow_same_convolution(y, step.conv.weight, step.conv.bias, groups=step.groups)
        y = slow_batch_norm(y.relu(), step.norm.weight, step.norm.bias, step.norm.eps)
    assert unit.depthwise.groups == 3
    torch.testing.assert_close(unit(x), y, **TOLERANCE)


@pytest.mark.parametrize(
    ("argument", "value", "error", "rule"),
    [
        ("in_channels", 0, ValueError, r"must be >= 1, got 0"),
        ("out_channels", 0, ValueError, r"must be >= 1, got 0"),
        ("kernel_size", 0, ValueError, r"must be >= 1, got 0"),
        ("stride", 0, ValueError, r"must be >= 1, got 0"),
        ("dilation", 1.5, TypeError, r"must be an int, got 1\.5"),
        ("bias", "yes", TypeError, r"must be a bool or None, got 'yes'"),
        ("conv_layer", None, TypeError, r"must be a callable that builds a layer, got None"),
        ("norm_layer", 3, TypeError, r"must be a callable that builds a layer or None, got 3"),
        ("activation_layer", 3, TypeError, r"must be a callable that builds a layer or None"),
        ("inner_norm_layer", 3, TypeError, r"must be a callable that builds a layer or None"),
        ("inner_activation_layer", 3, TypeError, r"must be a callable that builds a layer or None"),
        ("order", "act", ValueError, r"must be one of 'norm_act', 'act_norm', got 'act'"),
    ],
)
def test_wrong_argument_is_refused(argument: str, value, error: type, rule: str) -> None:
    with pytest.raises(error, match=rf"DepthwiseConvNormAct: `{argument}` {rule}"):
        DepthwiseConvNormAct(**{"in_channels": 3, "out_channels": 4, argument: value})


def test_wrong_input_is_refused_in_the_own_name() -> None:
    message = r"DepthwiseConvNormAct: expected input of shape \(N, 3, H, W\), got \(2, 4, 5, 5\)\."
    with pytest.raises(ValueError, match=message):
        DepthwiseConvNormAct(3, 4)(torch.zeros(2, 4, 5, 5))
