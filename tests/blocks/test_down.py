"""DownBlock: the order of its parts, and its pooling."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gaslayers import DenseBlock, DownBlock, InceptionBlock
from tests.blocks.catalogue import LEAKY, TOLERANCE
from tests.blocks.oracles import slow_batch_norm, slow_same_convolution


def test_block_norm_activation_and_pool_come_in_this_order() -> None:
    stage = DownBlock(2, 3, activation_layer=LEAKY).double()
    nn.init.uniform_(stage.norm.weight, -1, 1)
    nn.init.uniform_(stage.norm.bias, -0.5, 0.5)
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64)
    y = slow_same_convolution(x, stage.body.conv.weight, stage.body.conv.bias)
    y = slow_batch_norm(y, stage.norm.weight, stage.norm.bias, stage.norm.eps)
    expected = F.max_pool2d(F.leaky_relu(y, 0.2), 2)
    torch.testing.assert_close(stage(x), expected, **TOLERANCE)


def test_average_pool_stands_after_the_activation() -> None:
    stage = DownBlock(2, 3, norm_layer=None, pool_layer=nn.AvgPool2d)
    x = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(stage(x), F.avg_pool2d(stage.body(x).relu(), 2))


@pytest.mark.parametrize(
    ("pool_layer", "size", "expected"),
    [
        (nn.MaxPool2d, 7, 3),
        (partial(nn.MaxPool2d, ceil_mode=True), 7, 4),
        (nn.AvgPool2d, 6, 3),
        (None, 7, 7),
        (partial(nn.MaxPool2d, stride=3), 7, 2),
    ],
)
def test_pool_layer_decides_the_output_size(pool_layer, size: int, expected: int) -> None:
    stage = DownBlock(1, 2, pool_layer=pool_layer)
    assert stage(torch.zeros(2, 1, size, size)).shape == (2, 2, expected, expected)


def test_block_factory_is_given_both_sizes() -> None:
    stage = DownBlock(3, 8, block=partial(InceptionBlock, kernel_sizes=(1, 5)))
    assert (stage.body.in_channels, stage.body.out_channels) == (3, 8)
    assert stage.body.kernel_sizes == (1, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_channels": 0}, ValueError, r"`in_channels` must be >= 1, got 0"),
        ({"out_channels": 0}, ValueError, r"`out_channels` must be >= 1, got 0"),
        ({"block": None}, TypeError, r"`block` must be a callable that builds a layer, got None"),
        ({"norm_layer": 1}, TypeError, r"`norm_layer` must be a callable that builds a layer or"),
        ({"activation_layer": 1}, TypeError, r"`activation_layer` must be a callable that builds"),
        ({"pool_layer": 2}, TypeError, r"`pool_layer` must be a callable that builds a layer or"),
        (
            {"memory_efficient": None},
            TypeError,
            r'`memory_efficient` must be a bool or "recompute", got None',
        ),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="DownBlock: " + message):
        DownBlock(**{"in_channels": 3, "out_channels": 4, **arguments})


def test_wrong_input_is_refused() -> None:
    message = r"DownBlock: expected input of shape \(N, 3, H, W\), got \(2, 4, 5, 5\)\."
    with pytest.raises(ValueError, match=message):
        DownBlock(3, 4)(torch.zeros(2, 4, 5, 5))


def test_a_block_with_other_channels_than_it_was_asked_for_is_refused() -> None:
    message = r"DownBlock: `block` must build a layer with out_channels \(=8\), got 33"
    with pytest.raises(ValueError, match=message):
        DownBlock(1, 8, block=DenseBlock)
