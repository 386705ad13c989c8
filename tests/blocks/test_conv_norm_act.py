"""ConvNormAct against a convolution written as loops."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gaslayers import ConvNormAct
from gaslayers.testing import block_arguments, feature_maps
from tests.blocks.catalogue import TOLERANCE
from tests.blocks.oracles import slow_batch_norm, slow_same_convolution

BARE = {"norm_layer": st.none(), "activation_layer": st.none(), "out_channels": st.integers(1, 4)}


@settings(max_examples=40)
@given(data=st.data())
def test_convolution_equals_slow_loop(data) -> None:
    arguments = data.draw(block_arguments(ConvNormAct, strategies=BARE))
    x = data.draw(
        feature_maps(arguments["in_channels"], max_side=5, max_batch_size=2, dtypes=[torch.float64])
    )
    unit = ConvNormAct(**arguments).double()
    geometry = {name: arguments[name] for name in ("stride", "dilation", "groups", "padding")}
    expected = slow_same_convolution(x, unit.conv.weight, unit.conv.bias, **geometry)
    torch.testing.assert_close(unit(x), expected, **TOLERANCE)


@settings(max_examples=40)
@given(data=st.data())
def test_convolution_with_any_padding_equals_slow_loop(data) -> None:
    kernel_size, dilation = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 2))
    reach = dilation * (kernel_size - 1)
    padding = data.draw(st.tuples(st.integers(0, reach), st.integers(0, reach)))
    sides = [data.draw(st.integers(max(1, reach + 1 - 2 * each), 8)) for each in padding]
    stride = data.draw(st.integers(1, 3))
    geometry = {"stride": stride, "dilation": dilation, "padding": padding}
    unit = ConvNormAct(2, 3, kernel_size=kernel_size, **geometry).double()
    x = torch.randn(2, 2, *sides, dtype=torch.float64)
    expected = slow_same_convolution(x, unit.conv.weight, unit.conv.bias, **geometry)
    torch.testing.assert_close(unit(x), expected, **TOLERANCE)
    assert unit.output_sides(*sides) == expected.shape[2:]
    assert unit.expected_macs(*sides) == expected[0, 0].numel() * unit.conv.weight.numel()


@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
def test_norm_and_activation_come_in_the_given_order(order: str) -> None:
    unit = ConvNormAct(
        2, 3, bias=True, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU, order=order
    ).double()
    nn.init.uniform_(unit.norm.weight)
    nn.init.uniform_(unit.norm.bias, -0.5, 0.5)
    x = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    y = slow_same_convolution(x, unit.conv.weight, unit.conv.bias)
    norm = partial(slow_batch_norm, weight=unit.norm.weight, bias=unit.norm.bias, eps=unit.norm.eps)
    expected = norm(y).relu() if order == "norm_act" else norm(y.relu())
    torch.testing.assert_close(unit(x), expected, **TOLERANCE)


@pytest.mark.parametrize(
    ("options", "has_bias"),
    [
        ({}, True),
        ({"activation_layer": nn.ReLU}, True),
        ({"norm_layer": nn.BatchNorm2d}, False),
        ({"norm_layer": nn.BatchNorm2d, "order": "act_norm"}, False),
        (
            {"norm_layer": nn.BatchNorm2d, "activation_layer": nn.ReLU, "order": "act_norm"},
            True,
        ),
        ({"norm_layer": nn.BatchNorm2d, "bias": True}, True),
        ({"bias": False}, False),
    ],
)
def test_bias_is_left_out_where_a_norm_follows_directly(options: dict, has_bias: bool) -> None:
    assert (ConvNormAct(2, 3, **options).conv.bias is not None) == has_bias


def test_factories_are_called_once_a_layer_with_the_sizes() -> None:
    calls = []

    def spy(name, layer):
        def factory(*args, **kwargs):
            calls.append((name, args, kwargs))
            return layer(*args, **kwargs)

        return factory

    ConvNormAct(
        2,
        4,
        kernel_size=5,
        stride=2,
        dilation=3,
        groups=2,
        conv_layer=spy("conv", nn.Conv2d),
        norm_layer=spy("norm", nn.BatchNorm2d),
        activation_layer=spy("activation", nn.ReLU),
    )
    geometry = {"stride": 2, "padding": 6, "dilation": 3, "groups": 2, "bias": False}
    assert calls == [
        ("conv", (2, 4, 5), geometry),
        ("norm", (4,), {}),
        ("activation", (), {}),
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_channels": 0}, ValueError, r"ConvNormAct: `in_channels` must be >= 1, got 0\."),
        ({"in_channels": 2.0}, TypeError, r"ConvNormAct: `in_channels` must be an int, got 2\.0"),
        ({"out_channels": -1}, ValueError, r"ConvNormAct: `out_channels` must be >= 1, got -1"),
        ({"kernel_size": 0}, ValueError, r"ConvNormAct: `kernel_size` must be >= 1, got 0"),
        ({"kernel_size": (3, 3)}, TypeError, r"`kernel_size` must be an int, got \(3, 3\)"),
        ({"stride": 0}, ValueError, r"ConvNormAct: `stride` must be >= 1, got 0"),
        (
            {"stride": 2**31},
            ValueError,
            r"ConvNormAct: `stride` must be <= 2147483647, got 2147483648",
        ),
        ({"stride": True}, TypeError, r"ConvNormAct: `stride` must be an int, got True"),
        ({"dilation": 0}, ValueError, r"ConvNormAct: `dilation` must be >= 1, got 0"),
        ({"groups": 0}, ValueError, r"ConvNormAct: `groups` must be >= 1, got 0"),
        (
            {"groups": 2},
            ValueError,
            r"ConvNormAct: `in_channels` must be divisible by groups \(=2\), got 3\.",
        ),
        ({"groups": 3}, ValueError, r"`out_channels` must be divisible by groups \(=3\), got 4\."),
        (
            {"dilation": 2**31},
            ValueError,
            r"`dilation` must keep dilation \* \(kernel_size - 1\) <=",
        ),
        ({"padding": -1}, ValueError, r"ConvNormAct: `padding` must be >= 0, got -1\."),
        ({"padding": (1, -2)}, ValueError, r"ConvNormAct: `padding` must be >= 0, got -2\."),
        (
            {"padding": 3},
            ValueError,
            r"`padding` must be <= dilation \* \(kernel_size - 1\) \(=2\), got 3\. With more",
        ),
        ({"padding": (0, 9)}, ValueError, r"`padding` must be <= dilation .*, got \(0, 9\)\."),
        ({"padding": (1, 1, 1)}, ValueError, r"`padding` must be an int or a pair of ints, got \("),
        ({"padding": ()}, ValueError, r"`padding` must hold at least one int, got \(\)"),
        ({"padding": "same"}, TypeError, r"`padding` must be an int or a pair of ints, got 'same'"),
        ({"padding": 1.0}, TypeError, r"`padding` must be an int or a pair of ints, got 1\.0"),
        ({"padding": True}, TypeError, r"`padding` must be an int or a pair of ints, got True"),
        ({"padding": (1, 0.5)}, TypeError, r"ConvNormAct: `padding` must be an int, got 0\.5"),
        ({"bias": 1}, TypeError, r"ConvNormAct: `bias` must be a bool or None, got 1"),
        ({"conv_layer": None}, TypeError, r"`conv_layer` must be a callable that builds a layer"),
        ({"norm_layer": "batch"}, TypeError, r"`norm_layer` must be a callable .* or None, got"),
        (
            {"activation_layer": nn.ReLU()},
            TypeError,
            r"`activation_layer` must .*got a ReLU\. Pass the class or a partial, not",
        ),
        (
            {"order": "conv"},
            ValueError,
            r"`order` must be one of 'norm_act', 'act_norm', got 'conv'",
        ),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        ConvNormAct(**{"in_channels": 3, "out_channels": 4, **arguments})


@pytest.mark.parametrize("shape", [(3, 5, 5), (2, 4, 5, 5), (1, 2, 3, 5, 5)])
def test_wrong_input_is_refused(shape: tuple[int, ...]) -> None:
    message = f"ConvNormAct: expected input of shape (N, 3, H, W), got {shape}."
    with pytest.raises(ValueError, match=re.escape(message)):
        ConvNormAct(3, 4)(torch.zeros(shape))
